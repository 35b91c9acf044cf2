"""A log for replay, read from a journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Engine, select

from fastroute.errors import InvalidInputError
from fastroute.journal.grades import mean_grades, on_one_scale, read_grades
from fastroute.journal.prices import latest_prices
from fastroute.journal.schema import REQUESTS, SHADOWS
from fastroute.learning.replay.log import Log, Outcomes
from fastroute.types import Float64Array, ModelPair


def read_log(engine: Engine, *, since: float = 0.0, until: float = 1e300) -> Log:
    """The requests that a policy with known probabilities decided, from ``since`` to ``until``.

    Raises InvalidInputError where there are none.
    """
    of = REQUESTS.c
    columns = (
        of.request_id, of.conversation, of.win_rate, of.difficulty, of.probabilities, of.chosen,
        of.input_tokens, of.cached_tokens, of.output_tokens, of.cost_usd, of.latency_ms, of.prompt,
        of.prompt_characters, of.candidates, of.scores,
    )  # fmt: skip
    with engine.connect() as connection:
        rows = [
            row
            for row in connection.execute(
                select(*columns)
                .where(of.time >= since, of.time <= until, of.chosen.is_not(None))
                .order_by(of.time, of.request_id)
            )
            if (row.probabilities or {}).get(row.chosen)
        ]
        if not rows:
            raise InvalidInputError(
                "the journal has no requests whose policy recorded its probabilities"
            )
        graded, left_out = on_one_scale(read_grades(connection, since=since))
        grades = mean_grades(graded)
        asked = connection.execute(
            select(SHADOWS).where(SHADOWS.c.time >= since, SHADOWS.c.error.is_(None))
        ).all()
    place = {row.request_id: i for i, row in enumerate(rows)}
    shadows = [row for row in asked if row.request_id in place]
    models = tuple(
        sorted({m for row in rows for m in row.probabilities} | {row.model for row in shadows})
    )
    number = {model: k for k, model in enumerate(models)}
    probabilities = np.zeros((len(rows), len(models)))
    for i, row in enumerate(rows):
        for model, p in row.probabilities.items():
            probabilities[i, number[model]] = p
    names = [row.conversation or row.request_id for row in rows]
    conversation = np.unique(names, return_inverse=True)[1].astype(np.int64)
    win_rates, characters = _column(rows, "win_rate"), _column(rows, "prompt_characters")
    known = np.nan_to_num(_column(rows, "input_tokens"))
    prompts = [row.prompt for row in rows]
    eligible = np.ones(probabilities.shape, dtype=np.bool_)
    scores = np.full(probabilities.shape, np.nan)  # of choices among candidates
    for i, row in enumerate(rows):
        if row.win_rate is None and row.candidates:
            eligible[i] = np.isin(models, row.candidates)
            scores[i] = [(row.scores or {}).get(model, np.nan) for model in models]
    # What was known before the choice.
    features = (win_rates, _column(rows, "difficulty"), np.log1p(np.nan_to_num(characters)))
    scored = scores[:, np.isfinite(scores).any(axis=0)]
    return Log(
        models,
        conversation,
        probabilities,
        np.column_stack([*features, scored]),
        known,
        np.minimum(np.nan_to_num(_column(rows, "cached_tokens")), known),
        _outcomes(rows, [row.chosen for row in rows], place, number, grades, np.ones(len(rows))),
        _outcomes(
            shadows, [row.model for row in shadows], place, number, grades,
            _column(shadows, "weight"),
        ),
        win_rates,
        characters,
        None if any(prompt is None for prompt in prompts) else prompts,
        eligible,
        left_out,
    )  # fmt: skip


def _outcomes(
    rows: Sequence[Any],
    models: Sequence[str],
    place: dict[str, int],
    number: dict[str, int],
    grades: Any,
    weight: Float64Array,
) -> Outcomes:
    keys = list(zip((row.request_id for row in rows), models, strict=True))
    return Outcomes(
        np.array([place[request_id] for request_id, _ in keys], dtype=np.int64),
        np.array([number[model] for model in models], dtype=np.int64),
        np.array([grades.get(key, np.nan) for key in keys], dtype=np.float64),
        _column(rows, "output_tokens"),
        _column(rows, "latency_ms"),
        _column(rows, "cost_usd"),
        weight,
    )


def _column(rows: Sequence[Any], name: str) -> Float64Array:
    values = (getattr(row, name) for row in rows)
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def read_prices(engine: Engine, models: Sequence[str]) -> Float64Array:
    """The latest dollars per token for input, cached input and output, float64[K, 3]; NaN for a
    model without prices."""
    found = np.full((len(models), 3), np.nan)
    with engine.connect() as connection:
        for name, row in latest_prices(connection).items():
            full, cached = row["input_usd_per_mtok"], row["cached_input_usd_per_mtok"]
            if name in models and full is not None:
                prices = (full, full if cached is None else cached, row["output_usd_per_mtok"])
                found[models.index(name)] = np.array(prices, dtype=np.float64) / 1e6
    return found


def read_candidates(engine: Engine) -> tuple[str, ...]:
    """The candidates of the last request for which one of them was chosen; () where there is
    none."""
    of = REQUESTS.c
    query = select(of.scores).where(of.win_rate.is_(None), of.scores.is_not(None))
    with engine.connect() as connection:
        return tuple(connection.scalar(query.order_by(of.time.desc()).limit(1)) or ())


def read_pair(engine: Engine) -> ModelPair | None:
    """The strong and the weak model that a gateway had last; None where the journal has none."""
    with engine.connect() as connection:
        latest = latest_prices(connection)
    names = {row["role"]: name for name, row in latest.items() if row["role"] is not None}
    return ModelPair(names["strong"], names["weak"]) if {"strong", "weak"} <= names.keys() else None
