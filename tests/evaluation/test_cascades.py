"""Cascades in calibration and in the report: bands, latencies, curves, words and figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.errors import InvalidInputError
from fastroute.evaluation import (
    Benchmark,
    ContaminationError,
    apgr,
    calibrate_band,
    curve,
    evaluate,
    save_figure,
    to_dict,
    to_markdown,
    to_text,
    write_html,
)
from fastroute.evaluation.benchmarks.protocols import prompt_hashes
from fastroute.evaluation.metrics.cascades import SHARES, growing_bands
from fastroute.evaluation.metrics.latency import MemberLatency, given_latency, measure_latency
from fastroute.evaluation.thresholds.bands import candidates, choose, choose_middle, ranks, sent_on
from fastroute.provenance import Provenance
from fastroute.routers import Band, CascadeRouter, Router, create_router
from fastroute.types import ModelPair

from .evaluation_data import write_json_lines


class Stated(Router):
    """The win rate is a word of the prompt."""

    name = "stated"

    def __init__(self, number: int, trained_on: Sequence[str] = ()) -> None:
        self.number, self.asked = number, 0
        if trained_on:
            self._provenance = Provenance(trained_on=np.unique(prompt_hashes(trained_on)))

    def win_rate(self, prompt: str) -> float:
        self.asked += 1
        return float(prompt.split()[self.number])

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return np.array([self.win_rate(p) for p in prompts], dtype=np.float64)


def middle_is_hard(n: int = 3000, seed: int = 0) -> Benchmark:
    """The fast router knows the ends and guesses the middle; the slow one knows all."""
    rng = np.random.default_rng(seed)
    need = rng.random(n).round(6)
    unsure = np.abs(need - 0.5) < 0.2
    fast = np.where(unsure, 0.3 + 0.4 * rng.random(n), need).round(6)
    return Benchmark(
        name="toy",
        prompts=tuple(f"{fast[i]} {need[i]} question {i}" for i in range(n)),
        weak=(rng.random(n) > need).astype(np.float64),
        strong=np.ones(n),
        pair=ModelPair(strong="big", weak="small"),
        ids=tuple(map(str, range(n))),
        cost_weak=None,
        cost_strong=None,
        scale=1.0,
        unit="score",
    )  # fmt: skip


def columns(benchmark: Benchmark) -> tuple[np.ndarray, np.ndarray]:
    return Stated(0).win_rates(benchmark.prompts), Stated(1).win_rates(benchmark.prompts)


def test_the_narrowest_band_within_a_tolerance_is_found() -> None:
    toy = middle_is_hard()
    fast, slow = columns(toy)

    def area(band: Band | None) -> float:
        return apgr(curve(ranks(band, fast, slow), toy.weak, toy.strong))

    best = max(area(None), area(Band(0.0, 1.0)))
    band = choose("tolerance", 0.003, fast, slow, toy)
    share = sent_on(band, fast).mean()
    assert 0.2 <= share <= 0.4  # the middle 40 % is where the fast router guesses
    assert area(band) >= best - 0.003
    for width, other in candidates(fast):  # no narrower one will do, by looking at each
        if width < share - 0.04:
            assert area(other) < best - 0.003
    assert choose("tolerance", 1.0, fast, slow, toy) is None
    third = choose("share", 0.3, fast, slow, toy)
    assert sent_on(third, fast).mean() == pytest.approx(0.3, abs=0.01)
    for width, other in candidates(fast):
        if abs(width - 0.3) < 1e-9:
            assert area(other) <= area(third)


def test_calibration_reports_the_half_that_it_did_not_choose_on() -> None:
    toy = middle_is_hard()
    fast, slow = Stated(0), Stated(1)
    found = calibrate_band(
        fast, slow, "tolerance", 0.005, benchmark=toy, latency_ms=(0.1, 10.0), resamples=100
    )
    held_out = found.held_out
    assert held_out is not None
    assert found.chosen_on.prompts + held_out.prompts == len(toy)
    assert held_out.difference is not None
    assert held_out.difference.low is not None
    assert held_out.difference.low < held_out.difference.value > -0.02
    assert held_out.mean_ms == pytest.approx(0.1 + 10.0 * held_out.share_sent_on)
    assert held_out.slow_ratio == pytest.approx(held_out.mean_ms / 10.0)
    rates = found.router.win_rates(toy.prompts)
    assert found.router.provenance.calibration is not None
    np.testing.assert_allclose(found.router.provenance.calibration[[0, 500, 1000]],
                               np.quantile(rates, [0, 0.5, 1]), atol=1e-6)  # fmt: skip
    # The map keeps the share of strong calls of a threshold in the band.
    band = found.router.band
    assert band is not None
    threshold = (band.low + band.high) / 2
    f, _ = columns(toy)
    assert (rates >= threshold).mean() == pytest.approx((f >= threshold).mean(), abs=0.01)


def test_without_scores_the_middle_is_taken_and_only_it_is_asked() -> None:
    toy = middle_is_hard(1000)
    fast, slow = Stated(0), Stated(1)
    found = calibrate_band(fast, slow, "share", 0.25, prompts=toy.prompts, latency_ms=(0.1, 10.0))
    assert found.held_out is None
    assert found.chosen_on.share_sent_on == pytest.approx(0.25, abs=0.01)
    assert slow.asked == round(found.chosen_on.share_sent_on * 1000)
    budget = calibrate_band(
        fast, slow, "mean_latency_ms", 2.1, prompts=toy.prompts, latency_ms=(0.1, 10.0)
    )
    assert 1.9 < (budget.chosen_on.mean_ms or 0) <= 2.1
    assert choose_middle("share", 0.0, np.array([0.1, 0.2]), lambda _: 0.0) is None
    scored = calibrate_band(
        fast, slow, "mean_latency_ms", 2.6, benchmark=toy, latency_ms=(0.1, 10.0), resamples=0
    )
    assert (scored.chosen_on.mean_ms or 9) <= 2.7
    assert scored.chosen_on.share_sent_on > 0.15


def test_what_calibration_refuses() -> None:
    toy = middle_is_hard(200)
    fast, slow = Stated(0), Stated(1)
    ms = (0.1, 10.0)
    for arguments, message in (
        ((fast, slow, "speed", 1, {"benchmark": toy}), "goal must be 'tolerance'"),
        ((fast, slow, "share", 1.5, {"benchmark": toy}), r"share must be in 0\.\.1"),
        ((fast, slow, "mean_latency_ms", 0, {"benchmark": toy}), "mean_latency_ms must be above 0"),
        ((fast, slow, "tolerance", 0.1, {"prompts": ["x"]}), "needs a benchmark"),
        ((fast, slow, "share", 0.1, {}), "give either benchmark or prompts"),
        ((fast, slow, "mean_latency_ms", 0.05, {"benchmark": toy}), "fast router alone takes 0.1"),
        ((fast, slow, "mean_latency_ms", 0.05, {"prompts": toy.prompts}), "give a greater value"),
    ):  # fmt: skip
        *positional, named = arguments
        with pytest.raises(InvalidInputError, match=message):
            calibrate_band(*positional, latency_ms=ms, resamples=0, **named)  # type: ignore[arg-type]
    seen = Stated(1, trained_on=toy.prompts[:3])
    with pytest.raises(ContaminationError, match="trained on 3 of the 200"):
        calibrate_band(fast, seen, "share", 0.2, benchmark=toy, latency_ms=ms, resamples=0)
    found = calibrate_band(
        fast, seen, "share", 0.2, benchmark=toy, latency_ms=ms, resamples=0, drop_trained=True
    )
    assert found.held_out is not None
    assert found.chosen_on.prompts + found.held_out.prompts == 197
    with pytest.raises(InvalidInputError, match="slow_ms must be milliseconds above 0"):
        given_latency(1.0, 0.0)


def test_latencies_are_of_single_calls_and_follow_what_goes_on() -> None:
    toy = middle_is_hard(50)
    fast, slow = Stated(0), Stated(1)
    measured = measure_latency(fast, slow, toy.prompts, count=20, seed=1)
    assert measured.rows is not None
    assert (len(set(measured.rows.tolist())), fast.asked, slow.asked) == (20, 21, 21)
    assert (measured.fast_ms > 0).all()
    assert len(measure_latency(fast, slow, toy.prompts, count=99).fast_ms) == 50
    # Of four prompts two were timed; the long one of them goes on.
    latency = MemberLatency(np.array([1.0, 1.0]), np.array([10.0, 50.0]), np.array([0, 3]))
    assert latency.cascade_mean_ms(np.array([False, True, False, True])) == 1.0 + 0.5 * 50.0
    assert latency.cascade_mean_ms(np.array([False, True, False, False])) == 1.0 + 0.25 * 30.0
    assert latency.cascade_mean_ms(np.zeros(4, dtype=bool)) == 1.0


def test_a_curve_goes_from_none_to_all_through_the_cascade_s_own_band() -> None:
    toy = middle_is_hard()
    fast, _ = columns(toy)
    band = Band(*np.quantile(fast, [0.2, 0.6]).tolist())
    grown = growing_bands(fast, band)
    shares = [float(sent_on(b, fast).mean()) for b in grown]
    np.testing.assert_allclose(shares, SHARES, atol=0.002)
    fourth = grown[4]
    assert fourth is not None
    assert (fourth.low, fourth.high) == pytest.approx((band.low, band.high), abs=2e-3)
    for narrow, wide in itertools.pairwise(grown[1:]):
        assert narrow is not None
        assert wide is not None
        assert wide.low <= narrow.low < narrow.high <= wide.high


@pytest.fixture(scope="module")
def toy_report():  # type: ignore[no-untyped-def]  # the type is Report, and says nothing here
    toy = middle_is_hard(2000)
    fast, slow = Stated(0), Stated(1)
    f, s = columns(toy)
    cascade = CascadeRouter(fast, slow, band=Band.fitted(0.3, 0.7, f, s))
    return evaluate(
        {"first": fast, "second": slow, "both": cascade}, [toy], resamples=60, latency_ms=(0.1, 10)
    )


def test_the_report_has_the_curve_and_the_verdict(toy_report) -> None:  # type: ignore[no-untyped-def]
    (result,) = toy_report.results
    (cascade,) = result.cascades
    rows = {row.name: row for row in result.rows}
    assert cascade.points[0].apgr.value == rows["first"].apgr.value == cascade.fast_apgr.value
    assert cascade.points[-1].apgr.value == rows["second"].apgr.value == cascade.slow_apgr.value
    assert cascade.own.apgr == rows["both"].apgr
    assert [p.mean_ms for p in cascade.points] == sorted(p.mean_ms for p in cascade.points)
    assert cascade.points[-1].mean_ms == pytest.approx(10.1)
    assert cascade.better == "slow"
    assert cascade.holds  # the middle is all that the fast router does not know
    text = to_text(toy_report)
    assert (
        "both: stated (fast, 0.1 ms per call), then stated (slow, 10 ms), single calls as given"
        in text
    )
    assert "it is as good (within 0.005) at less than 50% of the latency" in text
    assert f"its own, {100 * cascade.own.share_sent_on:.1f}%" in text
    assert "use the fast one alone" not in text
    swapped = evaluate(
        {"both": CascadeRouter(Stated(1), Stated(0), band=(0.3, 0.7))},
        [result.benchmark], resamples=0, latency_ms=(0.1, 10),
    )  # fmt: skip
    assert "use the fast one alone" in to_text(swapped)
    worse = replace(cascade, own=replace(cascade.own, mean_ms=6.0))
    worse_report = replace(toy_report, results=(replace(result, cascades=(worse,)),))
    assert "it is NOT as good" in to_text(worse_report)
    assert "| sent on | APGR | mean ms |" in to_markdown(toy_report)
    (read,) = json.loads(json.dumps(to_dict(toy_report), allow_nan=False))["benchmarks"][0][
        "cascades"
    ]
    assert len(read["points"]) == 11
    assert read["as_good_in_half_the_time"] is True
    assert read["own"]["apgr"]["low"] < read["own"]["apgr"]["value"]


def test_the_curve_is_drawn(toy_report, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    save_figure(toy_report, tmp_path / "f.svg")
    drawn = (tmp_path / "f.svg").read_text()
    assert "Mean latency (ms per prompt)" in drawn
    assert "fast: stated" in drawn
    assert "slow: stated" in drawn
    write_html(toy_report, tmp_path / "f.html")
    page = (tmp_path / "f.html").read_text()
    assert page.count("<svg") == 4
    assert "From no prompt sent on to all" in page


def test_a_budget_is_counted_in_the_report() -> None:
    toy = middle_is_hard(300)
    tiny = CascadeRouter(Stated(0), Stated(1), band=(0.3, 0.7), latency_budget_ms=1e-6)
    report = evaluate({"both": tiny}, [toy], resamples=0, latency_ms=(0.1, 10))
    (cascade,) = report.results[0].cascades
    # All go on in the first batch, before there is an estimate; then repeated ones are known.
    assert cascade.share_kept_for_budget == 0.0
    tiny.win_rate(toy.prompts[0])
    again = (
        evaluate({"both": tiny}, [toy], resamples=0, latency_ms=(0.1, 10)).results[0].cascades[0]
    )
    assert again.share_kept_for_budget > 0.3
    assert again.own.share_sent_on < 0.1
    assert "kept" in to_text(evaluate({"both": tiny}, [toy], resamples=0, latency_ms=(0.1, 10)))


# On the command line


def test_calibrate_and_evaluate_on_the_command_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    path = tmp_path / "mine.jsonl"
    write_json_lines(path, [
        {"prompt": "word " * int(n) + str(i), "weak": float(rng.random() > n / 200),
         "strong": 1.0}
        for i, n in enumerate(rng.integers(1, 200, 300))
    ])  # fmt: skip
    folder = tmp_path / "cascade"
    base = ["calibrate", "--router", "random,seed=1", "--slow", "length", "--benchmark", path]
    more = ["--resamples", "50", "--no-cache", "--latency-ms", "0.1", "10"]
    ran = fastroute(*base, "--tolerance", "0.05", *more, "--output", folder, "--json")
    assert ran.status == 3, ran.err  # length alone is the better router here
    assert "that of the length of the prompt" in ran.err
    assert ran.json["held_out"]["apgr"]["low"] < ran.json["held_out"]["apgr"]["value"]
    loaded = create_router("cascade", checkpoint_path=str(folder))
    assert isinstance(loaded, CascadeRouter)
    assert loaded.band is not None
    assert [loaded.band.low, loaded.band.high] == ran.json["band"]
    text = fastroute(*base, "--share-sent-on", "0.3", *more).out
    assert "band 0." in text
    assert "held out" in text
    cascade = f"cascade,checkpoint_path={folder}"
    report = fastroute(
        "evaluate", "--benchmark", path, "--router", cascade, "--resamples", "0", "--no-cache",
        "--latency-prompts", "5", "--json",
    )  # fmt: skip
    (found,) = report.json["benchmarks"][0]["cascades"]
    assert (found["timed_prompts"], len(found["points"])) == (5, 11)
    share = fastroute("calibrate", "--router", cascade, "--strong-share", "0.3", "--no-cache")
    assert "1,001 calibration quantiles" in share.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tolerance", "0.005"], "--tolerance needs --slow"),
        (["--strong-share", "0.3", "--slow", "length"], "--slow needs a goal"),
        (["--share-sent-on", "0.3", "--slow", "length"], "either --benchmark (scored prompts) or"),
        (["--share-sent-on", "x", "--slow", "length"], "--share-sent-on must be a number"),
    ],
)  # fmt: skip
def test_calibrate_refuses_half_a_cascade(arguments: list[str], message: str) -> None:
    assert message in refused("calibrate", "--router", "length", *arguments)
