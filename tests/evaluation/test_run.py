"""``evaluate``: its rows, protocols, baselines, and that it refuses before long work."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation import ContaminationError, WinRateCache, evaluate, score
from fastroute.evaluation.benchmarks.protocols import is_gold
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.calibration_metrics import brier_score, outcomes
from fastroute.evaluation.metrics.curve import apgr, cpt, curve, oracle_win_rates
from fastroute.evaluation.scoring import Scorer
from fastroute.routers import LengthRouter, RandomRouter
from fastroute.routers.base import EmbeddingRouter

from .toy_routers import Letters, Numbered, toy_benchmark

TOY = toy_benchmark()


def numbers(benchmark: Benchmark) -> np.ndarray:
    return np.array([float(prompt.split()[0]) for prompt in benchmark.prompts])


def test_every_report_has_random_length_and_oracle() -> None:
    report = evaluate({"numbered": Numbered()}, [TOY], resamples=50)
    result = report.result("toy")
    assert [row.name for row in result.rows] == ["numbered", "length", "random", "oracle"]
    assert [row.kind for row in result.rows] == ["router", "baseline", "baseline", "bound"]
    row = result.row("numbered")
    points = curve(numbers(TOY), TOY.weak, TOY.strong)
    assert row.apgr.value == pytest.approx(apgr(points))
    assert row.cpt[0.5].value == pytest.approx(cpt(points, 0.5))
    assert row.saved[0.5].value == pytest.approx(1 - cpt(points, 0.5) / 0.5)
    assert row.brier == pytest.approx(brier_score(numbers(TOY), outcomes(TOY.weak, TOY.strong)))
    assert row.calibration_error is not None
    assert row.apgr.low is not None
    assert row.apgr.high is not None
    assert row.apgr.low < row.apgr.value < row.apgr.high
    assert row.band is not None
    assert row.band.shape == (101, 2)
    # At no and at all strong calls the gap recovered is known.
    ends = [TOY.weak.mean()] * 2, [TOY.strong.mean()] * 2
    np.testing.assert_allclose(row.band[[0, -1]], ends, atol=1e-12)
    assert row.p_random is not None
    assert row.p_random < 0.05
    random, oracle, length = (result.row(name) for name in ("random", "oracle", "length"))
    # Analytic: exactly a half on every resample, so its interval has no width.
    assert random.apgr.value == pytest.approx(0.5)
    assert random.apgr.low == pytest.approx(0.5)
    assert random.cpt[0.8].value == pytest.approx(0.8)
    best = curve(oracle_win_rates(TOY.weak, TOY.strong), TOY.weak, TOY.strong)
    assert oracle.apgr.value == pytest.approx(apgr(best))
    assert oracle.p_random is None
    assert length.brier is None  # an order is no probability
    lengths = np.array([float(len(p)) for p in TOY.prompts])
    assert length.apgr.value == pytest.approx(apgr(curve(lengths, TOY.weak, TOY.strong)))
    with pytest.raises(InvalidInputError, match="no row 'mf'"):
        result.row("mf")
    with pytest.raises(InvalidInputError, match="no benchmark 'mmlu'"):
        report.result("mmlu")


def test_random_is_never_asked_and_its_seed_changes_nothing() -> None:
    class Loud(RandomRouter):
        def win_rates(self, prompts: Any) -> Any:
            raise AssertionError(f"asked {prompts}")

    reports = [evaluate({"random": Loud(seed)}, [TOY], resamples=0) for seed in (1, 2)]
    assert [r.results[0].row("random").apgr.value for r in reports] == pytest.approx([0.5, 0.5])
    assert [row.name for row in reports[0].results[0].rows] == ["length", "random", "oracle"]
    assert reports[0].results[0].row("random").apgr.low is None


def test_two_routers_are_compared_in_pairs() -> None:
    worse = Numbered()
    worse.win_rate = lambda prompt: 1.0 - float(prompt.split()[0])  # type: ignore[method-assign]
    report = evaluate({"a": Numbered(), "b": worse, "c": Numbered()}, [TOY], resamples=100)
    pairs = {(c.first, c.second): c for c in report.results[0].comparisons}
    assert set(pairs) == {("a", "c"), ("a", "b"), ("c", "b")}
    assert pairs["a", "c"].p_value == 1.0
    assert pairs["a", "c"].difference.value == 0.0
    assert pairs["a", "b"].p_value == pytest.approx(2 / 101)
    low = pairs["a", "b"].difference.low
    assert low is not None
    assert low > 0
    assert not evaluate({"a": Numbered(), "b": worse}, [TOY], resamples=0).results[0].comparisons


def test_methods_differ_as_metrics_say_and_random_stays_exact() -> None:
    report = evaluate({"n": Numbered()}, [TOY], method="routellm", resamples=20)
    points = curve(numbers(TOY), TOY.weak, TOY.strong, method="routellm")
    row = report.results[0].row("n")
    assert row.apgr.value == pytest.approx(apgr(points), abs=1e-12)
    assert row.cpt[0.5].value == pytest.approx(cpt(points, 0.5, method="routellm"))
    assert report.results[0].row("random").apgr.value == pytest.approx(0.5)


def test_dollars() -> None:
    toy = toy_benchmark(costs=True)
    result = evaluate({"n": Numbered()}, [toy], axis="cost", resamples=30).results[0]
    row = result.row("n")
    assert row.curve.cost is not None
    bill = row.bill_saved[0.5]
    assert toy.cost_weak is not None
    assert toy.cost_strong is not None
    spent = row.cpt[0.5].value * (toy.cost_strong.mean() - toy.cost_weak.mean())
    assert bill.value == pytest.approx(1 - (toy.cost_weak.mean() + spent) / toy.cost_strong.mean())
    assert bill.low is not None
    assert bill.low < bill.value
    assert not evaluate({"n": Numbered()}, [toy], resamples=0).results[0].row("n").bill_saved


def test_gold_leaves_out_what_may_be_trained_on() -> None:
    mmlu = toy_benchmark(600, name="mmlu")
    gold = [p for p, g in zip(mmlu.prompts, is_gold(mmlu.prompts), strict=True) if g]
    router = Numbered(trained_on=gold)
    with pytest.raises(ContaminationError, match=f"trained on {len(gold)} of the 600"):
        evaluate({"n": router}, [mmlu])
    result = evaluate({"n": router}, [mmlu], protocol="gold", resamples=0).results[0]
    assert len(result.benchmark) == 600 - len(gold)
    with pytest.raises(ContaminationError):  # gold is MMLU's: elsewhere nothing may be trained on
        evaluate({"n": router}, [replace(mmlu, name="toy")], protocol="gold")


def test_nothing_is_scored_where_the_last_benchmark_is_refused() -> None:
    other = toy_benchmark(50, seed=1, name="other")
    router = Numbered(trained_on=other.prompts[:1])
    with pytest.raises(ContaminationError, match="'other'"):
        evaluate({"n": router}, [TOY, other])
    assert router.asked == []
    router = Numbered()
    no_gap = replace(other, weak=other.strong, strong=other.weak * 0)
    with pytest.raises(InvalidInputError, match=r"'other'.*gap"):
        evaluate({"n": router}, [TOY, no_gap])
    with pytest.raises(InvalidInputError, match="axis 'cost' needs dollars"):
        evaluate({"n": router}, [TOY], axis="cost")
    assert router.asked == []


def test_trained_prompts_can_be_left_out_for_every_router() -> None:
    router = Numbered(trained_on=TOY.prompts[:30])
    report = evaluate({"n": router, "m": Numbered()}, [TOY], drop_trained=True, resamples=0)
    assert report.results[0].dropped == 30
    assert report.results[0].benchmark.ids == TOY.ids[30:]
    with pytest.raises(InvalidInputError, match="none is left"):
        evaluate({"n": Numbered(trained_on=TOY.prompts)}, [TOY], drop_trained=True)


def test_in_domain_trains_on_the_other_folds_and_scores_the_rest_as_it_is() -> None:
    seen: list[set[str]] = []

    def train(part: Benchmark) -> Numbered:
        seen.append(set(part.prompts))
        router = Numbered()
        fold = len(seen) - 1
        router.win_rate = lambda _: fold / 10  # type: ignore[method-assign]
        assert not seen[-1] & set(router.asked)
        return router

    contaminated = Numbered(trained_on=TOY.prompts)  # replaced by what train returns
    report = evaluate(
        {"n": contaminated, "as-it-is": Numbered()}, [TOY], protocol="in-domain",
        trainers={"n": train}, fold_count=4, resamples=0, drop_trained=True,
    )  # fmt: skip
    assert len(seen) == 4
    assert set.union(*seen) == set(TOY.prompts)
    assert not set.intersection(*seen)
    assert contaminated.asked == []
    assert report.results[0].dropped == 0
    assert "n trained on the other folds" in report.notes[0]
    with pytest.raises(ContaminationError):
        evaluate({"n": contaminated}, [TOY], protocol="in-domain")
    with pytest.raises(InvalidInputError, match="in-domain"):
        evaluate({"n": Numbered()}, [TOY], trainers={"n": train})
    with pytest.raises(InvalidInputError, match="trainers has m"):
        evaluate({"n": Numbered()}, [TOY], protocol="in-domain", trainers={"m": train})


class Slow(EmbeddingRouter):
    """A real embedding router in form."""

    name = "slow"
    win_rate_without_signal = 0.5

    def __init__(self) -> None:
        self.embedder = Letters()

    def win_rate_from_embedding(self, x: Any) -> float:
        return float(x[0] / (1 + x.sum()))

    def win_rates_from_embeddings(self, X: Any, **_: Any) -> Any:
        return np.array([self.win_rate_from_embedding(x) for x in X])


def test_timings_tell_embedding_from_the_rest_and_leave_the_router_alone() -> None:
    router = Slow()
    embedder = router.embedder
    report = evaluate({"slow": router}, [TOY, replace(TOY, name="again")], resamples=0)
    first, again = (result.row("slow").timings for result in report.results)
    assert router.embedder is embedder
    assert (first.prompts, first.cached) == (200, 0)
    assert (again.prompts, again.cached) == (0, 200)  # scored once for both
    assert first.embed_s > 0
    assert first.score_s > 0
    assert first.total_s == pytest.approx(
        first.check_s + first.embed_s + first.score_s + first.metrics_s
    )
    np.testing.assert_array_equal(score(router, TOY.prompts), router.win_rates(TOY.prompts))


def test_cache_is_used(tmp_path: Any) -> None:
    with WinRateCache(tmp_path / "c") as cache:
        for expected in (200, 0):
            router = Numbered(checksum="abc")
            report = evaluate({"n": router}, [TOY], cache=cache, resamples=0)
            assert report.results[0].row("n").timings.prompts == expected
            assert len(router.asked) == expected


@pytest.mark.parametrize(
    ("routers", "options", "kind", "message"),
    [
        ({"oracle": Numbered()}, {}, InvalidInputError, "label 'oracle' is taken"),
        ({"random": Numbered()}, {}, InvalidInputError, "label 'random' is taken"),
        ({"random": LengthRouter()}, {}, InvalidInputError, "label 'random' is taken"),
        ({"length": RandomRouter()}, {}, InvalidInputError, "label 'length' is taken"),
        ({"n": "mf"}, {}, InvalidTypeError, "must be a Router, got str"),
        ({}, {"axis": "time"}, InvalidInputError, "axis"),
        ({}, {"method": "other"}, InvalidInputError, "method"),
        ({}, {"protocol": "other"}, InvalidInputError, "protocol"),
        ({}, {"resamples": -1}, InvalidInputError, "resamples"),
        ({}, {"confidence": 95, "resamples": 0}, InvalidInputError, "confidence"),
    ],
)
def test_arguments_that_cannot_be_used(
    routers: dict[str, Any], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        evaluate(routers, [TOY], **options)
    with pytest.raises(InvalidInputError, match="benchmarks is empty"):
        evaluate({}, [])


def test_a_router_that_gives_no_number_is_named() -> None:
    class Broken(Numbered):
        def win_rate(self, prompt: str) -> float:
            return float("nan") if prompt else 0.0

    with pytest.raises(InvalidInputError, match="router 'mine' returned"):
        Scorer("mine", Broken(), None).win_rates(TOY.prompts, "title", False)


def test_progress_bars_stand_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate({"n": Numbered()}, [TOY], resamples=20, progress=True)
    assert capsys.readouterr().err == ""  # standard error is not a terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    evaluate({"n": Numbered()}, [TOY], resamples=20, progress=True)
    shown = capsys.readouterr()
    assert "toy: n" in shown.err
    assert "toy: intervals" in shown.err
    assert shown.out == ""
    evaluate({"n": Numbered()}, [TOY], resamples=20)
    assert capsys.readouterr().err == ""
