"""Thresholds, decisions from win rates, and model strings."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import (
    InvalidInputError,
    InvalidModelNameError,
    InvalidThresholdError,
    InvalidTypeError,
    RoutingError,
)
from fastroute.policy import (
    DecisionBatch,
    DifficultyScale,
    are_strong,
    calibrated,
    check_threshold,
    is_strong,
    parse_model_name,
    threshold_for_strong_share,
)
from fastroute.provenance import Provenance
from fastroute.types import Decision, ModelPair

unit = st.floats(0.0, 1.0)
PAIR = ModelPair("big", "small")


@pytest.mark.parametrize(
    "value", [0, 1, 0.0, 0.5, 1.0, np.float32(0.25), np.int64(1), Fraction(1, 4)]
)
def test_a_threshold_is_any_number_in_0_to_1(value: Any) -> None:
    assert check_threshold(value) == float(value)
    assert type(check_threshold(value)) is float


@pytest.mark.parametrize(
    "value",
    [
        -1e-9,
        1.0000001,
        float("nan"),
        float("inf"),
        "0.5",
        None,
        True,
        [0.5],
        1j,
        pytest.param(10**400, id="huge"),
    ],
)
def test_other_thresholds_are_errors(value: Any) -> None:
    with pytest.raises(InvalidThresholdError, match="number from 0 to 1") as caught:
        check_threshold(value)
    assert isinstance(caught.value, RoutingError)
    assert isinstance(caught.value, ValueError)


@given(win_rate=unit, low=unit, high=unit)
def test_raising_the_threshold_sends_no_prompt_to_the_strong_model(
    win_rate: float, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    assert is_strong(win_rate, low) or not is_strong(win_rate, high)


def test_the_threshold_itself_is_strong() -> None:
    assert is_strong(0.3, 0.3)
    assert not is_strong(float(np.nextafter(0.3, 0)), 0.3)
    assert is_strong(1.0, 1.0)
    assert is_strong(0.0, 0.0)


@given(st.lists(unit, max_size=30), unit, st.randoms(use_true_random=False))
def test_a_batch_is_its_single_decisions_in_any_order(
    rates: list[float], threshold: float, rng: Any
) -> None:
    win_rates = np.array(rates, dtype=np.float64)
    strong = are_strong(win_rates, threshold)
    assert strong.dtype == np.bool_
    assert strong.tolist() == [is_strong(rate, threshold) for rate in rates]
    order = list(range(len(rates)))
    rng.shuffle(order)
    np.testing.assert_array_equal(are_strong(win_rates[order], threshold), strong[order])


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, float("inf")])
def test_a_win_rate_that_is_none_goes_nowhere(value: float) -> None:
    with pytest.raises(InvalidInputError, match="win_rate must be"):
        is_strong(value, 0.5)
    with pytest.raises(InvalidInputError, match=r"win_rates\[1\] must be"):
        are_strong(np.array([0.5, value, 0.5]), 0.5)


def test_win_rates_of_another_dtype_are_refused() -> None:
    with pytest.raises(InvalidTypeError, match="win_rates must have dtype float64"):
        are_strong(np.zeros(2, dtype=np.float32), 0.5)


def test_a_batch_of_decisions_reads_as_a_sequence() -> None:
    rates = np.array([0.2, 0.8, 0.5])
    batch = DecisionBatch("r", 0.5, PAIR, rates, are_strong(rates, 0.5), 30.0)
    assert len(batch) == 3
    assert batch.models == ["small", "big", "big"]
    assert batch.strong_share == pytest.approx(2 / 3)
    assert batch[0] == Decision("small", "r", 0.2, 0.5, False, 10.0)
    assert batch[-1].model == "big"
    assert [d.win_rate for d in batch] == [0.2, 0.8, 0.5]
    assert [d.model for d in batch[:2]] == ["small", "big"]
    with pytest.raises(IndexError):
        batch[3]
    assert np.isnan(DecisionBatch("r", 0.5, PAIR, rates[:0], rates[:0] > 0, 1.0).strong_share)


# The threshold for a share


def quantiles(win_rates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.quantile(win_rates, np.linspace(0, 1, 1001)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.77, 0.999])
def test_the_share_is_reached(seed: int, share: float) -> None:
    win_rates = np.random.default_rng(seed).beta(2, 5, 20_000)
    threshold = threshold_for_strong_share(quantiles(win_rates), share)
    assert (win_rates >= threshold).mean() == pytest.approx(share, abs=1e-3)


def test_the_ends_hold_for_every_prompt() -> None:
    calibration = np.linspace(0.3, 0.7, 1001, dtype=np.float32)
    assert threshold_for_strong_share(calibration, 1) == 0.0
    assert threshold_for_strong_share(calibration, 0) == 1.0
    # Just inside the ends, the calibration speaks.
    assert threshold_for_strong_share(calibration, 1e-9) == pytest.approx(0.7)
    assert threshold_for_strong_share(calibration, 1 - 1e-9) == pytest.approx(0.3)


runs = st.lists(st.tuples(unit, st.integers(1, 40)), min_size=1, max_size=12)


@given(runs, st.lists(unit, min_size=2, max_size=20))
def test_a_larger_share_never_has_a_larger_threshold(
    values: list[tuple[float, int]], shares: list[float]
) -> None:
    tied = np.sort(np.repeat([v for v, _ in values], [n for _, n in values]))
    calibration = quantiles(tied)
    found = [threshold_for_strong_share(calibration, share) for share in sorted(shares)]
    assert found == sorted(found, reverse=True)
    assert all(0.0 <= threshold <= 1.0 for threshold in found)


@pytest.mark.parametrize(("share", "reached"), [(0.2, 0.0), (0.3, 0.5), (0.6, 0.5), (0.9, 1.0)])
def test_ties_go_to_the_nearer_side(share: float, reached: float) -> None:
    win_rates = np.repeat([0.1, 0.7], 500)  # neither is a float32
    threshold = threshold_for_strong_share(quantiles(win_rates), share)
    assert (win_rates >= threshold).mean() == reached


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "0.5", True, None])
def test_a_share_is_a_number_in_0_to_1(share: Any) -> None:
    with pytest.raises(InvalidInputError, match="share must be a number from 0 to 1"):
        threshold_for_strong_share(np.linspace(0, 1, 1001, dtype=np.float32), share)


@pytest.mark.parametrize(
    "calibration",
    [[0.5], [], [0.5, 0.4], [0.1, float("nan"), 0.3], [-0.1, 0.5], [0.5, 1.5], [0, float("inf")]],
)
def test_quantiles_that_are_none(calibration: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="calibration must be at least 2 quantiles"):
        threshold_for_strong_share(np.array(calibration, dtype=np.float32), 0.5)


def test_quantiles_of_another_dtype_are_refused() -> None:
    with pytest.raises(InvalidTypeError, match="calibration must have dtype float32"):
        threshold_for_strong_share(np.linspace(0, 1, 1001), 0.5)


# Model strings


@pytest.mark.parametrize(
    ("model", "parsed"),
    [
        ("router-mf-0.11593", ("mf", 0.11593)),
        ("router-my-router-0.5", ("my-router", 0.5)),
        ("router-sw_ranking-1", ("sw_ranking", 1.0)),
        ("router-mf-1e-05", ("mf", 1e-05)),
        ("router-mf-1E-05", ("mf", 1e-05)),
        ("router-mf-.5", ("mf", 0.5)),
        ("router-mf-0.", ("mf", 0.0)),
        ("router-v1-2-0.25", ("v1-2", 0.25)),
        ("gpt-4.1", None),
        ("router", None),
        ("mf-0.5", None),
        ("openrouter/router-mf-0.5", None),
        ("text-embedding-3-small", None),
    ],
)
def test_model_strings(model: str, parsed: Any) -> None:
    assert parse_model_name(model) == parsed


@given(
    st.from_regex(r"[a-z_]+(-[a-z_]+)*", fullmatch=True),
    st.floats(0, 1) | st.floats(0, 1e-4),
)
def test_every_threshold_that_python_prints_is_read_back(router: str, threshold: float) -> None:
    assert parse_model_name(f"router-{router}-{threshold}") == (router, threshold)


@pytest.mark.parametrize(
    "model",
    ["router-", "router-mf", "router-mf-", "router--0.5", "router-mf-x", "router-mf-nan",
     "router-mf-0.5x", "router-mf-0,5", "router-mf-\u0661",
     "router-mf-1_0", "router-mf- 0.5", "", None, 5],
)  # fmt: skip
def test_malformed_model_strings(model: Any) -> None:
    with pytest.raises(InvalidModelNameError):
        parse_model_name(model)


@pytest.mark.parametrize("model", ["router-mf-1.5", "router-mf--0.5", "router-mf-1e999"])
def test_thresholds_out_of_range_in_a_model_string(model: str) -> None:
    with pytest.raises(InvalidThresholdError):
        parse_model_name(model)


@given(st.lists(unit, min_size=1, max_size=50), unit)
def test_a_calibration_has_the_quantiles_and_the_operating_point(
    rates: list[float], share: float
) -> None:
    known = Provenance(data=("a.jsonl",))
    found = calibrated(known, np.array(rates), calibrated_on="some prompts", strong_share=share)
    assert (found.data, found.calibrated_on) == (("a.jsonl",), "some prompts")
    assert found.calibration is not None
    assert found.calibration.shape == (1001,)
    assert found.calibration[[0, -1]].tolist() == pytest.approx([min(rates), max(rates)])
    point = found.operating_point
    assert point is not None
    assert point.threshold == threshold_for_strong_share(found.calibration, share)
    assert point.strong_share == share
    assert point.chosen_by == "quantiles of the win rates of some prompts"


@pytest.mark.parametrize(
    ("rates", "share", "message"),
    [
        ([], 0.5, "win_rates is empty"),
        ([0.5, float("nan")], 0.5, r"win_rates\[1\] must be in 0..1"),
        ([0.5, 1.5], 0.5, r"win_rates\[1\] must be in 0..1"),
        ([0.5], 1.5, "share must be a number"),
    ],
)
def test_calibrations_that_can_not_be(rates: list[float], share: float, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        calibrated(Provenance(), np.array(rates), calibrated_on="", strong_share=share)


@given(
    st.lists(st.floats(0.0, 1.0, width=32), min_size=2, max_size=60),
    st.lists(unit, min_size=1, max_size=30),
)
def test_difficulty_is_the_share_of_easier_prompts(rates: list[float], sought: list[float]) -> None:
    quantiles = np.sort(np.array(rates, dtype=np.float32))
    scale = DifficultyScale(quantiles)
    sought = sorted({*sought, *rates})
    found = [scale.difficulty(rate) for rate in sought]
    assert found == scale.difficulties(np.array(sought)).tolist()
    assert all(0.0 <= d <= 1.0 for d in found)
    assert found == sorted(found)
    n = len(quantiles)
    for rate, difficulty in zip(sought, found, strict=True):
        # Those surely easier, tied in float32 or not, and at most a step between quantiles more.
        surely = sum(q < rate * (1 - 1e-6) for q in quantiles.tolist())
        perhaps = sum(q < rate for q in quantiles.tolist())
        assert (surely - 1) / (n - 1) - 1e-9 <= difficulty <= perhaps / (n - 1) + 1e-9


def test_difficulty_agrees_with_the_threshold_for_a_share() -> None:
    rng = np.random.default_rng(2)
    rates = rng.beta(3, 4, 5000)
    known = calibrated(Provenance(), rates, calibrated_on="some prompts")
    assert known.calibration is not None
    scale = DifficultyScale(known.calibration)
    for share in (0.05, 0.3, 0.5, 0.9):
        threshold = scale.threshold(share)
        assert threshold == threshold_for_strong_share(known.calibration, share)
        np.testing.assert_allclose(scale.difficulty(threshold), 1 - share, atol=1e-4)
        apart = np.abs(rates - threshold) > 1e-6
        harder = scale.difficulties(rates) >= 1 - share
        np.testing.assert_array_equal(harder[apart], (rates >= threshold)[apart])
    assert (scale.least, scale.greatest) == (known.calibration[0], known.calibration[-1])
    assert scale.difficulty(0.0) == 0.0
    assert scale.difficulty(1.0) == 1.0


def test_prompts_that_tie_have_the_difficulty_of_the_easiest() -> None:
    rates = np.repeat([1 / 3, 0.4, 0.7], [300, 600, 100])
    known = calibrated(Provenance(), rates, calibrated_on="some prompts")
    assert known.calibration is not None
    scale = DifficultyScale(known.calibration)
    # 1/3 and 0.4 are not float32 numbers, which the quantiles are.
    np.testing.assert_allclose(
        scale.difficulties(np.array([1 / 3, 0.4, 0.7])), [0.0, 0.3, 0.9], atol=2e-3
    )


def test_a_scale_keeps_no_more_than_it_may() -> None:
    scale = DifficultyScale(np.linspace(0, 1, 11, dtype=np.float32))
    for i in range(3000):
        assert scale.threshold(i / 3000) == pytest.approx(1 - i / 3000, abs=1e-6)
    assert len(scale._thresholds) <= 1000
    with pytest.raises(InvalidInputError, match="share must be a number"):
        scale.threshold([0.5])  # type: ignore[arg-type]
