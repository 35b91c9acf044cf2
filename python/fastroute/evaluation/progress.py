"""Progress bars on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from fastroute.errors import MissingDependencyError


class ProgressBar:
    """Shows how far long work has got; calls add to the count.

    Args:
        total: what there is to do.
        title: stands before the bar.
        unit: what is counted.
        shown: False for no bar at all, as where standard error is not a terminal.

    Raises MissingDependencyError if a bar is to be shown and tqdm is not installed.
    """

    def __init__(self, total: int, title: str, *, unit: str = "prompt", shown: bool) -> None:
        self._tqdm: Any = None
        if not shown:
            return
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise MissingDependencyError(
                'progress bars need tqdm; pip install "fastroute[eval]"'
            ) from error
        self._tqdm = tqdm(total=total, desc=title, unit=unit, leave=False, mininterval=0.2)

    def __call__(self, count: int = 1) -> None:
        if self._tqdm is not None:
            self._tqdm.update(count)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
