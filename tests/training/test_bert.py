"""``fastroute train bert``: end to end on a tiny BERT, and its parts against plain formulas."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.artifacts import load_artifact, prompt_hash
from fastroute.data import (
    DataReport,
    GradedResult,
    JudgedBattle,
    TrainingData,
    read_training_data,
)
from fastroute.errors import InvalidInputError
from fastroute.routers import BertRouter
from fastroute.training.bert.batches import epoch_batches, sorted_batches
from fastroute.training.bert.calibrate import fit_calibration, levelled
from fastroute.training.bert.examples import Examples, make_examples, split
from fastroute.training.bert.settings import Settings
from fastroute.training.bert.sources import examples_of
from fastroute.training.labels import difficulty, halves, outcomes
from tiny_bert import EASY, HARD, graded_rows, write_encoder, write_graded

# Without torch the formulas are tested all the same.
needs_torch = pytest.mark.skipif(
    any(
        __import__("importlib.util").util.find_spec(name) is None
        for name in ("torch", "transformers", "onnxscript")
    ),
    reason='torch, transformers and onnxscript are not installed (".[train-transformers]")',
)

# Batches


@pytest.mark.parametrize("count", [1, 31, 32, 33, 3000])
def test_an_epoch_has_every_prompt_once_and_little_padding(count: int) -> None:
    lengths = np.random.default_rng(0).integers(3, 200, count).tolist()
    batches = epoch_batches(lengths, 32, seed=0, epoch=0)
    assert sorted(itertools.chain(*batches)) == list(range(count))
    assert max(map(len, batches)) <= 32
    if count == 3000:
        padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
        assert padded < 1.1 * sum(lengths)  # in random batches it would be nearly twice
    assert [b.tolist() for b in batches] == [
        b.tolist() for b in epoch_batches(lengths, 32, seed=0, epoch=0)
    ]
    if count > 32:
        other = epoch_batches(lengths, 32, seed=0, epoch=1)
        assert [b.tolist() for b in batches] != [b.tolist() for b in other]
    in_order = list(itertools.chain(*sorted_batches(lengths, 7)))
    assert [lengths[i] for i in in_order] == sorted(lengths)


# Labels


def _row(prompt: str, scores: dict[str, float], dataset: str = "d") -> GradedResult:
    return GradedResult("f.jsonl.gz", dataset, prompt, scores)


def _graded(rows: list[GradedResult]) -> TrainingData:
    return TrainingData([], rows, DataReport())


def test_outcomes_agree_with_the_labels_of_heads() -> None:
    random = np.random.default_rng(0)
    rows = [
        _row(f"p{i}", {f"m{j}": float(random.integers(0, 2)) for j in range(6)}, f"d{i % 3}")
        for i in range(60)
    ]
    found = outcomes(rows, "difficulty")
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found[:, 0], difficulty(rows))
    assert not found[:, 2].any()
    found = outcomes(rows, "halves")
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found[:, 0] + found[:, 1] / 2, halves(rows))


def test_outcomes_of_halves_count_every_pair() -> None:
    rows = [
        _row("a", {"s1": 1.0, "s2": 1.0, "w1": 0.0, "w2": 1.0}),
        _row("b", {"s1": 1.0, "s2": 0.0, "w1": 0.0, "w2": 0.0}),
        _row("c", {"s1": 1.0, "s2": 1.0, "w1": 0.0, "w2": 0.0}),
    ]
    for row, found in zip(rows, outcomes(rows, "halves"), strict=True):
        pairs = [(row.scores[s], row.scores[w]) for s in ("s1", "s2") for w in ("w1", "w2")]
        won, lost = (np.mean([f(s, w) for s, w in pairs]) for f in (float.__gt__, float.__lt__))
        np.testing.assert_allclose(found, [won, 1 - won - lost, lost])


def test_a_pair_is_taken_by_name_and_the_rest_left_out() -> None:
    rows = [
        _row("both", {"s": 1.0, "w": 0.0, "x": 0.0}),
        _row("tie", {"s": 1.0, "w": 1.0, "x": 0.0}),
        _row("lost", {"s": 0.0, "w": 1.0, "x": 0.0}),
        _row("no weak", {"s": 1.0, "x": 0.0}),
    ]
    data = _graded(rows)
    examples = examples_of(data, strong=["s"], weak=["w"])
    assert examples.prompts == ["both", "tie", "lost"]
    np.testing.assert_array_equal(examples.outcomes, np.eye(3))
    with pytest.raises(InvalidInputError, match="no graded result has scores of both"):
        examples_of(data, strong=["s"], weak=["y"])
    with pytest.raises(InvalidInputError, match="s: a model can't be both"):
        examples_of(data, strong=["s"], weak=["s"])
    with pytest.raises(InvalidInputError, match="give both --strong and --weak"):
        examples_of(data, strong=["s"])


def test_battles_become_examples_in_either_order() -> None:
    battles = [
        JudgedBattle("f.csv", "d", prompt, a, b, preference)
        for prompt, a, b, preference in (
            ("p1", "s", "w", 0.0),
            ("p2", "w", "s", 0.0),
            ("p3", "w", "s", 0.5),
            ("p4", "s", "w", 0.75),  # a judge who saw both orders: a win and a tie
            ("p5", "s", "s2", 0.0),
        )
    ]
    data = TrainingData(battles, [_row("p6", {"w": 0.0, "s2": 1.0})], DataReport())
    examples = examples_of(data, strong=["s", "s2"], weak=["w"])
    assert examples.prompts == ["p1", "p2", "p3", "p4", "p6"]
    np.testing.assert_array_equal(
        examples.outcomes, [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0.5, 0.5], [1, 0, 0]]
    )
    assert examples.groups == ["f/d"] * 5
    # Each file counts the same.
    np.testing.assert_allclose(examples.weights, [0.625] * 4 + [2.5])
    with pytest.raises(InvalidInputError, match="the data is of s, s2, w"):
        examples_of(data, strong=["gpt"], weak=["w"])
    # Without names graded results are learnt from, and battles where there is nothing else.
    assert examples_of(data).prompts == ["p6"]
    with pytest.raises(InvalidInputError, match="give both --strong"):
        examples_of(TrainingData(battles, [], DataReport()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": np.array([[0.5, 0.6, 0.0]])}, r"outcomes\[0\] is \[0.5, 0.6, 0.0\]"),
        ({"outcomes": np.array([[1.5, -0.5, 0.0]])}, "three probabilities that sum to 1"),
        ({"outcomes": np.array([[0.5, 0.5]])}, r"outcomes is \[n, 3\]"),
        ({"weights": np.array([0.0])}, r"weights\[0\] is 0.0"),
        ({"groups": ["a", "b"]}, "must go together"),
    ],
)
def test_bad_examples_are_named(change: dict[str, Any], message: str) -> None:
    arguments = {"prompts": ["p"], "outcomes": np.array([[1.0, 0.0, 0.0]])} | change
    with pytest.raises(InvalidInputError, match=message):
        make_examples(**arguments)


def test_too_few_examples_to_hold_any_out() -> None:
    with pytest.raises(InvalidInputError, match="too few to hold some out"):
        split(make_examples(["p"], np.array([[1.0, 0.0, 0.0]])), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"warmup": 1.0}, "warmup must be a share below 1"),
        ({"max_minutes": 0.0}, "max_minutes must be above 0"),
        ({"arithmetic": "float16"}, "arithmetic must be one of float32, bfloat16"),
        ({"max_tokens": 7}, "max_tokens must be at least 8"),
        ({"frozen_layers": -1}, "frozen_layers must be at least 0"),
    ],
)
def test_bad_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Settings(**change)


# Calibration


def test_calibration_finds_the_temperature_and_biases_that_made_the_data() -> None:
    pytest.importorskip("scipy")
    random = np.random.default_rng(0)
    z = random.normal(size=(4000, 3)) * 2
    true = z / 1.7 + np.array([0.5, -0.2, -0.3])
    odds = np.exp(true)
    outcomes_ = odds / odds.sum(axis=1, keepdims=True)
    found = fit_calibration(z, outcomes_, np.ones(len(z)))
    assert found.temperature == pytest.approx(1.7, rel=0.02)
    np.testing.assert_allclose(found.biases, [0.5, -0.2, -0.3], atol=0.02)
    assert found.loss_after < found.loss_before
    np.testing.assert_allclose(found.apply(z), true, atol=0.1)


def test_calibration_keeps_the_order_where_nothing_was_learnt() -> None:
    pytest.importorskip("scipy")
    z = np.random.default_rng(0).normal(size=(500, 3))
    odds = np.exp(-z)  # the opposite
    found = fit_calibration(z, odds / odds.sum(axis=1, keepdims=True), np.ones(len(z)))
    assert 0 < 1 / found.temperature <= 1.1e-3


def test_levelled_outcomes_have_one_level() -> None:
    rows = [_row(f"p{i}", {"m": float(i % 4 == 0)}, "a") for i in range(40)]
    rows += [_row(f"q{i}", {"m": float(i % 4 != 0)}, "b") for i in range(40)]
    examples = examples_of(_graded(rows))
    found = levelled(examples, examples)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    means = [found[np.array(examples.groups) == g].mean(axis=0) for g in set(examples.groups)]
    np.testing.assert_allclose(means[0], means[1])


# End to end


SETTINGS = Settings(
    max_tokens=24,
    batch_size=16,
    epochs=6,
    learning_rate=3e-3,
    head_learning_rate=3e-3,
    evaluations_per_epoch=1,
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("bert") / "encoder")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    path = write_graded(tmp_path_factory.mktemp("graded") / "g.jsonl.gz", graded_rows(800))
    return examples_of(read_training_data([path]))


@pytest.fixture(scope="module")
def trained(
    encoder: Path, examples: Examples, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, list[float]]:
    from fastroute.training.bert.recipe import train_bert

    losses: list[float] = []
    report = train_bert(
        examples,
        tmp_path_factory.mktemp("out") / "artifact",
        encoder=encoder,
        settings=SETTINGS,
        progress=lambda _, loss: losses.append(loss),
    )
    return report, losses


@needs_torch
def test_the_loss_falls_and_the_best_step_is_kept(trained: Any) -> None:
    report, losses = trained
    history = report.history
    assert history.stopped in ("epochs", "patience")
    assert len(losses) == history.steps
    held_out = {step: loss for step, _, loss in history.losses}
    assert min(held_out.values()) < losses[0] - 0.1
    assert held_out[history.best_step] == min(held_out.values())


@needs_torch
def test_the_exports_answer_as_torch_does(trained: Any) -> None:
    report, _ = trained
    assert report.float32.max_logit < 1e-4
    assert report.router_difference < 1e-5
    assert 0 < report.int8.max_win_rate < 0.05
    assert not (report.folder / "checkpoint").exists()


@needs_torch
def test_the_router_has_learnt_what_is_hard_and_not_which_dataset_it_is(trained: Any) -> None:
    report, _ = trained
    for precision in ("int8", "float32"):
        router = BertRouter(report.folder, precision=precision)
        assert router.max_tokens == 24
        pairs = [
            (
                router.win_rate(f"{dataset} {h} {h} word1"),
                router.win_rate(f"{dataset} {e} {e} word1"),
            )
            for dataset in ("one", "two")
            for h, e in zip(HARD, EASY, strict=True)
        ]
        gaps = [hard - easy for hard, easy in pairs]
        assert min(gaps) > 0.1
        # Dataset "two" is harder by a quarter of its answers; its offset took that.
        of_datasets = abs(router.win_rate("two word1 word2") - router.win_rate("one word1 word2"))
        assert of_datasets < np.mean(gaps) / 2
    assert report.quality.rank_correlation > 0.4


@needs_torch
def test_the_artifact_says_what_it_was_made_of(trained: Any, examples: Examples) -> None:
    report, _ = trained
    artifact = load_artifact(report.folder, kind="bert")
    assert artifact.config["settings"]["max_tokens"] == 24
    assert artifact.config["float32"]["max_logit"] == report.float32.max_logit
    router = BertRouter(report.folder)
    assert router.dynamically_quantised
    assert set(router.provenance.trained_on.tolist()) == {prompt_hash(p) for p in examples.prompts}
    assert router.provenance.calibration.shape == (1001,)
    json.dumps(report.as_json())


@needs_torch
def test_a_training_whose_export_is_refused_leaves_the_router_that_was_there(
    trained: Any, examples: Examples, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastroute.training.bert import export
    from fastroute.training.bert.network import load_network
    from fastroute.training.bert.recipe import finish

    report, _ = trained
    folder = tmp_path / "router"
    shutil.copytree(report.folder, folder)

    def content() -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    before = content()
    network = load_network(encoder, max_tokens=24, seed=7)
    monkeypatch.setattr(export, "MAX_FLOAT_DIFFERENCE", -1.0)
    with pytest.raises(InvalidInputError, match="the ONNX export of this encoder differs"):
        finish(network, split(examples, 0), folder, report.history, SETTINGS, "another")
    assert content() == before


@needs_torch
def test_transformers_loads_the_calibrated_model(trained: Any) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    report, _ = trained
    model = AutoModelForSequenceClassification.from_pretrained(report.folder / "torch").eval()
    tokenizer = AutoTokenizer.from_pretrained(report.folder / "torch")
    router = BertRouter(report.folder, precision="float32")
    for prompt in ("one hard3 hard4 word5", "Two EASY1 word7"):
        with torch.inference_mode():
            probabilities = torch.softmax(
                model(**tokenizer(prompt, return_tensors="pt")).logits, dim=1
            )[0]
        expected = 1.0 - float(probabilities[1] + probabilities[2])
        assert router.win_rate(prompt) == pytest.approx(expected, abs=1e-5)


@needs_torch
def test_equal_seeds_give_equal_models_also_after_an_interruption(
    encoder: Path, examples: Examples, tmp_path: Path
) -> None:
    import torch

    from fastroute.training.bert.loop import fine_tune
    from fastroute.training.bert.network import load_network

    settings = replace(SETTINGS, epochs=2, evaluations_per_epoch=3)
    training, stopping, _ = split(examples, 0)

    def train(resume: bool, interrupt_at: int | None) -> dict[str, Any]:
        network = load_network(encoder, max_tokens=24, seed=0)
        steps = itertools.count(1)

        def progress(*_: float) -> None:
            if next(steps) == interrupt_at:
                signal.raise_signal(signal.SIGINT)  # obeyed after the next step

        fine_tune(
            network, training, stopping, settings,
            checkpoint=tmp_path, resume=resume, progress=progress,
        )  # fmt: skip
        return {k: v.clone() for k, v in network.model.state_dict().items()}

    whole = train(False, None)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(False, 21)
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = train(True, None)
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    # Other settings can't go on from it.
    with pytest.raises(InvalidInputError, match="different settings, encoder or training data"):
        fine_tune(
            load_network(encoder, max_tokens=24, seed=0), training, stopping,
            replace(settings, learning_rate=1e-3), checkpoint=tmp_path, resume=True,
        )  # fmt: skip
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="can't be read as a training checkpoint"):
        train(True, None)
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(InvalidInputError, match="there is no checkpoint"):
        train(True, None)


@needs_torch
def test_frozen_layers_stay_as_they_are(encoder: Path, examples: Examples) -> None:
    import torch

    from fastroute.training.bert.loop import fine_tune
    from fastroute.training.bert.network import load_network

    training, stopping, _ = split(examples, 0)
    network = load_network(encoder, max_tokens=24, seed=0)
    before = {k: v.clone() for k, v in network.model.state_dict().items()}
    fine_tune(network, training, stopping, replace(SETTINGS, epochs=1, frozen_layers=1))
    changed = {k for k, v in network.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not [k for k in changed if "embeddings" in k or "layer.0." in k]
    assert [k for k in changed if "layer.1." in k]
    network = load_network(encoder, max_tokens=24, seed=0)
    with pytest.raises(InvalidInputError, match="frozen_layers=9: the encoder has 2 layers"):
        fine_tune(network, training, stopping, replace(SETTINGS, frozen_layers=9))


@needs_torch
def test_training_is_over_in_time_and_with_patience(encoder: Path, examples: Examples) -> None:
    from fastroute.training.bert.loop import fine_tune
    from fastroute.training.bert.network import load_network

    training, stopping, _ = split(examples, 0)

    def train(**change: Any) -> Any:
        network = load_network(encoder, max_tokens=24, seed=0)
        return fine_tune(network, training, stopping, replace(SETTINGS, **change))

    history = train(max_minutes=0.01, epochs=10_000)
    assert history.stopped == "minutes"
    assert history.losses
    history = train(
        learning_rate=1e-9, head_learning_rate=0.9, epochs=200, evaluations_per_epoch=4, patience=2
    )
    assert history.stopped == "patience"
    assert history.best_step < history.steps


@needs_torch
def test_an_encoder_that_can_not_be_used(encoder: Path, tmp_path: Path) -> None:
    from fastroute.training.bert.network import load_network

    with pytest.raises(InvalidInputError, match=r"can't be loaded .* give a folder with config"):
        load_network(tmp_path, max_tokens=24, seed=0)
    with pytest.raises(InvalidInputError, match="max_tokens=99 is more than the 40"):
        load_network(encoder, max_tokens=99, seed=0)


@needs_torch
def test_the_command(encoder: Path, tmp_path: Path) -> None:
    rows = graded_rows(301)
    path = write_graded(tmp_path / "g.jsonl.gz", rows)
    (tmp_path / "evaluation.txt").write_text(rows[7]["prompt"].upper() + "\n")
    output = tmp_path / "router"
    command = (
        "train", "bert", "--data", path, "--output", output, "--encoder", encoder,
        "--epochs", "1", "--max-tokens", "24", "--learning-rate", "0.003", "--label", "halves",
        "--exclude-evaluation", tmp_path / "evaluation.txt", "--data-report", tmp_path / "r.json",
    )  # fmt: skip
    ran = fastroute(*command)
    assert ran.status == 0, ran.err
    assert "beats the baselines was not measured: no group has 20" in ran.err  # of 15 held out
    assert ran.err.count("\n") == 1
    assert f"wrote {output}" in ran.out
    assert "1 prompts of an evaluation set left out" in ran.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["graded"], report["excluded_exact"]) == (300, 1)
    assert "float32 ONNX against torch" in ran.out
    routed = fastroute("route", "--json", "--router", f"bert={output}", "one hard1 hard2")
    assert routed.status == 0, routed.err
    assert 0 < routed.json["win_rate"] < 1
    again = fastroute(*command)
    assert again.status == 2
    assert "is not empty; name another folder, or pass overwrite" in again.err
    (output / "checkpoint").mkdir()
    again = fastroute(*command, "--overwrite")
    assert again.status == 2
    assert "resume it, or remove it" in again.err


def test_the_command_refuses_what_it_can_not_use(tmp_path: Path) -> None:
    output = ("--output", tmp_path / "o")
    battles = tmp_path / "b.jsonl"
    row = {"prompt": "a prompt that is long enough", "model_a": "s", "model_b": "w"}
    battles.write_text(json.dumps(row | {"winner": "tie"}) + "\n")
    for arguments, message in (
        ((), "the following arguments are required: --data"),
        (("--data", battles, "--epochs", "0"), "epochs must be at least 1"),
    ):
        assert message in refused("train", "bert", *output, *arguments)


@needs_torch
def test_the_command_asks_which_models_are_which(tmp_path: Path) -> None:
    battles, graded = tmp_path / "b.jsonl", tmp_path / "g.jsonl"
    row = {"prompt": "a prompt", "model_a": "s", "model_b": "w", "winner": "tie"}
    battles.write_text("".join(json.dumps(row | {"prompt": p}) + "\n" for p in ("a", "\u4e00")))
    command = ("train", "bert", "--output", tmp_path / "o", "--data", battles)
    ran = fastroute(*command)
    assert ran.status == 2
    assert "give both --strong and --weak; the data has the models s, w" in ran.err
    assert "1 labels of prompts that are not in English left out" in ran.out
    assert "not in English" not in fastroute(*command, "--no-english").out
    graded.write_text(json.dumps({"prompt": "another", "m": 1.0}) + "\n")
    ran = fastroute(*command, graded, "--label", "halves")
    assert ran.status == 2
    assert "1 battles left out: they need --strong and --weak" in ran.err
    assert "its dataset '' has scores of 1 model" in ran.err
