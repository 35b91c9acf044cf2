"""Ctrl-C between two steps, not within one: what a checkpoint holds must be of one moment."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class DeferredInterrupt:
    """Within it, the first interrupt is only noted; a second one is obeyed at once.

    Outside the main thread, where signals never arrive, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None

    def check(self) -> None:
        """Raise KeyboardInterrupt if an interrupt was noted."""
        if self.asked:
            raise KeyboardInterrupt

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, _: int, __: FrameType | None) -> None:
        self.check()
        self.asked = True
