"""Evaluation of choices among many models: its measures, and the command from file to report."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_runner import fastroute, refused
from fastroute.candidates import Candidate
from fastroute.data.grade_table import GradeTable
from fastroute.data.records import GradedResult
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.evaluation.many_models.frontier import aiq, hull, trade_off, within
from fastroute.evaluation.many_models.run import calibration_error, evaluate_models

points = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda p: (p[0] / 10, p[1] / 50)),
    min_size=1, max_size=20,
)  # fmt: skip


@given(points)
def test_the_hull_is_above_all_points_concave_and_rising(found: list[tuple[float, float]]) -> None:
    usd, quality = (np.array(column) for column in zip(*found, strict=True))
    xs, ys = hull(usd, quality)
    assert set(zip(xs, ys, strict=True)) <= set(zip(usd, quality, strict=True))
    assert (np.diff(xs) > 0).all()
    assert (np.diff(ys) > 0).all()
    assert (np.diff(np.diff(ys) / np.diff(xs)) <= 1e-9).all()
    reachable = np.interp(usd, xs, ys)
    assert (reachable[usd >= xs[0]] >= quality[usd >= xs[0]] - 1e-9).all()


def test_aiq_is_the_mean_height_of_the_hull() -> None:
    usd, quality = np.array([1.0, 2.0, 3.0]), np.array([0.4, 0.5, 0.8])
    # The middle point is below the line between the others.
    assert aiq(usd, quality, 1.0, 3.0) == pytest.approx(0.6)
    assert aiq(usd, quality, 0.0, 1.0) == pytest.approx(0.4)
    assert aiq(usd, quality, 1.0, 5.0) == pytest.approx((2 * 0.6 + 2 * 0.8) / 4)
    assert aiq(usd, quality, 2.0, 2.0) == pytest.approx(0.6)


def test_a_trade_off_runs_from_the_best_to_the_cheapest() -> None:
    estimate = np.array([[0.9, 0.5], [0.6, 0.5]])
    grades = np.array([[1.0, 0.0], [0.0, 1.0]])
    usd = np.array([[2.0, 1.0], [2.0, 1.0]])
    curve = trade_off(estimate, grades, usd)
    assert (curve.usd[0], curve.quality[0]) == (2.0, 0.5)
    assert (curve.usd[-1], curve.quality[-1]) == (1.0, 0.5)
    assert curve.quality.max() == 1.0  # the first prompt to the first model only
    assert (np.diff(curve.usd) <= 1e-12).all()
    assert curve.usd[within(curve, 1.5)] == 1.5
    assert within(curve, 0.1) == len(curve.usd) - 1
    missing = trade_off(estimate, np.array([[np.nan, 0.0], [0.0, np.nan]]), usd)
    assert missing.chosen[0].tolist() == [1, 0]


def test_perfect_estimates_have_the_calibration_error_of_noise() -> None:
    generator = np.random.default_rng(0)
    p = generator.uniform(0.1, 0.9, size=(1000, 20))
    grades = (generator.random(p.shape) < p).astype(np.float64)
    error, noise = calibration_error(p, grades)
    assert error == pytest.approx(noise, rel=0.1)
    wrong, _ = calibration_error(np.clip(p + 0.1, 0, 1), grades)
    assert wrong > 2 * error


NOUNS = ("rain", "horses", "a river", "stars", "bread", "the sea", "winter", "a train")
MODELS = {"poet": (0.9, 0.2), "sums": (0.2, 0.9), "both": (0.7, 0.7), "weak": (0.3, 0.3)}
PRICES = [Candidate("poet", 1, 1), Candidate("sums", 1, 1), Candidate("both", 5, 5),
          Candidate("weak", 0.1, 0.1)]  # fmt: skip


def rows(per_kind: int = 150) -> list[GradedResult]:
    chance = random.Random(0)
    found = []
    for i in range(per_kind):
        a, b = chance.choice(NOUNS), chance.choice(NOUNS)
        prompts = {"poems": f"Write {i} lines about {a} and {b}.", "sums": f"Compute {i} plus {a}."}
        for kind, (dataset, prompt) in enumerate(prompts.items()):
            scores = {m: float(chance.random() < p[kind]) for m, p in MODELS.items()}
            found.append(GradedResult("made", dataset, prompt, scores))
    return found


def test_two_specialists_beat_the_best_single_model_for_less() -> None:
    report = evaluate_models(
        GradeTable.of(rows()), PRICES, StaticEmbedder.load_default(), resamples=200
    )
    assert report.best_single == "both"
    assert report.cheapest == "weak"
    methods = {m.name: m for m in report.methods}
    assert list(methods) == ["models", "knn", "clusters", "oracle"]
    ours = methods["models"]
    assert ours.gain.low is not None
    assert ours.gain.low > 0.1
    assert ours.quality > 0.82
    assert ours.equal_usd is not None
    assert ours.equal_usd < 0.4 * report.single_usd["both"]
    assert 0.3 < ours.oracle_gap < 1.0
    assert methods["oracle"].oracle_gap == pytest.approx(1.0)
    assert methods["oracle"].ece is None
    assert ours.ece is not None
    assert ours.ece_noise is not None
    assert ours.ece < 2 * ours.ece_noise
    assert report.singles_aiq < ours.aiq < methods["oracle"].aiq
    assert report.random_quality == pytest.approx(0.525, abs=0.03)


def test_a_dataset_that_was_held_out_is_not_known() -> None:
    report = evaluate_models(
        GradeTable.of(rows()), PRICES, StaticEmbedder.load_default(),
        protocol="leave-one-dataset-out", resamples=0,
    )  # fmt: skip
    assert report.folds == 2
    ours = report.methods[0]
    assert ours.gain.low is None
    assert ours.gain.value < 0.05  # what poems teach of sums is wrong


def test_dollars_of_the_rows_come_before_prices() -> None:
    table = [
        GradedResult(r.file, r.dataset, r.prompt, r.scores, dict.fromkeys(MODELS, 0.01))
        for r in rows(60)
    ]
    report = evaluate_models(
        GradeTable.of(table), (), StaticEmbedder.load_default(), resamples=0, folds=3
    )
    assert list(report.single_usd.values()) == [pytest.approx(0.01)] * 4


def test_what_can_not_be_evaluated_is_said() -> None:
    embedder, table = StaticEmbedder.load_default(), GradeTable.of(rows(40))
    with pytest.raises(InvalidInputError, match="no price for both, poet, sums, weak"):
        evaluate_models(table, (), embedder)
    with pytest.raises(InvalidInputError, match="protocol must be one of"):
        evaluate_models(table, PRICES, embedder, protocol="loo")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="of 1 model"):
        evaluate_models(GradeTable.of([GradedResult("f", "d", "p", {"a": 1.0})]), PRICES, embedder)
    alternating = [
        GradedResult("f", "d", r.prompt, {("poet", "sums")[i % 2]: 1.0})
        for i, r in enumerate(rows(60))
    ]
    with pytest.raises(InvalidInputError, match="no model has grades on 90 %"):
        evaluate_models(GradeTable.of(alternating), PRICES, embedder)
    with pytest.raises(InvalidInputError, match="of one dataset"):
        evaluate_models(
            GradeTable.of([r for r in rows(60) if r.dataset == "sums"]), PRICES, embedder,
            protocol="leave-one-dataset-out",
        )  # fmt: skip
    with pytest.raises(InvalidInputError, match="there are no graded results"):
        GradeTable.of([])


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    data = tmp_path / "graded.jsonl"
    lines = [
        json.dumps({"prompt": r.prompt, "dataset": r.dataset, "scores": r.scores}) for r in rows(80)
    ]
    data.write_text("\n".join(lines))
    prices = tmp_path / "models.toml"
    prices.write_text(
        "".join(
            f'[[candidates]]\nname = "{c.name}"\ninput_usd_per_mtok = {c.input_usd_per_mtok}\n'
            f"output_usd_per_mtok = {c.output_usd_per_mtok}\n"
            for c in PRICES
        )
    )
    common = ("evaluate", "--models", data, "--candidates", prices, "--resamples", "100")
    ran = fastroute(*common, "--plot", tmp_path / "figure.svg")
    assert ran.status == 0, ran.err
    assert "best single model: both" in ran.out
    assert all(f"| {name} |" in ran.out for name in ("models", "knn", "clusters", "oracle"))
    assert "<svg" in (tmp_path / "figure.svg").read_text()
    ran = fastroute(*common, "--json", "--leave-one-dataset-out")
    assert ran.status == 0, ran.err
    (report,) = ran.json
    assert report["protocol"] == "leave-one-dataset-out"
    assert report["methods"][0]["name"] == "models"
    assert len(report["methods"][0]["curve"]["usd"]) > 10
    assert "no price for" in refused("evaluate", "--models", data)
    assert "need --models" in refused("evaluate", "--candidates", prices, "--benchmark", data)
    assert "--models excludes" in refused(*common, "--router", "mf")
    assert "must end in" in refused(*common, "--plot", tmp_path / "figure.txt")
