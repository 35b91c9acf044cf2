"""The one progress bar, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Adds to the count of a progress bar."""

    def __call__(self, count: int = 1) -> None: ...


def _count_nothing(count: int = 1) -> None:  # as Advance has it
    pass


@contextmanager
def progress_bar(
    total: int | None, title: str, *, unit: str = "prompt", shown: bool = True
) -> Iterator[Advance]:
    """A progress bar while the block runs; nothing where standard error is not a terminal.

    Args:
        total: what there is to do; None where that is not known.
        title: stands before the bar.
        unit: what is counted.
        shown: False for no bar at all.
    """
    if not shown or not sys.stderr.isatty():
        yield _count_nothing
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=unit, leave=False, mininterval=0.2) as bar:

        def advance(count: int = 1) -> None:
            bar.update(count)

        yield advance
