"""Judged difficulty in an export: read, learnt from, and never of test prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.errors import InvalidInputError
from fastroute.learning import Goal, TuneResult, read_export, tune_router
from fastroute.learning.tune.judged import judged_vector
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from graded_traffic import is_hard, make_traffic, write_csv, write_jsonl

_QUALITY = Goal("quality", 0.95, 0.95)
_NAMES = {"weak": "score_weak", "strong": "score_strong"}


def _is_chat(prompt: str) -> bool:
    """Small talk is the hard part here: the bundled router takes it for the easy one."""
    return not is_hard(prompt)


def _rated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    noise = np.random.default_rng(0).normal(size=len(rows)) * 50
    return [
        {"prompt": row["prompt"], "difficulty": 1000 + 200 * _is_chat(row["prompt"]) + e}
        for row, e in zip(rows, noise.tolist(), strict=True)
    ]


def _pairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        hard = _is_chat(a["prompt"]), _is_chat(b["prompt"])
        verdict = "tie" if hard[0] == hard[1] else "A" if hard[0] else "B"
        found.append({"prompt": a["prompt"], "prompt_b": b["prompt"], "harder": verdict})
    return found


def _result(folder: Path, rows: list[dict[str, Any]], labels: list[dict[str, Any]]) -> TuneResult:
    graded = write_csv(folder / "graded.csv", rows)
    judged = write_jsonl(folder / "judged.jsonl", labels)
    return tune_router(read_export([graded, judged], **_NAMES), _QUALITY)


def test_labels_in_a_file_of_their_own(tmp_path: Path) -> None:
    graded = write_csv(tmp_path / "graded.csv", make_traffic(30))
    judged = write_jsonl(tmp_path / "judged.jsonl", _rated(make_traffic(70, seed=1)))
    pairs = write_jsonl(tmp_path / "pairs.jsonl", _pairs(make_traffic(40, seed=2)))
    export = read_export([graded, judged, pairs], **_NAMES)
    assert len(export) == 30
    assert len(export.judged) == 90
    assert {"labels of difficulty: 70", "labels of difficulty: 20"} <= set(export.understood)


def test_labels_beside_grades_are_no_model(tmp_path: Path) -> None:
    rows = [{**row, **label} for row, label in
            zip(make_traffic(40), _rated(make_traffic(40)), strict=True)]  # fmt: skip
    rows[3]["difficulty"] = ""
    for row in rows:
        del row["id"]
    export = read_export(write_csv(tmp_path / "export.csv", rows))
    assert set(export.pair) == {"score_weak", "score_strong"}
    assert (len(export), len(export.judged)) == (40, 39)


def test_a_malformed_label_is_named_by_its_line(tmp_path: Path) -> None:
    rows = [*_rated(make_traffic(3)), {"prompt": "p", "difficulty": "hard"}]
    graded = write_csv(tmp_path / "graded.csv", make_traffic(30))
    with pytest.raises(InvalidInputError, match="line 4"):
        read_export([graded, write_jsonl(tmp_path / "judged.jsonl", rows)], **_NAMES)


def test_labels_alone_promise_nothing(tmp_path: Path) -> None:
    judged = write_jsonl(tmp_path / "judged.jsonl", _rated(make_traffic(70)))
    with pytest.raises(InvalidInputError, match="labels of difficulty only"):
        read_export(judged)


@pytest.mark.parametrize("label", [_rated, _pairs])
def test_they_rank_prompts_before_grades_do(tmp_path: Path, label: Any) -> None:
    fresh = make_traffic(300, seed=99)
    hard = np.array([_is_chat(row["prompt"]) for row in fresh])

    def right(found: TuneResult) -> float:
        rates = found.router.win_rates([row["prompt"] for row in fresh])
        return float(np.mean(rates[hard][:, None] > rates[~hard][None, :]))

    told, alone = [], []
    for seed in range(4):
        rows = make_traffic(60, seed=seed, hard_gap=0.0, easy_gap=0.4)
        found = _result(tmp_path, rows, label(make_traffic(400, seed=50 + seed)))
        assert "judged" in found.apgr
        assert any("00 labels are not of test prompts, and are learnt from" in n
                   for n in found.notes)  # fmt: skip
        told.append(right(found))
        alone.append(right(tune_router(read_export(tmp_path / "graded.csv", **_NAMES), _QUALITY)))
    assert np.mean(told) > np.mean(alone) + 0.05, (told, alone)


def test_labels_of_test_prompts_and_their_copies_are_left_out(tmp_path: Path) -> None:
    rows = make_traffic(100)
    copies = [{**row, "prompt": row["prompt"].upper() + "!"} for row in rows]
    found = _result(tmp_path, rows, _rated(copies))
    assert any("40 of 100 labels are not of test prompts, of 40" in note for note in found.notes)
    assert "judged" not in found.apgr


def test_a_vector_of_labels_orders_prompts(tmp_path: Path) -> None:
    rated = write_jsonl(tmp_path / "r.jsonl", _rated(make_traffic(200)))
    graded = write_csv(tmp_path / "graded.csv", make_traffic(30, seed=3))
    embedder = MatrixFactorizationRouter.load_default().embedder
    assert embedder is not None
    export = read_export([graded, rated], **_NAMES)
    vector, _ = judged_vector(export.judged, (), embedder, 0)
    assert vector is not None
    fresh = [row["prompt"] for row in make_traffic(200, seed=4)]
    scores = embedder.embed_batch(fresh).astype(np.float64) @ vector
    hard = np.array([_is_chat(prompt) for prompt in fresh])
    assert np.mean(scores[hard][:, None] > scores[~hard][None, :]) > 0.95
