"""Fits ``sw_ranking`` routers to files of battles that need not fit in memory.

Each row group of a Parquet file, or other file, becomes a shard on disk, written and fitted by
whatever process is free (``routers.sw_ranking.shards``). Shards are in OUTPUT/.parts until the
router is measured, and are used again where a run was stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._files import lock, sync_files, write_whole
from fastroute._progress import Advance, progress_bar
from fastroute._tasks.processes import Engine, check_workers, run_tasks
from fastroute.artifacts import prompt_hash, save_provenance
from fastroute.data import EvaluationPrompts
from fastroute.data.battles import LEAST_PROMPT_CHARACTERS
from fastroute.errors import InvalidInputError
from fastroute.policy import calibrated
from fastroute.provenance import Provenance
from fastroute.routers.sw_ranking import shards
from fastroute.routers.sw_ranking.battle_table import rate_counts
from fastroute.routers.sw_ranking.contents import OPTIONS
from fastroute.routers.sw_ranking.router import FAR_FIELD_FROM, SimilarityWeightedRouter
from fastroute.routers.sw_ranking.shards import Block, Shard
from fastroute.routers.sw_ranking.sums import FarFieldPlan
from fastroute.scoring.files import find_inputs
from fastroute.scoring.parts import Part, plan, read_part
from fastroute.scoring.resuming import MANIFEST, check_same, manifest, run_parts
from fastroute.training.checkpoint_file import PARTS
from fastroute.training.embedder_choice import choose_embedder, embedder_kept, open_choice
from fastroute.training.graded_battles import comparable_models
from fastroute.training.mf.models import pair_of
from fastroute.training.outcome import check_output
from fastroute.training.sw_ranking import (
    MOST_SCORED,
    MOST_TIERS,
    RankingTraining,
    held_out_figures,
)
from fastroute.types import WINNERS, Battle

_COLUMNS = ("prompt", "model_a", "model_b", "winner")
#: Prompts that a saved router lists at most: more would take longer to load than all else.
MOST_TRAINED_ON = 4_000_000
_BYTES_PER_ROW = 500  # about, of files that do not say how many rows they have
#: What says that a part is read, in its folder, and that the router is written.
_READ, _ASSEMBLED = "read.json", "assembled"


@dataclass(frozen=True, slots=True)
class PartsTraining(RankingTraining):
    """As ``RankingTraining``, and what was left out of the files.

    Attributes:
        dropped: how many rows, by reason.
    """

    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reading:
    """How parts become shards; ``folder`` has them. Battles on a share of the prompts are held
    out, chosen by the hash of the prompt."""

    folder: Path
    embedder: str
    held_out: float
    exclude: EvaluationPrompts | None
    skip_bad: bool

    def task(self) -> Any:
        embedder, _ = open_choice(self.embedder)
        return partial(self._write, embedder)

    def _write(self, embedder: Any, part: Part, advance: Advance) -> list[int]:
        shard = self.folder / part.name
        shard.mkdir(exist_ok=True)
        counts: dict[str, int] = dict.fromkeys(
            ("malformed", "short", "excluded", "without tokens"), 0
        )
        hashes: list[int] = []

        def blocks() -> Iterator[Block]:
            with (shard / "held_out.jsonl").open("w", encoding="utf-8") as held:
                for read, table, unreadable in read_part(part, _COLUMNS):
                    rows = self._battles(part, table, unreadable, counts)
                    inside = []
                    for row in rows:
                        hashed = prompt_hash(row.prompt)
                        if hashed < self.held_out * 2.0**64:
                            held.write(_line(row))
                        else:
                            inside.append(row)
                            hashes.append(hashed)
                    if inside:
                        X = embedder.embed_batch([row.prompt for row in inside])
                        said = X.any(axis=1)
                        counts["without tokens"] += len(X) - int(said.sum())
                        some = [row for row, kept in zip(inside, said, strict=True) if kept]
                        if some:
                            _, a, b, winner = zip(*some, strict=True)
                            yield np.ascontiguousarray(X[said]), a, b, winner
                    advance(read)

        battles = shards.write_shard(shard, blocks())
        np.unique(np.array(hashes, np.uint64)).tofile(shard / "hashes.raw")
        read = [battles, *counts.values()]
        sync_files(shard)
        write_whole(shard / _READ, json.dumps(read).encode())
        return read

    def _battles(
        self, part: Part, table: Any, unreadable: list[tuple[int, str]], counts: dict[str, int]
    ) -> list[Battle]:
        """The rows of a table that can be trained on."""
        bad = list(unreadable)
        found = []
        for row in table.to_pylist():
            values = [row[name] for name in _COLUMNS]
            wrong = _wrong(values)
            if wrong:
                bad.append((row["row"], wrong))
                continue
            battle = Battle(*values)
            if len(battle.prompt.strip()) < LEAST_PROMPT_CHARACTERS:
                counts["short"] += 1
            elif self.exclude is not None and self.exclude.match(battle.prompt):
                counts["excluded"] += 1
            else:
                found.append(battle)
        if bad and not self.skip_bad:
            number, wrong = min(bad)
            raise InvalidInputError(
                f"{part.file.label}, row {number}: {wrong}; correct it, or pass skip_bad "
                "(--skip-bad)"
            )
        counts["malformed"] += len(bad)
        return found


def _wrong(values: list[Any]) -> str:
    """What is wrong with a battle, or nothing."""
    for name, value in zip(_COLUMNS, values, strict=True):
        if not isinstance(value, str):
            return f"{name} is {value!r}, where text is needed"
    _, a, b, winner = values
    if winner not in WINNERS:
        return f"winner is {winner!r}; it must be one of {', '.join(map(repr, WINNERS))}"
    if a == b or "\0" in a + b:
        return f"model_a is {a!r} and model_b {b!r}, where two names are needed"
    return ""


def _line(battle: Battle) -> str:
    return json.dumps(battle) + "\n"


def _held_out(shard: Path) -> list[Battle]:
    lines = (shard / "held_out.jsonl").read_text("utf-8").splitlines()
    return [Battle(*json.loads(line)) for line in lines]


def _hashes(written: Sequence[Shard]) -> np.ndarray[Any, np.dtype[np.uint64]] | None:
    """Hashes of all prompts, sorted; None where they are too many to list."""
    files = [shard.folder / "hashes.raw" for shard in written]
    if sum(file.stat().st_size for file in files) > 8 * MOST_TRAINED_ON:
        return None
    return np.unique(np.concatenate([np.fromfile(file, np.uint64) for file in files]))


def _absolute(embedder: str) -> str:
    """The choice of an embedder for a process with another working folder."""
    kind, colon, folder = embedder.partition(":")
    return f"{kind}:{Path(folder).absolute()}" if colon else embedder


def _fit(plan: FarFieldPlan, folder: Path) -> Any:
    return partial(_fit_one, plan, folder)


def _fit_one(
    plan: FarFieldPlan, folder: Path, item: tuple[Path, int], advance: Advance
) -> list[int]:
    shard = Shard(item[0]).of(plan.models)
    shards.fit_shard(shard, plan, item[1], folder)
    advance(shard.battles)
    return [shard.battles]


def train_sw_ranking_in_parts(
    files: Sequence[str],
    output: str | os.PathLike[str],
    *,
    embedder: str = "default",
    strong_model: str | None = None,
    weak_model: str | None = None,
    num_tiers: int | None = None,
    held_out: float = 0.1,
    exclude: EvaluationPrompts | None = None,
    skip_bad: bool = False,
    workers: int = 1,
    engine: Engine = "local",
    overwrite: bool = False,
    progress: bool = False,
) -> PartsTraining:
    """Fit an ``sw_ranking`` router to battles in files, a part at a time, save it, and measure it.

    The same call again goes on where an earlier one was stopped, and gives the same bytes.
    Memory is that of a part and of what is learned; embeddings and index are on disk, as int8, and
    are mapped when the router is loaded. Battles that repeat are not removed.

    Args:
        files: Parquet, JSONL and CSV, as for ``fastroute.scoring.score_files``, with ``prompt``,
            ``model_a``, ``model_b`` and ``winner``.
        output: the folder to write; parts are in it too while the router is made.
        embedder, strong_model, weak_model, num_tiers: as for ``train_sw_ranking``.
        held_out: share of prompts, at most 2,000 or so, that the router is measured on and not
            fitted to; 0 for none.
        exclude: prompts that must not be trained on.
        skip_bad: leave malformed rows out instead of stopping; it may change when a call goes on.
        workers, engine: as for ``score_files``.
        overwrite: replace what is in ``output``, and the parts of another training there.
        progress: show progress bars on a terminal.

    Raises InvalidInputError for arguments or data that can't be used.
    """
    check_workers(workers, engine)
    if not 0.0 <= held_out <= 0.5:
        raise InvalidInputError(f"held_out must be from 0 to 0.5, got {held_out}")
    work = Path(output) / PARTS
    before = (work / MANIFEST).read_bytes() if (work / MANIFEST).is_file() else None
    folder = check_output(output, overwrite=overwrite, resume=before is not None)
    found = find_inputs(files)
    parts = plan(found, _COLUMNS[0], _COLUMNS[1:])
    known = sum(part.rows or 0 for part in parts)
    about = known + sum(f.size for f in found if f.place.kind != "parquet") // _BYTES_PER_ROW
    share = min(held_out, MOST_SCORED / max(about, 1))
    chosen, source = choose_embedder(embedder, folder)
    facts = {
        "embedder": chosen.name,
        "strong_model": strong_model,
        "weak_model": weak_model,
        "num_tiers": num_tiers,
        "held_out": held_out,
        "excluded prompts": None if exclude is None else exclude.sha256,
    }
    now = manifest(facts, found, parts)
    if before is not None and not overwrite:
        check_same(before, now, str(output))
    with _held(work, now):
        reading = _Reading(work.absolute(), _absolute(embedder), share, exclude, skip_bad)
        read = {i: work / part.name / _READ for i, part in enumerate(parts)}
        there = {i: json.loads(file.read_bytes()) for i, file in read.items() if file.exists()}
        results = run_parts(
            reading.task, parts, there, "read", unit="battle", workers=workers, engine=engine,
            progress=progress,
        )  # fmt: skip
        dropped = np.sum([counts[1:] for counts in results.values()], axis=0)
        all_shards = [Shard(work.absolute() / part.name) for part in parts]
        written = [shard for shard in all_shards if shard.battles]
        counts = shards.count_shards(written, work)
        kept, left_out = comparable_models(counts.models, counts.counts)
        if left_out:
            written = [some for some in (shard.of(kept) for shard in written) if some.battles]
            counts = counts.of(kept)
        battles = len(counts)
        try:
            shards.check_enough(battles, FAR_FIELD_FROM)
            tiers = min(MOST_TIERS, len(kept)) if num_tiers is None else num_tiers
            elo, _ = rate_counts(kept, counts.counts, tiers, {})
            strong, weak = pair_of(tuple(kept), elo, strong_model, weak_model)
            fitted = counts.plan(strong_model=strong, weak_model=weak, num_tiers=tiers)
        except InvalidInputError:  # of these arguments: the parts are of no use
            shutil.rmtree(work)
            raise
        if not (work / _ASSEMBLED).exists():
            shards.train_shard_index(written, fitted, work)
            firsts = accumulate([0, *(shard.battles for shard in written)])
            numbered = zip(written, firsts, strict=False)
            left = {i: (s, n) for i, (s, n) in enumerate(numbered) if not s.is_fitted}
            total = sum(shard.battles for shard, _ in left.values())
            items = {i: (shard.folder, first) for i, (shard, first) in left.items()}
            with progress_bar(total, "fit", unit="battle", shown=progress) as advance:
                make = partial(_fit, fitted, work.absolute())
                for _ in run_tasks(make, items, workers=workers, engine=engine, advance=advance):
                    pass
            router = SimilarityWeightedRouter(
                strong_model=strong, weak_model=weak, num_tiers=tiers, mode="far_field",
                storage="int8", embedder=chosen,
            )  # fmt: skip
            provenance = Provenance(
                data=tuple(f.place.label for f in found), trained_on=_hashes(written)
            )
            with embedder_kept(chosen, source, folder):
                shards.assemble(
                    folder, written, fitted, work, embedder=chosen, provenance=provenance,
                    options={name: getattr(router, name) for name in OPTIONS},
                )  # fmt: skip
            write_whole(work / _ASSEMBLED, b"")
        router = SimilarityWeightedRouter.load(folder, embedder=chosen)
        held = [battle for shard in all_shards for battle in _held_out(shard.folder)]
        X = chosen.embed_batch([battle.prompt for battle in held])
        has_tokens = np.flatnonzero(X.any(axis=1))
        held = [held[i] for i in has_tokens]
        rates, figures = held_out_figures(router, held, np.ascontiguousarray(X[has_tokens]))
        if len(rates):
            said = f"{len(rates):,} held-out prompts"
            save_provenance(folder, calibrated(router.provenance, rates, calibrated_on=said))
            router = SimilarityWeightedRouter.load(folder, embedder=chosen)
        (work / MANIFEST).unlink()
        shutil.rmtree(work)
    why = ("malformed", "shorter than 16 characters", "of an evaluation set", "without tokens")
    reasons = {n: int(c) for n, c in zip(why, dropped, strict=True) if c}
    return PartsTraining(router, folder, battles, tuple(left_out), figures, reasons)


@contextmanager
def _held(work: Path, now: bytes) -> Iterator[None]:
    """Hold the folder of the parts of the training ``now``; what it has of others is removed."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with lock(work, wait=False):
            path = work / MANIFEST
            if not path.is_file() or path.read_bytes() != now:
                path.unlink(missing_ok=True)
                for other in work.iterdir():
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
                write_whole(path, now)
            yield
    except BlockingIOError as error:
        raise InvalidInputError(
            f"output {work.parent}: another training writes there; wait for it, or name another "
            "folder"
        ) from error
