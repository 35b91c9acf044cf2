"""``fastroute tune``: from an export to a router that serves, or to the advice not to use one."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import Ran, fastroute, refused
from fakes import browser, openai_chat
from fakes import gateway as gateways
from fakes.browser import look, needs_browser
from fastroute import Controller
from fastroute.artifacts import prompt_hash
from fastroute.evaluation import Estimate
from fastroute.learning import Goal, TuneResult, read_export, tune_router
from fastroute.learning.tune.verdict import decided
from fastroute.routers import create_router
from graded_traffic import make_traffic, shuffled, write_csv

_ARGUMENTS = (
    *("--weak", "score_weak", "--strong", "score_strong"),
    *("--price", "score_weak=0.15/0.60", "score_strong=2.5/10"),
)
_QUALITY = Goal("quality", 0.95, 0.95)


def _tune(folder: Path, rows: list[dict[str, Any]], *arguments: str) -> tuple[Ran, Path]:
    output = folder / "router"
    file = write_csv(folder / "export.csv", rows)
    return fastroute("tune", file, *_ARGUMENTS, "--output", output, *arguments), output


def _result(folder: Path, rows: list[dict[str, Any]], goal: Goal = _QUALITY) -> TuneResult:
    file = write_csv(folder / "export.csv", rows)
    return tune_router(read_export(file, weak="score_weak", strong="score_strong"), goal)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    folder = tmp_path_factory.mktemp("tuned")
    return _tune(
        folder, make_traffic(1200), "--strong-model", "big", "--weak-model", "small",
        "--requests-per-month", "100000", "--json",
    )  # fmt: skip


def test_a_router_that_saves_is_to_be_used(tuned: tuple[Ran, Path]) -> None:
    ran, output = tuned
    assert ran.status == 0, ran.err
    found = ran.json
    assert (found["verdict"], found["recommendation"]) == ("use", "router")
    assert found["quality_lower_bound"] == 0.95
    assert found["quality"] > 0.95
    assert 0.4 < found["strong_share"] < 0.75
    assert found["information_p_value"] < 0.01
    assert found["saved_usd_per_1000"] > 0
    assert found["saved_usd_per_month"] == pytest.approx(100 * found["saved_usd_per_1000"])
    low, high = found["intervals"]["strong_share"]
    assert low < found["strong_share"] < high
    random_share = found["baselines"]["random"]
    assert random_share["strong_share"] == pytest.approx(found["strong_share"])
    assert random_share["quality"] < found["quality"] - 0.05
    assert found["baselines"]["always_strong"]["saved_usd_per_1000"] == 0.0
    assert json.loads((output / "result.json").read_text()) == found


def test_what_was_understood_is_said_before(tuned: tuple[Ran, Path]) -> None:
    ran, _ = tuned
    for said in ("grades: 0 to 1", "weak model: 'score_weak', 1,200 grades", "ASSUMED to be 300"):
        assert said in ran.err


def test_the_schema_of_the_result_is_stable(tuned: tuple[Ran, Path]) -> None:
    found = tuned[0].json
    kinds = {
        "schema": int, "verdict": str, "recommendation": str, "reasons": list, "advice": list,
        "router": str, "helpers": list, "output": str, "operating_point": float, "goal": dict,
        "strong_model": str, "weak_model": str, "strong_share": float, "quality": float,
        "cost_usd_per_1000": float, "saved_usd_per_1000": float, "cost_usd_per_month": float,
        "saved_usd_per_month": float, "intervals": dict, "quality_lower_bound": float,
        "baselines": dict, "apgr": dict, "information_p_value": float, "n": int, "counts": dict,
        "labels_needed": int, "final_check": type(None), "notes": list, "understood": list,
    }  # fmt: skip
    assert {key: type(value) for key, value in found.items()} == kinds
    assert found["schema"] == 1
    assert set(found["baselines"]) == {
        "always_strong", "always_weak", "random", "default", "length",
    }  # fmt: skip


def test_the_promise_holds_on_fresh_traffic(tuned: tuple[Ran, Path]) -> None:
    ran, output = tuned
    router = create_router("mf", checkpoint_path=output)
    fresh = make_traffic(4000, seed=99)
    rates = router.win_rates([row["prompt"] for row in fresh])
    strong = rates >= ran.json["operating_point"]
    kept = sum(
        row["score_strong" if s else "score_weak"] for row, s in zip(fresh, strong, strict=True)
    )
    assert kept / sum(row["score_strong"] for row in fresh) >= 0.95
    assert strong.mean() == pytest.approx(ran.json["strong_share"], abs=0.05)


def test_the_report_has_the_verdict_the_curve_and_prompts(tuned: tuple[Ran, Path]) -> None:
    page = (tuned[1] / "report.html").read_text()
    assert '<h1 class="use">Use this router: it sends ' in page
    assert page.count("<svg") == 2
    assert page.count(">operating point<") == 1  # the mark's label on the curve
    assert "Worst choices" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (380, True)])
def test_the_report_in_a_browser(tuned: tuple[Ran, Path], width: int, *, dark: bool) -> None:
    async def run() -> None:
        url = f"file://{tuned[1] / 'report.html'}"
        async with browser.open_tab(url, width=width, dark=dark) as tab:
            assert await tab.js("document.documentElement.scrollWidth <= innerWidth")
            colour = await tab.js("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, colour[4:-1].split(","))) < 3 * 128) == dark
            for name in ("h1", "table", "svg", "figcaption", "q"):
                box = f"document.querySelector('{name}').getBoundingClientRect()"
                assert await tab.js(f"{box}.width > 100 && {box}.height > 10"), name
            await look(tab, f"tune-{width}-{'dark' if dark else 'light'}")
            assert tab.errors == []

    asyncio.run(run())


def test_the_gateway_serves_what_was_written(tuned: tuple[Ran, Path]) -> None:
    _, output = tuned
    hard = "theorem integral matrix converges symmetric"
    easy = "birthday puppy garden funny warm"
    with openai_chat.start() as upstream:
        environment = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-0123456789"}
        config = str(output / "gateway.toml")
        with gateways.start("--config", config, environment=environment) as running:
            for prompt, model in ((hard, "big"), (easy, "small")):
                messages = [{"role": "user", "content": prompt}]
                answer = running.ask(
                    "POST", "/v1/chat/completions", {"model": "fastroute", "messages": messages},
                    {"Content-Type": "application/json"},
                )  # fmt: skip
                assert answer.status == 200, answer
                assert answer.json()["model"] == model
        assert [r["model"] for r in upstream.requests()] == ["big", "small"]


def test_a_controller_loads_what_was_written(tuned: tuple[Ran, Path]) -> None:
    ran, output = tuned
    with openai_chat.start() as upstream:
        client = Controller.load(output, api_base=upstream.base_url, api_key="sk-0123456789")
        assert (client.model_pair.strong, client.model_pair.weak) == ("big", "small")
        assert client.decide("a prompt").threshold == ran.json["operating_point"]
        answer = client.chat.completions.create(
            router="mf",
            messages=[{"role": "user", "content": "birthday puppy garden funny warm"}],
        )
        assert answer.model == "small"
        client.close()


def test_the_artifact_records_how_it_was_made(tuned: tuple[Ran, Path]) -> None:
    ran, output = tuned
    known = create_router("mf", checkpoint_path=output).provenance
    assert known.data == ("export.csv",)
    assert known.operating_point is not None
    assert "target quality 0.95" in str(known.operating_point.chosen_by)
    assert known.trained_on is not None
    learnt = [prompt_hash(row["prompt"]) for row in make_traffic(1200)]
    assert np.isin(learnt, known.trained_on).sum() == ran.json["counts"]["learnt_on"]
    assert str(output.parent) not in (output / "artifact.json").read_text()


def test_shuffled_grades_are_not_to_be_used_and_no_router_is_written(tmp_path: Path) -> None:
    ran, output = _tune(tmp_path, shuffled(make_traffic(600)))
    assert ran.status == 3
    assert ran.out.startswith("Do not use this router: send every request to score_strong.")
    assert "What would change this:" in ran.out
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "result.json"]
    found = json.loads((output / "result.json").read_text())
    assert (found["verdict"], found["output"]) == ("do_not_use", None)


def test_a_report_of_few_prompts_has_no_diagram_of_calibration(tmp_path: Path) -> None:
    ran, output = _tune(tmp_path, make_traffic(90))
    assert ran.status in (0, 3), ran.err
    assert (output / "report.html").read_text().count("<svg") == 1


def test_a_router_that_lost_is_written_where_that_is_asked_for(tmp_path: Path) -> None:
    ran, output = _tune(tmp_path, shuffled(make_traffic(300)), "--keep")
    assert ran.status == 3
    assert (output / "gateway.toml").is_file()
    assert create_router("mf", checkpoint_path=output).provenance.operating_point is not None


def test_an_earlier_router_stays_where_the_new_one_lost(tmp_path: Path) -> None:
    _, output = _tune(tmp_path, make_traffic(600))
    before = (output / "artifact.json").read_bytes()
    ran, _ = _tune(tmp_path, shuffled(make_traffic(300)), "--overwrite")
    assert ran.status == 3
    assert "the router that was there is unchanged" in ran.out
    assert (output / "artifact.json").read_bytes() == before
    assert json.loads((output / "result.json").read_text())["verdict"] == "do_not_use"


def test_a_threshold_that_sends_everything_to_the_strong_model_is_no_success(
    tmp_path: Path,
) -> None:
    found = _result(tmp_path, make_traffic(400))
    everything = replace(found.policy, strong_share=Estimate(1.0, 1.0, 1.0))
    again = decided(replace(found, policy=everything), terms=np.array([0.1, 0.2]))
    assert (again.verdict, again.recommendation) == ("do_not_use", "always_strong")
    assert any("changes nothing" in reason for reason in again.reasons)


def test_shuffled_grades_are_hardly_ever_to_be_used(tmp_path: Path) -> None:
    used = [
        _result(tmp_path, shuffled(make_traffic(200, seed=seed), seed=seed)).verdict == "use"
        for seed in range(20)
    ]
    assert sum(used) <= 2


def test_a_weak_model_that_is_as_good_needs_no_router(tmp_path: Path) -> None:
    found = _result(tmp_path, make_traffic(1500, hard_gap=-0.02, easy_gap=-0.02))
    assert (found.verdict, found.recommendation) == ("do_not_use", "always_weak")


def test_too_few_rows_say_how_many_would_do(tmp_path: Path) -> None:
    found = _result(tmp_path, make_traffic(90))
    assert (found.verdict, found.certified) == ("do_not_use", False)
    assert found.labels_needed is not None
    assert found.labels_needed > 90
    assert any(f"About {found.labels_needed:,} graded prompts" in line for line in found.advice)
    enough = _result(tmp_path, make_traffic(2 * found.labels_needed))
    assert enough.certified


def test_fewer_than_the_least_are_refused(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "export.csv", make_traffic(30))
    ran = fastroute("tune", file, *_ARGUMENTS, "--output", tmp_path / "router")
    assert (ran.status, ran.out) == (2, "")
    said = ran.err.splitlines()[-1]
    assert "30 distinct prompts have grades of both models, where 40" in said
    assert not (tmp_path / "router").exists()


@pytest.mark.parametrize(("goal", "limit"), [("share", 0.4), ("spend", 1.5)])
def test_a_share_or_a_spend_is_promised(tmp_path: Path, goal: str, limit: float) -> None:
    ran, _ = _tune(tmp_path, make_traffic(800), f"--target-{goal}", str(limit), "--json")
    found = ran.json
    assert (ran.status, found["verdict"]) == (0, "use"), found["reasons"]
    measured = found["strong_share" if goal == "share" else "cost_usd_per_1000"]
    assert 0.5 * limit < measured < limit
    assert found["quality_lower_bound"] is None


def test_a_dry_run_stops_after_what_was_understood(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "export.csv", make_traffic(50))
    ran = fastroute("tune", file, *_ARGUMENTS, "--dry-run")
    assert ran.status == 0
    assert "grades: 0 to 1, told from the data" in ran.out
    assert list(tmp_path.iterdir()) == [file]


def test_an_output_that_holds_something_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "mine.txt").write_text("keep")
    said = refused("tune", tmp_path / "missing.csv", "--output", tmp_path / "router")
    assert "not empty" in said


def test_without_output_nothing_is_done(tmp_path: Path) -> None:
    assert "--output" in refused("tune", write_csv(tmp_path / "e.csv", make_traffic(50)))


def _timed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "timestamp": 1_767_225_600 + 60 * i} for i, row in enumerate(rows)]


def test_the_last_fifth_of_the_time_is_a_final_check(tmp_path: Path) -> None:
    rows = _timed(make_traffic(1200))
    random.Random(0).shuffle(rows)
    found = _result(tmp_path, rows)
    assert found.verdict == "use"
    assert found.final_check is not None
    assert found.final_check.kept
    assert found.final_check.prompts == pytest.approx(240, abs=5)
    assert found.final_check.drift_p_value > 0.01
    tested = set(found.test.prompts)
    newest = {row["prompt"] for row in rows if row["id"] >= 965}
    assert not tested & newest


def test_traffic_that_has_changed_is_not_to_be_used(tmp_path: Path) -> None:
    before, after = make_traffic(1000), make_traffic(250, seed=1, easy_gap=0.6)
    changed = [{**row, "id": 1000 + row["id"]} for row in after]
    found = _result(tmp_path, _timed([*before, *changed]))
    assert found.final_check is not None
    assert not found.final_check.kept
    assert found.verdict == "do_not_use"
    assert any("last fifth" in reason for reason in found.reasons)


def test_other_prompts_than_before_are_drift(tmp_path: Path) -> None:
    hard = [row for row in make_traffic(600, seed=5) if "theorem" in row["prompt"]][:150]
    found = _result(tmp_path, _timed([*make_traffic(600), *hard]))
    assert found.final_check is not None
    assert found.final_check.drift_p_value < 0.001


def test_copies_count_once(tmp_path: Path) -> None:
    rows = make_traffic(300)
    once, often = _result(tmp_path, rows), _result(tmp_path, [*rows * 5])
    assert often.counts["distinct"] == 300
    assert often.counts["tested_on"] == once.counts["tested_on"] == 180
    assert any("near-duplicates" in note for note in often.notes)


def test_few_prompts_of_the_bundled_training_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_traffic(200)
    _pretend_trained_on(monkeypatch, [row["prompt"] for row in rows[:20]])
    for row in rows[:10]:
        row["prompt"] = f"Question: {row['prompt']}"
    found = _result(tmp_path, rows)
    assert found.counts["left_out_known"] == 20
    assert "default" in found.baselines


def test_many_prompts_of_the_bundled_training_leave_the_bundled_router_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_traffic(200)
    _pretend_trained_on(monkeypatch, [row["prompt"] for row in rows[:100]])
    found = _result(tmp_path, rows)
    assert found.counts["left_out_known"] == 0
    assert "default" not in found.baselines
    assert "default" not in found.apgr
    assert any("trained on 50% of the prompts" in note for note in found.notes)


def _pretend_trained_on(monkeypatch: pytest.MonkeyPatch, prompts: list[str]) -> None:
    from fastroute.routers.matrix_factorization import MatrixFactorizationRouter

    default = MatrixFactorizationRouter.load_default()
    hashes = np.sort(np.array([prompt_hash(p) for p in prompts], dtype=np.uint64))
    known = default.with_provenance(replace(default.provenance, trained_on=hashes))
    monkeypatch.setattr(MatrixFactorizationRouter, "load_default", lambda: known)


def test_equal_input_gives_equal_output_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = make_traffic(300)
    first, again = _result(tmp_path, rows), _result(tmp_path, rows[::-1])
    assert sorted(first.test.prompts) == sorted(again.test.prompts)
    same = _result(tmp_path, rows)
    assert same.to_dict() == first.to_dict()


def test_languages_that_the_embedder_does_not_know_are_refused(tmp_path: Path) -> None:
    rows = [{**row, "prompt": chr(0x13000 + i) * 20} for i, row in enumerate(make_traffic(60))]
    file = write_csv(tmp_path / "export.csv", rows)
    ran = fastroute("tune", file, *_ARGUMENTS, "--output", tmp_path / "router")
    assert (ran.status, ran.out) == (2, "")
    assert "token that the embedder knows" in ran.err.splitlines()[-1]
