"""Published points: recomputed from the judgements where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.published import ROUTELLM_APGR, judged_mean, mt_bench_points

from .evaluation_data import real_evals, write_json_lines


def test_commercial_routers_are_recomputed_from_their_judgements() -> None:
    points = {point.label: point for point in mt_bench_points(real_evals())}
    assert points["Unify"].quality == pytest.approx(8.757862, abs=5e-7)
    assert points["Unify"].share == 0.45625
    assert points["Martian"].quality == 8.3125
    assert points["Unify"].recomputed
    assert points["Martian"].recomputed
    assert not points["RouteLLM"].recomputed
    # And these are what is shown without the data.
    for label, point in {point.label: point for point in mt_bench_points()}.items():
        assert point.quality == pytest.approx(points[label].quality, abs=5e-7)
        assert not point.recomputed


def test_judgements_without_a_score_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks" / "mt-bench" / "gpt-4_single.jsonl"
    rows: list[dict[str, object]] = [
        {"model": "unify", "score": 10},
        {"model": "unify", "score": -1},
        {"model": "unify", "score": 7},
        {"model": "martian", "score": 3.5},
    ]
    write_json_lines(path, rows)
    assert judged_mean(path, "unify") == 8.5
    assert [p.quality for p in mt_bench_points(tmp_path)][1:] == [8.5, 3.5]
    with pytest.raises(InvalidInputError, match="no judgement of 'other'"):
        judged_mean(path, "other")
    with path.open("a") as file:
        file.write(json.dumps({"model": "unify", "score": 11}) + "\n")
    with pytest.raises(InvalidInputError, match="line 5: score is 11"):
        judged_mean(path, "unify")


def test_published_values_are_apgr() -> None:
    assert set(ROUTELLM_APGR) == {"mt-bench", "mmlu", "gsm8k"}
    for rows in ROUTELLM_APGR.values():
        values = [value for _, _, value in rows]
        assert values == sorted(values, reverse=True)
        assert all(0.4 < value < 0.9 for value in values)
