"""What was paid, and what always asking the strong or the weak model would have cost.

Where a model did not answer a request, its shadow says what its answer costs. Elsewhere the tokens
of the answer that was given are valued at its prices, times the ratio R of both by the shadows: a
ratio estimator (Cochran, Sampling Techniques, 1977, ch. 6) with the weights of the sample,

    R = sum w y / sum w x,    Var R = sum w^2 e^2 / (sum w x)^2,    e = y - R x,

y being the dollars of the shadow, x those of the given answer's tokens at the same prices. What is
not sampled adds variance in proportion to x. Without shadows R is 1, and there is no interval.
Prices are those of the request's time; prompt caches are taken to serve the other model as well.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, select

from fastroute.journal.schema import JUDGEMENTS, PRICES, REQUESTS, SHADOWS

#: What rows of a report can be of.
GROUPS = ("month", "caller", "model")
_SIDES = ("strong", "weak")
#: Pairs that a ratio needs.
_LEAST_PAIRS = 10
_Z = 1.959963984540054  # of 95 %


class Dollars(NamedTuple):
    """An estimate with its 95 % interval; without bounds where there is no interval."""

    usd: float
    low: float | None
    high: float | None


@dataclass
class _Side:
    """Always asking one model: what is known, and what is estimated, by who answered instead."""

    known: float = 0.0
    x: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass
class _Group:
    requests: int = 0
    paid: float = 0.0
    shadows: float = 0.0
    judges: float = 0.0
    unpriced: int = 0
    compared_paid: float = 0.0
    sides: dict[str, _Side] = field(default_factory=lambda: {side: _Side() for side in _SIDES})


@dataclass
class _Pairs:
    """Shadows of one model beside answers of another."""

    rows: list[tuple[float, float, float]] = field(default_factory=list)  # w, x, y

    def ratio(self) -> tuple[float, float, float] | None:
        """R, its variance, and the variance of y for each dollar of x; None for too few pairs."""
        total = sum(w * x for w, x, _ in self.rows)
        n = len(self.rows)
        if n < _LEAST_PAIRS or total <= 0:
            return None
        ratio = sum(w * y for w, _, y in self.rows) / total
        errors = [(w, x, y - ratio * x) for w, x, y in self.rows]
        variance = sum((w * e) ** 2 for w, _, e in errors) / total**2 * n / (n - 1)
        spread = sum(w * e * e / x for w, x, e in errors if x > 0) / sum(w for w, _, _ in errors)
        return ratio, variance, spread


class _Prices:
    """Prices and roles by time."""

    def __init__(self, connection: Connection) -> None:
        self._rows: dict[str, list[RowMapping]] = defaultdict(list)
        self._roles: dict[str, tuple[list[float], list[str]]] = {s: ([], []) for s in _SIDES}
        for row in connection.execute(select(PRICES).order_by(PRICES.c.time)).mappings():
            self._rows[row["model"]].append(row)
            if row["role"] in self._roles:
                times, names = self._roles[row["role"]]
                times.append(row["time"])
                names.append(row["model"])
        self._times = {model: [row["time"] for row in rows] for model, rows in self._rows.items()}

    def model_of(self, side: str, time: float) -> str | None:
        """The model that was the strong or the weak one at ``time``."""
        times, names = self._roles[side]
        return names[max(0, bisect_right(times, time) - 1)] if names else None

    def dollars(self, model: str, row: RowMapping, tokens: RowMapping) -> float | None:
        """What ``tokens`` of ``model`` cost at the time of ``row``, cached as those of ``row``."""
        rows = self._rows.get(model)
        if not rows or row["input_tokens"] is None or tokens["output_tokens"] is None:
            return None
        price = rows[max(0, bisect_right(self._times[model], row["time"]) - 1)]
        full, output = price["input_usd_per_mtok"], price["output_usd_per_mtok"]
        if full is None or output is None:
            return None
        cached, written = row["cached_tokens"] or 0, row["cache_write_tokens"] or 0
        of_cached, of_written = (
            price["cached_input_usd_per_mtok"],
            price["cache_write_usd_per_mtok"],
        )
        input_tokens = tokens["input_tokens"] or 0
        cached = min(cached, input_tokens)
        written = min(written, input_tokens - cached)
        dollars: float = (
            (input_tokens - cached - written) * full
            + cached * (full if of_cached is None else of_cached)
            + written * (full if of_written is None else of_written)
            + tokens["output_tokens"] * output
        ) / 1e6
        return dollars


def savings(
    connection: Connection,
    by: Sequence[str] = ("month",),
    *,
    since: float = 0.0,
    until: float = 1e18,
) -> list[dict[str, Any]]:
    """A row for each group of ``by``, a selection of GROUPS, in order.

    Keys beside those of ``by``: ``requests``; ``paid_usd`` for all calls of theirs; of those that a
    router decided (``routed_usd``) ``always_strong_usd`` and ``always_weak_usd``; ``shadow_usd``
    and ``judge_usd``; ``saved_usd``, what always asking the strong model would have cost less what
    was paid for it, shadows and judges included; ``unpriced`` requests, whose dollars are not
    known. Estimates have ``usd``, ``low`` and ``high``, of 95 %.
    """
    prices = _Prices(connection)
    of = REQUESTS.c
    fits = (of.time >= since, of.time < until)
    groups: dict[tuple[str, ...], _Group] = defaultdict(_Group)
    pairs: dict[tuple[str, str], _Pairs] = defaultdict(_Pairs)
    shadows = _shadows(connection, fits)
    names: dict[str, tuple[str, ...]] = {}  # of requests with shadows or judgements
    judges = _judge_usd(connection, fits)
    columns = [of[name] for name in (
        "request_id", "time", "caller", "router", "answered_by", "input_tokens", "cached_tokens",
        "cache_write_tokens", "output_tokens", "cost_usd",
    )]  # fmt: skip
    asked = select(*columns).where(*fits).order_by(of.time)
    for row in connection.execution_options(yield_per=1000).execute(asked).mappings():
        key = tuple(_names(row)[name] for name in by)
        group = groups[key]
        group.requests += 1
        if row["request_id"] in shadows or row["request_id"] in judges:
            names[row["request_id"]] = key
        if row["cost_usd"] is None:
            group.unpriced += row["input_tokens"] is not None
            continue
        group.paid += row["cost_usd"]
        if row["router"] is not None and row["answered_by"] is not None:
            _compare(group, row, prices, shadows.get(row["request_id"], {}), pairs)
    for request_id, key in names.items():
        groups[key].judges += judges.get(request_id, 0.0)
        for shadow in shadows.get(request_id, {}).values():
            groups[key].shadows += shadow["cost_usd"] or 0.0
    ratios = {direction: found.ratio() for direction, found in pairs.items()}
    return [
        dict(zip(by, key, strict=True)) | _report(groups[key], ratios) for key in sorted(groups)
    ]


def _compare(
    group: _Group,
    row: RowMapping,
    prices: _Prices,
    shadows: Mapping[str, RowMapping],
    pairs: dict[tuple[str, str], _Pairs],
) -> None:
    """Add to ``group`` what the strong and the weak model would have cost for the request."""
    found: dict[str, tuple[str | None, float, float | None]] = {}
    for side in _SIDES:
        model = prices.model_of(side, row["time"])
        x = None if model is None else prices.dollars(model, row, row)
        if model is None or x is None:
            return
        if model == row["answered_by"]:
            found[side] = None, x, x
            continue
        shadow = shadows.get(model)
        y = None
        if shadow is not None and shadow["error"] is None:
            y = prices.dollars(model, row, shadow)
        if shadow is not None and y is not None:
            pairs[row["answered_by"], side].rows.append((shadow["weight"], x, y))
        found[side] = row["answered_by"], x, y
    group.compared_paid += row["cost_usd"]
    for side, (answered_by, x, y) in found.items():
        if y is None:
            group.sides[side].x[str(answered_by)] += x
        else:
            group.sides[side].known += y


def _report(
    group: _Group, ratios: Mapping[tuple[str, str], tuple[float, float, float] | None]
) -> dict[str, Any]:
    always = {side: _always(side, group.sides[side], ratios) for side in _SIDES}
    strong = always["strong"]
    spent = group.compared_paid + group.shadows + group.judges
    saved = Dollars(
        strong.usd - spent,
        None if strong.low is None else strong.low - spent,
        None if strong.high is None else strong.high - spent,
    )
    return {
        "requests": group.requests,
        "paid_usd": group.paid,
        "routed_usd": group.compared_paid,
        "shadow_usd": group.shadows,
        "judge_usd": group.judges,
        "always_strong_usd": strong._asdict(),
        "always_weak_usd": always["weak"]._asdict(),
        "saved_usd": saved._asdict(),
        "unpriced": group.unpriced,
    }


def _always(
    side: str, found: _Side, ratios: Mapping[tuple[str, str], tuple[float, float, float] | None]
) -> Dollars:
    total, variance, has_interval = found.known, 0.0, True
    for answered_by, x in found.x.items():
        ratio = ratios.get((answered_by, side))
        if ratio is None:
            total += x
            has_interval = has_interval and x == 0
            continue
        total += ratio[0] * x
        variance += x * x * ratio[1] + x * ratio[2]
    if not has_interval:
        return Dollars(total, None, None)
    margin = _Z * math.sqrt(variance)
    return Dollars(total, total - margin, total + margin)


def _shadows(connection: Connection, fits: Iterable[Any]) -> dict[str, dict[str, RowMapping]]:
    names = ("request_id", "model", "weight", "input_tokens", "output_tokens", "cost_usd", "error")
    rows = connection.execute(
        select(*(SHADOWS.c[name] for name in names))
        .join(REQUESTS, REQUESTS.c.request_id == SHADOWS.c.request_id)
        .where(*fits)
    ).mappings()
    found: dict[str, dict[str, RowMapping]] = defaultdict(dict)
    for row in rows:
        found[row["request_id"]][row["model"]] = row
    return found


def _judge_usd(connection: Connection, fits: Iterable[Any]) -> dict[str, float]:
    rows = connection.execute(
        select(JUDGEMENTS.c.request_id, JUDGEMENTS.c.cost_usd)
        .join(REQUESTS, REQUESTS.c.request_id == JUDGEMENTS.c.request_id)
        .where(*fits, JUDGEMENTS.c.cost_usd.is_not(None))
    )
    found: dict[str, float] = defaultdict(float)
    for row in rows:
        found[row.request_id] += row.cost_usd
    return found


def _names(row: RowMapping) -> dict[str, str]:
    month = datetime.fromtimestamp(row["time"], UTC).strftime("%Y-%m")
    return {"month": month, "caller": row["caller"] or "", "model": row["answered_by"] or ""}
