"""Several processes that serve one socket: one that dies is started again, signals go to all."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence

from prometheus_client.multiprocess import mark_process_dead

from fastroute.server.logs import configure_logs, log

#: A worker that dies sooner than this is started again only after a pause.
_YOUNG_S = 5.0
_PAUSE_S = 1.0
_LOOK_S = 0.2


class Supervisor:
    """Starts ``command`` several times, with the number of a socket for its last argument.

    Each worker has its own routers and connections; the kernel shares out new connections. Counts
    for ``/metrics`` are gathered in files in a temporary folder.
    """

    def __init__(
        self, command: Sequence[str], count: int, listener: socket.socket, patience_s: float
    ) -> None:
        self._command = [*command, str(listener.fileno())]
        self._count = count
        self._listener = listener
        self._patience_s = patience_s
        self._workers: dict[subprocess.Popen[bytes], float] = {}
        self._stopping = False

    def run(self, log_level: str) -> int:
        """Supervise until SIGTERM or SIGINT, and until the workers have finished."""
        configure_logs(log_level)
        self._listener.set_inheritable(True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hand_on)
        with tempfile.TemporaryDirectory(prefix="fastroute-metrics-") as folder:
            environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": folder}
            for _ in range(self._count):
                self._start(environment)
            while not self._stopping:
                time.sleep(_LOOK_S)
                self._replace_dead(environment)
            return self._wait()

    def _start(self, environment: dict[str, str]) -> None:
        worker = subprocess.Popen(
            self._command, env=environment, pass_fds=[self._listener.fileno()]
        )
        self._workers[worker] = time.monotonic()
        log("worker started", pid=worker.pid)

    def _replace_dead(self, environment: dict[str, str]) -> None:
        for worker, started_s in list(self._workers.items()):
            if worker.poll() is None or self._stopping:
                continue
            del self._workers[worker]
            # What it was serving is served no longer; what it counted stays counted.
            folder = environment["PROMETHEUS_MULTIPROC_DIR"]
            mark_process_dead(worker.pid, folder)  # type: ignore[no-untyped-call] # it has no types
            log("worker died", logging.ERROR, pid=worker.pid, status=worker.returncode)
            if time.monotonic() - started_s < _YOUNG_S:
                time.sleep(_PAUSE_S)
            self._start(environment)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _hand_on(self, number: int, _: object) -> None:
        for worker in list(self._workers):
            if worker.poll() is None:
                worker.send_signal(number)

    def _wait(self) -> int:
        """Ask the workers to finish, and kill what has not when patience ends."""
        self._listener.close()
        for worker in self._workers:
            if worker.poll() is None:
                worker.terminate()
        end_s = time.monotonic() + self._patience_s + 5.0
        for worker in self._workers:
            try:
                worker.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        return 0
