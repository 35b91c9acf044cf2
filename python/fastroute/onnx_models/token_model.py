"""From text to a transformer's answer: tokenizing, truncation, batching by length, running."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fastroute._forking import ForkSafeLock
from fastroute._validate import check_count
from fastroute.errors import InvalidInputError, OnnxModelError
from fastroute.onnx_models.session import Session, check_choice

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

#: Of a longer text only so much is tokenized, if that gives ``max_tokens``.
_MOST_CHARS = 1 << 18
OnTruncation = Literal["count", "warn", "error"]


def check_options(
    max_tokens: int | None, batch_size: int | None, on_truncation: OnTruncation
) -> None:
    """Raise InvalidInputError for one that can't be used, before any file is looked at."""
    for argument, value in (("max_tokens", max_tokens), ("batch_size", batch_size)):
        if value is not None:
            check_count(argument, value, least=1)
    check_choice("on_truncation", on_truncation, get_args(OnTruncation))


class TokenModel:
    """A session and its tokenizer. Safe to use from several threads at once.

    Args:
        session: the model; one of its outputs is ``output``.
        output: name of the output that ``run`` gives.
        tokenizer: as ``onnx_models.tokenizer`` gives it; belongs to this object from here on.
        pad_id: what shorter prompts of a batch are filled up with.
        max_tokens: longer prompts are truncated to this many tokens, special ones included.
        on_truncation: "count" raises ``truncated_count``; "warn" also warns, once; "error" raises
            InvalidInputError.
        batch_size: most prompts in one run.
        prefix: text put before each prompt.
        lowercase: whether prompts are lowered first.
    """

    def __init__(
        self,
        session: Session,
        output: str,
        tokenizer: Tokenizer,
        pad_id: int,
        *,
        max_tokens: int,
        on_truncation: OnTruncation,
        batch_size: int,
        prefix: str = "",
        lowercase: bool = False,
    ) -> None:
        self.session, self.output = session, output
        self.max_tokens, self.on_truncation = max_tokens, on_truncation
        self.batch_size = min(batch_size, session.fixed_rows or batch_size)
        self.prefix, self.lowercase = prefix, lowercase
        self._tokenizer, self._pad_id = tokenizer, pad_id
        #: Token ids of an empty prompt.
        self.empty_ids: list[int] = tokenizer.encode(prefix).ids
        if max_tokens <= len(self.empty_ids):
            raise InvalidInputError(
                f"max_tokens={max_tokens} leaves no room for a prompt: special tokens "
                f"{'and query_prefix ' if prefix else ''}take {len(self.empty_ids)}"
            )
        tokenizer.enable_truncation(max_tokens)
        self._truncated_count = 0
        self._count_lock = ForkSafeLock()

    @property
    def truncated_count(self) -> int:
        """How many prompts were truncated so far."""
        return self._truncated_count

    def encode(self, prompts: list[str], pool: Executor | None = None) -> list[Encoding]:
        """Tokenize one by one, here or in ``pool``: encode_batch would take every core."""
        texts = (self.prefix + (p.lower() if self.lowercase else p) for p in prompts)
        each = map if pool is None else pool.map
        encodings: list[Encoding] = list(each(self._encode, texts))
        # overflowing is costly to ask for, and empty below the limit.
        cut = [
            i for i, e in enumerate(encodings) if len(e.ids) >= self.max_tokens and e.overflowing
        ]
        if cut:
            self._report_truncation(cut, prompts)
        return encodings

    def _encode(self, text: str) -> Encoding:
        # A tokenizer takes 65 bytes a character, also of what is then truncated.
        if len(text) > _MOST_CHARS:
            begin = self._tokenizer.encode(text[:_MOST_CHARS])
            if begin.overflowing:
                return begin
        return self._tokenizer.encode(text)

    def batches(self, lengths: Sequence[int], rows: Sequence[int]) -> Iterator[list[int]]:
        """``rows``, positions of prompts, as they run together: neighbours in length."""
        order = sorted(rows, key=lambda i: lengths[i])
        # Without a mask padding would count as text, so that only equal lengths go together.
        maskless = "attention_mask" not in self.session.inputs
        for _, group in itertools.groupby(order, lambda i: lengths[i] if maskless else 0):
            members = list(group)
            for start in range(0, len(members), self.batch_size):
                yield members[start : start + self.batch_size]

    def run(self, encodings: Sequence[Encoding]) -> tuple[np.ndarray[Any, Any], Any]:
        """Run the model on one batch: its output, and the attention mask bool[n, tokens].

        Raises OnnxModelError where the model fails.
        """
        session, n = self.session, len(encodings)
        width = session.fixed_tokens or max(len(e.ids) for e in encodings)
        feeds = {name: np.zeros((n, width), dtype) for name, dtype in session.inputs.items()}
        feeds["input_ids"][:] = self._pad_id
        mask = np.zeros((n, width), dtype=np.bool_)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            feeds["input_ids"][row, :length] = encoding.ids
            mask[row, :length] = True
            if "token_type_ids" in feeds:
                feeds["token_type_ids"][row, :length] = encoding.type_ids
        if "attention_mask" in feeds:
            feeds["attention_mask"][:] = mask
        if session.fixed_rows is not None:
            # Copies of the prompts fill up: unlike zeros they are valid input, and they leave
            # the scale of dynamic quantisation as it is.
            fill = np.arange(session.fixed_rows) % n
            feeds = {name: values[fill] for name, values in feeds.items()}
        try:
            answer = session.run(self.output, feeds)[:n]
        except Exception as error:  # onnxruntime's own kinds share no base but Exception
            raise OnnxModelError(
                f"the model {str(session.file)!r} failed on {n} prompts of up to {width} tokens: "
                f"{error}; if it takes shorter input only, pass max_tokens=; if a token is out of "
                "bounds, tokenizer.json is not this model's"
            ) from error
        return answer, mask

    def probe(self) -> np.ndarray[Any, Any]:
        """The answer to one short prompt, which tells its shape."""
        answer, _ = self.run([self._tokenizer.encode(self.prefix + "a")])
        return answer

    def _report_truncation(self, cut: list[int], prompts: list[str]) -> None:
        what = (
            f"{len(cut)} of {len(prompts)} prompts are longer than max_tokens={self.max_tokens} "
            f"(the first: prompts[{cut[0]}], {len(prompts[cut[0]])} characters)"
        )
        if self.on_truncation == "error":
            raise InvalidInputError(
                f"{what}; shorten them, raise max_tokens if the model allows it, or pass "
                "on_truncation='count'"
            )
        with self._count_lock:
            first = self._truncated_count == 0
            self._truncated_count += len(cut)
        if first and self.on_truncation == "warn":
            # Up to whoever called embed or win_rate: they call encode from one function below.
            warnings.warn(
                f"{what} and are truncated; see truncated_count for more of them", stacklevel=5
            )


def choose_max_tokens(
    folder: Path, *, asked: int | None, declared: int | None, fixed: int | None
) -> int:
    """The limit in force: what was asked for, what the files declare, what the graph is fixed at.

    Raises InvalidInputError where none says so, or more is asked for than the graph takes.
    """
    limit = asked or declared
    if fixed is not None:
        if asked is not None and asked > fixed:
            raise InvalidInputError(
                f"max_tokens={asked}: the model's input is fixed at {fixed} tokens"
            )
        limit = min(limit or fixed, fixed)
    if limit is None:
        raise InvalidInputError(
            f"max_tokens: no file in {str(folder)!r} says how long a prompt may be; pass "
            "max_tokens="
        )
    return limit
