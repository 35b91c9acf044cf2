"""The limit: bare onnxruntime on the int8 model, given token ids that somebody else made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import bert_model

NAME = "onnxruntime alone"


@dataclass(frozen=True)
class Router:
    session: Any
    tokenizer: Any


def missing() -> str | None:
    return bert_model.missing()


def load() -> Router:
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    folder = bert_model.model_folder()
    session = onnxruntime.InferenceSession(
        str(folder / "model_int8.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return Router(session, Tokenizer.from_file(str(folder / "tokenizer.json")))


def feeds(router: Router, prompt: str) -> dict[str, np.ndarray]:
    """What the model is fed for a prompt; not part of what is timed."""
    ids = np.array([router.tokenizer.encode(prompt).ids], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def run(router: Router, fed: dict[str, np.ndarray]) -> np.ndarray:
    """Logits, float32[1, 3]."""
    logits: np.ndarray = router.session.run(["logits"], fed)[0]
    return logits
