"""Logs, one JSON object a line on standard error: no prompt, no answer, no key.

Prompts are added by ``log_prompts`` only. What a provider says of an error may quote a prompt, so
its status is logged and not its words.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

LOGGER = logging.getLogger("fastroute.gateway")
#: Lines that wait for a reader of standard error.
MAX_QUEUED = 10_000
#: Seconds that the end of the process waits for that reader.
FLUSH_S = 1.0
_BATCH_S = 0.02
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = dict(getattr(record, "facts", {}))
        if record.exc_info and record.exc_info[1] is not None:
            # The kind and the place of a failure; its words may hold anything.
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["at"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        return _line(record.getMessage(), record.levelname.lower(), line, record.created)


def _line(event: str, level: str, facts: Mapping[str, Any], time_s: float | None = None) -> str:
    moment = datetime.datetime.fromtimestamp(time_s or time.time(), datetime.UTC)
    line = {"time": moment.isoformat(timespec="milliseconds"), "level": level, "event": event}
    return _ENCODER.encode({**line, **facts})


class _StderrHandler(logging.Handler):
    """Writes to standard error in a thread, so that a reader who stops reading stops nothing else.

    At most MAX_QUEUED lines wait; what comes beyond that is counted and dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._dropped = 0
        self._wake = threading.Event()
        self._is_writing = False
        # Not the handler's own lock, which the end of the process holds while it flushes.
        self._queue = threading.Lock()
        threading.Thread(target=self._write, daemon=True, name="fastroute-log").start()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        with self._queue:
            if len(self._lines) >= MAX_QUEUED:
                self._dropped += 1
            else:
                if not self._lines:
                    self._wake.set()
                self._lines.append(line)

    def flush(self) -> None:
        """Wait until all is written, or FLUSH_S."""
        end_s = time.monotonic() + FLUSH_S
        while (self._lines or self._is_writing) and time.monotonic() < end_s:
            time.sleep(_BATCH_S / 4)

    def _write(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_BATCH_S)  # many lines for one switch of threads
            with self._queue:
                self._wake.clear()
                self._is_writing = True
                lines, self._lines = self._lines, []
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(_line("log lines dropped", "warning", {"lines": dropped}))
            written = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
            with contextlib.suppress(OSError):  # its reader has closed it
                while written:
                    written = written[os.write(2, written) :]
            self._is_writing = False


def configure_logs(level: str) -> None:
    """Send all logs, warnings and uncaught exceptions to standard error as JSON lines: fastroute's
    from ``level`` on, those of libraries from warnings on."""
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        handler = _StderrHandler()
        handler.setFormatter(_JsonLines())
        root.handlers = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(level.upper())
    logging.captureWarnings(True)
    # No line shows them, and to find them costs as much as the rest of a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    sys.excepthook = lambda *raised: LOGGER.critical("uncaught exception", exc_info=raised)
    threading.excepthook = lambda raised: LOGGER.critical(
        "uncaught exception in a thread", exc_info=raised.exc_value
    )


def log_to_stderr(level: str) -> None:
    """Send the gateway's logs to standard error as JSON lines; other logs are left alone."""
    if not LOGGER.handlers:
        handler = _StderrHandler()
        handler.setFormatter(_JsonLines())
        LOGGER.addHandler(handler)
        LOGGER.propagate = False
    LOGGER.setLevel(level.upper())


def log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log ``event`` with facts that are safe to keep."""
    if LOGGER.isEnabledFor(level):
        # As LOGGER.log does it, without looking for the line of code that called.
        extra = {"facts": facts}
        LOGGER.handle(LOGGER.makeRecord(LOGGER.name, level, "", 0, event, (), None, extra=extra))


def log_failure(event: str) -> None:
    """Log ``event`` with the kind and the place of the exception at hand."""
    LOGGER.error(event, exc_info=True)
