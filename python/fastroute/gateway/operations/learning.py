"""The worker of ``[learn]``: runs ``fastroute learn`` in a process of its own, every so often.

Every worker and replica looks whether it is due; a lease in the journal lets one of them begin.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from fastroute._files import scratch_folder
from fastroute.gateway.config.settings import Config
from fastroute.gateway.operations.canary import PROPOSED
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.metrics import Metrics
from fastroute.gateway.operations.rollout import Repeated
from fastroute.journal import PASSWORD_VARIABLE
from fastroute.journal.jobs import LEASE_S, Job

#: Seconds between looks whether it is due, and at a running one; a run that takes longer is ended.
_LOOK_S, _CHECK_S, _RENEW_S, _PATIENCE_S = 1.0, 0.2, 10.0, 6 * 3600.0
#: Statuses of ``fastroute learn``.
_OUTCOMES = {0: "proposed", 3: "not_proposed"}
#: Threads of numerical libraries: one, unless somebody set another number.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: The folder of the last run without a proposal.
NOT_PROPOSED = "not-proposed"


class Learning:
    """A thread that begins runs when they are due, and waits for them."""

    def __init__(self, config: Config, metrics: Metrics, engine: Callable[[], Engine]) -> None:
        journal, section = config.journal, config.learn
        assert journal is not None
        assert section is not None
        self._journal, self._section, self._metrics = journal, section, metrics
        self._engine = engine
        self._job: Job | None = None
        self._last: dict[str, Any] | None = None
        self._thread = Repeated("learn", _LOOK_S, self._step, "learn can't be begun")

    def summary(self) -> dict[str, Any]:
        """What the page shows of the last run."""
        last = self._last or {}
        names = ("time", "ended", "outcome", "reason", "proposed", "folder")
        due = last["time"] + self._section.every_hours * 3600.0 if last else None
        is_running = (last.get("until") or 0.0) > time.time()
        return {name: last.get(name) for name in names} | {"running": is_running, "due": due}

    def close(self) -> None:
        """End the thread, and a run under way; it is due again at the next start."""
        self._thread.close()

    def _step(self) -> None:
        if self._job is None:
            self._job = Job(self._engine(), "learn")
        self._last = self._job.read()
        due_since = self._job.begin(time.time(), self._section.every_hours * 3600.0)
        if due_since is None:
            return
        log("learn: began")
        self._last = self._job.read()
        found = self._learn()
        if found["outcome"] == "stopped":
            log("learn: stopped with the gateway")
            found = {"time": due_since}
        else:
            level = logging.WARNING if found["outcome"] == "failed" else logging.INFO
            self._metrics.learn_runs.labels(found["outcome"]).inc()
            log(f"learn: {found['outcome']}", level, reason=found["reason"])
            found["ended"] = time.time()
        self._job.end(**found)
        self._last = self._job.read()

    def _learn(self) -> dict[str, Any]:
        """Run it; the values for its row."""
        output = Path(self._section.output)
        try:
            output.mkdir(parents=True, exist_ok=True)
            with scratch_folder(output) as scratch:
                outcome, reason = self._run(scratch / "router")
                found: dict[str, Any] = {"outcome": outcome, "reason": reason}
                if outcome == "proposed":
                    name = time.strftime(f"{PROPOSED}%Y%m%d-%H%M%S", time.gmtime())
                    (scratch / "router").rename(output / name)
                    found |= {"proposed": time.time(), "folder": str(output / name)}
                elif outcome == "not_proposed":
                    shutil.rmtree(output / NOT_PROPOSED, ignore_errors=True)
                    (scratch / "router").rename(output / NOT_PROPOSED)
        except OSError as error:
            found = {"outcome": "failed", "reason": f"{output} can't be used: {error.strerror}"}
        return found

    def _run(self, made: Path) -> tuple[str, str]:
        """Outcome and reason of the command, whose result goes to ``made``."""
        gone, here = os.pipe()
        words = ("-P", "-m", "fastroute", "learn", "--journal", self._journal.url, "--json")
        options = ("--output", str(made), "--gateway-pipe", str(gone), *self._section.options)
        threads = {name: os.environ.get(name, "1") for name in _THREADS}
        secret = self._journal.password
        more = {} if secret is None else {PASSWORD_VARIABLE: secret}
        try:
            process = subprocess.Popen(
                [sys.executable, *words, *options], env=os.environ | threads | more,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                pass_fds=[gone],
            )  # fmt: skip
        finally:
            os.close(gone)
        try:
            return self._wait(process)
        finally:
            process.kill()
            process.communicate()
            os.close(here)

    def _wait(self, process: subprocess.Popen[bytes]) -> tuple[str, str]:
        assert self._job is not None
        began = renewed = time.monotonic()
        while True:
            try:
                said, complaints = process.communicate(timeout=_CHECK_S)
                break
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if self._thread.is_stopping:
                return "stopped", ""
            if now - began > _PATIENCE_S:
                return "failed", f"it took longer than {_PATIENCE_S / 3600:.0f} hours"
            if now - renewed > _RENEW_S:
                try:
                    if not self._job.renew(time.time()):
                        return "failed", "another process has begun: the journal was away"
                    renewed = now
                except SQLAlchemyError:  # it may come back
                    if now - renewed > LEASE_S / 2:
                        raise
        status = process.returncode
        if status in _OUTCOMES:
            return _OUTCOMES[status], " ".join(json.loads(said)["reasons"])
        if status < 0:
            return "failed", f"the process was ended by signal {-status}"
        lines = complaints.decode(errors="replace").strip().splitlines()
        return "failed", lines[-1].removeprefix("fastroute: ") if lines else f"status {status}"
