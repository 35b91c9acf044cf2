"""Runs the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Ran(NamedTuple):
    """What a process left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def fastroute(*arguments: str | Path, cache: Path | None = None, stdin: str = "") -> Ran:
    """``python -m fastroute ARGUMENTS``; without ``cache`` a run that may not write one."""
    environment = dict(os.environ)
    environment["FASTROUTE_CACHE"] = os.devnull if cache is None else str(cache)
    done = subprocess.run(
        [sys.executable, "-m", "fastroute", *map(str, arguments)],
        input=stdin, capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def refused(*arguments: str | Path) -> str:
    """The one line on standard error with which arguments are refused, with status 2."""
    ran = fastroute(*arguments)
    assert ran.status == 2, ran
    assert ran.out == ""
    assert ran.err.count("\n") == 1, ran.err
    return ran.err


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; fail after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def patient_ray() -> dict[str, str]:
    """Environment variables for a Ray that starts on a busy machine."""
    return {"RAY_raylet_start_wait_time_s": "120", "RAY_agent_register_timeout_ms": "120000"}
