"""``calibrate --save``: the threshold and the calibration of a saved router are replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.artifacts import load_artifact
from fastroute.provenance import OperatingPoint
from fastroute.routers import create_router
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER

PROMPTS = [f"Explain step {i} of the proof, and say {'why ' * (i % 7)}it holds." for i in range(60)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "router"
    shutil.copytree(DEFAULT_FOLDER, folder)
    return folder


def _prompts(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(PROMPTS))
    return path


def _calibrate(folder: Path, *arguments: str | Path) -> Any:
    ran = fastroute(
        "calibrate", "--router", f"mf={folder}", "--save", "--no-cache", "--resamples", "0",
        *arguments,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    return ran


def test_a_share_on_prompts_is_the_routers_default_from_then_on(
    saved: Path, tmp_path: Path
) -> None:
    before = load_artifact(saved)
    ran = _calibrate(saved, "--strong-share", "0.25", "--prompts", _prompts(tmp_path), "--json")
    threshold = ran.json["threshold"]["value"]
    after = load_artifact(saved)
    known = after.provenance
    assert known.operating_point == OperatingPoint(
        threshold, 0.25, "fastroute calibrate, on 60 prompts of mine.txt"
    )
    assert known.calibrated_on == "60 prompts of mine.txt"
    router = create_router("mf", checkpoint_path=saved)
    rates = router.win_rates(PROMPTS)
    np.testing.assert_allclose(
        known.calibration, np.quantile(rates, np.linspace(0, 1, 1001)), atol=1e-6
    )
    assert (after.config, after.files) == (before.config, before.files)
    np.testing.assert_array_equal(known.trained_on, before.provenance.trained_on)
    np.testing.assert_array_equal(rates, create_router("mf").win_rates(PROMPTS))
    routed = fastroute("route", "--router", f"mf={saved}", "--json", *PROMPTS)
    decisions = [json.loads(line) for line in routed.out.splitlines()]
    assert {decision["threshold"] for decision in decisions} == {threshold}
    assert sum(decision["strong"] for decision in decisions) == 15
    assert {d["strong"] for d in decisions if d["difficulty"] > 0.76} == {True}
    assert {d["strong"] for d in decisions if d["difficulty"] < 0.74} == {False}
    table = fastroute("route", "--router", f"mf={saved}", "x", "y").out
    assert table.splitlines()[0].endswith("its operating point for 25 % strong calls")


def test_without_prompts_the_calibration_stays(saved: Path) -> None:
    before = load_artifact(saved).provenance.calibration
    text = _calibrate(saved, "--strong-share", "0.4").out
    assert f"saved in {saved}\n" in text
    known = load_artifact(saved).provenance
    np.testing.assert_array_equal(known.calibration, before)
    assert known.operating_point is not None
    assert known.operating_point.strong_share == 0.4
    assert known.operating_point.chosen_by == "fastroute calibrate, on its own quantiles"


def test_a_threshold_for_a_quality_is_saved_unless_it_loses(saved: Path, tmp_path: Path) -> None:
    router = create_router("mf", checkpoint_path=saved)
    hard = router.win_rates(PROMPTS) > np.median(router.win_rates(PROMPTS))
    for name, weak in (("good", ~hard), ("bad", hard)):
        path = tmp_path / f"{name}.jsonl"
        rows = zip(PROMPTS, weak.tolist(), strict=True)
        path.write_text(
            "".join(
                json.dumps({"prompt": prompt, "weak": int(w), "strong": 1}) + "\n"
                for prompt, w in rows
            )
        )
    options = ["calibrate", "--router", f"mf={saved}", "--save", "--no-cache", "--resamples", "0"]
    losing = fastroute(*options, "--target-pgr", "0.9", "--benchmark", tmp_path / "bad.jsonl")
    assert losing.status == 3
    assert "saved in" not in losing.out
    before = load_artifact(saved).provenance.operating_point
    assert before == load_artifact(DEFAULT_FOLDER).provenance.operating_point
    good = fastroute(*options, "--target-pgr", "0.9", "--benchmark", tmp_path / "good.jsonl")
    assert good.status == 0, good.err
    point = load_artifact(saved).provenance.operating_point
    assert point is not None
    assert point.strong_share is None
    assert point.chosen_by == "fastroute calibrate, for 90.00% of the gap on good.jsonl"
    assert f"threshold {point.threshold!r}" in good.out


@pytest.mark.parametrize(
    ("router", "message"),
    [
        ("mf", "this router has no folder"),
        ("random", "this router has no folder"),
        ("mf={empty}", r"empty has no artifact.json"),
        ("mf={saved},strong_model=weak,weak_model=strong", "leave strong_model out"),
    ],
)
def test_routers_that_can_not_be_saved_to(
    router: str, message: str, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    named = router.format(empty=tmp_path / "empty", saved=saved)
    said = refused("calibrate", "--router", named, "--strong-share", "0.3", "--save")
    assert message in said
    band = ("--slow", "random", "--share-sent-on", "0.3", "--prompts", _prompts(tmp_path))
    assert "--save can't be used with --slow" in refused("calibrate", "--save", *band)
