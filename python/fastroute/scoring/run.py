"""Scores files into a folder, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from fastroute._tasks.processes import Engine, check_workers
from fastroute.errors import InvalidInputError
from fastroute.scoring.batch import BatchScorer
from fastroute.scoring.files import InputFile, Place, find_inputs
from fastroute.scoring.parts import Job, Part, plan, rows_of
from fastroute.scoring.resuming import MANIFEST, check_same, document, manifest, run_parts

_SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What a finished job has written.

    Attributes:
        rows: with scores.
        errors: rows without, which are in the files that end in ``.errors.jsonl``.
        parts: files with scores.
        resumed: how many of them an earlier run had written.
        threshold: ``win_rate >= threshold`` is strong.
    """

    rows: int
    errors: int
    parts: int
    resumed: int
    threshold: float


def score_files(
    inputs: Sequence[str],
    output: str,
    *,
    router: str = "mf",
    column: str = "prompt",
    keep: Sequence[str] = (),
    threshold: float | None = None,
    strong_share: float | None = None,
    workers: int = 1,
    engine: Engine = "local",
    overwrite: bool = False,
    progress: bool = False,
) -> ScoreReport:
    """Score all prompts of Parquet, JSONL and CSV files (``.gz`` too), in bounded memory.

    ``output`` gets a Parquet file for each row group of a Parquet file and for each other file:
    ``row`` (int64, the number of the row, or of the line, in its file), the columns to ``keep``,
    ``win_rate`` and ``difficulty`` (double) and ``strong`` (bool). A row that can't be scored is in
    a ``.errors.jsonl`` beside it instead, with the reason. The same call again goes on where an
    earlier one was stopped; the bytes are the same for any ``workers`` and ``engine``.

    Args:
        inputs: files, folders, or patterns with ``*``; paths, or URIs such as ``s3://``.
        output: a folder, as a path or URI.
        router: as on the command line: ``NAME``, ``NAME=FOLDER`` or ``NAME,key=value``.
        column: of the prompts, strings.
        keep: columns to copy; from JSONL and CSV as strings.
        threshold, strong_share: as ``Decider.decide``.
        workers: processes, or actors of Ray.
        engine: "local", or "ray" for Ray Data.
        overwrite: remove the scores that the folder has.
        progress: show a progress bar on a terminal.

    A script that calls this with ``workers`` above 1 needs ``if __name__ == "__main__":``.

    Raises InvalidInputError for what can't be read, OutputError for what can't be written,
    MissingDependencyError without pyarrow or Ray, WorkerError where a process was killed.
    """
    check_workers(workers, engine)
    files = find_inputs(inputs)
    parts = plan(files, column, keep)
    scorer = BatchScorer(router, column=column, threshold=threshold, strong_share=strong_share)
    job = Job(router, scorer.threshold, column, tuple(keep), Place(output).absolute())
    there = _prepare(job, scorer, files, parts, overwrite=overwrite)
    counts = {i: _counted(job, part) for i, part in enumerate(parts) if part.scores in there}
    resumed = len(counts)
    make = job.task if workers > 1 or engine == "ray" else partial(job.task, scorer)
    counts = run_parts(
        make, parts, counts, "score", unit="prompt", workers=workers, engine=engine,
        progress=progress,
    )  # fmt: skip
    rows, errors = (sum(count[k] for count in counts.values()) for k in (0, 1))
    summary = {
        "rows": rows,
        "errors": errors,
        "parts": [
            {"file": part.scores, "rows": counts[i][0], "errors": counts[i][1]}
            for i, part in enumerate(parts)
        ],
    }
    (job.output / _SUMMARY).write(document(summary))
    return ScoreReport(rows, errors, len(parts), resumed, job.threshold)


def _prepare(
    job: Job,
    scorer: BatchScorer,
    files: Sequence[InputFile],
    parts: Sequence[Part],
    *,
    overwrite: bool,
) -> set[str]:
    """The names of what the output folder has; writes the manifest of a new one."""
    _make(job.output)
    facts = {
        "router": job.router,
        "router checksum": scorer.checksum,
        "threshold": job.threshold,
        "column": job.column,
        "keep": list(job.keep),
    }
    now = manifest(facts, files, parts)
    there = job.output.names()
    place = job.output / MANIFEST
    before = place.read()
    if overwrite and before is not None:
        job.output.remove(sorted(n for n in there if n.startswith("part-") or n == _SUMMARY))
        there, before = set(), None
    if before is None:
        if any(not name.startswith(".") for name in there):
            raise InvalidInputError(
                f"output {job.output.label} has files that are not of this command; name another "
                "folder"
            )
        place.write(now)
    else:
        check_same(before, now, job.output.label)
    return there


def _make(folder: Place) -> None:
    system, path = folder.opened()
    try:
        system.create_dir(path, recursive=True)
    except OSError as error:
        raise InvalidInputError(f"output {folder.label} can't be made: {error}") from error


def _counted(job: Job, part: Part) -> tuple[int, int]:
    """What ``score_part`` gave for a part that is there."""
    lines = (job.output / part.errors).read()
    return rows_of(job.output / part.scores), 0 if lines is None else lines.count(b"\n")
