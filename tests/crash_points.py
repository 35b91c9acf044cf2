"""Kills a save at each of its system calls, or fills the disk, and says what loads afterwards.

``python crash_points.py crash KIND FOLDER`` prints a JSON list of [point, exit status, what loads,
what loads after a second save, which other files that leaves]. It forks, so it runs alone.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import tiny_classifier
from fastroute._files import scratch_folder
from fastroute.artifacts import load_artifact, save_artifact
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import ArtifactError
from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.evidence.signals import SIGNALS
from fastroute.provenance import Provenance
from fastroute.routers import (
    MatrixFactorizationRouter,
    SimilarityWeightedRouter,
    create_router,
)
from fastroute.routers.cascade.artifact import save_cascade
from fastroute.training.checkpoint_file import read_checkpoint, write_checkpoint
from fastroute.training.embedder_choice import embedder_kept
from fastroute.training.heads import save_mf

EVENTS = {
    "open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "fcntl.flock",
    "tempfile.mkdtemp", "shutil.copyfile",
}  # fmt: skip
MODELS = ("strong", "weak")
# What a saver of several files reads from.
_SOURCES = tempfile.TemporaryDirectory(prefix="fastroute-crash-points-")
Save = Callable[[Path], None]


def plain() -> tuple[Save, Save, Callable[[Path], Any]]:
    """Arrays and files, of which one goes and one comes."""

    def save(value: float, files: dict[str, bytes]) -> Save:
        return lambda target: save_artifact(
            target,
            kind="mf",
            config={"value": value},
            arrays={"x": np.full(3000, value)},
            files=files,
        )

    def read(target: Path) -> Any:
        found = load_artifact(target)
        return found.config["value"], found.arrays["x"].sum(), sorted(found.files.items())

    return (
        save(1.0, {"a.json": b"old", "gone.md": b"old"}),
        save(2.0, {"a.json": b"new", "more.md": b"new"}),
        read,
    )


def sw_ranking(**options: Any) -> tuple[Save, Save, Callable[[Path], Any]]:
    """A router with large files, mapped."""
    queries = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)

    def fit(seed: int) -> SimilarityWeightedRouter:
        rng = np.random.default_rng(seed)
        models = np.array(["a", "b", "c"])
        first = rng.integers(0, 3, 400)
        second = (first + rng.integers(1, 3, 400)) % 3
        router = SimilarityWeightedRouter(strong_model="a", weak_model="b", num_tiers=3, **options)
        winner = rng.choice(["model_a", "model_b"], 400)
        embeddings = rng.normal(size=(400, 8)).astype(np.float32)
        return router.fit(embeddings, models[first].tolist(), models[second].tolist(), winner)

    def read(target: Path) -> Any:
        router = SimilarityWeightedRouter.load(target, verify=True)
        return router.win_rates_from_embeddings(queries).tolist()

    return fit(1).save, fit(2).save, read


def far_field() -> tuple[Save, Save, Callable[[Path], Any]]:
    """A router with an index beside its rows."""
    return sw_ranking(mode="far_field", index="HNSW8", max_error=0.5)


def cascade() -> tuple[Save, Save, Callable[[Path], Any]]:
    """Two routers by name."""

    def save(half_length: int) -> Save:
        fast, slow = {"router": "length"}, {"router": "length", "half_length": half_length}
        made = create_router("cascade", fast=fast, slow=slow, band=(0.0, 1.0))
        return lambda target: save_cascade(target, made, fast=fast, slow=slow)

    def read(target: Path) -> Any:
        return create_router("cascade", checkpoint_path=target).win_rate("how long is this?")

    return save(50), save(500), read


def static(value: int) -> Path:
    """The folder of a static embedder of two tokens."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    save_artifact(
        folder := Path(_SOURCES.name) / f"static-{value}",
        kind="static_embedder",
        config={"name": "static:tiny", "length_scale": 0.0},
        arrays={
            "table": np.array([[1, 1], [value, 100]], np.int8),
            "scales": np.ones(2, np.float32),
        },
        files={"tokenizer.json": tokenizer.to_str().encode()},
    )
    return folder


def mf() -> tuple[Save, Save, Callable[[Path], Any]]:
    """A router with an embedder of its own, trained again with another one."""

    def save(value: int) -> Save:
        source = static(value)
        embedder = StaticEmbedder.load(source)
        router = MatrixFactorizationRouter(
            MODELS,
            np.eye(2, dtype=np.float32),
            np.array([[1, 0], [0, value / 100]], np.float32),
            np.ones(2, np.float32),
            strong_model="strong",
            weak_model="weak",
            embedder=embedder,
            provenance=Provenance(
                trained_on=np.zeros(1, np.uint64),
                calibration=np.linspace(0, 1, 1001, dtype=np.float32),
            ),
        )

        def save_both(target: Path) -> None:
            with embedder_kept(embedder, source, target):
                save_mf(target, router)

        return save_both

    def read(target: Path) -> Any:
        return create_router("mf", checkpoint_path=target).win_rate("hello")

    return save(1), save(100), read


def bert() -> tuple[Save, Save, Callable[[Path], Any]]:
    """A router of two ONNX files, and beside it a folder for transformers."""
    from fastroute.routers.bert import BertRouter
    from fastroute.training.bert.recipe import write_router

    def save(scale: float) -> Save:
        made = tiny_classifier.write_folder(Path(_SOURCES.name) / f"bert-{scale}", scale=scale)
        tiny_classifier.write_model(made / "model_int8.onnx", scale=scale, quantised=True)
        (made / "torch").mkdir()
        (made / "torch" / "config.json").write_text(str(scale))
        names = ("tokenizer.json", "config.json")
        files = {name: (made / name).read_bytes() for name in names}

        def write(target: Path) -> None:
            target.mkdir(exist_ok=True)
            with scratch_folder(target) as scratch:
                try:
                    shutil.copytree(made, scratch, dirs_exist_ok=True)
                except shutil.Error as error:  # as the export in its place does
                    raise ArtifactError from error
                write_router(scratch, target, files=files, config={}, provenance=Provenance())

        return write

    def read(target: Path) -> Any:
        return [
            BertRouter(target, precision=precision).win_rate("w1 w2 w3")
            for precision in ("int8", "float32")
        ]

    return save(1.0), save(2.0), read


def acceptance() -> tuple[Save, Save, Callable[[Path], Any]]:
    """The model of a cascade's answers."""

    def save(bias: float) -> Save:
        one = np.ones(1)
        return AcceptanceModel((SIGNALS[0],), one, bias, one, one, 1.0).save

    return save(1.0), save(2.0), lambda target: AcceptanceModel.load(target).bias


def static_table() -> tuple[Save, Save, Callable[[Path], Any]]:
    """An embedder's table."""

    def save(value: int) -> Save:
        made = load_artifact(static(value))
        return lambda target: save_artifact(
            target, kind=made.kind, config=made.config, arrays=made.arrays, files=made.files
        )

    return save(1), save(2), lambda target: StaticEmbedder.load(target).embed("hello").tolist()


def checkpoint() -> tuple[Save, Save, Callable[[Path], Any]]:
    """Where a training stands."""

    def save(step: int) -> Save:
        return lambda target: write_checkpoint(
            target / "c.safetensors", {"x": np.full(3000, float(step))}, {"step": step}, "np"
        )

    def read(target: Path) -> Any:
        found = read_checkpoint(target / "c.safetensors", "np")
        return found and (found[0]["x"].sum(), found[1])

    return save(1), save(2), read


KINDS = {
    made.__name__: made
    for made in (
        plain, sw_ranking, far_field, cascade, mf, bert, acceptance, static_table, checkpoint,
    )
}  # fmt: skip


def _in_a_fork(save: Save, target: Path, prepare: Callable[[], None]) -> int:
    """Its exit status: 0 saved, 1 ArtifactError, -9 killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    prepare()
    try:
        save(target)
    except ArtifactError:
        os._exit(1)
    except BaseException:
        os._exit(2)
    os._exit(0)


def _kill_at(stop: int) -> Callable[[], None]:
    def prepare() -> None:
        count = 0

        def step() -> None:
            nonlocal count
            if count == stop:
                os.kill(os.getpid(), 9)
            count += 1

        def hook(event: str, _: tuple[Any, ...]) -> None:
            if event in EVENTS:
                step()

        fsync = os.fsync

        def counted(handle: int) -> None:
            step()
            fsync(handle)

        os.fsync = counted
        sys.addaudithook(hook)

    return prepare


def _no_file_beyond(size: int) -> Callable[[], None]:
    """A write beyond ``size`` bytes fails half-way, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main(kind: str, folder: Path) -> None:
    """Print what loads after each crash."""
    save_old, save_new, read = KINDS[kind]()
    old, clean = folder / "old", folder / "clean"
    save_old(old)
    save_new(clean)
    expected = {"old": read(old), "new": read(clean)}
    assert expected["old"] != expected["new"]
    names = sorted(path.name for path in clean.iterdir())

    def name_of(target: Path) -> str:
        try:
            found = read(target)
        except ArtifactError as error:
            return f"{type(error).__name__}: {error}"
        return next((name for name, value in expected.items() if value == found), "a mixture")

    def outcome(point: str, prepare: Callable[[], None]) -> tuple[int, list[Any]]:
        target = folder / "target"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(old, target)
        status = _in_a_fork(save_new, target, prepare)
        found = name_of(target)
        save_new(target)
        again = name_of(target)
        left = sorted(path.name for path in target.iterdir())
        return status, [point, status, found, again, [n for n in left if n not in names]]

    results = []
    for stop in range(1000):
        status, result = outcome(f"kill {stop}", _kill_at(stop))
        results.append(result)
        if status != -9:
            break
    results += [
        outcome(f"full {size}", _no_file_beyond(size))[1]
        for size in (0, 1, 100, 1000, 3000, 10_000)
    ]
    print(json.dumps(results))


def alternate(kind: str, folder: Path) -> None:
    """Save one and the other over ``folder``/target until killed; a line says that it is there."""
    saves = KINDS[kind]()[:2]
    saves[0](folder / "target")
    print("saved", flush=True)
    while True:
        for save in reversed(saves):
            save(folder / "target")


if __name__ == "__main__":
    {"crash": main, "alternate": alternate}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
