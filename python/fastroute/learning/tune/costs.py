"""What answers cost: dollars that the export has, or tokens times prices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastroute.types import Float64Array

#: Characters a token has on average in English text, where tokens are not counted.
CHARS_PER_TOKEN = 4.0


class Price(NamedTuple):
    """Dollars per million tokens."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What the export says of one answer; NaN for what it does not.

    Attributes:
        cost: dollars.
        input, output: tokens.
        answer_chars: length of the answer's text.
    """

    cost: float = math.nan
    input: float = math.nan
    output: float = math.nan
    answer_chars: float = math.nan


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices by model, and how many tokens an answer has where nothing is known of it."""

    prices: Mapping[str, Price]
    output_tokens: int

    def of(
        self, models: Sequence[str], prompts: Sequence[str], usage: Sequence[Mapping[str, Usage]]
    ) -> tuple[Float64Array | None, dict[str, float], list[str]]:
        """Dollars of the models' answers, float64[n, m], the mean tokens of an answer by model, and
        what they are computed from, a line a model. No dollars where one of the models has neither
        costs nor a price.

        What is missing in a row is taken to be the mean of the others.
        """
        found, said, tokens = [], [], {}
        for model in models:
            column, tokens[model], source = self._of_model(
                model, prompts, [row.get(model) for row in usage]
            )
            if column is None:
                return (
                    None,
                    {},
                    [f"costs: not known, as {model!r} has no price (--price) and no cost"],
                )
            found.append(column)
            said.append(f"cost of {model!r}: {source}; mean {column.mean() * 1000:.4g} dollars "
                        "per 1,000 requests")  # fmt: skip
        return np.stack(found, axis=1), tokens, said

    def _of_model(
        self, model: str, prompts: Sequence[str], usage: Sequence[Usage | None]
    ) -> tuple[Float64Array | None, float, str]:
        rows = [Usage() if row is None else row for row in usage]
        cost, into, out, chars = (
            np.array([getattr(row, name) for row in rows], dtype=np.float64)
            for name in ("cost", "input", "output", "answer_chars")
        )
        counted, of_output = out, "tokens in the export"
        if np.isnan(counted).all():
            counted, of_output = chars / CHARS_PER_TOKEN, "estimated from the answers' characters"
        if np.isnan(counted).all():
            counted = np.full(len(rows), float(self.output_tokens))
            of_output = f"ASSUMED to be {self.output_tokens} tokens an answer (--output-tokens)"
        mean_tokens = float(np.nanmean(counted))
        if not np.isnan(cost).all():
            return _filled(cost), mean_tokens, "dollars in the export"
        price = self.prices.get(model)
        if price is None:
            return None, mean_tokens, ""
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.float64)
        of_input = "tokens in the export"
        if np.isnan(into).all():
            into, of_input = lengths / CHARS_PER_TOKEN, "estimated from the prompts' characters"
        dollars = (
            _filled(into) * price.input_usd_per_mtok + _filled(counted) * price.output_usd_per_mtok
        ) / 1e6
        return (
            dollars,
            mean_tokens,
            (
                f"{price.input_usd_per_mtok:g}/{price.output_usd_per_mtok:g} dollars per million "
                f"tokens; input {of_input}, output {of_output}"
            ),
        )


def _filled(values: Float64Array) -> Float64Array:
    filled: Float64Array = np.where(np.isnan(values), np.nanmean(values), values)
    return filled
