"""Drift: whether what comes is still like what came before.

Each observation's rank among all before it, ties at random, is uniform and independent as long as
they are exchangeable. A gambler bets that it is not (conformal test martingales, Vovk et al. 2021,
arXiv 2102.10439): that ranks are high or low, or at the ends or in the middle. By Ville's
inequality a false alarm, at any time, has the probability that was set. So that a change late in a
long series is noticed soon, new gamblers begin after each ``_EPOCH`` observations, with a stake of
1 / (k (k + 1)) for the k-th: these sum to 1.

Observations are of conversations, as those of one conversation are alike: the win rate of its first
request, the output tokens and the grade of each model (``quality`` has the test of grades). Changes
of prices are noted as they are. What a canary routed is left out: it sends other prompts to each
model, which is no drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.random import default_rng

from fastroute.rollout.bets import log_sum, share_out
from fastroute.rollout.quality import QualityStream
from fastroute.types import Float64Array

#: The probability of any false alarm, over the whole life of a ``Drift``; half of it is for grades.
LEVEL = 0.05
_QUALITY = "quality of "
_EPOCH = 500
_SHARED = 1e-3
_BINS = 512
# Observations before the first bet: ranks among few say nothing.
_FIRST = 100
_SLOPES = (-1.8, -0.9, -0.3, 0.3, 0.9, 1.8)
_BENDS = (-3.6, -1.2, 1.2, 3.6)


def _odds(p: float) -> Float64Array:
    """What each gambler's stake is multiplied by; the mean over uniform p is 1."""
    slopes = [1.0 + a * (p - 0.5) for a in _SLOPES]
    bends = [1.0 + a * ((p - 0.5) ** 2 - 1.0 / 12.0) for a in _BENDS]
    return np.array([1.0, *slopes, *bends])


class Stream:
    """One series of values, as a histogram, and the stakes against "nothing changes".

    Args:
        saved: what ``to_dict`` returned.
    """

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self.counts = np.zeros(_BINS, dtype=np.int64)
        for place, count in saved.get("counts", ()):
            self.counts[place] = count
        self.seen = int(self.counts.sum())
        # The logarithms of the stakes of the last two generations of gamblers.
        self.stakes: list[Float64Array] = [
            np.array(s, dtype=np.float64) for s in saved.get("stakes", ())
        ]

    def observe(self, place: int, chance: float) -> float:
        """Note a value in bin ``place``; ``chance`` in 0..1 breaks ties. Returns the logarithm of
        the sum of the stakes."""
        if self.seen >= _FIRST:
            age = self.seen - _FIRST
            if age % _EPOCH == 0:
                k = age // _EPOCH + 1
                size = 1 + len(_SLOPES) + len(_BENDS)
                begun = np.full(size, -math.log(k * (k + 1.0) * size))
                self.stakes = [*self.stakes[-1:], begun]  # to drop the oldest can only lose
            below, same = int(self.counts[:place].sum()), int(self.counts[place])
            rank = (below + chance * (same + 1.0)) / (self.seen + 1.0)
            moved = np.log(_odds(rank))
            self.stakes = [share_out(s + moved, _SHARED) for s in self.stakes]
        self.counts[place] += 1
        self.seen += 1
        return self.evidence

    @property
    def evidence(self) -> float:
        """The logarithm of the sum of the stakes."""
        return float(log_sum(np.concatenate(self.stakes))) if self.stakes else -math.inf

    def to_dict(self) -> dict[str, Any]:
        """What goes on from here, for JSON."""
        places = np.flatnonzero(self.counts)
        return {
            "counts": [[int(i), int(self.counts[i])] for i in places],
            "stakes": [s.tolist() for s in self.stakes],
        }


#: Scores of other routers in a row after which the one that is watched is no longer in use. A
#: gateway may serve several.
_OTHERS = 30
#: What routers said of prompts: of a pair, of candidates.
_OF_PROMPTS = ("win_rate", "score")


@dataclass(frozen=True, slots=True)
class Alarm:
    """A stream that has changed.

    Attributes:
        time: when it was noticed, in seconds since the Unix epoch.
        stream: "win_rate", "score", "quality of M", "output tokens of M" or "price of M".
        reason: what is different.
    """

    time: float
    stream: str
    reason: str

    @property
    def is_of_traffic(self) -> bool:
        """Whether prompts or grades changed, not the lengths of answers or prices."""
        return self.stream in _OF_PROMPTS or self.stream.startswith(_QUALITY)


class Drift:
    """Streams by name, and what they have raised. After an alarm a stream learns afresh.

    Args:
        saved: what ``to_dict`` returned.
    """

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self.cursor = float(saved.get("cursor", 0.0))
        self.grades_cursor = float(saved.get("grades_cursor", self.cursor))
        self.prices_cursor = float(saved.get("prices_cursor", 0.0))
        self.prices: dict[str, list[float]] = dict(saved.get("prices", {}))
        self.alarms = [Alarm(**alarm) for alarm in saved.get("alarms", ())]
        self.router = saved.get("router")
        self.others: int = saved.get("others", 0)
        self.streams = {n: _stream(n, s) for n, s in saved.get("streams", {}).items()}
        self._order: list[str] = list(saved.get("order", ()))

    def observe(self, name: str, value: float, time: float) -> None:
        """Note ``value`` of stream ``name``: tokens 0 or more, a win rate 0..1."""
        stream = self._stream(name)
        assert isinstance(stream, Stream)
        if name.startswith("output tokens"):
            value = math.log1p(max(value, 0.0)) / math.log(1e7)
        place = min(max(int(value * _BINS), 0), _BINS - 1)
        # Repeatable, and independent of the value.
        chance = float(default_rng([stream.seen, *name.encode()]).random())
        stream.observe(place, chance)
        self._decide(name, f"unlike the {stream.seen:,} conversations before", time)

    def observe_grade(
        self, model: str, kind: str, score: float | None, grade: float, time: float
    ) -> None:
        """Note a grade, 0..1, of an answer of ``model``.

        Args:
            model: who answered.
            kind: who graded; grades of each kind are compared with their like.
            score: the win rate of the prompt, or among candidates the model's, where it has one.
            grade: 0..1.
            time: of the request.
        """
        name = f"{_QUALITY}{model}"
        stream = self._stream(name)
        assert isinstance(stream, QualityStream)
        if score is None:
            kind, score = f"{kind}, no score", 0.5
        stream.observe(kind, score, grade)
        how = "lower" if stream.is_worse else "higher"
        self._decide(name, f"{how} than before, by {stream.seen:,} grades", time)

    def _stream(self, name: str) -> Stream | QualityStream:
        if name not in self._order:
            self._order.append(name)
        return self.streams.setdefault(name, _stream(name))

    def _decide(self, name: str, reason: str, time: float) -> None:
        if self.streams[name].evidence >= self._needed(name):
            self.alarms.append(Alarm(time, name, reason))
            self.streams[name] = _stream(name)

    def _needed(self, name: str) -> float:
        """The evidence that an alarm takes."""
        alike = [n for n in self._order if n.startswith(_QUALITY) == name.startswith(_QUALITY)]
        j = alike.index(name) + 1
        return math.log(2.0 * j * (j + 1.0) / LEVEL)

    def observe_price(self, model: str, prices: list[float], time: float) -> None:
        """Note the prices of ``model``; another than before is an alarm."""
        self.prices_cursor = max(self.prices_cursor, time)
        before = self.prices.get(model)
        if before is not None and before != prices:
            was, now = ("/".join(f"{x:g}" for x in p) for p in (before, prices))
            self.alarms.append(
                Alarm(time, f"price of {model}", f"from {was} to {now} dollars per million tokens")
            )
        self.prices[model] = prices

    def observe_router(self, checksum: str | None) -> bool:
        """Note which router made a score; whether it is the one that is watched. Where that made
        none of ``_OTHERS``, another takes its place, and prompts and grades begin afresh."""
        if checksum == self.router:
            self.others = 0
            return True
        self.others += 1
        if self.router is not None and self.others < _OTHERS:
            return False
        self.router, self.others = checksum, 0
        for name in list(self.streams):
            if name in _OF_PROMPTS or name.startswith(_QUALITY):
                del self.streams[name]
        return True

    def to_dict(self) -> dict[str, Any]:
        """What goes on from here, for JSON."""
        return {
            "cursor": self.cursor,
            "grades_cursor": self.grades_cursor,
            "prices_cursor": self.prices_cursor,
            "prices": self.prices,
            "alarms": [asdict(alarm) for alarm in self.alarms[-100:]],
            "router": self.router,
            "others": self.others,
            "streams": {name: s.to_dict() for name, s in self.streams.items()},
            "order": self._order,
        }

    def summary(self) -> dict[str, Any]:
        """What a person wants to know, for the page."""
        streams = []
        for name in self._order:
            stream = self.streams.get(name)
            if stream is None:
                continue
            part = stream.evidence / self._needed(name)
            streams.append(
                {
                    "name": name,
                    "conversations": stream.seen,
                    # Part of the evidence that an alarm takes.
                    "evidence": min(max(part, 0.0), 1.0) if len(stream.stakes) else 0.0,
                }
            )
        return {"streams": streams, "alarms": [asdict(alarm) for alarm in self.alarms[-20:]]}


def _stream(name: str, saved: Mapping[str, Any] | None = None) -> Stream | QualityStream:
    return QualityStream(saved) if name.startswith(_QUALITY) else Stream(saved)
