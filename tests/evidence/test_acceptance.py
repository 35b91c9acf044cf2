"""Signals and the acceptance model, against a float64 oracle and planted truths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from fastroute.artifacts import load_artifact, save_artifact
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.evidence import Answer, Expectation
from fastroute.evidence.acceptance import (
    AcceptanceModel,
    fit_acceptance,
    out_of_fold,
    useful_signals,
)
from fastroute.evidence.signals import AGREES, SIGNALS, signals
from fastroute.provenance import OperatingPoint, Provenance

RNG = np.random.default_rng(7)


def of(prompt: str, *texts: str | Answer) -> dict[str, float]:
    answers = [text if isinstance(text, Answer) else Answer(text) for text in texts]
    return dict(zip(SIGNALS, signals(prompt, answers), strict=True))


def test_signals_of_agreement() -> None:
    found = of("How many?", "#### 7", "#### 7", "#### 9", "#### 9")
    assert found["agreeing"] == pytest.approx(1 / 3)
    assert found["united_against"] == pytest.approx(2 / 3)
    assert of("How many?", "#### 7")["agreeing"] == 0
    assert of("Describe it.", "A long text. " * 30, "Another text. " * 30)["incomparable"] == 1


def test_signals_say_which_models_agree() -> None:
    answers = [Answer(text) for text in ("#### 7", "#### 7", "#### 9", "#### x")]
    found = of("How many?", "#### 7", "#### 7", "#### 9", "#### x")
    assert [found[name] for name in AGREES] == [1, 1, 0, 0, 0, 0, 0, 0]
    placed = signals("How many?", answers, places=[4, 1, 0, 2])
    assert [placed[SIGNALS.index(name)] for name in AGREES] == [0, 1, 0, 0, 1, 0, 0, 0]
    none = signals("How many?", answers[::-1], places=[3, 2, 1, 0])
    assert not any(none[SIGNALS.index(name)] for name in AGREES)
    with pytest.raises(InvalidInputError, match="places has 1 numbers for 4"):
        signals("How many?", answers, places=[0])


def test_the_model_learns_whose_agreement_counts() -> None:
    rng = np.random.default_rng(5)
    X = np.zeros((2000, len(SIGNALS)))
    second, third = (SIGNALS.index(name) for name in ("agrees_2", "agrees_3"))
    X[:, [second, third]] = rng.random((2000, 2)) < 0.5
    X[:, SIGNALS.index("agreeing")] = X[:, [second, third]].mean(1)
    y = (rng.random(2000) < 0.2 + 0.6 * X[:, second]).astype(float)  # the third's says nothing
    rows = np.zeros((2, len(SIGNALS)))
    rows[0, second] = rows[1, third] = 1
    rows[:, SIGNALS.index("agreeing")] = 0.5
    trusted, other = fit_acceptance(X, y).probabilities(rows)
    assert trusted == pytest.approx(0.8, abs=0.05)
    assert other == pytest.approx(0.2, abs=0.05)


def test_signals_that_say_something_of_so_many_models() -> None:
    others = set(SIGNALS) - set(AGREES)
    assert set(useful_signals(2)) == others  # "agreeing" says it
    assert set(useful_signals(3)) == others | set(AGREES[:3])
    assert useful_signals(None) == useful_signals(20) == list(SIGNALS)
    X, y, _ = planted(300, 6)
    model = fit_acceptance(X, y, cheap_models=2)
    assert (set(model.names), model.cheap_models) == (others, 2)


def test_signals_of_one_answer() -> None:
    assert of("How many?", "#### x", "#### 7")["no_value"] == 1
    assert of("", Answer("abc", finish_reason="length"))["cut"] == 1
    assert of("", Answer("abc", finish_reason="stop"))["cut"] == 0
    assert of("", "word " * 100 + "and then")["cut"] == 1
    assert of("", "I\u2019m sorry, but I can't help.")["refused"] == 1
    assert of("", Answer("", refusal="no"))["refused"] == 1
    assert of("How many?", "in all 7", "#### 7")["unmarked"] == 1
    found = of("How many?", "2 * 3 = 6 and 6 + 1 = 8, 5 x 2 = $10. #### 8")
    assert found["right_equations"] == pytest.approx(np.log(3))
    assert found["wrong_equations"] == pytest.approx(np.log(2))
    assert of("How many?", "#### 0.3333")["fraction"] == 1
    assert of("How many?", "#### 8", "8 of them, and 3 more: #### 11")["value_elsewhere"] == 1
    logged = of("", Answer("x", logprobs=(-1.0, -3.0)))
    assert (logged["mean_logprob"], logged["least_logprob"]) == (-2.0, -3.0)
    assert logged["without_logprobs"] == 0
    bad = signals("", [Answer("{", ())], Expectation("json"))
    assert bad[SIGNALS.index("malformed")] == 1


@pytest.mark.parametrize(
    "text", ["1/0 = 5", "1 * " * 500 + "1 = 3", "007 + 1 = 8", "9" * 5000 + " + 1 = 2", "2 * 3 = "]
)
def test_strange_equations_are_no_error(text: str) -> None:
    assert np.isfinite(signals("How many?", [Answer(text)])).all()


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, len(SIGNALS)))
    z = 1.5 * X[:, 0] - 1.0 * X[:, 3] + 0.3
    p = 1 / (1 + np.exp(-z))
    return X, (rng.random(n) < p).astype(float), p


def test_the_fit_is_the_penalised_maximum_likelihood() -> None:
    X, y, _ = planted(300, 1)
    model = fit_acceptance(X, y)
    Z = (X - X.mean(0)) / X.std(0)

    def loss(b: np.ndarray) -> float:
        z = Z @ b[:-1] + b[-1]
        return float(
            np.logaddexp(0, np.where(y > 0.5, -z, z)).sum() + model.penalty / 2 * b[:-1] @ b[:-1]
        )

    best = minimize(loss, np.zeros(X.shape[1] + 1), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(model.weights, best[:-1], atol=2e-5)
    np.testing.assert_allclose(model.bias, best[-1], atol=2e-5)


def test_probabilities_are_calibrated_and_find_the_planted_truth() -> None:
    X, y, _ = planted(4000, 2)
    model = fit_acceptance(X, y)
    new, _, p = planted(2000, 3)
    predicted = model.probabilities(new)
    assert np.abs(predicted - p).mean() < 0.03
    assert set(np.argsort(-np.abs(model.weights))[:2].tolist()) == {0, 3}


def test_noise_is_shrunk() -> None:
    X = RNG.normal(size=(200, len(SIGNALS)))
    y = (RNG.random(200) < 0.5).astype(float)
    model = fit_acceptance(X, y)
    assert model.penalty >= 30
    assert np.abs(model.probabilities(X) - 0.5).max() < 0.35


def test_out_of_fold_predictions_know_nothing_of_their_row() -> None:
    X = RNG.normal(size=(400, len(SIGNALS)))
    y = (RNG.random(400) < 0.5).astype(float)
    probability, rank = out_of_fold(X, y)
    assert abs(np.corrcoef(probability, y)[0, 1]) < 0.15
    assert rank.min() >= 0
    assert rank.max() <= 1
    same, _ = out_of_fold(X, y)
    np.testing.assert_array_equal(probability, same)


def test_ties_have_one_rank() -> None:
    X = np.zeros((100, len(SIGNALS)))
    X[::2, 0] = 1
    y = (np.arange(100) % 2 == 0).astype(float)
    y[:10] = 1 - y[:10]
    _, rank = out_of_fold(X, y)
    assert len(np.unique(np.round(rank, 6))) <= 10  # two levels a fold


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((30, 3)), np.zeros(30), "features must be"),
        (np.zeros((30, len(SIGNALS))), np.zeros(30), "20"),
        (np.zeros((5, len(SIGNALS))), np.array([0, 1, 0, 1, 0.0]), "5 rows"),
        (np.full((30, len(SIGNALS)), np.nan), np.arange(30) % 2.0, "finite"),
        (np.zeros((30, len(SIGNALS))), np.full(30, 0.5), "0 and 1"),
    ],
)
def test_bad_training_data(X: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_acceptance(X, y)


def test_signals_can_be_chosen() -> None:
    X, y, _ = planted(300, 4)
    model = fit_acceptance(X, y, names=("agreeing", "no_value"))
    assert isinstance(model, AcceptanceModel)
    assert len(model.weights) == 2
    with pytest.raises(InvalidInputError, match="unknown signals"):
        fit_acceptance(X, y, names=("agreeing", "mood"))
    with pytest.raises(InvalidInputError, match="columns"):
        model.probabilities(np.zeros((1, 3)))


def test_a_saved_model_gives_the_same_probabilities(tmp_path: Path) -> None:
    X, y, _ = planted(300, 5)
    provenance = Provenance(
        operating_point=OperatingPoint(0.4), trained_on=np.array([3, 9], np.uint64)
    )
    model = replace(fit_acceptance(X, y), provenance=provenance)
    model.save(tmp_path / "acceptance", training={"weak": "w"})
    loaded = AcceptanceModel.load(tmp_path / "acceptance")
    np.testing.assert_array_equal(loaded.probabilities(X), model.probabilities(X))
    assert loaded.provenance.operating_point == OperatingPoint(0.4)
    assert loaded.provenance.checksum is not None
    assert load_artifact(tmp_path / "acceptance").config["training"] == {"weak": "w"}
    with pytest.raises(ArtifactError, match="where 'mf' is needed"):
        load_artifact(tmp_path / "acceptance", kind="mf")


def test_an_artifact_of_unknown_signals_is_refused(tmp_path: Path) -> None:
    one = np.ones(1)
    for signal, arrays in (("mood", {"weights": one, "mean": one, "scale": one}), ("agreeing", {})):
        save_artifact(
            tmp_path / "a",
            kind="acceptance",
            config={"signals": [signal], "bias": 0.0, "penalty": 1.0},
            arrays=arrays,
        )
        with pytest.raises(ArtifactError, match="train it again"):
            AcceptanceModel.load(tmp_path / "a")
