"""Tasks on Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastroute._extras import needed_for
from fastroute._progress import Advance
from fastroute._tasks.processes import Count, Task


class _Actor:
    def __init__(self, make: Callable[[], Task], items: Mapping[int, Any]) -> None:
        self._task, self._items = make(), items

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {"item": [], "count": [], "result": []}
        for i in map(int, batch["item"]):
            count = Count()
            result = self._task(self._items[i], count)
            for name, value in (("item", i), ("count", count.total), ("result", result)):
                found[name].append(value)
        return found


def run_on_ray(
    make: Callable[[], Task], items: Mapping[int, Any], workers: int, advance: Advance
) -> Iterator[tuple[int, Any]]:
    """Run the tasks in so many actors, on the cluster that is connected, or RAY_ADDRESS names, or
    else on this machine. Results are lists of numbers.

    Every machine of it must have the files that the items name at the same absolute paths.
    """
    with needed_for('engine "ray"'):
        import ray
        import ray.data
    if not items:
        return
    if not ray.is_initialized():  # it is left running for the next call, and ends with the process
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.from_items([{"item": i} for i in items], override_num_blocks=len(items))
    done = numbers.map_batches(
        _Actor,
        fn_constructor_args=(make, dict(items)),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    for row in done.iter_rows():
        advance(int(row["count"]))
        yield int(row["item"]), [int(number) for number in row["result"]]
