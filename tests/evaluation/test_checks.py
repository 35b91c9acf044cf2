"""Arguments of the evaluation API that can't be used: each a clear error that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastroute._checks import GREATEST
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation import (
    apgr,
    brier_score,
    calibrate_quality,
    calibrate_share,
    cost_saved,
    cpt,
    curve,
    evaluate,
    expected_calibration_error,
    load_gsm8k,
    load_prompts,
    load_traffic,
    oracle_win_rates,
    paired_p_value,
    random_curve,
    reliability_bins,
    resample_curves,
    score,
    threshold_for_quality,
    threshold_for_share,
)
from fastroute.evaluation.metrics.bootstrap import cautions, interval
from fastroute.evaluation.metrics.calibration_metrics import outcomes
from fastroute.routers import LengthRouter, RandomRouter

from .toy_routers import Numbered, toy_benchmark

TOY: Any = toy_benchmark()
N = {"n": Numbered()}
HALF = np.array([0.5, 0.25])
POINTS: Any = curve(HALF, np.zeros(2), np.ones(2))
NAN = np.full(3, np.nan)
RATES = np.array([float(prompt.split()[0]) for prompt in TOY.prompts])
LIST: Any = [0.5]

WRONG_TYPES: list[tuple[Callable[[], object], str]] = [
    (lambda: brier_score(LIST, LIST), "win_rates must be a float64 array, got list"),
    (lambda: brier_score(HALF, LIST), "outcome must be a float64 array"),
    (lambda: expected_calibration_error(LIST, LIST), "win_rates must be a float64 array"),
    (lambda: reliability_bins(HALF, HALF, bins="x"), "bins must be an int"),  # type: ignore[arg-type]
    (lambda: outcomes(LIST, LIST), "weak must be a float64 array"),
    (lambda: oracle_win_rates(LIST, LIST), "weak must be a float64 array"),
    (lambda: random_curve(LIST, LIST), "weak must be a float64 array"),
    (lambda: threshold_for_share(LIST, 0.5), "win_rates must be a float64 array"),
    (lambda: threshold_for_share(HALF, "x"), "share must be a number, got str"),  # type: ignore[arg-type]
    (lambda: threshold_for_quality(LIST, TOY, 0.5), "win_rates must be a float64 array"),
    (lambda: threshold_for_quality(RATES, TOY.weak, 0.5), "benchmark must be a Benchmark"),
    (lambda: threshold_for_quality(RATES, TOY, None), "target must be a number"),  # type: ignore[arg-type]
    (lambda: cpt(POINTS, "x"), "target must be a number, got str 'x'"),  # type: ignore[arg-type]
    (lambda: cost_saved(POINTS, "x"), "target must be a number"),  # type: ignore[arg-type]
    (lambda: paired_p_value(LIST, LIST), "a must be a float64 array"),
    (lambda: interval(LIST), "samples must be a float64 array"),
    (lambda: interval(HALF, "x"), "confidence must be a number"),  # type: ignore[arg-type]
    (lambda: evaluate([Numbered()], [TOY]), "routers must be a mapping by label, got list"),  # type: ignore[arg-type]
    (lambda: evaluate({1: Numbered()}, [TOY]), "the labels of routers must be str, got 1"),  # type: ignore[dict-item]
    (lambda: evaluate(N, TOY), "benchmarks must be a sequence .* wrap it in a list"),
    (lambda: evaluate(N, ["mmlu"]), r"benchmarks\[0\] must be a Benchmark, got str"),  # type: ignore[list-item]
    (lambda: evaluate(N, [TOY], trainers=[1]), "trainers must be a mapping"),  # type: ignore[arg-type]
    (lambda: evaluate(N, [TOY], resamples=1.5), "resamples must be an int, got float 1.5"),  # type: ignore[arg-type]
    (lambda: evaluate(N, [TOY], resamples="5"), "resamples must be an int, got str '5'"),  # type: ignore[arg-type]
    (lambda: evaluate(N, [TOY], resamples=True), "resamples must be an int, got bool"),
    (lambda: evaluate(N, [TOY], seed="x"), "seed must be an int, got str 'x'"),  # type: ignore[arg-type]
    (lambda: evaluate(N, [TOY], confidence="x"), "confidence must be a number"),  # type: ignore[arg-type]
    (
        lambda: score(Numbered(), TOY),
        "prompts must be a sequence of texts, got a Benchmark; pass benchmark.prompts",
    ),
    (lambda: score(Numbered(), "abc"), "prompts must be a sequence of str, got one string"),
    (lambda: score("mf", ["x"]), "router must be a Router, got str"),  # type: ignore[arg-type]
    (lambda: calibrate_share(LengthRouter(), 0.5, prompts="abc"), "got one string"),
    (lambda: calibrate_share("mf", 0.5), "router must be a Router, got str"),  # type: ignore[arg-type]
    (lambda: calibrate_quality(Numbered(), "mmlu", 0.5), "benchmark must be a Benchmark"),  # type: ignore[arg-type]
    (lambda: load_traffic(None), "path must be a path, got NoneType"),  # type: ignore[arg-type]
    (lambda: load_traffic("a.jsonl", pair=("a", "b")), "pair must be a ModelPair"),  # type: ignore[arg-type]
    (lambda: load_prompts(b"a.txt"), "path must be a path, got bytes"),  # type: ignore[arg-type]
    (lambda: load_gsm8k(7), "data must be a path, got int"),  # type: ignore[arg-type]
]

WRONG_VALUES: list[tuple[Callable[[], object], str]] = [
    (lambda: brier_score(HALF, HALF * 9), r"outcome\[0\] is 4.5; it must be in 0..1"),
    (lambda: oracle_win_rates(np.zeros(2), np.ones(3)), r"strong has shape \(3,\)"),
    (lambda: oracle_win_rates(HALF, HALF, HALF), "both of cost_weak and cost_strong"),
    (lambda: outcomes(np.zeros(2), np.ones(3)), r"strong has shape \(3,\)"),
    (lambda: threshold_for_share(HALF, float("nan")), "share must be a number, got nan"),
    (lambda: threshold_for_share(HALF, 10**400), "share must be in 0..1"),
    (lambda: threshold_for_share(HALF, 0.5, seed=-1), "seed must be 0 or more, got -1"),
    (lambda: threshold_for_quality(RATES, TOY, 0.5, seed=-1), "seed must be 0 or more"),
    (lambda: threshold_for_share(HALF, 0.5, resamples=10**22), "resamples must be in 0..1,000,000"),
    (lambda: calibrate_share(RandomRouter(), 0.5, resamples=10**9999), "an int of 33216 bits"),
    (lambda: calibrate_quality(Numbered(), TOY, 0.5, seed=-1), "seed must be 0 or more"),
    (lambda: evaluate(N, [TOY], seed=-1), "seed must be 0 or more, got -1"),
    (lambda: evaluate(N, [TOY], resamples=1_000_001), "resamples must be in 0..1,000,000"),
    (lambda: evaluate(N, [TOY], fold_count=1), "fold_count must be in 2"),
    (lambda: resample_curves({"a": HALF[:0]}, HALF[:0], HALF[:0]), "n at least 1"),
    (lambda: resample_curves({"a": HALF}, HALF, HALF, seed=-1), "seed must be 0 or more"),
    (lambda: paired_p_value(NAN, NAN), "no pair without NaN"),
    (lambda: interval(HALF[:0]), r"samples float64\[b\], b at least 1"),
    (lambda: load_traffic("a\0.jsonl"), "path must not contain a NUL character, got 'a.x00.jsonl'"),
    (lambda: load_prompts("a\0.txt"), "NUL"),
    (lambda: curve(HALF, HALF, HALF * 1e200), r"strong\[0\] is 5e\+199; strong must be within"),
    (lambda: curve(HALF, HALF, HALF, HALF, HALF * 1e200), r"cost_strong\[0\] is 5e\+199"),
]


@pytest.mark.parametrize(("call", "message"), WRONG_TYPES)
def test_wrong_types_name_the_argument(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidTypeError, match=message):
        call()


@pytest.mark.parametrize(("call", "message"), WRONG_VALUES)
def test_wrong_values_name_the_argument(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_numbers_of_numpy_are_numbers() -> None:
    counted: Any = np.int64(5)
    half: Any = np.float32(0.5)
    report = evaluate(N, [TOY], resamples=counted, seed=counted)
    assert (type(report.resamples), type(report.seed)) == (int, int)
    assert cpt(POINTS, half) == cpt(POINTS, 0.5)


def test_the_greatest_scores_and_the_least_costs_give_numbers() -> None:
    weak, strong = np.array([0.0, GREATEST, 0.0]), np.array([GREATEST, 0.0, GREATEST])
    assert apgr(curve(np.arange(3.0), weak, strong)) == pytest.approx(0.5)
    tiny = np.array([5e-324, 1.0, 0.0]), np.array([1e-323, 2.0, 0.0])
    ranks = oracle_win_rates(weak, strong, *tiny)  # warnings are errors here
    assert np.isfinite(ranks).all()
    assert ranks[0] > ranks[1]


def test_one_undefined_resample_gives_no_p_value() -> None:
    # Of two prompts one loses by the strong model: a resample may well have no gap.
    bench = toy_benchmark(2)
    object.__setattr__(bench, "weak", np.array([0.0, 1.0]))
    object.__setattr__(bench, "strong", np.array([1.0, 0.5]))
    seen = set()
    for seed in range(12):
        result = evaluate(N, [bench], resamples=1, seed=seed).results[0]
        seen.add(result.row("n").p_random is None)
    assert seen == {True, False}


def test_a_part_of_a_score_of_nothing_is_no_goal() -> None:
    below = toy_benchmark()
    object.__setattr__(below, "weak", below.weak - 9.0)
    object.__setattr__(below, "strong", below.strong - 5.0)
    with pytest.raises(InvalidInputError, match="can't be a goal: use measure 'pgr'"):
        threshold_for_quality(RATES, below, 0.9)
    assert threshold_for_quality(RATES, below, 0.9, measure="pgr").chosen_on.reached.value >= 0.9


def test_cautions() -> None:
    assert cautions(30, 100) == cautions(1, 0) == []
    assert cautions(29, 1000) == [
        "Intervals and p-values are unreliable: they are from 29 prompts (fewer than 30)."
    ]
