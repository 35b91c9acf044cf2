"""What training reports of a router that is no better than a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastroute.evaluation.metrics.baselines import losses

NAMES = ["random routing", "the length of the prompt", "the rule"]


def named(found: list[str]) -> list[str]:
    return [line.split("that of ")[1] for line in found]


def test_each_baseline_that_is_not_beaten_is_named() -> None:
    assert losses(0.6, 0.55, {"the rule": 0.5}) == []
    assert losses(0.5, None) == ["its APGR, 0.5000, is not above 0.5000, that of random routing"]
    assert named(losses(0.4, 0.45, {"the rule": 0.41})) == NAMES
    assert named(losses(0.52, 0.6, {"the rule": 0.4})) == NAMES[1:2]
    assert losses(None, 0.9) == []  # what was not measured has not lost
    assert losses(float("nan"), None)  # and what can't be told is not called a success


@pytest.mark.parametrize(
    ("own", "length", "lost"),
    [(0.3, 0.1, []), (0.1, 0.3, NAMES[1:2]), (-0.1, -0.2, NAMES[:1]), (None, 0.3, [])],
)
def test_of_bert_and_causal_llm(own: float | None, length: float | None, lost: list[str]) -> None:
    from fastroute.training.bert.quality import Quality
    from fastroute.training.bert.recipe import Report
    from fastroute.training.causal_llm.run import Result

    nothing: Any = None
    quality = Quality(40, own, length, 0.1)
    report = Report(Path("x"), 1, nothing, nothing, nothing, nothing, quality, 0.0)
    assert named(report.losses()) == lost
    assert bool(report.warnings()) == (own is None)
    # Ranking accuracy is 0.5 where a rank correlation is 0.
    a, b = (None if value is None else 0.5 + value / 2 for value in (own, length))
    result = Result(nothing, 40, 1.0, 0.5, a, b, None, Path("x"))
    assert named(result.losses()) == lost
