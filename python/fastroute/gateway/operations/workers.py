"""Several processes that serve one socket: one that dies is started again, signals go to all."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client.multiprocess import mark_process_dead

from fastroute.gateway.operations.logs import configure_logs, log
from fastroute.gateway.operations.space import FOLDER

#: A worker that dies sooner than this is started again only after a pause.
_YOUNG_S = 5.0
_PAUSE_S = 1.0
_LOOK_S = 0.2


def tell_ready(pipe: int) -> None:
    """In a worker: tell the supervisor, at the end of ``pipe``, that requests are answered."""
    with contextlib.suppress(BrokenPipeError):  # it has stopped meanwhile
        os.write(pipe, b"1")
    os.close(pipe)


@dataclass(eq=False)
class _Worker:
    """A process, and the pipe by which it says that it is ready."""

    process: subprocess.Popen[bytes]
    pipe: int
    started_s: float = field(default_factory=time.monotonic)
    ready: bool = False
    #: SIGHUP came before it could listen to it, when it may have read the config already.
    to_reload: bool = False

    def read_pipe(self) -> None:
        """Read what the pipe says; it is closed without a message where the process died."""
        self.ready = os.read(self.pipe, 1) != b""
        self.close_pipe()
        if self.ready and self.to_reload:
            self.process.send_signal(signal.SIGHUP)

    def close_pipe(self) -> None:
        """Stop listening to it."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1


class Supervisor:
    """Starts ``command`` several times, with a socket and two pipes for its last arguments.

    Each worker has its own routers and connections; the kernel shares out new connections. Counts
    for ``/metrics`` are gathered in files in a temporary folder.
    """

    def __init__(
        self, command: Sequence[str], count: int, listener: socket.socket, patience_s: float
    ) -> None:
        self._command = [*command, "--inherited-socket", str(listener.fileno())]
        self._count = count
        self._listener = listener
        self._patience_s = patience_s
        self._workers: list[_Worker] = []
        self._stopping = False

    def run(self, log_level: str, ready: Callable[[], None]) -> int:
        """Supervise until SIGTERM or SIGINT, and until the workers have finished.

        ``ready`` is called once, when every worker answers. One that ends before that ends the
        start, and its status is returned: what is wrong with it would be wrong again.
        """
        configure_logs(log_level)
        self._listener.set_inheritable(True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hand_on)
        # A worker sees the end of this pipe when this process ends, however it does.
        self._life, life = os.pipe()
        with tempfile.TemporaryDirectory(prefix="fastroute-") as folder:
            environment = os.environ | {FOLDER: folder}
            try:
                # The first by itself, so that an error in the config is told once.
                for count in (1, self._count - 1):
                    status = self._start_and_wait(count, environment)
                    if status != 0:
                        return status
                if not self._stopping:
                    ready()
                while not self._stopping:
                    self._listen_to_workers()
                    self._replace_dead(environment)
                return 0
            finally:  # whatever happened here: without this process none would ever end them
                self._wait()
                os.close(life)

    def _start_and_wait(self, count: int, environment: dict[str, str]) -> int:
        """Start ``count`` workers, and wait until all are ready: 0, or the status of a dead one."""
        for _ in range(count):
            self._start(environment)
        while not self._stopping and not all(worker.ready for worker in self._workers):
            self._listen_to_workers()
            for worker in self._workers:
                status = worker.process.poll()
                if status is not None and not self._stopping:
                    log(
                        "worker died before it could serve",
                        logging.ERROR,
                        pid=worker.process.pid,
                        status=status,
                    )
                    return status if status > 0 else 1
        return 0

    def _start(self, environment: dict[str, str]) -> None:
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [*self._command, "--supervisor-pipe", str(self._life), "--ready-pipe", str(writer)],
            env=environment,
            pass_fds=[self._listener.fileno(), writer, self._life],
        )
        os.close(writer)
        self._workers.append(_Worker(process, reader))
        log("worker started", pid=process.pid)

    def _listen_to_workers(self) -> None:
        """Wait a little for what they say."""
        talking = {worker.pipe: worker for worker in self._workers if worker.pipe >= 0}
        for pipe in select.select(list(talking), [], [], _LOOK_S)[0]:
            talking[pipe].read_pipe()

    def _replace_dead(self, environment: dict[str, str]) -> None:
        for worker in list(self._workers):
            process = worker.process
            if process.poll() is None or self._stopping:
                continue
            self._workers.remove(worker)
            worker.close_pipe()
            # Its running requests are lost; its counts are kept.
            folder = environment[FOLDER]
            mark_process_dead(process.pid, folder)  # type: ignore[no-untyped-call] # it has no types
            log("worker died", logging.ERROR, pid=process.pid, status=process.returncode)
            if time.monotonic() - worker.started_s < _YOUNG_S:
                time.sleep(_PAUSE_S)
            self._start(environment)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _hand_on(self, number: int, _: object) -> None:
        for worker in list(self._workers):
            if not worker.ready:
                worker.to_reload = True
            elif worker.process.poll() is None:
                worker.process.send_signal(number)

    def _wait(self) -> None:
        """Ask the workers to finish, and kill those that have not at the deadline."""
        self._listener.close()
        for worker in self._workers:
            worker.close_pipe()
            if worker.process.poll() is None:
                worker.process.terminate()
        end_s = time.monotonic() + self._patience_s + 5.0
        for worker in self._workers:
            try:
                worker.process.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
