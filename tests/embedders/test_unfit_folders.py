"""Folders of models whose tokenizer or settings can't be used: a FastRouteError, and no wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from causal_llm_models import write_tokenizer as write_llama_tokenizer
from fastroute.artifacts import save_artifact
from fastroute.embedders.onnx import OnnxEmbedder
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import FastRouteError
from fastroute.routers.bert import BertRouter
from fastroute.routers.causal_llm.template import longest_input
from fastroute.routers.causal_llm.tokenizer import open_tokenizer
from fastroute.routers.routellm_checkpoint import load_factors
from fastroute.training.static.distillation import Distillation
from tiny_classifier import WORDS, write_folder
from training_data import write_encoder

TEXT = "hi wörld w1 \U0001f600"
WITHOUT_UNKNOWN = {word: i for i, word in enumerate(WORDS) if word != "[UNK]"}


def static(folder: Path, content: bytes) -> None:
    save_artifact(
        folder,
        kind="static_embedder",
        config={"name": "static:tiny", "length_scale": 0.0},
        arrays={
            "table": np.ones((len(WORDS), 2), np.int8),
            "scales": np.ones(len(WORDS), np.float32),
        },
        files={"tokenizer.json": content},
    )
    made = StaticEmbedder.load(folder)
    made.embed(TEXT)
    made.embed_batch([TEXT, ""])


def _with_tokenizer(folder: Path, content: bytes) -> Path:
    (folder / "tokenizer.json").write_bytes(content)
    return folder


def bert(folder: Path, content: bytes) -> None:
    BertRouter(_with_tokenizer(write_folder(folder), content)).win_rate(TEXT)


def onnx(folder: Path, content: bytes) -> None:
    OnnxEmbedder(_with_tokenizer(write_folder(folder), content), output="logits").embed(TEXT)


def causal_llm(folder: Path, content: bytes) -> None:
    write_llama_tokenizer(folder)
    open_tokenizer(_with_tokenizer(folder, content)).encode(TEXT)


def distillation(folder: Path, content: bytes) -> None:
    Distillation(_with_tokenizer(write_encoder(folder), content))


def _of(model: Any) -> bytes:
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    content: bytes = made.to_str().encode()
    return content


USABLE = _of(models.WordLevel({word: i for i, word in enumerate(WORDS[:40])}, unk_token="[UNK]"))
UNFIT = {
    "WordPiece without [UNK]": _of(models.WordPiece(WITHOUT_UNKNOWN, unk_token="[UNK]")),
    "WordLevel without [UNK]": _of(models.WordLevel(WITHOUT_UNKNOWN, unk_token="[UNK]")),
    "Unigram without an unknown token": _of(models.Unigram([("a", -1.0), ("b", -2.0)])),
    "no vocabulary": _of(models.WordLevel({}, unk_token="[UNK]")),
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 200_000,
    "not UTF-8": USABLE[:50] + b"\xff" + USABLE[50:],
    "without a model": json.dumps({**json.loads(USABLE), "model": None}).encode(),
    "NaN": USABLE.replace(b'"version":"1.0"', b'"version":NaN'),
}


@pytest.mark.parametrize("load", [static, bert, onnx, causal_llm, distillation])
@pytest.mark.parametrize("name", list(UNFIT))
def test_a_tokenizer_that_can_not_be_used(
    tmp_path: Path, name: str, load: Callable[[Path, bytes], None]
) -> None:
    load(tmp_path / "good", USABLE)
    with pytest.raises(FastRouteError) as caught:
        load(tmp_path / "bad", UNFIT[name])
    said = str(caught.value)
    assert str(tmp_path / "bad" / "tokenizer.json") in said
    if "without [UNK]" in name or "unknown" in name:
        assert "save it again with its unknown token, such as [UNK]" in said


def test_a_table_whose_tokens_are_numbered_beyond_it(tmp_path: Path) -> None:
    words = {**{word: i for i, word in enumerate(WORDS)}, "w7": 10**6}
    content = _of(models.WordLevel(words, unk_token="[UNK]"))
    with pytest.raises(FastRouteError, match="from 0 to 1000000, and a table of 44"):
        static(tmp_path / "static", content)
    with pytest.raises(FastRouteError, match="are not numbered from 0"):
        distillation(tmp_path / "encoder", content)


def _text(content: str | bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


LIMITS = '{{"max_position_embeddings": {0}, "model_max_length": {0}, "max_seq_length": {0}}}'
SETTINGS: dict[str, Callable[[Path], Any]] = {
    "deep list": _text("[" * 200_000),
    "deep object": _text('{"a":' * 200_000),
    "a list": _text("[]"),
    "empty": _text(""),
    "not UTF-8": _text(b"\xff\xfe"),
    "BOM": _text(b"\xef\xbb\xbf{}"),
    **{
        f"limit {n}": _text(LIMITS.format(n))
        for n in ("NaN", "Infinity", "-5", '"5"', "[1]", "9e999")
    },
    "padding": _text('{"model_type": "roberta", "max_position_embeddings": 9, "pad_token_id": ""}'),
    "model type": _text('{"model_type": [], "max_position_embeddings": 9}'),
    "labels": _text('{"id2label": {"0": [1]}}'),
    "pipe": os.mkfifo,
    "device": _zero,
    "folder": Path.mkdir,
}  # fmt: skip
FILES = (
    "config.json", "tokenizer_config.json", "tokenizer.json", "model.onnx", "modules.json",
    "sentence_bert_config.json", "1_Pooling/config.json", "model.safetensors",
)  # fmt: skip


def load_each(place: Path, file: str) -> None:
    """Load each kind of folder with ``file`` replaced by each of SETTINGS; print what is bare."""
    for name, make in SETTINGS.items():
        for number, load in enumerate(
            (
                lambda folder: BertRouter(folder).win_rate(TEXT),
                lambda folder: OnnxEmbedder(folder, output="logits").embed(TEXT),
                open_tokenizer,
                longest_input,
                load_factors,
            )
        ):
            folder = write_folder(place / f"{name}-{number}")
            (folder / "model.safetensors").write_bytes(b"")
            target = folder / file
            target.parent.mkdir(exist_ok=True)
            target.unlink(missing_ok=True)
            make(target)
            try:
                load(folder)  # type: ignore[operator] # loaders of several types
            except FastRouteError:
                pass
            except Exception as error:
                print(f"{name}, {number}: {error!r}"[:300])


@pytest.mark.parametrize("file", FILES)
def test_files_beside_a_model_that_can_not_be_used(tmp_path: Path, file: str) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), file],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""


if __name__ == "__main__":
    load_each(Path(sys.argv[1]), sys.argv[2])
