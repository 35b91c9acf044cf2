"""Lets the journal's process run only when nothing else does, until it is late.

A process of Linux's policy SCHED_IDLE never makes a request wait for a processor. On a machine that
is always busy it hardly runs, so it is taken back to its usual priority as soon as what it has to
write waits too long. Going back needs the capability SYS_NICE or a limit of nice that allows it
(systemd: LimitNICE); without them it keeps its usual priority, which is below that of requests.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

#: What the process adds to its nice value.
NICE = 5
#: Seconds for which it keeps its usual priority after it was late, and at its start.
_BUSY_S = 3.0


def may_idle() -> bool:
    """Whether a process with nice value NICE may go to SCHED_IDLE, and back."""
    found: list[bool] = []

    def run() -> None:  # a thread has a policy of its own, which ends with it
        with suppress(OSError, AttributeError):
            os.nice(NICE)
            _set(0, idle=True)
            _set(0, idle=False)
            found.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return bool(found)


class Priority:
    """The priority of one process, and of its threads."""

    def __init__(self) -> None:
        self._may_idle = may_idle()
        self._pid: int | None = None
        self._is_idle = False
        self._busy_until_s = 0.0

    def watch(self, pid: int | None) -> None:
        """Be told of a process that has its usual priority."""
        self._pid, self._is_idle = pid, False
        self._busy_until_s = time.monotonic() + _BUSY_S

    def update(self, *, is_late: bool) -> None:
        """Take it back to its usual priority if it is late; call this often."""
        now_s = time.monotonic()
        if is_late:
            self._busy_until_s = now_s + _BUSY_S
        idle = now_s >= self._busy_until_s
        if self._may_idle and idle != self._is_idle and self._pid is not None:
            self._is_idle = idle
            with suppress(OSError):  # it has ended
                for task in Path(f"/proc/{self._pid}/task").iterdir():
                    _set(int(task.name), idle=idle)


def _set(thread: int, *, idle: bool) -> None:
    policy = os.SCHED_IDLE if idle else os.SCHED_OTHER
    os.sched_setscheduler(thread, policy, os.sched_param(0))
