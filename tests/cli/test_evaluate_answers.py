"""``fastroute evaluate --answers``: a cascade by evidence, as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runner import fastroute, refused

PAIR = ["--weak", "weak", "--helper", "other", "--strong", "strong"]
PRICES = ["--price", "weak=1/1", "other=1/1", "strong=10/30"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 questions: the cheap models agree, and are right, on every other one."""
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    rows = []
    for i in range(60):
        right = i % 2 == 0
        said = {"weak": 7 if right else 8, "other": 7 if right else 9, "strong": 7}
        rows.append(
            {
                "prompt": f"How many are there in case {i}?",
                "answers": {model: f"#### {number}" for model, number in said.items()},
                "scores": {model: float(number == 7) for model, number in said.items()},
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_report_ends_with_its_conclusion(answers: Path) -> None:
    ran = fastroute("evaluate", "--answers", answers, *PAIR, *PRICES, "--resamples", "100")
    assert ran.status == 0
    last = " ".join(ran.out.rstrip().split("\n\n")[-1].split())
    assert last.startswith("Asking strong only where weak and other do not agree (50% of 60")
    assert "scores 1.0000" in last
    for word in ("agreement and signals, learned", "mf", "length", "random", "oracle", "usd/1,000"):
        assert word in ran.out
    assert "token counts are estimated" in ran.out


def test_json_has_the_same_figures(answers: Path) -> None:
    ran = fastroute(
        "evaluate", "--answers", answers, *PAIR, "--json", "--router", "length", "--resamples", "0"
    )
    assert ran.status == 0
    assert ran.json["outcomes"] == {"agree": 30, "disagree": 30, "incomparable": 0}
    by_name = {policy["name"]: policy for policy in ran.json["policies"]}
    assert by_name["agreement"]["strong_share"] == 0.5
    assert by_name["agreement"]["apgr"]["value"] == pytest.approx(0.75)
    assert by_name["agreement"]["usd"] is None
    assert list(by_name).count("length") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weak", "weak"], "--answers needs --weak MODEL and --strong MODEL"),
        ([*PAIR, "--benchmark", "mmlu"], "give --answers or --benchmark"),
        ([*PAIR, "--price", "weak=1"], "MODEL=IN/OUT"),
        ([*PAIR, "--price", "weak=1/-1"], "MODEL=IN/OUT"),
        ([*PAIR, "--price", "weak=1/1"], "no price for other, strong"),
        ([*PAIR[:2], "--strong", "nobody"], "no answers of 'nobody'; the models are"),
    ],
)
def test_bad_arguments(answers: Path, arguments: list[str], message: str) -> None:
    assert message in refused("evaluate", "--answers", answers, *arguments)


def test_neither_benchmark_nor_answers() -> None:
    assert "give --benchmark, or --answers" in refused("evaluate")
