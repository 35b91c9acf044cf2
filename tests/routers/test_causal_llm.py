"""``causal_llm`` by onnxruntime, against torch on a Llama made here."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causal_llm_models import PROMPTS, TEMPLATE, torch_or_skip, write_llama, write_template
from fastroute.errors import InvalidInputError, InvalidTypeError, ScoringError
from fastroute.routers import CausalLLMRouter, OnnxLabelEngine, create_router
from fastroute.routers.causal_llm.engine import LabelEngine, softmax
from fastroute.routers.causal_llm.template import LabelTemplate

MANY = [*PROMPTS, *(f"question {i} " * (i % 7 + 1) for i in range(20)), "[[5]] is my answer"]


class FixedEngine(LabelEngine):
    """Answers rows of probabilities in turn."""

    truncated_count = 0
    checksum = None

    def __init__(self, *rows: list[float]) -> None:
        self.rows = np.array(rows)

    def probabilities(self, prompts: list[str]) -> Any:
        return self.rows[: len(prompts)]


# The formula


def test_the_win_rate_is_what_the_good_labels_leave() -> None:
    router = CausalLLMRouter(FixedEngine([0.1, 0.2, 0.3, 0.25, 0.15], [0, 0, 0, 0, 1.0]))
    np.testing.assert_allclose(router.win_rates(["a", "b"]), [0.6, 0.0], atol=1e-15)
    assert router.win_rate("a") == pytest.approx(0.6)
    strict = CausalLLMRouter(router.engine, score_threshold=5)
    assert strict.win_rate("a") == pytest.approx(0.85)


def test_without_a_label_the_strong_model_answers() -> None:
    router = CausalLLMRouter(FixedEngine([np.nan] * 5, [0, 0, 0, 1.0, 0]))
    np.testing.assert_array_equal(router.win_rates(["a", "b"]), [1.0, 0.0])
    assert router.unlabelled_count == 1


def test_softmax_without_anything_is_nan_and_says_nothing() -> None:
    logits = np.array([[-np.inf] * 5, [0.0, -np.inf, -np.inf, -np.inf, 0.0], [1e4, 0, 0, 0, 0]])
    shares = softmax(logits)
    assert np.isnan(shares[0]).all()
    np.testing.assert_array_equal(shares[1], [0.5, 0, 0, 0, 0.5])
    np.testing.assert_array_equal(shares[2], [1, 0, 0, 0, 0])


def test_arguments_that_can_not_be_used() -> None:
    with pytest.raises(InvalidTypeError, match="must be a LabelEngine"):
        CausalLLMRouter("folder")  # type: ignore[arg-type] # on purpose
    for value in (1, 6):
        with pytest.raises(InvalidInputError, match="score_threshold must be"):
            CausalLLMRouter(FixedEngine(), score_threshold=value)
    with pytest.raises(InvalidInputError, match="needs checkpoint_path"):
        create_router("causal_llm")
    with pytest.raises(ScoringError, match="there is no folder 'nowhere'"):
        create_router("causal_llm", checkpoint_path="nowhere")


# A Llama


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "checkpoint"
    write_llama(folder)
    write_template(folder)
    return folder


@pytest.fixture(scope="module")
def torch_model(model_folder: Path) -> Any:
    from fastroute.training.causal_llm.libraries import load_decoder

    return load_decoder(model_folder)


@pytest.fixture(scope="module")
def exported(model_folder: Path) -> Iterator[Path]:
    from fastroute.training.causal_llm.export import export_causal_llm

    made = export_causal_llm(model_folder, model_folder.parent / "onnx")
    assert made.max_difference <= 1e-4
    assert made.prefix_tokens > 20
    assert made.num_bytes == (made.folder / "model.onnx").stat().st_size
    yield made.folder
    shutil.rmtree(made.folder)


def expected_logits(torch_model: Any, engine: OnnxLabelEngine, prompts: list[str]) -> Any:
    """Torch on each prompt alone, over the whole vocabulary, without a cache."""
    torch = torch_or_skip()
    rows = []
    with torch.no_grad():
        for fitted in engine.prompt.fit(prompts):
            logits = torch_model(torch.tensor([fitted.ids])).logits[0, -1]
            rows.append(logits[engine.prompt.label_ids].numpy())
    return np.array(rows)


@pytest.mark.parametrize("reuse_prefix", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_logits_are_torch_s(
    torch_model: Any, exported: Path, reuse_prefix: bool, batch_size: int
) -> None:
    engine = OnnxLabelEngine(exported, reuse_prefix=reuse_prefix, batch_size=batch_size)
    logits = engine.label_logits(MANY)
    np.testing.assert_allclose(logits, expected_logits(torch_model, engine, MANY), atol=1e-4)
    assert np.ptp(logits, axis=0).min() > 0.1  # prompts do differ


def test_one_and_a_batch_are_equal(exported: Path) -> None:
    router = CausalLLMRouter.load(exported, batch_size=7, num_threads=2, use_arena=False)
    rates = router.win_rates(MANY)
    assert rates.dtype == np.float64
    np.testing.assert_allclose(rates, [router.win_rate(p) for p in MANY], atol=1e-4)
    order = np.random.default_rng(0).permutation(len(MANY))
    shuffled = router.win_rates([MANY[i] for i in order])
    np.testing.assert_allclose(shuffled, rates[order], atol=1e-4)
    assert router.win_rates([]).shape == (0,)


def test_the_win_rate_of_the_formula(torch_model: Any, exported: Path) -> None:
    router = CausalLLMRouter.load(exported)
    assert isinstance(router.engine, OnnxLabelEngine)
    logits = expected_logits(torch_model, router.engine, PROMPTS).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        router.win_rates(PROMPTS), 1 - shares[:, 3] - shares[:, 4], atol=1e-4
    )


def test_a_long_prompt_is_scored_by_its_end(torch_model: Any, exported: Path) -> None:
    engine = OnnxLabelEngine(exported, max_tokens=120)
    long = " ".join(f"word {i}" for i in range(200))
    logits = engine.label_logits([long])
    assert engine.truncated_count == 1
    (fitted,) = engine.prompt.fit([long])
    np.testing.assert_allclose(logits, engine.label_logits([fitted.text]), atol=1e-6)
    np.testing.assert_allclose(logits, expected_logits(torch_model, engine, [long]), atol=1e-4)


def test_threads_share_one_router(exported: Path) -> None:
    router = CausalLLMRouter.load(exported)
    expected = [router.win_rate(p) for p in MANY]
    barrier = threading.Barrier(4)

    def work(_: int) -> list[float]:
        barrier.wait()
        return [router.win_rate(p) for p in MANY]

    with ThreadPoolExecutor(4) as pool:
        for rates in pool.map(work, range(4)):
            assert rates == expected


def test_the_checksum_pins_all_that_decides(exported: Path, tmp_path: Path) -> None:
    first = CausalLLMRouter.load(exported).provenance.checksum
    assert first == CausalLLMRouter.load(exported, num_threads=2).provenance.checksum
    assert first != CausalLLMRouter.load(exported, max_tokens=200).provenance.checksum
    copy = shutil.copytree(exported, tmp_path / "copy")
    write_template(copy, LabelTemplate(TEMPLATE.prefix, "\nLabel:", max_tokens=256))
    assert first != CausalLLMRouter.load(copy).provenance.checksum


def test_the_controller_routes_by_it(exported: Path) -> None:
    from fastroute import Controller

    controller = Controller(
        routers=["causal_llm"], strong_model="strong", weak_model="weak",
        config={"causal_llm": {"checkpoint_path": str(exported)}},
    )  # fmt: skip
    decision = controller.decide("hi", router="causal_llm", threshold=0.5)
    assert decision.win_rate == pytest.approx(CausalLLMRouter.load(exported).win_rate("hi"))


def test_the_export_of_another_tool(torch_model: Any, exported: Path, tmp_path: Path) -> None:
    """Logits of the whole vocabulary at each position, no past, and no positions."""
    import warnings

    torch = torch_or_skip()
    folder = shutil.copytree(exported, tmp_path / "other", ignore=lambda *_: ["model.onnx"])

    class Plain(torch.nn.Module):  # type: ignore[misc, name-defined] # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = torch_model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids, attention_mask=attention_mask, use_cache=False).logits

    ids = torch.zeros((2, 5), dtype=torch.long)
    axes = {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracing exporter, as in export.py
        torch.onnx.export(
            Plain(), (ids, torch.ones_like(ids)), str(folder / "model.onnx"), dynamo=False,
            input_names=["input_ids", "attention_mask"], output_names=["logits"],
            dynamic_axes=dict.fromkeys(("input_ids", "attention_mask", "logits"), axes),
        )  # fmt: skip
    engine = OnnxLabelEngine(folder)
    assert engine.prefix_tokens == 0
    np.testing.assert_allclose(
        engine.label_logits(MANY), expected_logits(torch_model, engine, MANY), atol=1e-4
    )


# What can be wrong with a folder


def test_files_that_are_missing_or_not_understood(exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    with pytest.raises(ScoringError, match=r"has no other\.onnx"):
        OnnxLabelEngine(copy, model_file="other.onnx")
    with pytest.raises(InvalidInputError, match="is not in this onnxruntime"):
        OnnxLabelEngine(copy, providers=["NoSuchProvider"])
    with pytest.raises(InvalidInputError, match="batch_size must be at least 1"):
        OnnxLabelEngine(copy, batch_size=0)
    (copy / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ScoringError, match="onnxruntime can't load"):
        OnnxLabelEngine(copy)
    (copy / "fastroute_router.json").unlink()
    with pytest.raises(ScoringError, match="fastroute export causal_llm"):
        OnnxLabelEngine(copy)


def test_a_model_that_is_no_decoder(exported: Path, tmp_path: Path) -> None:
    import onnx

    folder = shutil.copytree(exported, tmp_path / "copy")
    path = folder / "model.onnx"
    model = onnx.load(str(path))
    for change, message in (
        (lambda graph: graph.input.pop(0), "onnxruntime can't load|must take"),
        (lambda graph: setattr(graph.output[0], "name", "present.0.key"), "can't load|must give"),
    ):
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        change(broken.graph)
        onnx.save(broken, str(path))
        with pytest.raises(ScoringError, match=message):
            OnnxLabelEngine(folder)


# The export


def test_an_export_says_what_is_wrong(model_folder: Path, tmp_path: Path) -> None:
    from fastroute.training.causal_llm.export import export_causal_llm

    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep", "utf-8")
    with pytest.raises(InvalidInputError, match="exists and is not an empty folder"):
        export_causal_llm(model_folder, full)
    assert (full / "mine.txt").read_text("utf-8") == "keep"
    with pytest.raises(InvalidInputError, match="the model takes at most 512"):
        export_causal_llm(model_folder, tmp_path / "new", max_tokens=513)
    small = tmp_path / "small"
    write_llama(small, vocab_size=300)
    write_template(small)
    with pytest.raises(ScoringError, match="do not match"):
        export_causal_llm(small, tmp_path / "new")
    (small / "config.json").unlink()
    with pytest.raises(InvalidInputError, match=r"has no config\.json"):
        export_causal_llm(small, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "small"]


def test_an_export_that_differs_from_torch_is_not_kept(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastroute.training.causal_llm import export

    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(ScoringError, match=r"differs from torch by .* it is not kept"):
        export.export_causal_llm(model_folder, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_scattered_weights_of_a_large_model_are_gathered(exported: Path, tmp_path: Path) -> None:
    """Above 2 GB torch writes a file for each tensor; here a small model is written so."""
    import onnx

    from fastroute.training.causal_llm import export

    folder = shutil.copytree(exported, tmp_path / "copy", ignore=lambda *_: ["model.onnx"])
    onnx.save(
        onnx.load(str(exported / "model.onnx")), str(folder / "model.onnx"),
        save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0,
    )  # fmt: skip
    assert len(list(folder.iterdir())) > 20
    export._gather_weights(folder / "model.onnx")
    names = {path.name for path in folder.iterdir()} - {path.name for path in exported.iterdir()}
    assert names == {"model.onnx.data"}
    engine = OnnxLabelEngine(folder)
    expected = OnnxLabelEngine(exported).label_logits(PROMPTS)
    np.testing.assert_array_equal(engine.label_logits(PROMPTS), expected)


def test_an_export_with_scaled_logits_and_a_sliding_window(tmp_path: Path) -> None:
    """What a model does to its logits after the output layer is kept; a window sets the limit."""
    torch = torch_or_skip()
    import transformers

    from causal_llm_models import write_tokenizer
    from fastroute.training.causal_llm.export import export_causal_llm

    folder = tmp_path / "checkpoint"
    tokenizer = write_tokenizer(folder)
    torch.manual_seed(1)
    config = transformers.Gemma2Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        sliding_window=200, final_logit_softcapping=3.0, initializer_range=0.5,
        max_position_embeddings=512,
    )  # fmt: skip
    transformers.Gemma2ForCausalLM(config).save_pretrained(folder)
    write_template(folder, LabelTemplate(TEMPLATE.prefix, TEMPLATE.suffix))
    made = export_causal_llm(folder, tmp_path / "onnx")
    assert made.max_difference <= 1e-4
    engine = OnnxLabelEngine(made.folder)
    assert engine.prompt.max_tokens == 200
    assert np.abs(engine.label_logits(PROMPTS)).max() <= 3.0
    said = json.loads((made.folder / "fastroute_router.json").read_text("utf-8"))
    assert said["max_difference_from_torch"] == made.max_difference
