"""Tokenizers of the ``tokenizers`` library: read, checked, and without padding and truncation."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute._extras import needed_for
from fastroute._files import os_errors_as
from fastroute.errors import OnnxModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A word that is too long for WordPiece, and characters that no vocabulary has.
_UNKNOWN = "q" * 300 + " \ue000\U0010ffff"


def open_tokenizer(path: Path) -> tuple[Tokenizer, int, int | None]:
    """The tokenizer in a file, its padding id, and the limit of its own truncation.

    Raises as ``read_tokenizer``.
    """
    with os_errors_as(OnnxModelError, f"{str(path)!r} can't be read"):
        content = path.read_bytes()
    return read_tokenizer(content, path)


def read_tokenizer(content: bytes, path: str | PathLike[str]) -> tuple[Tokenizer, int, int | None]:
    """``open_tokenizer`` of a file's content; ``path`` is for messages.

    Raises:
        OnnxModelError: not a tokenizer, or one that fails on text that its vocabulary lacks.
        MissingDependencyError: tokenizers is not installed.
    """
    with needed_for(repr(str(path))):
        from tokenizers import Tokenizer
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # tokenizers raises plain Exception
        raise OnnxModelError(
            f"{str(path)!r} is not a tokenizer: {error}; save the model's fast tokenizer there"
        ) from error
    limit = (tokenizer.truncation or {}).get("max_length")
    pad_id = (tokenizer.padding or {}).get("pad_id")
    for token in ("[PAD]", "<pad>"):
        pad_id = tokenizer.token_to_id(token) if pad_id is None else pad_id
    tokenizer.no_padding()
    tokenizer.no_truncation()
    try:
        tokenizer.encode(_UNKNOWN)
    except Exception as error:  # as above
        raise OnnxModelError(
            f"the tokenizer in {str(path)!r} fails on text that is not in its vocabulary "
            f"({error}); save it again with its unknown token, such as [UNK], in the vocabulary"
        ) from error
    return tokenizer, pad_id or 0, limit
