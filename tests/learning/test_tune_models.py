"""``fastroute tune`` with more than two models: a choice among them, with a guarantee."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import Ran, fastroute, refused
from fakes import gateway as gateways
from fakes import openai_chat
from fastroute import Controller
from fastroute.candidates import BestValue, read_candidates
from fastroute.errors import InvalidInputError
from fastroute.learning import Goal, ModelsResult, Price, read_export, save_result, tune_models
from fastroute.learning.many_models.run import choose
from graded_traffic import make_many, shuffled, write_csv

_PRICES = {"small": Price(0.1, 0.4), "middle": Price(0.5, 2.0), "large": Price(3.0, 12.0)}
_ARGUMENTS = ("--price", *(f"{name}={p[0]}/{p[1]}" for name, p in _PRICES.items()))
_QUALITY = Goal("quality", 0.95, 0.95)


def _result(
    folder: Path, rows: list[dict[str, Any]], goal: Goal = _QUALITY, **options: Any
) -> ModelsResult:
    export = read_export(write_csv(folder / "export.csv", rows), prices=_PRICES)
    return tune_models(export, goal, prices=_PRICES, **options)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    folder = tmp_path_factory.mktemp("tuned")
    file = write_csv(folder / "export.csv", make_many(1500))
    output = folder / "router"
    names = ("--model-names", "small=tiny-1", "large=huge-1")
    ran = fastroute(
        "tune", file, *_ARGUMENTS, *names, "--output", output, "--requests-per-month", "100000",
        "--json",
    )  # fmt: skip
    return ran, output


def test_a_choice_that_saves_is_to_be_used(tuned: tuple[Ran, Path]) -> None:
    ran, output = tuned
    assert ran.status == 0, ran.err
    found = ran.json
    assert (found["verdict"], found["recommendation"]) == ("use", "router")
    assert found["recommended_model"] is None
    assert (found["best_model"], found["cheapest_model"]) == ("huge-1", "tiny-1")
    assert found["quality_lower_bound"] == 0.95
    assert found["quality"] > 0.95
    assert found["information_p_value"] < 0.01
    assert found["policy"] == f"best_value={found['operating_point']:g}"
    shares = {name: model["share"] for name, model in found["models"].items()}
    assert list(shares) == ["tiny-1", "middle", "huge-1"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["huge-1"] == found["strong_share"]
    assert shares["tiny-1"] > 0.3
    best = found["baselines"]["best_model"]
    assert best["cost_usd_per_1000"] - found["cost_usd_per_1000"] == pytest.approx(
        found["saved_usd_per_1000"]
    )
    assert found["saved_usd_per_month"] == pytest.approx(100 * found["saved_usd_per_1000"])
    for rival in ("random", "mixture"):
        assert found["baselines"][rival]["quality"] < found["quality"]
    assert json.loads((output / "result.json").read_text()) == found


def test_the_schema_of_the_result_is_stable(tuned: tuple[Ran, Path]) -> None:
    found = tuned[0].json
    kinds = {
        "schema": int, "verdict": str, "recommendation": str, "recommended_model": type(None),
        "reasons": list, "advice": list, "router": str, "output": str, "operating_point": float,
        "policy": str, "goal": dict, "best_model": str, "cheapest_model": str, "models": dict,
        "strong_share": float, "quality": float, "cost_usd_per_1000": float,
        "saved_usd_per_1000": float, "cost_usd_per_month": float, "saved_usd_per_month": float,
        "intervals": dict, "quality_lower_bound": float, "baselines": dict, "held_out": dict,
        "information_p_value": float, "n": int, "counts": dict, "labels_needed": int,
        "final_check": type(None), "notes": list, "understood": list,
    }  # fmt: skip
    assert {key: type(value) for key, value in found.items()} == kinds
    assert set(found["held_out"]) == {"models", "knn", "clusters", "oracle"}
    assert found["held_out"]["oracle"]["aiq"] > found["held_out"]["models"]["aiq"]


def test_a_controller_chooses_as_was_certified(tuned: tuple[Ran, Path]) -> None:
    ran, output = tuned
    fresh = make_many(3000, seed=9)
    with openai_chat.start() as upstream:
        client = Controller.load(output, api_base=upstream.base_url, api_key="sk-0123456789")
        assert client.candidates is not None
        decided = [client.candidates.decide(row["prompt"]) for row in fresh]
        answer = client.chat.completions.create(
            model="fastroute", messages=[{"role": "user", "content": "birthday puppy funny warm"}]
        )
        assert answer.model == "tiny-1"
        client.close()
    assert {decision.policy for decision in decided} == {ran.json["policy"]}
    of_name = {"tiny-1": "small", "middle": "middle", "huge-1": "large"}
    kept = sum(row[of_name[d.model]] for row, d in zip(fresh, decided, strict=True))
    assert kept / sum(row["large"] for row in fresh) >= 0.95
    share = np.mean([decision.model == "huge-1" for decision in decided])
    assert share == pytest.approx(ran.json["strong_share"], abs=0.05)


def test_the_gateway_serves_what_was_written(tuned: tuple[Ran, Path]) -> None:
    with openai_chat.start() as upstream:
        environment = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-0123456789"}
        config = str(tuned[1] / "gateway.toml")
        with gateways.start("--config", config, environment=environment) as running:
            messages = [{"role": "user", "content": "birthday puppy garden funny warm"}]
            answer = running.ask(
                "POST", "/v1/chat/completions", {"model": "fastroute", "messages": messages},
                {"Content-Type": "application/json"},
            )  # fmt: skip
            assert answer.status == 200, answer
            assert answer.json()["model"] == "tiny-1"
        assert [r["model"] for r in upstream.requests()] == ["tiny-1"]


def test_candidates_have_the_prices(tuned: tuple[Ran, Path]) -> None:
    found = read_candidates(tuned[1] / "candidates.toml")
    assert [(c.name, c.input_usd_per_mtok, c.output_usd_per_mtok) for c in found] == [
        ("tiny-1", 0.1, 0.4), ("middle", 0.5, 2.0), ("huge-1", 3.0, 12.0),
    ]  # fmt: skip
    assert {candidate.answer_tokens for candidate in found} == {300.0}


def test_the_report_has_the_verdict_the_figure_and_prompts(tuned: tuple[Ran, Path]) -> None:
    page = (tuned[1] / "report.html").read_text()
    assert '<h1 class="use">Use this router: next to huge-1 alone' in page
    assert page.count("<svg") == 1
    assert "Worst choices" in page


def test_the_test_rows_are_chosen_for_as_a_decider_does(tmp_path: Path) -> None:
    found = save_result(_result(tmp_path, make_many(600)), tmp_path / "router", keep=True)
    client = Controller.load(tmp_path / "router", api_key="sk-0123456789")
    assert client.candidates is not None
    names = [candidate.name for candidate in found.candidates]
    decided = [client.candidates.decide(prompt).model for prompt in found.test.prompts]
    assert decided == [names[j] for j in found.chosen.tolist()]
    client.close()


def test_a_choice_is_that_of_best_value() -> None:
    rng = np.random.default_rng(0)
    quality, usd = rng.integers(0, 4, (200, 5)) / 4.0, rng.integers(0, 3, (200, 5)) / 4.0
    for price in (0.0, 0.5, 1.0, 1e6):
        chosen = choose(quality, usd, price)
        policy = BestValue(price)
        for i in range(len(quality)):
            j = policy.choose(quality[i], usd[i])
            value = quality[i] - price * usd[i]
            assert value[chosen[i]] == value[j]
            assert usd[i, chosen[i]] == usd[i, j]


def test_shuffled_grades_are_not_to_be_used_and_no_router_is_written(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "export.csv", shuffled(make_many(600)))
    output = tmp_path / "router"
    ran = fastroute("tune", file, *_ARGUMENTS, "--output", output)
    assert ran.status == 3, ran.err
    assert ran.out.startswith("Do not use this router: send every request to large.")
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "result.json"]


def test_shuffled_grades_are_hardly_ever_to_be_used(tmp_path: Path) -> None:
    used = [
        _result(tmp_path, shuffled(make_many(250, seed=seed), seed=seed), seed=seed).verdict
        == "use"
        for seed in range(10)
    ]
    assert sum(used) <= 1


def test_a_model_that_keeps_the_promise_alone_needs_no_router(tmp_path: Path) -> None:
    rows = [{**row, "small": 0} for row in make_many(1500, middle_gap=0.0)]
    found = _result(tmp_path, rows)
    assert (found.verdict, found.recommended_model) == ("do_not_use", "middle")
    assert "middle alone keeps the promise, for every prompt." in found.reasons


def test_a_spend_is_promised(tmp_path: Path) -> None:
    found = _result(tmp_path, make_many(1200), Goal("spend", 1.5, 0.95))
    assert found.verdict == "use", found.reasons
    assert found.policy.cost_usd_per_1000 is not None
    assert 0.6 < found.policy.cost_usd_per_1000.value < 1.5
    assert found.policy.quality.value > found.baselines["mixture"].quality.value
    assert found.quality_lower_bound is None


def test_the_last_fifth_of_the_time_is_a_final_check(tmp_path: Path) -> None:
    rows = [*make_many(1000), *make_many(250, seed=3, middle_gap=0.9)]
    for row in rows[1000:]:
        row["small"] = 0
    timed = [{**row, "timestamp": 1_767_225_600 + 60 * i} for i, row in enumerate(rows)]
    found = _result(tmp_path, timed)
    assert found.final_check is not None
    assert found.final_check.prompts == pytest.approx(250, abs=5)
    assert not found.final_check.kept
    assert found.verdict == "do_not_use"


def test_costs_in_the_export_stand_for_prices(tmp_path: Path) -> None:
    rows = [
        {**row, "cost_small": 0.001, "cost_middle": 0.002, "cost_large": 0.02}
        for row in make_many(400)
    ]
    export = read_export(write_csv(tmp_path / "export.csv", rows))
    found = tune_models(export, _QUALITY)
    assert found.baselines["best_model"].cost_usd_per_1000 is not None
    assert found.baselines["best_model"].cost_usd_per_1000.value == pytest.approx(20.0)
    assert [c.dollars(1000) for c in found.candidates] == pytest.approx([0.001, 0.002, 0.02])


def test_missing_grades_are_learnt_from_but_not_judged_by(tmp_path: Path) -> None:
    rows = make_many(400)
    for row in rows[:100]:
        row["middle"] = ""
    found = _result(tmp_path, rows)
    assert found.counts["graded"] == 300
    assert found.counts["learnt_on"] > 0.4 * 300
    assert not np.isnan(found.test.grades).any()


def test_what_cannot_be_tuned_is_refused(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "export.csv", make_many(200))
    with pytest.raises(InvalidInputError, match="'small' has no price"):
        tune_models(read_export(file), _QUALITY)
    export = read_export(file, prices=_PRICES)
    with pytest.raises(InvalidInputError, match="share needs a pair"):
        tune_models(export, Goal("share", 0.5, 0.95))
    with pytest.raises(InvalidInputError, match="same name"):
        tune_models(export, _QUALITY, names={"small": "large"})
    with pytest.raises(InvalidInputError, match="'tiny' is not one of the models, small, middle"):
        tune_models(export, _QUALITY, names={"tiny": "large"})
    with pytest.raises(InvalidInputError, match="at least 50"):
        tune_models(export.select(np.arange(80)), _QUALITY)
    assert "'tiny' must be NAME=MODEL" in refused(
        "tune", file, *_ARGUMENTS, "--model-names", "tiny", "--output", tmp_path / "router"
    )


def test_equal_input_gives_equal_output(tmp_path: Path) -> None:
    rows = make_many(300)
    assert _result(tmp_path, rows).to_dict() == _result(tmp_path, rows).to_dict()
