"""``fastroute train models`` and ``add-model``, from a file to a router that routes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from cli_runner import fastroute as run
from fastroute.artifacts import load_artifact
from fastroute.candidates import Candidate
from fastroute.many_models import CandidateDecider
from fastroute.routers import ModelsRouter, create_router
from fastroute.routers.many_models.examples import beginning

NOUNS = ("rain", "horses", "a river", "stars", "bread", "the sea", "winter", "a train")


def write_grades(file: Path, models: dict[str, tuple[float, float]], per_kind: int = 60) -> Path:
    """Grades of ``models``, by their P(success) on poems and on sums."""
    chance = random.Random(0)
    rows = []
    for i in range(per_kind):
        a, b = chance.choice(NOUNS), chance.choice(NOUNS)
        for kind, prompt in enumerate(
            (
                f"Write a poem of {i} lines about {a} and {b}.",
                f"Compute {i} times {i + 7} plus {3 * i}.",
            )
        ):
            scores = {m: float(chance.random() < p[kind]) for m, p in models.items()}
            rows.append({"prompt": prompt, "dataset": "made", "scores": scores})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    data = write_grades(
        root / "graded.jsonl", {"poet": (0.9, 0.2), "sums": (0.2, 0.9), "both": (0.7, 0.6)}
    )
    ran = run("train", "models", "--data", data, "--output", root / "router")
    assert ran.status == 0, ran.err
    assert "120 prompts" in ran.out
    assert "the models' levels alone" in ran.out
    return root


def test_the_router_knows_what_each_model_is_good_at(folder: Path) -> None:
    router = create_router("models", checkpoint_path=folder / "router")
    assert isinstance(router, ModelsRouter)
    poem, sum_ = router.estimate(
        ["Write a poem about winter.", "Compute 5 times 12 plus 15."]
    ).probability
    assert poem[router.models.index("poet")] > poem[router.models.index("sums")] + 0.3
    assert sum_[router.models.index("sums")] > sum_[router.models.index("poet")] + 0.3
    assert router.provenance.data == ("graded.jsonl",)
    assert router.provenance.trained_on is not None
    assert len(router.provenance.trained_on) == 120
    recorded = load_artifact(folder / "router").config["training"]
    assert recorded["log_loss"] < recorded["level_log_loss"]
    assert str(folder) not in json.dumps(recorded)


def test_grades_of_known_models_are_used_from_any_file(folder: Path, tmp_path: Path) -> None:
    """The new model's rows may lack the known models' scores, which another file has."""
    data = write_grades(tmp_path / "new.jsonl", {"new": (0.9, 0.1)}, per_kind=25)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    known = tmp_path / "known.jsonl"
    scores = [{"poet": i % 2, "sums": i % 2, "both": i % 2} for i in range(len(rows))]
    known.write_text("".join(
        json.dumps({"prompt": row["prompt"], "scores": said}) + "\n"
        for row, said in zip(rows, scores, strict=True)
    ))  # fmt: skip
    one = tmp_path / "one.jsonl"
    one.write_text("".join(
        json.dumps({"prompt": row["prompt"], "scores": {**row["scores"], **said}}) + "\n"
        for row, said in zip(rows, scores, strict=True)
    ))  # fmt: skip
    found = []
    for name, files in (("alone", [data]), ("two", [known, data]), ("one", [one])):
        ran = run(
            "train", "add-model", "--router", folder / "router", "--model", "new", "--data",
            *files, "--output", tmp_path / name,
        )  # fmt: skip
        assert ran.status == 0, ran.err
        assert "50 prompts in 5 folds" in ran.out
        found.append(ModelsRouter.load(tmp_path / name).estimate(["Write a poem."]).probability)
    assert found[1] == pytest.approx(found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_a_model_is_added_from_50_prompts_and_the_others_stay(folder: Path, tmp_path: Path) -> None:
    data = write_grades(tmp_path / "new.jsonl", {"new": (0.9, 0.1)}, per_kind=25)
    ran = run(
        "train", "add-model", "--router", folder / "router", "--model", "new", "--data", data,
        "--output", tmp_path / "larger",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    old, new = ModelsRouter.load(folder / "router"), ModelsRouter.load(tmp_path / "larger")
    assert new.models == (*old.models, "new")
    prompts = ["Write a poem about winter.", "Compute 5 times 12 plus 15."]
    assert new.estimate(prompts).probability[:, :3] == pytest.approx(
        old.estimate(prompts).probability, abs=1e-6
    )
    poem, sum_ = new.estimate(prompts).probability[:, 3]
    assert poem > sum_ + 0.3
    assert new.provenance.trained_on is not None
    assert len(new.provenance.trained_on) > 130  # the sums are the same
    assert load_artifact(tmp_path / "larger").config["training"]["added"][0]["model"] == "new"


def test_a_router_keeps_of_the_prompts_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    assert ModelsRouter.load(folder / "router").examples is None
    assert not any("lines about" in f.read_text("utf-8", "replace") for f in _files(folder))
    prompt = "Write a poem of 7 lines about rain and horses."
    for kept in ("ids", "beginnings", "texts"):
        ran = run(
            "train", "models", "--data", folder / "graded.jsonl", "--output", tmp_path / kept,
            "--keep-prompts", kept,
        )  # fmt: skip
        assert ran.status == 0, ran.err
        loaded = ModelsRouter.load(tmp_path / kept)
        near = loaded.nearest_graded(prompt, 3)
        assert len(near) == 3
        assert 1.0 >= near[0].similarity >= near[1].similarity >= near[2].similarity > 0.5
        assert set(near[0].scores) == {"poet", "sums", "both"}
        assert set(near[0].scores.values()) <= {0.0, 1.0}
        if kept == "ids":
            assert all(one.prompt.startswith("graded.jsonl, line ") for one in near)
            assert not any(
                "lines about" in f.read_text("utf-8", "replace") for f in _files(tmp_path)
            )
        else:
            assert all("lines about" in one.prompt for one in near)
    decision = CandidateDecider([Candidate("poet"), Candidate("sums")], router=loaded).decide(
        prompt, explain=True
    )
    assert [one.prompt for one in decision.nearest[:3]] == [one.prompt for one in near]
    assert len(decision.nearest) == 5
    assert CandidateDecider([Candidate("poet")], router=loaded).decide(prompt).nearest == ()
    data = write_grades(tmp_path / "new.jsonl", {"new": (0.9, 0.1)}, per_kind=25)
    ran = run(
        "train", "add-model", "--router", tmp_path / "texts", "--model", "new", "--data", data,
        "--output", tmp_path / "larger",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert ModelsRouter.load(tmp_path / "larger").nearest_graded(prompt, 3) == near


def test_the_beginning_of_a_prompt_is_short_and_on_one_line() -> None:
    assert beginning("Write\n a  poem.") == "Write a poem."
    long = beginning("word " * 1000)
    assert len(long) <= 80
    assert long.endswith("…")


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".jsonl"]


def test_what_can_not_be_learnt_is_said(folder: Path, tmp_path: Path) -> None:
    few = write_grades(tmp_path / "few.jsonl", {"a": (1, 0), "b": (0, 1)}, per_kind=20)
    ran = run("train", "models", "--data", few, "--output", tmp_path / "x")
    assert ran.status == 2
    assert "40 graded prompts; at least 50" in ran.err
    one = write_grades(tmp_path / "one.jsonl", {"a": (1, 0)})
    ran = run("train", "models", "--data", one, "--output", tmp_path / "x")
    assert ran.status == 2
    assert "grades of 'a' only" in ran.err
    ran = run(
        "train", "add-model", "--router", folder / "router", "--model", "z", "--data", one,
        "--output", tmp_path / "x",
    )  # fmt: skip
    assert ran.status == 2
    assert "no grade of model 'z'" in ran.err
    ran = run(
        "train", "add-model", "--router", folder / "router", "--model", "a", "--data", one,
        "--output", tmp_path / "x", "--held-out", "0.3",
    )  # fmt: skip
    assert ran.status == 2
    assert "5 folds" in ran.err


def test_grades_without_any_relation_to_the_prompt_are_a_warning(tmp_path: Path) -> None:
    noise = write_grades(tmp_path / "noise.jsonl", {"a": (0.5, 0.5), "b": (0.6, 0.6)})
    ran = run("train", "models", "--data", noise, "--output", tmp_path / "router")
    assert ran.status == 3
    assert "does not beat the baselines" in ran.err
