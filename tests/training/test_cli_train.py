"""``fastroute train``: from files to a router that the other commands load."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.artifacts import load_artifact, save_artifact
from fastroute.embedders import StaticEmbedder
from fastroute.embedders.static import DEFAULT_FOLDER
from fastroute.errors import InvalidTypeError
from fastroute.provenance import Provenance
from fastroute.routers import MatrixFactorizationRouter, create_router
from fastroute.training.heads import save_mf

MODELS = ("tiny", "small", "large")
TOPICS = {"prove": (0.1, 0.3, 0.9), "greet": (0.9, 0.9, 0.9)}
WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "engine",
    "paper",
    "number",
    "music",
    "garden",
    "winter",
    "signal",
    "copper",
]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _graded(tmp_path_factory.mktemp("data") / "graded.jsonl", 400)


def _graded(path: Path, count: int) -> Path:
    """Prompts on two topics, graded for three models: hard ones need the large model."""
    rng = np.random.default_rng(7)
    with path.open("w") as file:
        for i in range(count):
            topic = ("prove", "greet")[i % 2]
            words = " ".join(rng.choice(WORDS, size=7))
            scores = {m: int(rng.random() < p) for m, p in zip(MODELS, TOPICS[topic], strict=True)}
            row = {"prompt": f"{topic} the {words}", "dataset": f"d{i % 3}", "scores": scores}
            file.write(json.dumps(row) + "\n")
    return path


def test_mf_from_data_to_decisions(tmp_path: Path, graded: Path) -> None:
    out, report = tmp_path / "mf", tmp_path / "report.json"
    held = tmp_path / "held.txt"
    held.write_text(json.loads(graded.read_text().splitlines()[0])["prompt"].upper() + "\n")
    arguments = (
        "train", "mf", "--data", graded, "--held-out", "0.3", "--centre-by", "dataset",
        "--exclude-evaluation", held, "--ridge", "3", "--compare-ties",
    )  # fmt: skip
    ran = fastroute(*arguments, "--output", out, "--data-report", report)
    assert ran.status == 0, ran.err
    assert ran.err == ""
    assert "1 prompts of an evaluation set left out" in ran.out
    assert "| held out | ties: use | strengths alone | ties: drop |" in ran.out
    assert "wrote" in ran.out
    assert f"fastroute evaluate --router mf,checkpoint_path={out}" in ran.out
    assert json.loads(report.read_text())["excluded_exact"] == 1
    artifact = load_artifact(out, kind="mf")
    training = artifact.config["training"]
    assert training["settings"]["centre_by"] == "dataset"
    assert set(training["figures"]) == {"ties: use", "strengths alone", "ties: drop"}
    assert training["figures"]["ties: use"]["accuracy"] > 0.5
    assert b"An mf router of 3 models" in artifact.files["card.md"]
    assert sorted(p.name for p in out.iterdir()) == [
        "arrays.safetensors", "artifact.json", "card.md"
    ]  # fmt: skip
    _check_operating_point(artifact.provenance, ran.out)
    # Any pair can be asked for, by the commands that route and evaluate.
    for strong, weak in (("large", "tiny"), ("large", "small")):
        router = create_router("mf", checkpoint_path=out, strong_model=strong, weak_model=weak)
        hard, easy = router.win_rates(["prove the river engine now", "greet the river engine now"])
        assert hard > easy + 0.1
    routed = fastroute(
        "route", "--router", f"mf={out}", "--strong-model", "large",
        "--weak-model", "small", "--strong-share", "0.5", "--json", "prove the river engine",
    )  # fmt: skip
    assert routed.json["win_rate"] > 0.5
    # Equal input gives equal bytes.
    again = fastroute(*arguments, "--output", tmp_path / "again")
    assert again.status == 0
    assert load_artifact(tmp_path / "again").checksum == artifact.checksum


def test_a_router_that_loses_is_not_called_a_success(tmp_path: Path, graded: Path) -> None:
    noise = tmp_path / "noise.jsonl"
    rng = np.random.default_rng(4)  # a draw in which chance does not favour the router
    rows = [json.loads(line) for line in graded.read_text().splitlines()]
    with noise.open("w") as file:
        for row in rows:  # what is right has nothing to do with the prompt
            scores = {
                m: int(rng.random() < p) for m, p in zip(MODELS, (0.3, 0.5, 0.7), strict=True)
            }
            file.write(json.dumps(row | {"scores": scores}) + "\n")
    ran = fastroute(
        "train", "mf", "--data", noise, "--output", tmp_path / "mf", "--held-out", "0.4"
    )
    assert ran.status == 3
    assert "wrote" in ran.out
    warning = ran.err.splitlines()[-1]
    assert "does not beat the baselines: its APGR" in warning
    assert "that of random routing" in warning or "the length of the prompt" in warning
    assert b"**Warning:**" in load_artifact(tmp_path / "mf", kind="mf").files["card.md"]


def _check_operating_point(known: Provenance, said: str) -> None:
    """That of half of the held-out prompts, and that the command tells it."""
    assert known.calibration is not None
    assert known.calibrated_on is not None
    assert re.fullmatch(r"\d+ held-out prompts", known.calibrated_on)
    point = known.operating_point
    assert point is not None
    assert point.strong_share == 0.5
    assert point.threshold == pytest.approx(known.calibration[500], abs=1e-3)
    assert f"default: {point.threshold:.5f}, for 50% strong calls" in said


@pytest.fixture(scope="module")
def longer_is_harder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only the length of a prompt says whether the large model is needed; its words say nothing."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("data") / "longer.jsonl"
    with path.open("w") as file:
        for i in range(500):
            count = int(rng.integers(3, 40))
            hard = rng.random() < count / 40
            scores = {"large": 1, "small": int(not hard), "tiny": int(not hard)}
            row = {"prompt": f"{i} {WORDS[0] * count}", "dataset": "d", "scores": scores}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize("kind", ["mf", "sw_ranking", "add-model"])
def test_a_router_that_is_worse_than_the_length_of_the_prompt_fails(
    tmp_path: Path, longer_is_harder: Path, kind: str
) -> None:
    more = ["--strong", "large", "--weak", "tiny"]
    if kind == "add-model":
        old, rows = tmp_path / "old.jsonl", longer_is_harder.read_text().splitlines()
        with old.open("w") as file:
            for row in map(json.loads, rows):
                del row["scores"]["large"]
                file.write(json.dumps(row) + "\n")
        assert fastroute("train", "mf", "--data", old, "--output", tmp_path / "mf").status in (0, 3)
        more = ["--router", str(tmp_path / "mf"), "--model", "large"]
    ran = fastroute(
        "train", kind, "--data", longer_is_harder, "--output", tmp_path / kind, "--held-out",
        "0.4", *more,
    )  # fmt: skip
    assert ran.status == 3, ran.out
    warning = ran.err.splitlines()[-1]
    assert "does not beat the baselines: its APGR, 0." in warning
    assert "that of the length of the prompt" in warning


def test_a_router_without_held_out_figures_says_so(tmp_path: Path, graded: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(graded.read_text().splitlines(keepends=True)[:60]))
    ran = fastroute(
        "train", "sw_ranking", "--data", few, "--output", tmp_path / "sw", "--held-out", "0.1",
        "--strong", "large", "--weak", "tiny",
    )  # fmt: skip
    assert ran.status in (0, 3), ran.err
    assert "whether this router beats the baselines was not measured: " in ran.err
    assert "held-out battles are between the pair, where 30 are needed" in ran.err


@pytest.mark.parametrize("kind", ["mf", "sw_ranking", "add-model"])
def test_an_existing_output_is_kept_unless_overwriting_is_asked_for(
    tmp_path: Path, graded: Path, kind: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "artifact.json").write_text("{}")
    more = ("--router", tmp_path / "mf", "--model", "large") if kind == "add-model" else ()
    said = refused("train", kind, "--data", graded, "--output", out, *more)
    assert "is not empty; name another folder, or pass overwrite (--overwrite)" in said
    assert (out / "artifact.json").read_text() == "{}"


def test_two_models_are_fitted_exactly(tmp_path: Path, graded: Path) -> None:
    two = tmp_path / "two.csv"
    rows = [json.loads(line) for line in graded.read_text().splitlines()]
    lines = [f"{r['prompt']},{r['scores']['tiny']},{r['scores']['large']}\n" for r in rows]
    two.write_text("prompt,tiny,large\n" + "".join(lines))
    arguments = ("train", "mf", "--data", two, "--output", tmp_path / "mf", "--held-out", "0.2")
    assert "--epochs: the data is of two models" in refused_after_report(*arguments, "--epochs", 3)
    ran = fastroute(*arguments)
    assert ran.status == 0, ran.err
    config = load_artifact(tmp_path / "mf").config
    assert config["training"]["settings"]["kind"] == "linear head"
    assert (config["strong_model"], config["weak_model"]) == ("large", "tiny")


def refused_after_report(*arguments: object) -> str:
    """What is refused when the data has been read and reported."""
    ran = fastroute(*map(str, arguments))
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    return ran.err


def test_sw_ranking_and_its_options(tmp_path: Path, graded: Path) -> None:
    out = tmp_path / "sw"
    ran = fastroute(
        "train", "sw_ranking", "--data", graded, "--output", out, "--mode", "far_field",
        "--index", "Flat", "--storage", "float16", "--strong-model", "large", "--weak-model",
        "tiny",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert "threshold for a share of strong calls" in ran.out
    router = create_router("sw_ranking", checkpoint_path=out)
    _check_operating_point(router.provenance, ran.out)
    hard, easy = router.win_rates(["prove the river engine now", "greet the river engine now"])
    assert hard > easy
    assert router.provenance.calibration is not None
    assert router.provenance.trained_on is not None
    config = load_artifact(out).config
    assert config["options"]["storage"] == "float16"
    assert len(config["models"]) == 3


def test_an_embedder_of_ones_own_travels_with_the_router(tmp_path: Path, graded: Path) -> None:
    made = load_artifact(DEFAULT_FOLDER)
    mine = tmp_path / "mine"
    save_artifact(
        mine, kind=made.kind, config=made.config | {"name": "static:mine"}, arrays=made.arrays,
        files=made.files,
    )  # fmt: skip
    name = StaticEmbedder.load(mine).name
    for kind in ("mf", "sw_ranking"):
        out = tmp_path / kind
        ran = fastroute(
            "train", kind, "--data", graded, "--output", out, "--embedder", f"static:{mine}",
            "--held-out", "0.3",
        )  # fmt: skip
        assert ran.status == 0, ran.err
        router = create_router(kind, checkpoint_path=out)
        assert router.embedder.name == name  # type: ignore[attr-defined] # both kinds embed
        win_rate = router.win_rate("prove the river")
        assert 0.0 < win_rate < 1.0
        # A new operating point leaves router and embedder as they are.
        saved = fastroute(
            "calibrate",
            "--router",
            f"{kind}={out}",
            "--strong-share",
            "0.2",
            "--save",
            "--no-cache",
        )
        assert saved.status == 0, saved.err
        again = create_router(kind, checkpoint_path=out)
        assert again.win_rate("prove the river") == win_rate
        point = again.provenance.operating_point
        assert point is not None
        assert point.strong_share == 0.2
    # Trained again with the default, the folder forgets it.
    ran = fastroute(
        "train", "mf", "--data", graded, "--output", tmp_path / "mf", "--held-out", "0.3",
        "--overwrite",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert not list((tmp_path / "mf").glob("embedder*"))


def test_add_model(tmp_path: Path) -> None:
    graded = _graded(tmp_path / "graded.jsonl", 2000)
    rows = [json.loads(line) for line in graded.read_text().splitlines()]
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    parts = ((old, rows[:1000], ("tiny", "small")), (new, rows[1000:], MODELS))
    for path, part, models in parts:
        with path.open("w") as file:
            for row in part:
                kept = {m: row["scores"][m] for m in models}
                file.write(json.dumps(row | {"scores": kept}) + "\n")
    base, grown = tmp_path / "base", tmp_path / "grown"
    ran = fastroute("train", "mf", "--data", old, "--output", base, "--held-out", "0.3")
    assert ran.status == 0, ran.err
    ran = fastroute(
        "train", "add-model", "--router", base, "--model", "large", "--data", new, "--output",
        grown, "--retrain-data", old, "--held-out", "0.3",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    for said in ("the mean of the others", "the fitted vector", "all models trained again"):
        assert said in ran.out
    before, after = (MatrixFactorizationRouter.load(folder) for folder in (base, grown))
    unit = np.eye(before.dimensions, dtype=np.float32)
    assert (
        after.deltas_from_embeddings(unit)[:, :2].tobytes()
        == before.deltas_from_embeddings(unit).tobytes()
    )
    (added,) = load_artifact(grown).config["training"]["added"]
    assert added["model"] == "large"
    assert added["log_loss"]["the fitted vector"] < added["log_loss"]["the mean of the others"]
    assert added["apgr"] > 0.5
    assert "mean APGR between large and a known model 0." in ran.out
    message = refused(
        "train", "add-model", "--router", base, "--model", "x", "--data", new, "--output", base
    )
    assert "the router itself" in message


def test_a_killed_training_is_resumed_to_the_same_bytes(tmp_path: Path, graded: Path) -> None:
    arguments = [
        "train", "mf", "--data", str(graded), "--held-out", "0.3", "--epochs", "1000",
        "--patience", "1000", "--ridge", "3",
    ]  # fmt: skip
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "fastroute", *arguments, "--output", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    journal = out / "training-journal.safetensors"
    for _ in range(6000):
        if journal.exists() or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted; the same command with --resume continues\n"
    assert journal.exists()
    resumed = fastroute(*arguments, "--output", out, "--resume")
    assert resumed.status == 0, resumed.err
    assert not journal.exists()
    whole = fastroute(*arguments, "--output", tmp_path / "whole")
    assert whole.status == 0
    assert load_artifact(out).checksum == load_artifact(tmp_path / "whole").checksum


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--embedder", "fancy"], "is not one of default, static:FOLDER and onnx:FOLDER"),
        (["--embedder", "onnx:/nowhere"], "/nowhere is not a folder"),
        (["--strong-model", "huge"], "strong_model is 'huge', which the data does not have"),
        (
            ["--strong-model", "tiny", "--weak-model", "tiny"],
            "are both 'tiny'; name two different models",
        ),
        (["--held-out", "0.9"], "held_out must be above 0 and at most 0.5, got 0.9"),
        (["--resume"], "no training to resume"),
    ],
)
def test_what_is_refused_after_the_data(
    tmp_path: Path, graded: Path, arguments: list[str], message: str
) -> None:
    out = tmp_path / "mf"
    assert message in refused_after_report(
        "train", "mf", "--data", graded, "--output", out, *arguments
    )
    # Said before anything is embedded or learnt, so that nothing is left of it.
    assert not out.exists()


@pytest.mark.parametrize("kind", ["mf", "sw_ranking"])
def test_an_output_that_can_be_no_folder_is_refused_before_the_work(
    tmp_path: Path, graded: Path, kind: str
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for out in (taken, taken / "mf"):
        message = refused("train", kind, "--data", graded, "--output", out)
        assert f"output {out}: {taken} is not a folder; name another" in message
    assert taken.read_text() == "a file"


def test_an_embedder_that_no_training_put_there_is_not_deleted(
    tmp_path: Path, graded: Path
) -> None:
    mine = tmp_path / "embedder"
    mine.mkdir()
    (mine / "tokenizer.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    arguments = ("train", "mf", "--data", graded, "--output", tmp_path)
    assert "is not empty; name another folder, or pass overwrite" in refused(*arguments)
    said = refused_after_report(*arguments, "--overwrite")
    assert "holds an embedder that was not written by a training" in said
    assert (mine / "tokenizer.json").read_text() == "{}"


def test_what_is_refused_at_once(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "p", "scores": {"x": 1, "y": 0}}\n{"prompt": "q"}\n')
    out = str(tmp_path / "mf")
    assert "line 2: has neither" in refused("train", "mf", "--data", bad, "--output", out)
    assert "--epochs must be above 0" in refused(
        "train", "mf", "--data", bad, "--output", out, "--epochs", "0"
    )
    assert "can't be read" in refused("train", "mf", "--data", "none.jsonl", "--output", out)
    assert "must end in .jsonl, .csv or .parquet" in refused(
        "train", "sw_ranking", "--data", "none.xml", "--output", out
    )


def test_what_is_no_router_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InvalidTypeError, match="router must be a MatrixFactorizationRouter, got"):
        save_mf(tmp_path / "mf", None)  # type: ignore[arg-type] # what is refused


def _unreadable(path: Path, rows: int, seed: int, dataset: str = "d") -> Path:
    """Graded prompts in hieroglyphs, of which the bundled embedder knows none."""
    rng = np.random.default_rng(seed)
    with path.open("a") as file:
        for _ in range(rows):
            prompt = "".join(map(chr, 0x13000 + rng.integers(0, 900, size=20)))
            scores = {"big": int(rng.random() < 0.9), "small": int(rng.random() < 0.3)}
            row = {"prompt": prompt, "dataset": dataset, "scores": scores}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize("kind", ["mf", "sw_ranking", "signals"])
def test_prompts_without_a_token_are_the_reason(tmp_path: Path, kind: str) -> None:
    data = _unreadable(tmp_path / "graded.jsonl", 200, 1)
    _unreadable(data, 200, 2, "e")
    ran = fastroute("train", kind, "--data", data, "--output", tmp_path / "out")
    assert ran.status == 2
    assert "prompts has a token that embedder 'static:" in ran.err
    assert "another embedder" in ran.err


def test_prompts_without_a_token_are_counted_beside_too_few(tmp_path: Path, graded: Path) -> None:
    data = _unreadable(tmp_path / "graded.jsonl", 30, 1)
    with data.open("a") as file:
        file.writelines(graded.read_text().splitlines(keepends=True)[:9])
    ran = fastroute("train", "mf", "--data", data, "--output", tmp_path / "out")
    assert ran.status == 2
    assert "prompts to learn from, where 10 are needed" in ran.err
    assert "(30 of 39 prompts have no token that the embedder knows)" in ran.err


def test_signals_of_one_dataset_that_can_be_read(tmp_path: Path) -> None:
    data = _unreadable(tmp_path / "graded.jsonl", 200, 1)
    rng = np.random.default_rng(3)
    with data.open("a") as file:
        for _ in range(200):
            scores = {"big": int(rng.random() < 0.9), "small": int(rng.random() < 0.3)}
            prompt = " ".join(rng.choice(WORDS, size=7))
            row = {"prompt": prompt, "dataset": "e", "scores": scores}
            file.write(json.dumps(row) + "\n")
    ran = fastroute("train", "signals", "--data", data)
    assert ran.status == 2
    assert "outside one fold of the datasets no prompt has a token" in ran.err
