"""A BERT classifier as RouteLLM runs it: transformers' tokenizer and model, float32, in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import bert_model

NAME = "torch, as RouteLLM"


@dataclass(frozen=True)
class Router:
    tokenizer: Any
    model: Any


def missing() -> str | None:
    return bert_model.missing()


def load() -> Router:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    folder = bert_model.model_folder() / "torch"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return Router(AutoTokenizer.from_pretrained(folder), model)


def route_text(router: Router, prompt: str) -> float:
    import torch

    fed = router.tokenizer(prompt, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        logits = router.model(**fed).logits.numpy()[0]
    odds = np.exp(logits - np.max(logits))
    return float(1.0 - np.sum((odds / np.sum(odds))[-2:]))
