"""The graded prompts of a journal, by time, each with the weight that it should count with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Engine, select

from fastroute.errors import InvalidInputError
from fastroute.journal.grades import mean_grades, on_one_scale, read_grades
from fastroute.journal.schema import REQUESTS, SHADOWS
from fastroute.learning.replay.journal import read_candidates, read_pair, read_prices
from fastroute.learning.tune.costs import Costs, Price, Usage
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.grades import read_scale
from fastroute.types import Float64Array, ModelPair


class Weighted(NamedTuple):
    """An export, float64[n] weights, and the prices of its models.

    A row with all grades weighs 1 over the probability that its shadows were asked, another 1 over
    the probability that its model was chosen.
    """

    export: Export
    weights: Float64Array
    prices: Mapping[str, Price]


def export_journal(
    engine: Engine, *, pair: ModelPair | None = None, since: float = 0.0
) -> Weighted:
    """Requests with a prompt and a grade of a model of ``pair``, which is by default the gateway's,
    or of its candidates where it has no pair.

    Raises InvalidInputError where the journal has no prompts or grades, or does not say which
    models are the pair.
    """
    pair = pair or read_pair(engine)
    models = (pair.weak, pair.strong) if pair is not None else read_candidates(engine)
    if not models:
        raise InvalidInputError(
            "the journal does not say which model is the strong one; give --strong and --weak"
        )
    of = REQUESTS.c
    with engine.connect() as connection:
        rows = connection.execute(
            select(of.request_id, of.time, of.prompt, of.chosen, of.answered_by, of.propensity,
                   of.input_tokens, of.output_tokens, of.cost_usd)
            .where(of.time >= since, of.prompt.is_not(None)).order_by(of.time, of.request_id)
        ).all()  # fmt: skip
        if not rows:
            raise InvalidInputError(
                "the journal has no prompts; keep them with [journal] prompts = true"
            )
        believed, left_out = on_one_scale(read_grades(connection, since=since))
        grades = mean_grades(believed)
        shadows: dict[str, list[Any]] = {}
        for row in connection.execute(
            select(SHADOWS).where(SHADOWS.c.time >= since, SHADOWS.c.error.is_(None))
        ):
            if row.model in models:
                shadows.setdefault(row.request_id, []).append(row)
    kept, graded, usage, weights = [], [], [], []
    for row in rows:
        own = [grades.get((row.request_id, model), math.nan) for model in models]
        known = sum(not math.isnan(grade) for grade in own)
        if not known:
            continue
        asked = shadows.get(row.request_id, [])
        kept.append(row)
        graded.append(own)
        chosen = 1.0 / (row.propensity or 1.0)
        weights.append(asked[0].weight if asked and known == len(models) else chosen)
        usage.append({shadow.model: _usage(shadow) for shadow in asked})
        usage[-1][row.answered_by or row.chosen] = _usage(row)
    complete = sum(not any(map(math.isnan, own)) for own in graded)
    both = "both" if len(models) == 2 else "all"
    if not complete:
        other = "the other model" if pair else 'the other candidates (models = "all")'
        raise InvalidInputError(
            f"none of {len(rows):,} requests with a prompt has grades of {both} "
            f"{', '.join(models[:-1])} and {models[-1]} ({len(kept):,} have one): feedback grades "
            f"the answer that was sent; have [shadow] ask {other} too, and fastroute journal judge "
            "compare them"
        )
    prices = _prices(engine, models)
    prompts = tuple(row.prompt for row in kept)
    costs, tokens, said = Costs(prices, 300).of(models, prompts, usage)
    found = (
        f"journal: {len(rows):,} requests with a prompt, {len(kept):,} of them with a grade, "
        f"{complete:,} with grades of {both} models"
    )
    export = Export(
        file=engine.url.render_as_string(hide_password=True),
        models=models,
        is_pair=pair is not None,
        prompts=prompts,
        grades=np.array(graded, dtype=np.float64),
        usd=costs,
        times=np.array([row.time for row in kept], dtype=np.float64),
        where=tuple(row.request_id for row in kept),
        scale=read_scale("0-1"),
        understood=(found, *([left_out] if left_out else []), *said),
        answer_tokens=tokens,
        answers=tuple({} for _ in kept),
    )
    return Weighted(export, np.array(weights, dtype=np.float64), prices)


def _usage(row: Any) -> Usage:
    values = (row.cost_usd, row.input_tokens, row.output_tokens)
    return Usage(*(math.nan if value is None else float(value) for value in values))


def _prices(engine: Engine, models: Sequence[str]) -> dict[str, Price]:
    found = 1e6 * read_prices(engine, models)
    pairs = zip(models, found.tolist(), strict=True)
    return {model: Price(into, out) for model, (into, _, out) in pairs if not math.isnan(into)}
