"""A tiny BERT with random weights, and graded prompts that it can learn something from."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

EASY = [f"easy{i}" for i in range(12)]
HARD = [f"hard{i}" for i in range(12)]
NEUTRAL = [f"word{i}" for i in range(30)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *EASY, *HARD, *NEUTRAL, "one", "two"]


def write_encoder(folder: Path, **config: Any) -> Path:
    """A Hugging Face folder: config.json, model.safetensors, tokenizer.json."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    settings = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
    }
    BertModel(BertConfig(**{**settings, **config})).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    return folder


def graded_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Prompts whose hard words make weak models fail; dataset "two" is hard as a whole.

    Every prompt of a dataset has a word that tells which it is, so that a model could learn that
    instead.
    """
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        dataset = "one" if number % 2 else "two"
        hard = int(random.integers(0, 2))
        words = [
            dataset,
            *random.choice(HARD if hard else EASY, 2),
            *random.choice(NEUTRAL, int(random.integers(1, 12))),
        ]
        random.shuffle(words)
        right = 0.9 - 0.6 * hard - (0.25 if dataset == "two" else 0.0)
        scores = {f"m{j}": float(random.random() < right) for j in range(6)}
        rows.append({"prompt": " ".join(words), "dataset": dataset, "scores": scores})
    return rows


def write_graded(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Gzipped JSON lines."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path
