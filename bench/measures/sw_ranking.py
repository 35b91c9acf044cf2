"""sw_ranking in exact mode against RouteLLM's own code, and against the true optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import reference
from data import NUM_TIERS, Battles, Size, make_battles
from measures.figure import Figure, Settings
from rivals import sw_fastroute, sw_numpy, sw_routellm
from timing import interleaved_us

_OUTCOMES = {"model_a": 1, "model_b": -1, "tie": 0, "tie (bothbad)": 0}


def measure(settings: Settings) -> Iterator[Figure]:
    size = Size(10_000, 384) if settings.quick else Size(55_000, 1536)
    battles = make_battles(size, queries=20)
    ours = sw_fastroute.fit(battles, strict=True)
    by_numpy = sw_numpy.fit(battles, strict=True)
    queries = list(battles.queries)
    answers = sw_fastroute.route_embeddings(ours, battles.queries)
    shape = f"{size.battles:,} battles x {size.dimensions}"
    speed = f"`sw_ranking` exact, {shape}: times faster than RouteLLM"
    error = f"`sw_ranking` `strict=True`, {shape}: distance from"
    tiers = sw_fastroute.tiers(ours)

    if why := sw_routellm.missing():
        yield Figure(speed, "at least", 10.0, None, "times", why)
        yield Figure(f"{error} RouteLLM's win rate", "at most", 5e-4, None, "", why)
    else:
        theirs = sw_routellm.fit(battles)
        elsewhere = sum(tier != tiers[model] for model, tier in sw_routellm.tiers(theirs).items())
        some = battles.queries[:5]
        apart = np.abs(sw_routellm.route_embeddings(theirs, some) - answers[: len(some)]).max()
        theirs = sw_routellm.with_tiers(theirs, battles, tiers)
        got: dict[str, list[float]] = {"fastroute": [], "numpy": [], "routellm": []}
        functions: dict[str, Callable[[Any], object]] = {
            "fastroute": lambda x: got["fastroute"].append(sw_fastroute.route_embedding(ours, x)),
            "numpy": lambda x: got["numpy"].append(sw_numpy.route_embedding(by_numpy, x)),
            "routellm": lambda x: got["routellm"].append(sw_routellm.route_embedding(theirs, x)),
        }
        times = interleaved_us(functions, queries)
        ms = {name: float(np.median(taken)) / 1e3 for name, taken in times.items()}
        assert got["fastroute"] == list(answers)
        yield Figure(
            speed,
            "at least",
            10.0,
            ms["routellm"] / ms["fastroute"],
            "times",
            f"medians over {len(queries)} queries in turns, all on one thread (BLAS and OpenMP "
            f"too): RouteLLM {ms['routellm']:.0f} ms, fastroute {ms['fastroute']:.1f} ms, plain "
            f"NumPy {ms['numpy']:.1f} ms",
        )
        yield Figure(
            f"{error} RouteLLM's win rate",
            "at most",
            5e-4,
            float(np.abs(answers - np.array(got["routellm"])).max()),
            "",
            f"largest of {len(queries)} queries, RouteLLM's refit on our tiers; its own tiers, cut "
            f"from ratings that stop early, differ for {elsewhere} of {len(tiers)} models, and on "
            f"those the distance is {apart:.1e} ({len(some)} queries)",
        )
    optimum = _optimum(battles, tiers, queries)
    yield Figure(
        f"{error} the optimum",
        "at most",
        1e-8,
        float(np.abs(answers - optimum).max()),
        "",
        f"largest of {len(queries)} queries, against float64 maximum likelihood over every "
        "battle, without collapsing or float32 (`tests/reference.py`)",
    )


def _optimum(battles: Battles, tiers: dict[str, int], queries: list[np.ndarray]) -> np.ndarray:
    """RouteLLM's likelihood at its maximum, in float64, on the given tiers."""
    tier_a = np.array([tiers[model] for model in battles.model_a])
    tier_b = np.array([tiers[model] for model in battles.model_b])
    outcome = np.array([_OUTCOMES[winner] for winner in battles.winner])
    strong, weak = tiers[battles.strong_model], tiers[battles.weak_model]
    rates = []
    for x in queries:
        weights = reference.battle_weights(reference.similarities(battles.embeddings, x))
        ratings = reference.battle_ratings(tier_a, tier_b, outcome, weights, NUM_TIERS, strict=True)
        rates.append(1.0 / (1.0 + np.exp(ratings[weak] - ratings[strong])))
    return np.array(rates)
