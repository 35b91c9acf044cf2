"""Logs, one JSON object a line on standard error: no prompt, no answer, no key.

Prompts are added by ``log_prompts`` only. What a provider says of an error may quote a prompt, so
its status is logged and not its words.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any

LOGGER = logging.getLogger("fastroute.gateway")
#: uvicorn's word for an answer that we cut off because the provider's was.
_EXPECTED = "ASGI callable returned without completing response."


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[1] is not None:
            # The kind and the place of a failure; its words may hold anything.
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["at"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        return json.dumps(line, ensure_ascii=False, default=str)


class _NoCutAnswers(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.getMessage() != _EXPECTED


def configure_logs(level: str) -> None:
    """Send fastroute's and uvicorn's logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in ("fastroute.gateway", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level.upper())
        logger.propagate = name == "uvicorn.error"
    logging.getLogger("uvicorn").propagate = False
    logging.getLogger("uvicorn.error").addFilter(_NoCutAnswers())


def log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log ``event`` with facts that are safe to keep."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={"facts": facts})
