"""``train acceptance``: figures by hand, what loses, and a model that a cascade can use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.answers import read_answers
from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.training import train_acceptance

PARTS: dict[str, Any] = {"weak": "weak", "strong": "strong", "helpers": ["h1", "h2"]}


def write(path: Path, *, noise: bool = False, n: int = 300) -> Path:
    """Questions with a true number; with ``noise`` grades have nothing to do with answers."""
    rng = np.random.default_rng(11)
    rows = []
    for i in range(n):
        truth, answers, scores = int(rng.integers(10, 99)), {}, {}
        for k, (name, p) in enumerate([("weak", 0.6), ("h1", 0.6), ("h2", 0.6), ("strong", 0.9)]):
            right = bool(rng.random() < p)
            number = truth if right else 1000 * (k + 1) + int(rng.integers(100))
            answers[name] = f"#### {number}"
            scores[name] = float(rng.random() < p) if noise else float(right)
        rows.append({"prompt": f"How many in {i}?", "answers": answers, "scores": scores})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_model_reaches_the_strong_models_quality(tmp_path: Path) -> None:
    recorded = read_answers([write(tmp_path / "a.jsonl")])
    trained = train_acceptance(recorded, tmp_path / "out", **PARTS)
    assert trained.prompts == 300
    assert trained.apgr > 0.9
    assert trained.quality >= trained.strong_quality - 1e-9
    assert trained.strong_share < 0.5
    assert trained.calibration_error < 0.1
    loaded = AcceptanceModel.load(trained.folder)
    assert loaded.provenance.operating_point.threshold == trained.threshold
    assert loaded.provenance.trained_on is not None
    assert len(loaded.provenance.trained_on) == 300
    again = train_acceptance(recorded, tmp_path / "again", **PARTS)
    assert (tmp_path / "again" / "artifact.json").read_bytes() == (
        tmp_path / "out" / "artifact.json"
    ).read_bytes()
    assert again.apgr == trained.apgr


def test_the_command_warns_where_nothing_can_be_learnt(tmp_path: Path) -> None:
    arguments = ["--weak", "weak", "--helper", "h1", "--helper", "h2", "--strong", "strong"]
    good = fastroute(
        "train", "acceptance", "--answers", write(tmp_path / "a.jsonl"), *arguments,
        "--output", tmp_path / "good",
    )  # fmt: skip
    assert "strong model alone" in good.out
    assert "random 0.5)" in good.out
    # Agreement is all there is to learn here, so its rule is as good.
    assert good.status == (3 if "that of the rule of agreement" in good.err else 0)
    noise = fastroute(
        "train", "acceptance", "--answers", write(tmp_path / "n.jsonl", noise=True), *arguments,
        "--output", tmp_path / "noise",
    )  # fmt: skip
    assert noise.status == 3, noise.out
    assert "does not beat the baselines: its APGR" in noise.err
    said = refused(
        "train", "acceptance", "--answers", tmp_path / "a.jsonl", *arguments,
        "--output", tmp_path / "good",
    )  # fmt: skip
    assert "is not empty" in said


def test_bad_arguments(tmp_path: Path) -> None:
    recorded = read_answers([write(tmp_path / "a.jsonl", n=30)])
    with pytest.raises(InvalidInputError, match="swap them"):
        train_acceptance(recorded, tmp_path / "x", weak="strong", strong="weak", helpers=["h1"])
    with pytest.raises(InvalidInputError, match="no answers of 'nobody'"):
        train_acceptance(recorded, tmp_path / "x", weak="weak", strong="nobody", helpers=["h1"])


def test_every_baseline_counts(tmp_path: Path) -> None:
    trained = train_acceptance(read_answers([write(tmp_path / "a.jsonl")]), tmp_path / "x", **PARTS)
    assert 0.0 < trained.length_apgr < 1.0
    better = replace(trained, rule_apgr=0.1, length_apgr=0.1)
    assert better.losses() == []
    for worse in (
        replace(better, apgr=0.4), replace(better, length_apgr=trained.apgr + 0.1),
        replace(better, rule_apgr=trained.apgr + 0.1),
    ):  # fmt: skip
        assert len(worse.losses()) == 1
