"""The classifier that the ``bert`` benches run: one the size of all-MiniLM-L6-v2.

Its weights are random, which changes no time, and its tokenizer is that of
``rivals/mf_tokenizers.py``. ``FASTROUTE_BERT`` names an artifact of ``fastroute train bert`` to
run instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from rivals import mf_tokenizers, missing_packages

MAX_TOKENS = 512


def missing() -> str | None:
    """Why it can't be made, or None."""
    absent = missing_packages("torch", "transformers", "onnx", "onnxscript")
    return absent.split(":")[0] + ': pip install ".[train-transformers]"' if absent else None


@cache
def model_folder() -> Path:
    """A folder with ``model.onnx`` and ``model_int8.onnx``, and ``torch``/ for transformers."""
    given = os.environ.get("FASTROUTE_BERT")
    return Path(given) if given else _make(Path(tempfile.mkdtemp(prefix="fastroute-bert-")))


def remove() -> None:
    """Remove what ``model_folder`` made."""
    if model_folder.cache_info().currsize and "FASTROUTE_BERT" not in os.environ:
        shutil.rmtree(model_folder())
        model_folder.cache_clear()


def _make(folder: Path) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from fastroute.training.bert.export import export_onnx
    from fastroute.training.bert.network import Network, save_network

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=3,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=mf_tokenizers.load(),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=MAX_TOKENS,
    )
    model = BertForSequenceClassification(config).eval()
    network = Network(model, tokenizer, MAX_TOKENS)
    for name, content in save_network(network, folder / "torch").items():
        (folder / name).write_bytes(content)
    export_onnx(network, folder)
    return folder
