"""``fastroute tune --helper``: a cascade by evidence as a candidate, with a guarantee."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import Ran, fastroute
from fakes import gateway as gateways
from fakes import openai_chat
from fakes.planned import View
from fastroute import Controller, Endpoint
from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.learning import Goal, TuneResult, read_export, save_result, tune_router
from fastroute.learning.tune.cascade import Evidence
from graded_traffic import make_answers, write_csv, write_jsonl

_QUALITY = Goal("quality", 0.95, 0.95)
_NAMES = {"weak": "weak", "strong": "strong", "helpers": ["helper"]}


def _result(folder: Path, rows: list[dict[str, Any]], goal: Goal = _QUALITY) -> TuneResult:
    return tune_router(read_export(write_jsonl(folder / "e.jsonl", rows), **_NAMES), goal)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    folder = tmp_path_factory.mktemp("tuned")
    file = write_jsonl(folder / "export.jsonl", make_answers(900, prices=True))
    output = folder / "router"
    ran = fastroute(
        "tune", file, "--weak", "weak", "--strong", "strong", "--helper", "helper",
        "--strong-model", "big", "--weak-model", "small", "--model-names", "helper=other",
        "--output", output, "--json",
    )  # fmt: skip
    return ran, output


def test_a_cascade_is_chosen_and_its_cost_includes_the_helpers(tuned: tuple[Ran, Path]) -> None:
    ran, _ = tuned
    assert ran.status == 0, ran.err
    found = ran.json
    assert (found["verdict"], found["router"], found["helpers"]) == ("use", "cascade", ["other"])
    assert found["quality_lower_bound"] == 0.95
    assert found["quality"] > 0.95
    share = found["strong_share"]
    assert 0.4 < share < 0.8
    assert found["cost_usd_per_1000"] == pytest.approx(0.3 + 4.0 * share)
    assert found["saved_usd_per_1000"] == pytest.approx(4.0 - found["cost_usd_per_1000"])
    assert found["baselines"]["prompt_router"]["cost_usd_per_1000"] > found["cost_usd_per_1000"]
    assert found["information_p_value"] < 1e-6


def test_the_promise_holds_on_fresh_answers(tuned: tuple[Ran, Path], tmp_path: Path) -> None:
    ran, output = tuned
    model = AcceptanceModel.load(output / "acceptance")
    assert model.cheap_models == 2
    fresh = read_export(write_jsonl(tmp_path / "f.jsonl", make_answers(3000, seed=5)), **_NAMES)
    evidence = Evidence.of(fresh)
    assert evidence.comparable.all()
    probability = model.probabilities(evidence.signals)
    asked = evidence.escalated(probability, ran.json["operating_point"], np.ones(3000, np.bool_))
    grades, _ = evidence.chosen(asked)
    assert grades.mean() >= 0.95 * fresh.strong.mean()
    assert asked.mean() == pytest.approx(ran.json["strong_share"], abs=0.06)


def test_the_gateway_serves_the_cascade(tuned: tuple[Ran, Path]) -> None:
    config = str(tuned[1] / "gateway.toml")
    with openai_chat.start() as upstream:
        environment = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-0123456789"}
        with gateways.start("--config", config, environment=environment) as running:
            messages = [{"role": "user", "content": "Adding it up gives 700.\n#### 700"}]
            answer = running.ask(
                "POST", "/v1/chat/completions", {"model": "cascade", "messages": messages},
                {"Content-Type": "application/json"},
            )  # fmt: skip
            assert answer.status == 200, answer
            assert answer.headers["x-fastroute-evidence"] == "accepted 2/2"
            assert answer.json()["model"] == "small"
        assert sorted(r["model"] for r in upstream.requests()) == ["other", "small"]


def _says(number: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"Adding it up gives {number}.\n#### {number}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"kind": "reply", "body": {"id": "c", "choices": [choice]}}


def test_a_controller_loads_the_cascade(tuned: tuple[Ran, Path]) -> None:
    with openai_chat.start() as small, openai_chat.start() as other, openai_chat.start() as big:
        models = {"small": View(small), "other": View(other), "big": View(big)}
        endpoints = {
            name: Endpoint(view.base_url, "sk-0123456789") for name, view in models.items()
        }
        client = Controller.load(tuned[1], endpoints=endpoints)
        asked: list[dict[str, Any]] = [{"role": "user", "content": "How many eggs are left?"}]
        for numbers, said in (((700, 700, 999), 700), ((700, 800, 999), 999)):
            for view, number in zip(models.values(), numbers, strict=True):
                view.plan(_says(number))
            answer = client.chat.completions.create(model="cascade", messages=asked)
            assert answer.choices[0].message.content.endswith(f"#### {said}")
        client.close()


def test_the_report_speaks_of_the_cascade(tuned: tuple[Ran, Path]) -> None:
    page = (tuned[1] / "report.html").read_text()
    assert "small, other are asked, and strong too where P(accept) of their answers" in page
    assert "prompt router" in page
    assert "cheap answer" in page


def test_answers_that_cannot_be_compared_are_decided_by_the_router() -> None:
    evidence = Evidence(
        signals=np.zeros((4, 1)), grades=np.array([1.0, 1.0, 0.0, 0.0]),
        weak=np.array([0.0, 0.0, 0.5, 0.5]), strong=np.ones(4),
        comparable=np.array([True, True, False, False]),
        cheap_usd=np.full(4, 0.5), strong_usd=np.full(4, 2.0),
    )  # fmt: skip
    router = np.array([True, True, True, False])
    asked = evidence.escalated(np.array([0.9, 0.2, 0.9, 0.1]), 0.5, router)
    assert asked.tolist() == [False, True, True, False]
    grades, usd = evidence.chosen(asked)
    assert grades.tolist() == [1.0, 1.0, 1.0, 0.5]  # the last is the weak model's own answer
    assert usd is not None
    assert usd.tolist() == [0.5, 2.5, 2.5, 0.5]


def test_a_cascade_that_costs_more_than_the_router_is_a_baseline(tmp_path: Path) -> None:
    rows = make_answers(600)
    for row in rows:
        row["costs"] = {"weak": 0.0001, "helper": 0.02, "strong": 0.004}
    found = _result(tmp_path, rows)
    assert found.candidate != "cascade"
    cascade = found.baselines["cascade"].cost_usd_per_1000
    assert cascade is not None
    assert cascade.value > 20.0


@pytest.mark.parametrize(("kind", "target"), [("share", 0.5), ("spend", 3.0)])
def test_a_share_or_a_spend_of_a_cascade_is_promised(
    tmp_path: Path, kind: Any, target: float
) -> None:
    found = _result(tmp_path, make_answers(900, prices=True), Goal(kind, target, 0.95))
    assert (found.candidate, found.verdict) == ("cascade", "use"), found.reasons
    assert found.policy.cost_usd_per_1000 is not None
    measured = found.policy.strong_share if kind == "share" else found.policy.cost_usd_per_1000
    assert 0.5 * target < measured.value < target


def test_the_last_fifth_of_the_time_is_a_final_check(tmp_path: Path) -> None:
    rows = make_answers(1000, prices=True)
    for row in rows[800:]:
        row["scores"] = {"weak": 0, "helper": 0, "strong": 1}
    files = [tmp_path / "weak.csv"]
    flat = [
        {
            "prompt": row["prompt"], "day": f"2026-01-01T{i // 60:02}:{i % 60:02}:00",
            **{name: row["scores"][name] for name in ("weak", "helper", "strong")},
            **{f"answer_{name}": row["answers"][name] for name in ("weak", "helper")},
            **{f"cost_{name}": row["costs"][name] for name in ("weak", "helper", "strong")},
        }
        for i, row in enumerate(rows)
    ]  # fmt: skip
    export = read_export(write_csv(files[0], flat), time_column="day", **_NAMES)
    found = tune_router(export, _QUALITY)
    assert found.candidate == "cascade"
    assert found.final_check is not None
    assert not found.final_check.kept
    assert found.verdict == "do_not_use"


def test_without_answers_there_is_no_cascade_and_that_is_said(tmp_path: Path) -> None:
    rows = [{**row, "answers": {}} for row in make_answers(200)]
    found = _result(tmp_path, rows)
    assert found.cascade is None
    assert any(note.startswith("No cascade: 0% of the prompts have") for note in found.notes)


def test_grades_without_sense_are_not_to_be_used(tmp_path: Path) -> None:
    rows = make_answers(400, prices=True)
    order = np.random.default_rng(0).permutation(400)
    mixed = [{**row, "scores": rows[j]["scores"]} for row, j in zip(rows, order, strict=True)]
    found = save_result(_result(tmp_path, mixed), tmp_path / "router")
    assert found.verdict == "do_not_use"
    names = sorted(path.name for path in (tmp_path / "router").iterdir())
    assert names == ["report.html", "result.json"]
    document = json.loads((tmp_path / "router" / "result.json").read_text())
    assert document["output"] is None
