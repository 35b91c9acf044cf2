"""Values of a row, and what is said of rows that can't be used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastroute._checks import GREATEST
from fastroute.data.row_files import Row
from fastroute.errors import InvalidInputError

_SHOWN = 5


def refuse_bad(file: Path | str, bad: Sequence[str], skip_bad: bool) -> None:
    """Raise InvalidInputError that shows the first malformed rows, unless they may be skipped."""
    if bad and not skip_bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        rows = "row" if len(bad) == 1 else "rows"
        raise InvalidInputError(
            f"{file}: {len(bad)} malformed {rows} ({'; '.join(bad[:_SHOWN])}{more}); fix them, "
            "or leave them out with skip_bad (--skip-bad)"
        )


def prompt_of(row: Row) -> str:
    """The ``prompt`` of a row; ValueError says what is wrong with it."""
    if isinstance(row, str):
        raise ValueError(row)
    if "prompt" not in row:
        raise ValueError(f"no 'prompt' (it has {', '.join(map(str, row)) or 'nothing'})")
    prompt = row["prompt"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"'prompt' is {prompt!r}, not a string")
    if not prompt.isascii() and any("\ud800" <= c <= "\udfff" for c in prompt):
        raise ValueError("'prompt' is not Unicode text (it has a lone surrogate)")
    return prompt


def number_of(row: dict[str, Any], key: str) -> float:
    """The number under ``key``, also of true and false; ValueError says what is wrong with it."""
    if key not in row:
        raise ValueError(f"no {key!r} (it has {', '.join(map(str, row))})")
    value = row[key]
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        value = value.strip().lower() == "true"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key!r} is {value!r}, not a number") from None
    except OverflowError:  # an int beyond what a float holds
        raise ValueError(f"{key!r} is beyond {GREATEST:g}") from None
    if not math.isfinite(number):
        raise ValueError(f"{key!r} is {value!r}, not a finite number")
    if abs(number) > GREATEST:
        raise ValueError(f"{key!r} is {value!r}, beyond {GREATEST:g}")
    return number
