"""A classifier small enough to be written in a test, and the same in float64 NumPy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(40))]
D = 6
_random = np.random.default_rng(11)
TABLE = _random.normal(size=(len(WORDS), D)).astype(np.float32)
HEAD = _random.normal(size=(D, 5)).astype(np.float32)


def write_tokenizer(folder: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def write_model(
    path: Path,
    *,
    labels: int = 3,
    quantised: bool = False,
    batch: int | str = "batch",
    tokens: int | str = "tokens",
    integer: int = TensorProto.INT64,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    outputs: Sequence[str] = ("logits",),
    scale: float = 1.0,
    table: np.ndarray[Any, Any] = TABLE,
) -> None:
    """The masked mean of the tokens' rows of ``table``, times a head, times ``scale``."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["looked_up"])]
    last = "looked_up"
    if quantised:
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [last], ["q", "step", "zero"]),
            helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["rounded"]),
        ]
        last = "rounded"
    if "attention_mask" in inputs:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "axis2"], ["mask3"]),
            helper.make_node("Mul", [last, "mask3"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axis1"], ["total"], keepdims=0),
            helper.make_node("ReduceSum", ["mask3", "axis1"], ["count"], keepdims=0),
            helper.make_node("Div", ["total", "count"], ["mean"]),
        ]
    else:
        nodes += [helper.make_node("ReduceMean", [last], ["mean"], axes=[1], keepdims=0)]
    if "token_type_ids" in inputs:
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["types", "axis1"], ["typed"], keepdims=1),
            helper.make_node("Add", ["mean", "typed"], ["mean_typed"]),
        ]
    mean = "mean_typed" if "token_type_ids" in inputs else "mean"
    for name in outputs:
        nodes.append(helper.make_node("MatMul", [mean, "head"], [name]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, integer, [batch, tokens]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b"]) for name in outputs],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(HEAD[:, :labels] * np.float32(scale), "head"),
            numpy_helper.from_array(np.array([1]), "axis1"),
            numpy_helper.from_array(np.array([2]), "axis2"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def write_folder(place: Path, *, max_tokens: int = 16, **options: Any) -> Path:
    """A usual folder: tokenizer, config and ``model.onnx``."""
    place.mkdir(parents=True, exist_ok=True)
    write_tokenizer(place)
    write_model(place / "model.onnx", **options)
    config = {"max_position_embeddings": max_tokens, "id2label": {"0": "a", "1": "b", "2": "c"}}
    (place / "config.json").write_text(json.dumps(config))
    return place


def ids_of(prompt: str, limit: int = 16) -> list[int]:
    return [1, *(WORDS.index(w) if w in WORDS else 3 for w in prompt.split()[: limit - 2]), 2]


def reference(
    prompts: Sequence[str], *, limit: int = 16, scale: float = 1.0
) -> np.ndarray[Any, Any]:
    """Win rates in float64, prompt by prompt, without any padding."""
    rates = []
    for prompt in prompts:
        mean = TABLE.astype(np.float64)[ids_of(prompt, limit)].mean(axis=0)
        odds = np.exp(mean @ HEAD[:, :3].astype(np.float64) * scale)
        rates.append(odds[0] / odds.sum())
    return np.array(rates)
