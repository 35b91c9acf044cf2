"""Which columns of a table with a score a model hold scores, and on what scale they are.

``evaluate`` and ``train`` read tables by the same rules:

- A column whose name says that it is a cost, an identifier, a date or a count, or that has no
  number in any row, is not a model. ``cost_MODEL`` is what the answers of the column MODEL cost.
- A blank cell is an unknown score or cost, not 0.
- ``difficulty``, ``standard_error``, ``judgements``, ``prompt_b`` and ``harder`` say how hard
  prompts are. They are never scores.
- Scores are on the scale 0 to 1 if at least half of those that are not 1 lie between; a score
  outside is then an error of its row. Otherwise the scale is from the least to the greatest score
  of the file, and training maps it to 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fastroute.data.row_values import number_of

#: Columns that describe a prompt.
NOT_MODELS = frozenset({"", "prompt", "question", "id", "dataset", "source"})
#: Columns that say how hard a prompt is.
OF_DIFFICULTY = frozenset({"difficulty", "standard_error", "judgements", "prompt_b", "harder"})
_COST = "cost_"
_NOT_SCORES = re.compile(
    r"""(?:^|_)(?:cost|costs|price|prices|usd|dollars|tokens|latency|duration|seconds|ms)(?:_|$)
    |^(?:uid|uuid|guid|idx|index|row|rank|hash|seed|unnamed:.*)$|^id_|_(?:id|uid|uuid|idx|index|hash)$
    |^(?:date|datetime|time|timestamp|ts|created|updated|year|month|day|hour)(?:_|$)
    |_(?:at|on|date|datetime|time|timestamp|ts|year|month|day)$|^(?:num|n|count)_|_(?:count|length)$
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CAMEL_ID = re.compile(r"[a-z](?:Id|ID|At|Date|Time)$")


def is_blank(value: object) -> bool:
    """Whether a cell holds nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


class Columns:
    """The columns of a table, told apart by the rows that have been added."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        numeric: dict[str, bool] = {}
        for row in rows:
            for name, value in row.items():
                if name not in NOT_MODELS and not numeric.get(name):
                    numeric[name] = not is_blank(value) and _is_number(row, name)
        #: the columns with scores, in their order.
        self.models: tuple[str, ...] = tuple(
            name for name, found in numeric.items() if found and not _why_no_score(name)
        )
        costs = {_COST + model for model in self.models}
        self._costs = {model: _COST + model for model in self.models if _COST + model in numeric}
        #: what is neither these nor ``NOT_MODELS`` nor the cost of one, and why.
        self.others: dict[str, str] = {
            name: _why_no_score(name) or "it holds no number"
            for name in numeric
            if name not in self.models and name not in costs
        }

    def scores(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The cells of a row that may hold scores, by model."""
        return {model: row[model] for model in self.models if model in row}

    def costs(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The cells of a row that may hold costs, by model."""
        return {model: row[name] for model, name in self._costs.items() if name in row}


def scale_of(scores: Iterable[float]) -> tuple[float, float]:
    """The least and the greatest score that a file can have: 0 and 1, or those in it."""
    every = list(scores)
    telling = [score for score in every if score != 1.0]
    if 2 * sum(0.0 <= score < 1.0 for score in telling) >= len(telling):
        return 0.0, 1.0
    return min(every), max(every)


def _why_no_score(name: str) -> str:
    """Why a column of that name holds no scores; empty if it may."""
    if name in OF_DIFFICULTY:
        return "it is a label of difficulty"
    return "its name is not a model's" if _NOT_SCORES.search(name) or _CAMEL_ID.search(name) else ""


def _is_number(row: Mapping[str, Any], name: str) -> bool:
    try:
        number_of(dict(row), name)
    except ValueError:
        return False
    return True
