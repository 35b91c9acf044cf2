"""The tokenizer of a model's folder, and the ids of the label tokens in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastroute.errors import OnnxModelError, ScoringError
from fastroute.onnx_models import tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of ``folder``, which neither pads nor truncates."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ScoringError(
            f"{str(folder)!r} has no tokenizer.json; save the model's fast tokenizer there "
            "(tokenizer.save_pretrained(folder) of a transformers fast tokenizer writes it)"
        )
    try:
        return tokenizer.open_tokenizer(path)[0]
    except OnnxModelError as error:
        raise ScoringError(str(error)) from error


def label_ids(tokenizer: Tokenizer, labels: tuple[str, ...], folder: Path) -> list[int]:
    """Ids of the label tokens. Raises ScoringError if the tokenizer lacks one."""
    ids = [tokenizer.token_to_id(label) for label in labels]
    missing = [label for label, i in zip(labels, ids, strict=True) if i is None]
    if missing:
        raise ScoringError(
            f"the tokenizer in {str(folder)!r} has no token {', '.join(missing)}; it is not the "
            "tokenizer of a causal_llm router. `fastroute train causal_llm` adds the labels"
        )
    return [i for i in ids if i is not None]
