"""``train mf`` on how hard prompts are: what it learns, what it says of itself, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fakes import openai_judge
from fastroute.artifacts import load_artifact, save_artifact
from fastroute.data import read_training_data
from fastroute.embedders.static import KIND
from fastroute.embedders.vocabulary import Vocabulary
from fastroute.errors import InvalidInputError
from fastroute.routers import MatrixFactorizationRouter, create_router
from fastroute.training import DifficultyTraining, train_mf, train_mf_on_difficulty
from fastroute.training.measures import rank_correlation

WORDS = ("river", "table", "window", "engine", "paper", "music", "garden", "winter", "copper")
HARD, EASY = "Prove the theorem on", "Greet the friend of"


def _prompts(count: int, seed: int = 0) -> list[tuple[str, float]]:
    """Prompts of random length, and how hard they are: one topic is, whatever the length."""
    rng = np.random.default_rng(seed)
    return [
        (
            f"{(HARD, EASY)[i % 2]} {i} " + " ".join(rng.choice(WORDS, size=rng.integers(1, 20))),
            float(1 - i % 2 + rng.normal(0.0, 0.3)),
        )
        for i in range(count)
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _rated(path: Path, count: int = 200, scale: float = 100.0) -> Path:
    rows = [{"prompt": text, "difficulty": scale * level + 7.0} for text, level in _prompts(count)]
    return _write(path, rows)


def _pairs(path: Path, count: int = 900) -> Path:
    prompts, rng = _prompts(100), np.random.default_rng(5)
    rows = []
    for _ in range(count):
        (a, of_a), (b, of_b) = (prompts[i] for i in rng.permutation(100)[:2])
        rows.append({"prompt": a, "prompt_b": b, "harder": "B" if of_b > of_a else "A"})
    return _write(path, rows)


def _train(path: Path, output: Path, **changes: Any) -> DifficultyTraining:
    data = read_training_data([path], difficulty=True, conflicts="average")
    return train_mf_on_difficulty(data, output, **changes)


@pytest.mark.parametrize("write", [_rated, _pairs])
def test_from_labels_to_decisions(tmp_path: Path, write: Any) -> None:
    path, output = write(tmp_path / "d.jsonl"), tmp_path / "mf"
    names = ("--strong", "big", "--weak", "small")
    ran = fastroute("train", "mf", "--data", path, "--output", output, *names)
    assert ran.status == 0, ran.err
    assert "| held out | router | prompt's length |" in ran.out
    assert "threshold for a share of strong calls" in ran.out
    router = create_router("mf", checkpoint_path=output)
    assert isinstance(router, MatrixFactorizationRouter)
    assert (router.strong_model, router.weak_model) == ("big", "small")
    hard, easy = (
        router.win_rates([f"{topic} new {word} things" for word in WORDS]) for topic in (HARD, EASY)
    )
    assert hard.min() > easy.max()
    training = load_artifact(output, kind="mf").config["training"]
    (figure,) = training["figures"]
    assert figure["router"] > 0.7 > figure["length"]
    assert training["settings"]["kind"] == "difficulty"
    known = router.provenance
    assert known.trained_on is not None
    assert known.calibration is not None
    assert 0.3 < known.calibration[500] < 0.7, "a typical prompt is in the middle"
    ran = fastroute("route", "--router", f"mf={output}", "--strong-share", "0.5", f"{HARD} rivers")
    assert ran.out.startswith("strong  ")


def test_a_router_that_loses_is_not_called_a_success(tmp_path: Path) -> None:
    rows = [{"prompt": text, "difficulty": len(text)} for text, _ in _prompts(150)]
    path, output = _write(tmp_path / "d.jsonl", rows), tmp_path / "mf"
    ran = fastroute("train", "mf", "--data", path, "--output", output)
    assert ran.status == 3
    assert "wrote" in ran.out
    warning = ran.err.splitlines()[-1]
    assert "does not beat the baselines: its rank correlation, " in warning
    assert "is not above 1.0000, that of the length of the prompt" in warning
    assert b"**Warning:**" in load_artifact(output, kind="mf").files["card.md"]


def test_figures_are_of_prompts_that_were_not_learnt_from(tmp_path: Path) -> None:
    # Most of these labels is noise, which is explained within the sample only.
    rng = np.random.default_rng(1)
    rows = [{"prompt": x, "difficulty": level + rng.normal(0, 2)} for x, level in _prompts(80)]
    # An embedder to which each prompt's number is a word with a vector of its own.
    words = [*HARD.split(), *EASY.split(), *WORDS, *map(str, range(80))]
    vocabulary = Vocabulary.of([f" {word}" for word in dict.fromkeys(words)])
    table = rng.integers(-127, 128, (vocabulary.rows, 256)).astype(np.int8)
    arrays = {"table": table, "scales": np.ones(len(table), np.float32), **vocabulary.arrays()}
    config = {"name": "static:words", **vocabulary.config()}
    save_artifact(tmp_path / "e", kind=KIND, config=config, arrays=arrays)
    path = _write(tmp_path / "d.jsonl", rows)
    trained = _train(path, tmp_path / "mf", embedder=f"static:{tmp_path / 'e'}")
    win_rates = trained.router.win_rates([str(row["prompt"]) for row in rows])
    inside = rank_correlation(win_rates, np.array([row["difficulty"] for row in rows]))
    assert inside > 0.4
    assert abs(trained.figures[0].router) < 0.3


def test_the_scale_does_not_matter(tmp_path: Path) -> None:
    one = _train(_rated(tmp_path / "a.jsonl"), tmp_path / "a")
    other = _train(_rated(tmp_path / "b.jsonl", scale=3.0), tmp_path / "b")
    assert one.figures[0].router == pytest.approx(other.figures[0].router, abs=1e-6)
    texts = [f"{HARD} a river", f"{EASY} a river", "something else"]
    np.testing.assert_allclose(
        one.router.win_rates(texts), other.router.win_rates(texts), atol=1e-5
    )


def test_datasets_are_not_compared(tmp_path: Path) -> None:
    # One dataset is all hard, one all easy, on different scales: within each nothing is known.
    rows = [
        {"prompt": text, "dataset": text[:5], "difficulty": 1000 * level + len(text) % 7}
        for text, level in _prompts(200)
    ]
    trained = _train(_write(tmp_path / "d.jsonl", rows), tmp_path / "mf")
    hard, easy = (
        trained.router.win_rates([f"{topic} the {word}" for word in WORDS]).mean()
        for topic in (HARD, EASY)
    )
    assert abs(hard - easy) < 0.2


def test_labels_with_large_errors_count_less(tmp_path: Path) -> None:
    rows = [
        {"prompt": text, "difficulty": level, "standard_error": 0.01}
        for text, level in _prompts(80)
    ]
    rows += [
        {"prompt": f"{text}!?", "difficulty": 1.0 - level, "standard_error": 50.0}
        for text, level in _prompts(80, seed=9)
    ]
    trained = _train(_write(tmp_path / "d.jsonl", rows), tmp_path / "a")
    hard, easy = (trained.router.win_rate(f"{topic} a river") for topic in (HARD, EASY))
    assert hard > easy + 0.2
    for row in rows:
        del row["standard_error"]
    trained = _train(_write(tmp_path / "e.jsonl", rows), tmp_path / "b")
    hard, easy = (trained.router.win_rate(f"{topic} a river") for topic in (HARD, EASY))
    assert abs(hard - easy) < 0.2


@pytest.mark.parametrize(
    "option",
    [
        *(["--dimensions", "3"], ["--ridge", "3"], ["--held-out", "0.2"], ["--ties", "drop"]),
        *(["--centre-by", "dataset"], ["--compare-ties"], ["--resume"]),
    ],
)
def test_options_of_models_are_refused(tmp_path: Path, option: list[str]) -> None:
    path = _rated(tmp_path / "d.jsonl", 60)
    ran = fastroute("train", "mf", "--data", path, "--output", tmp_path / "mf", *option)
    assert ran.status == 2
    assert f"{option[0]}: has no effect on labels of difficulty" in ran.err


def test_what_is_refused(tmp_path: Path) -> None:
    path, output = _rated(tmp_path / "d.jsonl", 60), tmp_path / "mf"
    battle = {"prompt": "p", "model_a": "x", "model_b": "y", "winner": "tie"}
    mixed = _write(tmp_path / "m.jsonl", [battle])
    ran = fastroute("train", "mf", "--data", path, mixed, "--output", output)
    assert ran.status == 2
    assert "60 labels of difficulty and 1 labels of models' answers" in ran.err
    assert "only fastroute train mf learns from that" in refused(
        "train", "sw_ranking", "--data", path, "--output", output
    )
    with pytest.raises(InvalidInputError, match="give them to train_mf_on_difficulty"):
        train_mf(read_training_data([path], difficulty=True), output)
    with pytest.raises(InvalidInputError, match="are both 'x'"):
        _train(path, output, strong_model="x", weak_model="x")
    with pytest.raises(InvalidInputError, match="there are 40 prompts with a label of difficulty"):
        _train(_rated(tmp_path / "few.jsonl", 40), output)
    rows = [{"prompt": text, "difficulty": 5} for text, _ in _prompts(60)]
    with pytest.raises(InvalidInputError, match="there are 0 prompts with a label of difficulty"):
        _train(_write(tmp_path / "same.jsonl", rows), output)
    rows = [{"prompt": text, "dataset": str(i % 30), "difficulty": level}
            for i, (text, level) in enumerate(_prompts(60))]  # fmt: skip
    with pytest.raises(InvalidInputError, match="so nothing can be measured"):
        _train(_write(tmp_path / "small.jsonl", rows), output)


def test_from_prompts_to_a_router_without_any_answer(tmp_path: Path) -> None:
    prompts, rated = tmp_path / "prompts.txt", tmp_path / "rated.jsonl"
    hardness = [f"{text} hardness {100 + round(50 * level)}" for text, level in _prompts(60)]
    prompts.write_text("".join(text + "\n" for text in hardness))
    with openai_judge.start() as server:
        ran = fastroute(
            "augment", "difficulty", "--data", prompts, "--output", rated, "--yes",
            "--judge-model", "judge", "--judge-base-url", server.base_url,
        )  # fmt: skip
    assert ran.status == 0, ran.err
    ran = fastroute("train", "mf", "--data", rated, "--output", tmp_path / "mf")
    assert ran.status == 0, ran.err
    router = create_router("mf", checkpoint_path=tmp_path / "mf")
    assert router.win_rate(f"{HARD} rivers") > router.win_rate(f"{EASY} rivers")
