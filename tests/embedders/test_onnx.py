"""OnnxEmbedder against tiny models built here, and against the real MiniLM where it is present."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from fakes.hub import serve_hub
from fastroute.embedders.onnx import OnnxEmbedder
from fastroute.errors import EmbeddingError, InvalidInputError, InvalidTypeError

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(40))]
D = 6
TABLE = np.random.default_rng(7).normal(size=(len(WORDS), D)).astype(np.float32)


def write_tokenizer(folder: Path, *, truncation: int | None = None, special: bool = True) -> None:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    if truncation is not None:
        tokenizer.enable_truncation(truncation)
        tokenizer.enable_padding(length=truncation)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_model(
    path: Path,
    *,
    pooled: bool = False,
    both: bool = False,
    quantised: bool = False,
    batch: int | str = "batch",
    tokens: int | str = "tokens",
    integer: int = TensorProto.INT64,
    inputs: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
    output: str = "last_hidden_state",
    output_type: int = TensorProto.FLOAT,
    table: np.ndarray[Any, Any] = TABLE,
) -> None:
    """A model whose token embedding is a table's row, plus 100 times the token type."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["looked_up"])]
    last = "looked_up"
    if "token_type_ids" in inputs:
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["types", "hundred"], ["types100"]),
            helper.make_node("Unsqueeze", ["types100", "axis2"], ["types3"]),
            helper.make_node("Add", [last, "types3"], ["typed"]),
        ]
        last = "typed"
    if quantised:
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [last], ["q", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"]),
        ]
        last = "rounded"
    outputs = [(output, 3)]
    if pooled or both:  # the masked mean, in the graph
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "axis2"], ["mask3"]),
            helper.make_node("Mul", [last, "mask3"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axis1"], ["total"], keepdims=0),
            helper.make_node("ReduceSum", ["mask3", "axis1"], ["count"], keepdims=0),
            helper.make_node("Div", ["total", "count"], ["mean"]),
        ]
        outputs = [(output, 3), ("sentence_embedding", 2)] if both else [(output, 2)]
    sources = {3: last, 2: "mean"}
    for name, rank in outputs:
        nodes.append(helper.make_node("Cast", [sources[rank]], [name], to=output_type))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, integer, [batch, tokens]) for name in inputs],
        [
            helper.make_tensor_value_info(name, output_type, ["a", "b", "c"][:rank])
            for name, rank in outputs
        ],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.float32(100), "hundred"),
            numpy_helper.from_array(np.array([1]), "axis1"),
            numpy_helper.from_array(np.array([2]), "axis2"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def write_pooling(folder: Path, **config: Any) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A usual folder: token embeddings, mean pooling, at most 16 tokens."""
    place = tmp_path / "tiny"
    place.mkdir()
    write_tokenizer(place)
    write_model(place / "model.onnx")
    write_pooling(place, pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    (place / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    return place


def ids_of(prompt: str, limit: int = 16) -> list[int]:
    return [1, *(WORDS.index(w) if w in WORDS else 3 for w in prompt.split()[: limit - 2]), 2]


def reference(
    prompts: Sequence[str], pooling: str = "mean", *, normalize: bool = True, limit: int = 16
) -> np.ndarray[Any, Any]:
    """The same in float64, prompt by prompt, without any padding."""
    rows = []
    for prompt in prompts:
        tokens = TABLE.astype(np.float64)[ids_of(prompt, limit)]
        pooled = {
            "mean": tokens.mean(axis=0),
            "cls": tokens[0],
            "last": tokens[-1],
            "max": tokens.max(axis=0),
        }[pooling]
        norm = np.linalg.norm(pooled) if normalize else 1.0
        rows.append(pooled / norm if prompt.split() else np.zeros(D))
    return np.array(rows)


PROMPTS = ["w1 w2 w3", "w9", "", "w5 w4 w3 w2 w1 w0 w30 w31", "nothing known", " ", "w7 w7"]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_matches_the_float64_reference(folder: Path, pooling: Any, normalize: bool) -> None:
    embedder = OnnxEmbedder(folder, pooling=pooling, normalize=normalize)
    X = embedder.embed_batch(PROMPTS)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert embedder.dimensions == D
    np.testing.assert_allclose(X, reference(PROMPTS, pooling, normalize=normalize), atol=1e-6)
    for prompt, row in zip(PROMPTS, X, strict=True):
        np.testing.assert_allclose(embedder.embed(prompt), row, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"pooled": True},
        {"both": True},
        {"pooled": True, "output": "any_name"},
        {"integer": TensorProto.INT32},
        {"inputs": ("input_ids", "attention_mask")},
        {"inputs": ("input_ids",)},
        {"batch": 1},
        {"batch": 4},
        {"tokens": 16},
        {"batch": 3, "tokens": 16},
        {"batch": 3, "tokens": 16, "pooled": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_every_layout_of_model_gives_the_same_vectors(
    folder: Path, options: Any, batch_size: int | None
) -> None:
    write_model(folder / "model.onnx", **options)
    embedder = OnnxEmbedder(folder, batch_size=batch_size)
    np.testing.assert_allclose(embedder.embed_batch(PROMPTS), reference(PROMPTS), atol=1e-6)
    expected = "none" if options.get("pooled") or options.get("both") else "mean"
    assert embedder.pooling == expected


def test_half_precision_output_becomes_float32(folder: Path) -> None:
    write_model(folder / "model.onnx", output_type=TensorProto.FLOAT16)
    X = OnnxEmbedder(folder).embed_batch(PROMPTS)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, reference(PROMPTS), atol=5e-3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 20), max_size=12), batch_size=st.integers(1, 5), data=st.data()
)
def test_a_batch_equals_single_calls_in_any_order(
    lengths: list[int], batch_size: int, data: st.DataObject, tmp_path_factory: Any
) -> None:
    place = tmp_path_factory.getbasetemp() / "any_order"
    if not place.exists():
        place.mkdir()
        write_tokenizer(place)
        write_model(place / "model.onnx")
    prompts = [
        " ".join(f"w{data.draw(st.integers(0, 39))}" for _ in range(length)) for length in lengths
    ]
    embedder = OnnxEmbedder(place, pooling="mean", max_tokens=16, batch_size=batch_size)
    X = embedder.embed_batch(prompts)
    assert X.shape == (len(prompts), D)
    np.testing.assert_allclose(X, reference(prompts).reshape(-1, D), atol=1e-6)
    order = data.draw(st.permutations(range(len(prompts))))
    permuted = embedder.embed_batch([prompts[i] for i in order])
    np.testing.assert_allclose(permuted, X[list(order)], atol=1e-6)
    assert embedder.truncated_count == 2 * sum(length > 14 for length in lengths)


def test_dynamic_quantisation_runs_prompt_by_prompt_unless_told_otherwise(folder: Path) -> None:
    write_model(folder / "model.onnx", quantised=True)
    embedder = OnnxEmbedder(folder, normalize=False)
    assert embedder.dynamically_quantised
    assert embedder.batch_size == 1
    prompts = [f"w{i} w{i + 1}" for i in range(30)]
    single = np.stack([embedder.embed(p) for p in prompts])
    np.testing.assert_array_equal(embedder.embed_batch(prompts), single)
    # The reason for the rule: with larger batches the neighbours change the vectors.
    batched = OnnxEmbedder(folder, normalize=False, batch_size=30).embed_batch(prompts)
    assert np.abs(batched - single).max() > 1e-4
    # Rows that fill up a fixed batch must not change them either.
    write_model(folder / "model.onnx", quantised=True, batch=4)
    fixed = OnnxEmbedder(folder, normalize=False).embed_batch(prompts)
    np.testing.assert_array_equal(fixed, single)


def test_a_float_model_is_batched(folder: Path) -> None:
    embedder = OnnxEmbedder(folder)
    assert not embedder.dynamically_quantised
    assert embedder.batch_size == 32


def test_no_prompts_give_no_rows(folder: Path) -> None:
    assert OnnxEmbedder(folder).embed_batch([]).shape == (0, D)


def test_a_prefix_is_put_before_each_prompt_and_an_empty_prompt_stays_zero(folder: Path) -> None:
    plain, prefixed = OnnxEmbedder(folder), OnnxEmbedder(folder, query_prefix="w8 w9 ")
    np.testing.assert_array_equal(prefixed.embed("w1"), plain.embed("w8 w9 w1"))
    assert not prefixed.embed("").any()
    assert not prefixed.embed_batch(["", "w1"])[0].any()


def test_lower_case_where_the_folder_asks_for_it(folder: Path) -> None:
    settings_file = folder / "sentence_bert_config.json"
    settings_file.write_text('{"max_seq_length": 16, "do_lower_case": true}')
    np.testing.assert_allclose(
        OnnxEmbedder(folder).embed("W1 W2"), reference(["w1 w2"])[0], atol=1e-6
    )


def test_tokenizers_without_special_tokens(folder: Path) -> None:
    write_tokenizer(folder, special=False)
    X = OnnxEmbedder(folder, normalize=False).embed_batch(["w1 w2", ""])
    np.testing.assert_allclose(X[0], TABLE[[5, 6]].mean(axis=0), atol=1e-6)
    assert not X[1].any()


# Truncation


LONG = " ".join(f"w{i}" for i in range(30))


def test_long_prompts_are_cut_and_counted(folder: Path) -> None:
    embedder = OnnxEmbedder(folder)
    assert embedder.max_tokens == 16
    just_fits = " ".join(f"w{i}" for i in range(14))
    np.testing.assert_array_equal(embedder.embed(LONG), embedder.embed(just_fits))
    assert embedder.truncated_count == 1
    embedder.embed_batch([LONG, "w1", LONG])
    assert embedder.truncated_count == 3


def test_long_prompts_warn_once_or_fail_if_asked_to(folder: Path) -> None:
    warning = OnnxEmbedder(folder, on_truncation="warn")
    with pytest.warns(UserWarning, match=r"1 of 2 prompts are longer than max_tokens=16") as seen:
        warning.embed_batch(["w1", LONG])
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warning.embed(LONG)
    assert warning.truncated_count == 2
    failing = OnnxEmbedder(folder, on_truncation="error")
    failing.embed("w1")
    with pytest.raises(InvalidInputError, match=r"max_tokens=16 \(the first: prompts\[1\]"):
        failing.embed_batch(["w1", LONG])
    assert failing.truncated_count == 0


@pytest.mark.parametrize(
    ("files", "tokenizer_limit", "expected"),
    [
        ({"sentence_bert_config.json": {"max_seq_length": 9}}, 12, 9),
        ({"tokenizer_config.json": {"model_max_length": 11}}, 12, 12),
        ({"tokenizer_config.json": {"model_max_length": 11}}, None, 11),
        ({"config.json": {"max_position_embeddings": 20}}, None, 20),
        (
            {
                "tokenizer_config.json": {"model_max_length": 1e30},
                "config.json": {
                    "max_position_embeddings": 20,
                    "model_type": "roberta",
                    "pad_token_id": 1,
                },
            },
            None,
            18,
        ),
    ],
)
def test_the_limit_comes_from_the_folder(
    folder: Path, files: dict[str, Any], tokenizer_limit: int | None, expected: int
) -> None:
    (folder / "sentence_bert_config.json").unlink()
    write_tokenizer(folder, truncation=tokenizer_limit)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    embedder = OnnxEmbedder(folder)
    assert embedder.max_tokens == expected
    np.testing.assert_allclose(
        embedder.embed(LONG), reference([LONG], limit=expected)[0], atol=1e-6
    )
    assert OnnxEmbedder(folder, max_tokens=7).max_tokens == 7


def test_a_folder_without_any_limit_asks_for_one(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    with pytest.raises(InvalidInputError, match="pass max_tokens="):
        OnnxEmbedder(folder)
    assert OnnxEmbedder(folder, max_tokens=5).max_tokens == 5


def test_limits_that_can_not_be_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="special tokens and query_prefix take 4"):
        OnnxEmbedder(folder, query_prefix="w1 w2 ", max_tokens=4)
    write_model(folder / "model.onnx", tokens=10)
    assert OnnxEmbedder(folder).max_tokens == 10
    with pytest.raises(InvalidInputError, match="input is fixed at 10 tokens"):
        OnnxEmbedder(folder, max_tokens=11)


# The name


def test_the_name_changes_with_whatever_changes_vectors(folder: Path, tmp_path: Path) -> None:
    base = OnnxEmbedder(folder).name
    assert base.startswith("onnx:tiny:")
    assert len(base.rpartition(":")[2]) == 12
    assert OnnxEmbedder(folder, batch_size=3, num_threads=2, on_truncation="warn").name == base
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert OnnxEmbedder(moved, label="tiny").name == base
    others = {
        OnnxEmbedder(folder, normalize=False).name,
        OnnxEmbedder(folder, pooling="cls").name,
        OnnxEmbedder(folder, max_tokens=8).name,
        OnnxEmbedder(folder, query_prefix="w1 ").name,
    }
    write_model(folder / "model.onnx", table=TABLE + 1)
    others.add(OnnxEmbedder(folder).name)
    assert len(others | {base}) == 6


# Files that are missing or not understood


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"no folder '.*gone', and it is not a Hugging Face"
    ):
        OnnxEmbedder(tmp_path / "gone")
    with pytest.raises(InvalidInputError, match="no folder 'minilm'"):
        OnnxEmbedder("minilm")


def test_a_file_instead_of_a_folder(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"pass its folder and model_file='model\.onnx'"):
        OnnxEmbedder(folder / "model.onnx")


def test_no_onnx_file(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(EmbeddingError, match="has no ONNX file"):
        OnnxEmbedder(folder)


def test_which_of_several_onnx_files(folder: Path) -> None:
    other = TABLE[::-1].copy()
    write_model(folder / "onnx" / "model_quantized.onnx", table=other)
    chosen = OnnxEmbedder(folder)  # model.onnx goes first
    np.testing.assert_allclose(chosen.embed("w1"), reference(["w1"])[0], atol=1e-6)
    asked = OnnxEmbedder(folder, model_file="onnx/model_quantized.onnx", normalize=False)
    np.testing.assert_allclose(asked.embed("w1"), other[[1, 5, 2]].mean(axis=0), atol=1e-6)
    with pytest.raises(
        EmbeddingError, match=r"no file 'a\.onnx'; its ONNX files: model\.onnx, onnx/"
    ):
        OnnxEmbedder(folder, model_file="a.onnx")
    with pytest.raises(InvalidInputError, match="path of one file inside the folder"):
        OnnxEmbedder(folder, model_file="../model.onnx")
    (folder / "model.onnx").rename(folder / "model_int8.onnx")
    with pytest.raises(
        EmbeddingError, match=r"model_file= one of: model_int8\.onnx, onnx/model_quantized\.onnx"
    ):
        OnnxEmbedder(folder)
    (folder / "model_int8.onnx").unlink()
    assert OnnxEmbedder(folder).dimensions == D  # the only one needs no name


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EmbeddingError, match=r"has no tokenizer\.json"):
        OnnxEmbedder(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", b"{}", "is not a tokenizer"),
        ("model.onnx", b"not a model", "onnxruntime can't load"),
        ("model.onnx", b"", "is empty"),
        ("1_Pooling/config.json", b"{", "is not JSON"),
        ("config.json", b"[]", "must hold a JSON object"),
    ],
)
def test_broken_files_are_named(folder: Path, file: str, content: bytes, message: str) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(EmbeddingError, match=message) as caught:
        OnnxEmbedder(folder)
    assert Path(file).name in str(caught.value)


def test_token_embeddings_without_a_pooling_are_not_guessed(folder: Path) -> None:
    shutil.rmtree(folder / "1_Pooling")
    with pytest.raises(EmbeddingError, match="pass pooling='mean', 'cls', 'max' or 'last'"):
        OnnxEmbedder(folder)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean", "include_prompt": True}, "mean"),
    ],
)
def test_pooling_is_read_from_the_folder(folder: Path, config: Any, pooling: str) -> None:
    write_pooling(folder, **config)
    embedder = OnnxEmbedder(folder)
    assert embedder.pooling == pooling
    np.testing.assert_allclose(
        embedder.embed_batch(PROMPTS), reference(PROMPTS, pooling), atol=1e-6
    )


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"word_embedding_dimension": 6},
    ],
)
def test_a_pooling_not_known_here_is_refused(folder: Path, config: Any) -> None:
    write_pooling(folder, **config)
    with pytest.raises(EmbeddingError, match="supported are mean, cls, max and last"):
        OnnxEmbedder(folder)


def test_layers_after_the_pooling_are_not_dropped(folder: Path) -> None:
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EmbeddingError, match="lists Dense"):
        OnnxEmbedder(folder)
    write_model(folder / "model.onnx", pooled=True)  # then the graph holds them
    assert OnnxEmbedder(folder).pooling == "none"


def test_a_prefix_outside_the_pooling_is_refused(folder: Path) -> None:
    write_pooling(folder, pooling_mode_mean_tokens=True, include_prompt=False)
    assert OnnxEmbedder(folder).pooling == "mean"
    with pytest.raises(InvalidInputError, match="include_prompt=false"):
        OnnxEmbedder(folder, query_prefix="w1 ")


def test_pooling_and_output_must_fit(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"does not fit .*pass pooling='mean'"):
        OnnxEmbedder(folder, pooling="none")
    with pytest.raises(InvalidInputError, match="has the outputs last_hidden_state"):
        OnnxEmbedder(folder, output="pooler_output")
    write_model(folder / "model.onnx", both=True)
    assert OnnxEmbedder(folder, pooling="max").pooling == "max"  # takes the token embeddings
    with pytest.raises(InvalidInputError, match=r"does not fit .*pass pooling='none'"):
        OnnxEmbedder(folder, pooling="max", output="sentence_embedding")


def test_several_outputs_without_a_usual_name(folder: Path) -> None:
    write_model(folder / "model.onnx", both=True, output="states")
    with pytest.raises(EmbeddingError, match="pass output= one of: states, sentence_embedding"):
        OnnxEmbedder(folder, pooling="cls")
    assert OnnxEmbedder(folder, pooling="cls", output="states").dimensions == D


def test_unknown_inputs_are_refused(folder: Path) -> None:
    write_model(folder / "model.onnx", inputs=("input_ids", "attention_mask", "pixel_values"))
    with pytest.raises(EmbeddingError, match="takes the inputs input_ids, attention_mask, pixel"):
        OnnxEmbedder(folder)


def test_outputs_that_are_no_embedding_are_refused(folder: Path) -> None:
    write_model(folder / "model.onnx", output_type=TensorProto.INT64)
    with pytest.raises(EmbeddingError, match="expected floats"):
        OnnxEmbedder(folder)


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    table = TABLE.copy()
    table[WORDS.index("w3")] = np.nan
    table[WORDS.index("[PAD]")] = np.nan  # in the padding it does no harm
    write_model(folder / "model.onnx", table=table)
    embedder = OnnxEmbedder(folder)
    fine = ["w1 w2", "w1"]
    np.testing.assert_allclose(embedder.embed_batch(fine), reference(fine), atol=1e-6)
    with pytest.raises(EmbeddingError, match="NaN or infinity"):
        embedder.embed_batch(["w1", "w3"])


def test_a_failing_run_names_the_size(folder: Path) -> None:
    write_model(folder / "model.onnx", table=TABLE[:20])  # w16 and up are out of range
    embedder = OnnxEmbedder(folder)
    with pytest.raises(EmbeddingError, match="failed on 1 prompts of up to 3 tokens") as caught:
        embedder.embed("w39")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "median"}, "pooling must be one of auto, mean"),
        ({"on_truncation": "ignore"}, "on_truncation must be one of count, warn, error"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ({"max_tokens": 2.5}, "max_tokens must be an int, got float"),
        ({"providers": "CPUExecutionProvider"}, "providers must be a sequence"),
        ({"providers": ("NoSuchProvider",)}, "'NoSuchProvider' is not in this onnxruntime; it has"),
        ({"revision": "main"}, "is for Hugging Face ids"),
        ({"query_prefix": None}, "query_prefix must be a str, got NoneType"),
    ],
)
def test_bad_arguments_are_named(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        OnnxEmbedder(folder, **arguments)


def test_prompts_of_a_wrong_type_are_named(folder: Path) -> None:
    embedder = OnnxEmbedder(folder)
    with pytest.raises(InvalidTypeError, match="prompt must be a str, got bytes"):
        embedder.embed(b"w1")  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="got one string"):
        embedder.embed_batch("w1 w2")
    with pytest.raises(InvalidInputError, match=r"prompts\[1\] holds a lone surrogate"):
        embedder.embed_batch(["w1", "\ud800"])


def test_threads_share_one_embedder(folder: Path) -> None:
    embedder = OnnxEmbedder(folder)
    prompts = [f"w{i % 40} w{i % 7} w{i % 11}" * (1 + i % 3) for i in range(60)] + [LONG]
    expected = embedder.embed_batch(prompts)

    def work(_: int) -> None:
        np.testing.assert_array_equal(embedder.embed_batch(prompts), expected)
        np.testing.assert_allclose(embedder.embed(prompts[0]), expected[0], atol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert embedder.truncated_count >= 17


def test_importing_the_module_loads_no_heavy_library() -> None:
    code = (
        "import sys, fastroute.embedders.onnx; "
        "print([m for m in ('onnxruntime', 'tokenizers', 'huggingface_hub') if m in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


# The Hugging Face Hub, played by a small server here; the embedder runs in another process.


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub with one model, ``someone/tiny``: its address, and the files asked for so far."""
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    (folder / "modeling_evil.py").write_text("raise SystemExit('remote code ran')")
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    with serve_hub(folder) as served:
        yield served


def test_a_hub_id_is_fetched_without_any_code_and_then_found_in_the_cache(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, fetched = hub
    code = (
        "from fastroute.embedders.onnx import OnnxEmbedder\n"
        f"e = OnnxEmbedder('someone/tiny', cache_dir={str(tmp_path / 'cache')!r})\n"
        "print(e.name, e.embed('w1 w2').tolist(), sep='\\n')"
    )
    done = run_python(code, HF_ENDPOINT=address, HF_HUB_DISABLE_PROGRESS_BARS="1")
    assert done.returncode == 0, done.stderr
    name, vector = done.stdout.splitlines()
    assert name.startswith("onnx:tiny:")
    np.testing.assert_allclose(json.loads(vector), reference(["w1 w2"])[0], atol=1e-6)
    assert sorted(fetched) == [
        "1_Pooling/config.json",
        "onnx/model.onnx",
        "sentence_bert_config.json",
        "tokenizer.json",
    ]
    # A second time without any network.
    again = run_python(code, HF_ENDPOINT="http://127.0.0.1:1", HF_HUB_OFFLINE="1")
    assert again.stdout == done.stdout


def test_a_hub_out_of_reach_says_how_to_go_on(tmp_path: Path) -> None:
    code = (
        "from fastroute.embedders.onnx import OnnxEmbedder\n"
        "from fastroute.errors import EmbeddingError\n"
        f"try: OnnxEmbedder('someone/tiny', cache_dir={str(tmp_path)!r})\n"
        "except EmbeddingError as error: print(error)"
    )
    done = run_python(code, HF_ENDPOINT="http://127.0.0.1:1")
    assert "there is no local folder 'someone/tiny', and it could not be fetched" in done.stdout
    assert "pass a local folder" in done.stdout


# The real model


@pytest.fixture(scope="module")
def minilm() -> OnnxEmbedder:
    shared = os.environ.get("FASTROUTE_DATA") or Path(__file__).parents[3] / "shared"
    folder = Path(shared) / "models" / "all-MiniLM-L6-v2"
    if not folder.is_dir():
        pytest.skip("all-MiniLM-L6-v2 is not here: set FASTROUTE_DATA to the folder of models/")
    return OnnxEmbedder(folder)


def test_minilm_puts_paraphrases_together(minilm: OnnxEmbedder) -> None:
    X = minilm.embed_batch(
        [
            "What is the capital of France?",
            "Which city is the French capital?",
            "How do I sort a list in Python?",
            "Python: put the elements of a list in order",
        ]
    )
    assert X.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)
    cosines = X @ X.T
    assert cosines[0, 1] > 0.8
    assert cosines[2, 3] > 0.7
    assert cosines[:2, 2:].max() < 0.3


def test_minilm_gives_the_same_vectors_in_a_batch(minilm: OnnxEmbedder) -> None:
    assert minilm.dynamically_quantised
    prompts = [
        "Hi",
        "",
        "Prove that the square root of 2 is irrational.",
        "def f(x): return x " * 9,
    ]
    X = minilm.embed_batch(prompts)
    np.testing.assert_array_equal(X, np.stack([minilm.embed(p) for p in prompts]))
    assert not X[1].any()
