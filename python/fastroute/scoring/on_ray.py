"""Runs parts on Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastroute.errors import MissingDependencyError
from fastroute.scoring.files import Place
from fastroute.scoring.parts import Job, Part, score_part


class PartScorer:
    """An actor of Ray Data that reads, scores and writes parts of a job."""

    def __init__(self, job: Job, parts: Mapping[int, Part]) -> None:
        self._job, self._parts, self._scorer = job, parts, job.scorer()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        numbers = [int(i) for i in batch["part"]]
        counts = [
            score_part(self._job, self._scorer, self._parts[i], lambda _: None) for i in numbers
        ]
        rows, errors = (list(column) for column in zip(*counts, strict=True))
        return {"part": numbers, "rows": rows, "errors": errors}


def run_on_ray(
    job: Job, parts: Mapping[int, Part], workers: int, advance: Callable[[int], None]
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Score the parts by so many actors, on the cluster that is connected, or RAY_ADDRESS names,
    or else on this machine.

    Every machine of it must have the inputs, the output and the router at the same paths.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            'engine "ray" needs Ray Data; pip install "fastroute[ray]"'
        ) from error
    if not parts:
        return
    # Actors have other working folders.
    parts = {i: replace(part, file=_absolute(part.file)) for i, part in parts.items()}
    started = not ray.is_initialized()
    if started:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.init(logging_level="error", log_to_driver=False, include_dashboard=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        numbers = ray.data.from_items([{"part": i} for i in parts], override_num_blocks=len(parts))
        done = numbers.map_batches(
            PartScorer,
            fn_constructor_args=(replace(job, output=_absolute(job.output)), parts),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        for row in done.iter_rows():
            advance(parts[row["part"]].rows or row["rows"] + row["errors"])
            yield int(row["part"]), (int(row["rows"]), int(row["errors"]))
    finally:
        if started:
            ray.shutdown()


def _absolute(place: Place) -> Place:
    return Place(str(Path(place.name).absolute())) if place.is_local else place
