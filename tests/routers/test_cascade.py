"""The cascade: one scale for two routers, batches, the budget, and what it is saved as."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.artifacts import load_artifact, save_artifact
from fastroute.errors import ArtifactError, InvalidInputError, InvalidTypeError
from fastroute.provenance import Provenance
from fastroute.routers import (
    Band,
    CascadeRouter,
    LengthRouter,
    RandomRouter,
    Router,
    create_router,
    load_cascade,
    save_cascade,
)
from fastroute.routers.cascade.band import band_between, middle_band
from fastroute.routers.cascade.latency_estimate import LatencyEstimate


class Word(Router):
    """The win rate is one of the words of the prompt: "0.3 0.8" is 0.3 to the first."""

    name = "word"

    def __init__(self, number: int, seconds_per_character: float = 0.0) -> None:
        self.number = number
        self.seconds_per_character = seconds_per_character
        self.batches: list[list[str]] = []

    def win_rate(self, prompt: str) -> float:
        return float(self.win_rates([prompt])[0])

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        self.batches.append(list(prompts))
        time.sleep(self.seconds_per_character * sum(map(len, prompts)))
        return np.array([float(p.split()[self.number]) for p in prompts], dtype=np.float64)


def texts(fast: Sequence[float], slow: Sequence[float]) -> list[str]:
    return [f"{float(f)!r} {float(s)!r}" for f, s in zip(fast, slow, strict=True)]


def reference(fast: float, slow: float, low: float, high: float) -> float:
    """The formula with a straight map, as it is documented."""
    return low + (high - low) * slow if low <= fast <= high else fast


rates = st.floats(0.0, 1.0, allow_subnormal=False)
pairs = st.lists(st.tuples(rates, rates), min_size=1, max_size=12)
bands = st.tuples(rates, rates).filter(lambda ends: ends[1] - ends[0] > 1e-6)


@given(pairs, bands)
def test_formula_and_batches(members: list[tuple[float, float]], band: tuple[float, float]) -> None:
    prompts = texts(*zip(*members, strict=True))
    fast, slow = Word(0), Word(1)
    router = CascadeRouter(fast, slow, band=band)
    found = router.win_rates(prompts)
    wanted = [reference(f, s, *band) for f, s in members]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-15)
    middle = [p for p, (f, _) in zip(prompts, members, strict=True) if band[0] <= f <= band[1]]
    assert slow.batches == ([middle] if middle else [])  # only the middle, in one batch
    assert fast.batches == [prompts]
    assert list(found) == [router.win_rate(p) for p in prompts]
    fast_rates, slow_rates = (np.array(column) for column in zip(*members, strict=True))
    np.testing.assert_array_equal(router.combine(fast_rates, slow_rates), found)


@given(pairs, bands, st.lists(st.tuples(rates, rates), max_size=30), rates)
def test_one_scale_that_any_threshold_can_cut(
    members: list[tuple[float, float]],
    ends: tuple[float, float],
    sample: list[tuple[float, float]],
    threshold: float,
) -> None:
    columns = np.array(sample, dtype=np.float64).reshape(-1, 2).T
    band = Band.fitted(*ends, *(np.ascontiguousarray(column) for column in columns))
    router = CascadeRouter(Word(0), Word(1), band=band)
    scores = router.win_rates(texts(*zip(*members, strict=True)))
    inside = [band.low <= f <= band.high for f, _ in members]
    for (f, s), score, i in zip(members, scores, inside, strict=True):
        assert band.low <= score <= band.high if i else score == f
        # Outside the band, and for a threshold outside it, the fast router's decision stands.
        if not i or threshold <= band.low or threshold > band.high:
            assert (score >= threshold) == (f >= threshold) or (i and threshold <= band.low)
        for (f2, s2), score2, i2 in zip(members, scores, inside, strict=True):
            if i and i2:
                assert (score > score2) <= (s > s2)  # the slow router's order, never turned
            elif f < f2:
                assert score <= score2  # across the seam, the fast router's


def test_the_slow_router_decides_the_middle_at_its_own_threshold() -> None:
    rng = np.random.default_rng(0)
    fast, slow = rng.beta(5, 5, 4000), rng.beta(2, 6, 4000)
    band = Band.fitted(0.4, 0.65, fast, slow)
    scores = CascadeRouter(Word(0), Word(1), band=band).combine(fast, slow)
    inside = band.contains(fast)
    for threshold in (0.42, 0.5, 0.6):
        own = np.interp(threshold, band.places, band.slow_knots)
        close = np.abs(slow - own) < 1e-9
        np.testing.assert_array_equal(
            (scores >= threshold)[inside & ~close], (slow >= own)[inside & ~close]
        )
    # Spread as the fast router's win rates, so that a threshold keeps its share of strong calls.
    for threshold in np.linspace(0.05, 0.95, 19):
        assert abs((scores >= threshold).mean() - (fast >= threshold).mean()) < 0.004


def test_a_map_keeps_the_slow_order_where_the_fast_router_has_none() -> None:
    fast, slow = np.full(50, 0.5), np.linspace(0.2, 0.8, 50)
    placed = Band.fitted(0.4, 0.6, fast, slow).place(slow)
    assert (np.diff(placed) > 0).all()
    assert Band.fitted(0.4, 0.6, np.array([0.9]), np.array([0.1])).places.tolist() == [0.4, 0.6]


def test_no_band_and_the_widest() -> None:
    prompts = texts([0.0, 0.5, 1.0], [0.7, 0.2, 0.1])
    fast, slow = Word(0), Word(1)
    assert CascadeRouter(fast, slow).win_rates(prompts).tolist() == [0.0, 0.5, 1.0]
    assert slow.batches == []
    everything = CascadeRouter(fast, slow, band=(0.0, 1.0))
    assert everything.win_rates(prompts).tolist() == [0.7, 0.2, 0.1]
    assert everything.win_rates([]).shape == (0,)


def test_a_share_of_the_prompts_that_the_fast_router_was_calibrated_on() -> None:
    router = CascadeRouter(RandomRouter(1), LengthRouter(), share=0.3)
    assert router.band is not None
    assert (router.band.low, router.band.high) == pytest.approx((0.35, 0.65), abs=1e-6)
    router.win_rates(["x"] * 2000)
    assert abs(router.statistics.share_sent_on - 0.3) < 0.05
    assert CascadeRouter(RandomRouter(1), LengthRouter(), share=0).band is None
    whole = CascadeRouter(RandomRouter(1), LengthRouter(), share=1).band
    assert whole is not None
    assert (whole.low, whole.high) == (0.0, 1.0)
    assert band_between(np.array([0.2, 0.4]), 0.5, 0.5) is None
    with pytest.raises(InvalidInputError, match="no band separates them"):
        middle_band(np.full(9, 0.5), 0.5)


def test_which_member_decided() -> None:
    router = CascadeRouter(Word(0), Word(1), band=(0.4, 0.6))
    assert router.explain("0.1 0.9") == (
        0.1, "fast", "0.1000 is below the band, 0.4000 to 0.6000", 0.1, None, None,
    )  # fmt: skip
    assert "above the band" in router.explain("0.7 0.9").reason
    inside = router.explain("0.5 0.75")
    assert (inside.decided_by, inside.fast_win_rate, inside.slow_win_rate) == ("slow", 0.5, 0.75)
    assert inside.win_rate == pytest.approx(0.55)
    statistics = router.statistics
    assert (statistics.prompts, statistics.sent_on, statistics.kept_for_budget) == (3, 1, 0)
    assert statistics.share_sent_on == pytest.approx(1 / 3)
    router.reset_statistics()
    assert router.statistics.prompts == 0
    assert np.isnan(router.statistics.share_sent_on)


def test_a_budget_keeps_long_prompts_with_the_fast_router() -> None:
    # 20 us a character: a short prompt takes 0.2 ms or so, a long one at least 100 ms.
    short, long = "0.5 0.9", "0.5 0.9 " + "x" * 5000
    slow = Word(1, seconds_per_character=2e-5)
    router = CascadeRouter(Word(0), slow, band=(0.4, 0.6), latency_budget_ms=60.0)
    assert router.win_rate(long) == pytest.approx(0.58)  # no estimate yet, so it is asked
    for _ in range(3):  # a busy machine may take long once: the estimate is of several calls
        slow_before = len(slow.batches)
        router.win_rates([short] * 64)
    assert len(slow.batches) == slow_before + 1
    why = router.explain(long)
    assert (why.decided_by, why.win_rate, why.slow_win_rate) == ("fast", 0.5, None)
    assert why.predicted_ms is not None
    assert why.predicted_ms > 60
    assert "60 are allowed" in why.reason
    found = router.win_rates([long, short, long])
    assert found.tolist() == pytest.approx([0.5, 0.58, 0.5])
    assert router.statistics.kept_for_budget == 3
    assert router.statistics.share_kept_for_budget == pytest.approx(3 / 197)
    assert router.statistics.slow_s > 0.1
    # Not for ever: one in 64 goes on, to see whether it still takes that long.
    before = router.statistics.sent_on
    router.win_rates([long] * 200)
    assert 2 <= router.statistics.sent_on - before <= 4


def test_the_estimate_is_a_line_through_past_calls() -> None:
    estimate = LatencyEstimate()
    assert estimate.predict_s(1000) == 0.0
    estimate.add(1, 100, 0.01)
    assert estimate.predict_s(50) == pytest.approx(0.005)  # nothing known of other lengths
    for prompts, characters in ((1, 50), (4, 4000), (1, 3000)):
        estimate.add(prompts, characters, 0.008 * prompts + 2e-5 * characters)
    assert estimate.predict_s(500) == pytest.approx(0.018)
    for _ in range(500):  # a machine that got twice as fast
        estimate.add(1, 50, 0.0045)
        estimate.add(1, 3000, 0.034)
    assert estimate.predict_s(500) == pytest.approx(0.009, rel=1e-3)
    falling = LatencyEstimate()
    falling.add(1, 10, 0.02)
    falling.add(1, 1000, 0.01)
    assert falling.predict_s(5000) == pytest.approx(falling.predict_s(1))
    empty = LatencyEstimate()
    empty.add(2, 0, 0.04)
    assert empty.predict_s(100) == pytest.approx(0.02)


def test_threads_share_it() -> None:
    rng = np.random.default_rng(1)
    prompts = texts(rng.random(60).round(3), rng.random(60).round(3))
    router = CascadeRouter(Word(0), Word(1), band=(0.3, 0.7))
    wanted = CascadeRouter(Word(0), Word(1), band=(0.3, 0.7)).win_rates(prompts)
    found: list[Any] = [None] * 8

    def ask(i: int) -> None:
        one_by_one = [router.win_rate(p) for p in prompts]
        found[i] = (router.win_rates(prompts), one_by_one)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for batch, one_by_one in found:
        np.testing.assert_array_equal(batch, wanted)
        np.testing.assert_array_equal(one_by_one, wanted)
    assert router.statistics.prompts == 8 * 2 * 60
    inside = sum(0.3 <= float(p.split()[0]) <= 0.7 for p in prompts)
    assert router.statistics.sent_on == 8 * 2 * inside


class Broken(Router):
    """Gives what no router may."""

    name = "broken"

    def __init__(self, rate: float, count: int = 1) -> None:
        self.rate, self.count = rate, count

    def win_rate(self, _: str) -> float:
        return self.rate

    def win_rates(self, _: Sequence[str]) -> np.ndarray:
        return np.full(self.count, self.rate)


@pytest.mark.parametrize("rate", [float("nan"), 1.5, -0.1])
def test_a_member_that_gives_no_win_rate_is_named(rate: float) -> None:
    good = LengthRouter()
    for router, which in (
        (CascadeRouter(Broken(rate), good, band=(0, 1)), "fast"),
        (CascadeRouter(good, Broken(rate), band=(0, 1)), "slow"),
    ):
        with pytest.raises(InvalidInputError, match=f"{which} router 'broken'"):
            router.win_rate("x")
        with pytest.raises(InvalidInputError, match=f"{which} router 'broken'"):
            router.win_rates(["x"])
    with pytest.raises(InvalidInputError, match="slow router 'broken' returned"):
        CascadeRouter(good, Broken(0.5, 3), band=(0, 1)).win_rates(["x", "y"])


def test_bad_arguments() -> None:
    a, b = LengthRouter(), RandomRouter(0)
    for bad in ((0.6, 0.4), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)):
        with pytest.raises(InvalidInputError, match="band must be low < high"):
            CascadeRouter(a, b, band=bad)
    for shape in (0.5, "ab", (0.1,), ("0.1", "0.2"), (True, 1.0)):
        with pytest.raises(InvalidTypeError, match="band must be two win rates"):
            CascadeRouter(a, b, band=shape)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="fast must be a Router"):
        CascadeRouter("mf", b)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="'length' was never calibrated"):
        CascadeRouter(a, b, share=0.5)
    with pytest.raises(InvalidInputError, match="not both"):
        CascadeRouter(b, a, share=0.5, band=(0.1, 0.2))
    for budget in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidInputError, match="latency_budget_ms must be above 0"):
            CascadeRouter(a, b, latency_budget_ms=budget)
    with pytest.raises(InvalidTypeError, match="latency_budget_ms must be a number"):
        CascadeRouter(a, b, latency_budget_ms="5")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"band_knots must rise strictly from 0\.2 to 0\.4"):
        Band(0.2, 0.4, np.array([0.0, 1.0]), np.array([0.2, 0.3]))
    with pytest.raises(InvalidTypeError, match="prompt must be a str"):
        CascadeRouter(a, b).win_rate(3)  # type: ignore[arg-type]


# By name, and saved


def test_by_name() -> None:
    router = create_router(
        "cascade", fast={"router": "random", "seed": 3}, slow="length", band=[0.2, 0.8]
    )
    assert isinstance(router, CascadeRouter)
    same = CascadeRouter(RandomRouter(3), LengthRouter(), band=(0.2, 0.8))
    assert router.win_rates(["x" * 40] * 9).tolist() == same.win_rates(["x" * 40] * 9).tolist()
    assert router.is_quick
    for config, message in (
        ({}, "cascade needs checkpoint_path"),
        ({"fast": "random", "slow": "length"}, "either band or share"),
        ({"fast": {"seed": 1}, "slow": "length", "share": 0.1}, "fast must be a router, the name"),
        ({"fast": {"router": "cascade"}, "slow": "length", "share": 0.1}, "not be a cascade"),
        ({"checkpoint_path": "x", "fast": "mf"}, "checkpoint_path is a calibrated cascade"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            create_router("cascade", **config)


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    prompts = ["word " * n for n in rng.integers(1, 200, 50)]
    fast, slow = LengthRouter(300), LengthRouter(50)
    f, s = fast.win_rates(prompts), slow.win_rates(prompts)
    router = CascadeRouter(fast, slow, band=Band.fitted(0.3, 0.7, f, s))
    quantiles = np.linspace(0, 1, 1001, dtype=np.float32)
    router = router.with_provenance(Provenance(calibration=quantiles))
    members = {"fast": {"router": "length"}, "slow": {"router": "length", "half_length": 50}}
    save_cascade(tmp_path / "c", router, **members, found={"share": 0.4})
    loaded = create_router("cascade", checkpoint_path=tmp_path / "c", latency_budget_ms=1e6)
    assert isinstance(loaded, CascadeRouter)
    np.testing.assert_array_equal(loaded.win_rates(prompts), router.win_rates(prompts))
    np.testing.assert_array_equal(loaded.provenance.calibration, router.provenance.calibration)
    assert loaded.latency_budget_ms == 1e6
    assert load_artifact(tmp_path / "c").config["found"] == {"share": 0.4}
    save_cascade(tmp_path / "none", CascadeRouter(fast, slow), **members)
    assert load_cascade(tmp_path / "none", create_router).band is None


def test_a_member_is_found_beside_it_and_must_be_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_mf(folder: Path, scale: float) -> None:
        save_artifact(
            folder,
            kind="mf",
            config={
                "models": ["a", "b"], "strong_model": "a", "weak_model": "b", "embedder": "none",
            },
            arrays={
                "P.weight": np.eye(2, dtype=np.float32),
                "text_proj.0.weight": scale * np.ones((2, 3), dtype=np.float32),
                "classifier.0.weight": np.ones((1, 2), dtype=np.float32),
                "calibration_win_rates": np.linspace(0.2, 0.8, 1001, dtype=np.float32),
                "trained_on": np.array([5, 9], dtype=np.uint64),
            },
        )  # fmt: skip

    home = tmp_path / "home"
    make_mf(home / "mf", 1.0)
    monkeypatch.chdir(home)
    config = {"router": "mf", "checkpoint_path": "mf"}
    router = CascadeRouter(LengthRouter(), create_router("mf", checkpoint_path="mf"), band=(0, 1))
    assert router.provenance.trained_on is not None
    assert router.provenance.trained_on.tolist() == [5, 9]
    save_cascade("c", router, fast={"router": "length"}, slow=config)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moved").mkdir()
    home = home.rename(tmp_path / "moved" / "home")  # both folders, together
    loaded = load_cascade(home / "c", create_router)
    assert loaded.slow.provenance.checksum == router.slow.provenance.checksum
    assert loaded.provenance.checksum is None  # length has none, so nothing pins the whole
    make_mf(home / "mf", 2.0)
    with pytest.raises(ArtifactError, match="checksum of its slow router differs"):
        load_cascade(home / "c", create_router)
    (home / "mf" / "artifact.json").unlink()
    with pytest.raises(ArtifactError, match="its slow router can't be loaded"):
        load_cascade(home / "c", create_router)
    save_artifact(home / "bad", kind="cascade", config={"band": [0.1, 0.2]}, arrays={})
    with pytest.raises(ArtifactError, match="has a band that can't be used"):
        load_cascade(home / "bad", create_router)
