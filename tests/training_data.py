"""Small training data made here: an ONNX encoder, its tokenizer, and preference files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fastroute.embedders.static import StaticEmbedder

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[unused0]", "the", "of", "prove", "hello", "integral"),
    *(f"w{i}" for i in range(30)),
]
#: Names of files of graded prompts.
FILES = tuple(f"file-{letter}.jsonl.gz" for letter in "abcd")
D = 12
TABLE = np.random.default_rng(5).normal(size=(len(WORDS), D)).astype(np.float32)


def tokenizer(*, special: bool = True) -> Tokenizer:
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    if special:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return made


def write_encoder(folder: Path, output: str = "embedding") -> Path:
    """An encoder whose embedding is the mean of its tokens' rows of TABLE, as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis2"], ["mask3"]),
        helper.make_node("Mul", ["looked_up", "mask3"], ["masked"]),
        helper.make_node("ReduceMean", ["masked"], [output], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", D])],
        [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array([2]), "axis2")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    made = tokenizer()
    made.enable_truncation(8)
    made.enable_padding(length=8)
    made.save(str(folder / "tokenizer.json"))
    return folder


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def embedder(dimensions: int = 16, seed: int = 3) -> StaticEmbedder:
    """A static embedder over the words above, with a common part in every row."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(len(WORDS), dimensions))
    rows[:, 0] = 2.0
    table = np.rint(rows / np.abs(rows).max() * 127).astype(np.int8)
    scales = np.full(len(WORDS), 0.01, dtype=np.float32)
    scales[:5] = 0.0
    return StaticEmbedder(table, scales, tokenizer(), name="static:tiny")


def prompts(count: int, seed: int, words: Sequence[str] = WORDS[5:]) -> list[str]:
    """Distinct prompts of 6 to 12 words."""
    rng = np.random.default_rng(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made[" ".join(rng.choice(words, size=rng.integers(6, 13)))] = None
    return list(made)
