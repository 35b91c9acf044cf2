"""Which column of an export holds what: the prompt, the time, grades, tokens, answers and costs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from fastroute.chat.prompts import prompt_from_messages
from fastroute.data.columns import is_blank
from fastroute.errors import InvalidInputError

_PROMPTS = (
    *("prompt", "question", "query", "user_prompt", "user_message", "input", "instruction"),
    *("request", "message", "messages", "text"),
)
_TIMES = (
    *("timestamp", "time", "created_at", "datetime", "date", "created", "ts", "start_time"),
    *("logged_at", "sent_at"),
)
#: The column of a file with a row an answer that names the model.
MODEL = "model"
_GRADES = ("grade", "score", "rating", "thumb", "thumbs", "feedback", "quality", "correct")
_ROLES = {
    "cost": ("cost", "cost_usd", "usd", "costs"),
    "input": ("input_tokens", "prompt_tokens", "tokens_in", "in_tokens"),
    "output": ("output_tokens", "completion_tokens", "tokens_out", "out_tokens", "tokens"),
    "answer": ("answer", "response", "output", "completion", "reply"),
}
_AROUND = re.compile(
    rf"^(?:{'|'.join(_GRADES)})s?[_. -]+|[_. -]+(?:{'|'.join(_GRADES)})s?$", re.IGNORECASE
)
# Later moments in seconds since 1970 are in milliseconds.
_MOST_SECONDS = 1e11


def prompt_column(names: Sequence[str], given: str | None) -> str:
    """The column of prompts. Raises InvalidInputError where there is none."""
    if given is not None:
        return check_column("prompt", given, names)
    found = _first(_PROMPTS, names)
    if found is None:
        raise InvalidInputError(
            f"no column is named {', '.join(_PROMPTS[:4])} or the like; its columns are "
            f"{', '.join(names[:20])}; name the one with the prompts (--prompt-column)"
        )
    return found


def time_column(names: Sequence[str], given: str | None) -> str | None:
    """The column of times, or None."""
    return _first(_TIMES, names) if given is None else check_column("time", given, names)


def grade_column(names: Sequence[str]) -> str | None:
    """The column of grades in a file with a row an answer, or None."""
    return _first(_GRADES, names)


def check_column(what: str, name: str, names: Sequence[str]) -> str:
    """``name``, if there is a column of it; raises InvalidInputError otherwise."""
    if name not in names:
        raise InvalidInputError(
            f"{what}: no column is named {name!r}; the columns are {', '.join(names[:20])}"
        )
    return name


def of_model(role: str, model: str, names: Sequence[str]) -> str | None:
    """The column with the cost, input tokens, output tokens or answer of a model, or None.

    For the model "score_mini" it is, for example, "cost_mini", "mini_cost" or "cost_score_mini".
    """
    stem = _AROUND.sub("", model)
    wanted = [
        name
        for part in dict.fromkeys((model, stem))
        for word in _ROLES[role]
        for name in (f"{word}_{part}", f"{part}_{word}")
    ]
    return _first([name for name in wanted if name != model], names)


def of_answer(role: str, names: Sequence[str]) -> str | None:
    """The same, in a file with a row an answer."""
    return _first(_ROLES[role], names)


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(names)}
    return next((lower[name.lower()] for name in wanted if name.lower() in lower), None)


def prompt_text(row: Mapping[str, Any], column: str) -> str:
    """The prompt of a row: a text, or the last that the user says in chat messages.

    Raises ValueError that says what is wrong with it.
    """
    value = row.get(column)
    if isinstance(value, str) and value.lstrip().startswith('[{"'):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = row.get(column)
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        value = prompt_from_messages(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{column!r} is {value!r:.80}, not a text")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"{column!r} is not Unicode text (it has a lone surrogate)")
    return value


def moment(value: object) -> float:
    """Seconds since 1970 of a number, an ISO 8601 text, a date or a datetime; in UTC if no zone is
    given. Raises ValueError for anything else."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        if not isinstance(value, str) or is_blank(value):
            raise ValueError(f"{value!r:.80} is not a time") from None
        return moment(datetime.fromisoformat(value.strip()))
    if not abs(seconds) < 1e18:
        raise ValueError(f"{value!r:.80} is not a time")
    return seconds / 1000.0 if abs(seconds) > _MOST_SECONDS else seconds
