"""Training of ``causal_llm``: labels, the loop, and the whole on a tiny model."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal_llm_models import TEMPLATE, torch_or_skip, write_llama
from fastroute.data import DataReport, JudgedBattle, TrainingData, read_training_data
from fastroute.errors import InvalidInputError
from fastroute.training.causal_llm.labels import Labelled, labelled, labels_of

# Labels


@pytest.mark.parametrize(
    ("strength", "label"),
    [(1.0, 1), (0.9, 1), (5 / 6, 2), (2 / 3, 3), (0.51, 3), (0.5, 4), (0.26, 4), (0.25, 5), (0, 5)],
)
def test_labels_of_strengths(strength: float, label: int) -> None:
    assert labels_of(np.array([float(strength)])).tolist() == [label]


@given(st.lists(st.floats(0, 1), min_size=2))
def test_a_stronger_preference_never_has_a_higher_label(strengths: list[float]) -> None:
    labels = labels_of(np.array(sorted(strengths)))
    assert (np.diff(labels) <= 0).all()
    np.testing.assert_array_equal(labels >= 4, np.array(sorted(strengths)) <= 0.5 + 1e-12)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_strengths_outside_0_to_1(bad: float) -> None:
    with pytest.raises(InvalidInputError, match=r"strengths\[1\]"):
        labels_of(np.array([0.5, bad]))


def test_labels_of_battles() -> None:
    battles = [
        JudgedBattle("f", "", prompt, a, b, preference)
        for prompt, a, b, preference in (
            ("p", "big", "small", 0.0),
            ("p", "small", "big", 1.0),
            ("p", "small", "big", 0.0),  # big won 2 of 3
            ("tie", "small", "other big", 0.5),
            ("easy", "big", "small", 1.0),
            ("no pair", "big", "other big", 0.0),
        )
    ]
    read = TrainingData(battles, [], DataReport())
    data = labelled(read, {"big", "other big"}, {"small"})
    assert data.prompts == ["p", "tie", "easy"]
    assert data.labels.tolist() == [3, 4, 5]
    with pytest.raises(InvalidInputError, match="no battle is between a strong model"):
        labelled(read, {"big"}, {"tiny"})


def test_graded_files(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [
        {"prompt": "hard", "weak": 0, "strong": 1},
        {"prompt": "both", "weak": True, "strong": True},
        {"prompt": "easy", "weak": 1.0, "strong": 0.0},
        {"prompt": "hard", "weak": 0.5, "strong": 0.5},  # averaged with the first: 3/4
        *({"prompt": f"judged {label}", "label": label} for label in range(1, 6)),
    ]
    path.write_text("\n\n".join(map(json.dumps, rows)), "utf-8")
    read = read_training_data([path], conflicts="average")
    data = labelled(read)
    expected = {"hard": 2, "both": 4, "easy": 5} | {f"judged {i}": i for i in range(1, 6)}
    assert dict(zip(data.prompts, data.labels.tolist(), strict=True)) == expected
    with pytest.raises(InvalidInputError, match="--weak; the data has the models strong, weak"):
        labelled(read, {"strong"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing is left to train on"),
        ("\n{", "line 2: not JSON"),
        ("[]", "line 1: not a JSON object"),
        ('{"prompt": "a", "weak": 0}', "give both --strong and --weak"),
        (
            '{"prompt": "a", "weak": 0, "strong": 0.5}\n{"prompt": "b", "weak": 2, "strong": 0}',
            "line 2: score of 'weak' is 2.0",
        ),
    ],
)
def test_graded_files_that_can_not_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidInputError, match=message):
        labelled(read_training_data([path]))


# The loop


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_llama(folder, labels=False)
    return folder


def planted(count: int, seed: int = 0) -> Labelled:
    """Prompts whose first word, among others in any order, says the label."""
    rng = random.Random(seed)
    words = ["one", "two", "infinitely", "capital", "France", "primes"]
    prompts, labels = [], []
    for i in range(count):
        hard = rng.random() < 0.5
        text = [rng.choice(words) for _ in range(rng.randrange(3, 8))]
        text.insert(rng.randrange(len(text)), "Prove" if hard else "What")
        prompts.append(f"{' '.join(text)} {i}")
        labels.append(1 if hard else 5)
    return Labelled(prompts, np.array(labels))


def train(base: Path, output: Path, data: Labelled, **options: Any) -> Any:
    torch_or_skip()
    from fastroute.training.causal_llm.fine_tune import Settings
    from fastroute.training.causal_llm.run import train_causal_llm

    settings = {"steps": 8, "learning_rate": 1e-3} | options.pop("settings", {})
    options = {"template": TEMPLATE, "max_tokens": 128, "with_onnx": False} | options
    return train_causal_llm(base, data, output, Settings(**settings), **options)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))


def assert_same_weights(a: Path, b: Path, tolerance: float = 0.0) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=0, atol=tolerance, err_msg=name)


def test_a_resumed_training_ends_where_one_without_a_stop_does(base: Path, tmp_path: Path) -> None:
    data = planted(60)
    whole = train(base, tmp_path / "whole", data)
    assert whole.trained.finished
    assert len(whole.trained.losses) == 8

    class StopError(Exception):
        pass

    def stop(step: int, _loss: float) -> None:
        if step == 3:
            raise StopError

    with pytest.raises(StopError):
        train(base, tmp_path / "parts", data, report=stop)
    with pytest.raises(InvalidInputError, match="--resume"):
        train(base, tmp_path / "parts", data)
    with pytest.raises(InvalidInputError, match=r"resume: the checkpoint .* same settings"):
        train(base, tmp_path / "parts", data, resume=True, settings={"batch_size": 4})
    (tmp_path / "parts" / "unfinished" / ".training.safetensors.torn").write_text("by a kill")
    parts = train(base, tmp_path / "parts", data, resume=True)
    assert parts.trained.losses == whole.trained.losses
    assert_same_weights(whole.checkpoint, parts.checkpoint)
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["checkpoint"]


def test_gradients_add_up(base: Path, tmp_path: Path) -> None:
    data = planted(40)
    # Adam's step of a gradient near zero depends on its rounding, hence the tolerance.
    once = train(base, tmp_path / "once", data, settings={"steps": 2})
    parts = train(base, tmp_path / "parts", data, settings={"steps": 2, "micro_batch_size": 3})
    np.testing.assert_allclose(once.trained.losses, parts.trained.losses, rtol=1e-4)
    assert_same_weights(once.checkpoint, parts.checkpoint, tolerance=1e-3)


def test_bfloat16_and_gradient_checkpointing_learn_the_same(base: Path, tmp_path: Path) -> None:
    data, settings = planted(40), {"steps": 4}
    plain = train(base, tmp_path / "plain", data, settings=settings)
    again = train(
        base, tmp_path / "again", data, settings=settings | {"gradient_checkpointing": True}
    )
    half = train(base, tmp_path / "half", data, settings=settings | {"bfloat16": True})
    np.testing.assert_allclose(again.trained.losses, plain.trained.losses, rtol=1e-5)
    np.testing.assert_allclose(half.trained.losses, plain.trained.losses, rtol=0.05)
    assert half.trained.losses != plain.trained.losses
    assert {str(value.dtype) for value in weights(half.checkpoint).values()} == {"float32"}


def test_the_seed_decides_and_time_runs_out(base: Path, tmp_path: Path) -> None:
    data = planted(40)
    losses = [
        train(base, tmp_path / name, data, settings={"seed": seed, "steps": 2}).trained.losses
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert losses[0] == losses[1] != losses[2]
    stopped = train(base, tmp_path / "d", data, settings={"steps": 500, "max_minutes": 1e-9})
    assert not stopped.trained.finished
    assert stopped.trained.losses == []


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"learning_rate": 0.0}, {"weight_decay": -1.0}, {"max_minutes": 0.0}],
)
def test_settings_that_can_not_be_used(change: dict[str, Any]) -> None:
    from fastroute.training.causal_llm.fine_tune import Settings

    with pytest.raises(InvalidInputError, match=f"{next(iter(change))} must be"):
        Settings(**change)


# The whole


def command(capsys: pytest.CaptureFixture[str], *words: str | Path, err: str = "") -> Any:
    """``fastroute WORDS --json`` in this process, where torch is loaded already."""
    from fastroute.cli import main

    status = main([*map(str, words), "--json"])
    said = capsys.readouterr()
    assert (status, said.err) == (0, err)
    return json.loads(said.out)


def test_the_command_trains_exports_and_ranks(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_or_skip()
    from fastroute.artifacts import prompt_hash
    from fastroute.routers import CausalLLMRouter

    data, output = planted(300), tmp_path / "out"
    scores = {1: {"weak": 0, "strong": 1}, 5: {"weak": 1, "strong": 0}}
    rows = [
        {"prompt": p, **scores[int(label)]}
        for p, label in zip(data.prompts, data.labels, strict=True)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    facts = command(
        capsys, "train", "causal_llm", "--base", base, "--output", output, "--data",
        tmp_path / "data.jsonl", "--steps", "50", "--learning-rate", "3e-3", "--max-tokens", "256",
        err=f"{tmp_path / 'data.jsonl'}: 300 rows, 0 battles and 300 graded results\n"
        "left: 0 battles and 300 graded results of 2 models on 300 prompts\n",
    )  # fmt: skip
    losses = facts["losses"]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert facts["loss_after"] < facts["loss_before"]
    assert facts["max_difference"] <= 1e-4
    assert facts["ranking_accuracy"] > 0.8

    router = CausalLLMRouter.load(output / "onnx")
    unseen = planted(60, seed=9)
    rates = router.win_rates(unseen.prompts)
    assert rates[unseen.labels == 1].mean() > rates[unseen.labels == 5].mean() + 0.3
    assert router.provenance.calibration is not None
    assert router.provenance.trained_on is not None
    assert router.provenance.calibration.shape == (1001,)
    assert (np.diff(router.provenance.calibration) >= 0).all()
    assert len(router.provenance.trained_on) == 300 - facts["held_out_prompts"]
    assert set(router.provenance.trained_on.tolist()) <= {prompt_hash(p) for p in data.prompts}

    routed = command(
        capsys, "route", "--router", f"causal_llm={output / 'onnx'}",
        "--strong-share", "0.5", unseen.prompts[0],
    )  # fmt: skip
    assert routed["win_rate"] == pytest.approx(rates[0], abs=1e-4)

    # The checkpoint beside it exports by itself, to the same answers.
    again = command(
        capsys, "export", "causal_llm", "--checkpoint", output / "checkpoint", "--output",
        tmp_path / "again",
    )  # fmt: skip
    assert again["max_difference"] <= 1e-4
    same = CausalLLMRouter.load(tmp_path / "again").win_rates(unseen.prompts)
    np.testing.assert_allclose(same, rates, atol=1e-4)


_KILLED = """
import os, sys
from pathlib import Path

def hook(event, arguments):
    if event == "os.rename" and Path(os.fsdecode(arguments[1])).name == sys.argv[1]:
        os.kill(os.getpid(), 9)

sys.addaudithook(hook)
from fastroute.cli import main

sys.exit(main(sys.argv[2:]))
"""


def test_a_training_that_is_killed_while_it_finishes_is_resumed(base: Path, tmp_path: Path) -> None:
    torch_or_skip()
    from fastroute.routers import CausalLLMRouter

    data, output = planted(60), tmp_path / "out"
    scores = {1: {"weak": 0, "strong": 1}, 5: {"weak": 1, "strong": 0}}
    rows = [
        {"prompt": p, **scores[int(label)]}
        for p, label in zip(data.prompts, data.labels, strict=True)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    command: list[str | Path] = [
        "train", "causal_llm", "--base", base, "--output", output, "--data",
        tmp_path / "data.jsonl", "--steps", "8", "--max-tokens", "256",
    ]  # fmt: skip
    # At each name that appears in the output after the last step.
    for number, name in enumerate(("unfinished-onnx", "onnx", "checkpoint", "none")):
        resume = ["--resume"] if number else []
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, name, *command, *resume],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == (0 if name == "none" else -signal.SIGKILL), done.stderr
        assert (output / "checkpoint").exists() == (name == "none")
        if (output / "onnx").exists():
            router = CausalLLMRouter.load(output / "onnx")
            assert router.provenance.trained_on is not None
    assert sorted(p.name for p in output.iterdir()) == ["checkpoint", "onnx"]
    names = {path.name for path in (output / "checkpoint").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "fastroute_measures.safetensors"} <= names
    assert "training.safetensors" not in names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "d.jsonl", "--weak-model", "m"], "give both --strong and --weak"),
        (["--data", "no.jsonl"], "can't be read"),
        (["--data", "d.jsonl", "--steps", "0"], "steps must be at least 1"),
        (["--data", "d.jsonl"], "there is no folder"),
        ([], "the following arguments are required: --data"),
    ],
)
def test_the_command_refuses_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    from cli_runner import fastroute

    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "weak": 0, "strong": 1}', "utf-8")
    ran = fastroute("train", "causal_llm", "--base", "none", "--output", "out", *words)
    assert ran.status == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
