"""From a prompt to the tokens that ask a language model for its label."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

from fastroute._forking import ForkSafeLock
from fastroute._validate import check_count
from fastroute.errors import InvalidInputError
from fastroute.routers.causal_llm.template import LabelTemplate
from fastroute.routers.causal_llm.tokenizer import label_ids, open_tokenizer

OnTruncation = Literal["count", "warn", "error"]

# A prefix's last token may merge with what follows; these begin in the ways that prompts do.
_BEGINNINGS = ("a", "A", " a", "\n", "1", "(", ".", "日", "")


class Fitted(NamedTuple):
    """A prompt as the model sees it."""

    text: str  #: the prompt, without what was truncated at its beginning
    ids: list[int]  #: all tokens, template included


class LabelPrompt:
    """Puts prompts into a template and tokenizes them, within a limit.

    A prompt that is too long loses its *beginning*: its end, where the question usually stands, and
    the template stay whole. What looks like a special token or a label inside a prompt is tokenized
    as the plain text that it is, so that nobody can write an answer into a question.

    Args:
        folder: holds tokenizer.json.
        template: what stands around a prompt.
        max_tokens: the longest input, template included.
        on_truncation: "count" raises ``truncated_count``; "warn" also warns, once; "error" raises
            InvalidInputError.
    """

    def __init__(
        self,
        folder: Path,
        template: LabelTemplate,
        *,
        max_tokens: int,
        on_truncation: OnTruncation = "count",
    ) -> None:
        if on_truncation not in ("count", "warn", "error"):
            raise InvalidInputError(
                f"on_truncation must be one of count, warn, error, got {on_truncation!r}"
            )
        self.template, self.on_truncation = template, on_truncation
        self.max_tokens = check_count("max_tokens", max_tokens, least=1)
        self._tokenizer = open_tokenizer(folder)
        #: ids of the five label tokens, worst first.
        self.label_ids = label_ids(self._tokenizer, template.label_tokens, folder)
        added = self._tokenizer.get_added_tokens_decoder().values()
        special = {t.content for t in added if t.special} | set(template.label_tokens)
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
        #: tokens with which (nearly) every input begins, whatever the prompt.
        self.prefix_ids = self._stable_prefix()
        empty = len(self._ids(""))
        if max_tokens <= empty:
            raise InvalidInputError(
                f"max_tokens={max_tokens} leaves no room for a prompt: the template takes {empty}"
            )
        self._truncated_count = 0
        self._lock = ForkSafeLock()

    @property
    def truncated_count(self) -> int:
        """How many prompts were truncated since this was made."""
        return self._truncated_count

    def fit(self, prompts: list[str]) -> list[Fitted]:
        """Tokenize ``prompts``, and truncate those that are too long.

        Raises InvalidInputError if one is and ``on_truncation`` is "error".
        """
        fitted, cut = [], []
        for i, prompt in enumerate(prompts):
            text, ids = prompt, self._ids(prompt)
            if len(ids) > self.max_tokens:
                cut.append(i)
                text, ids = self._cut(prompt, ids)
            fitted.append(Fitted(text, ids))
        if cut:
            self._report(cut, prompts)
        return fitted

    def as_text(self, text: str) -> str:
        """Template and prompt as one text, without what the tokenizer puts first by itself.

        An endpoint that tokenizes puts that there, too.
        """
        whole = self.template.prefix + text + self.template.suffix
        first = self._tokenizer.encode("").ids[:1]
        for token_id in first:
            token = self._tokenizer.id_to_token(token_id)
            if token and whole.startswith(token):
                return whole[len(token) :]
        return whole

    def _ids(self, text: str) -> list[int]:
        encode = self._tokenizer.encode
        prefix, suffix = self.template.prefix, self.template.suffix
        if self._special.search(text) is None:
            # In one piece, as in training: tokens may span where the prompt begins and ends.
            return encode(prefix + text + suffix, add_special_tokens=False).ids
        cuts, at = [0], 0
        while found := self._special.search(text, at):
            at = found.start() + 1
            cuts.append(at)
        pieces = [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
        return [
            token
            for piece in (prefix, *pieces, suffix)
            for token in encode(piece, add_special_tokens=False).ids
        ]

    def _cut(self, prompt: str, ids: list[int]) -> tuple[str, list[int]]:
        offsets = self._tokenizer.encode(prompt, add_special_tokens=False).offsets
        drop, text = 0, prompt
        while len(ids) > self.max_tokens and text:
            # Tokens at the new beginning may come out differently, so it takes another look.
            drop += len(ids) - self.max_tokens
            text = prompt[offsets[drop][0] :] if drop < len(offsets) else ""
            ids = self._ids(text)
        return text, ids

    def _stable_prefix(self) -> list[int]:
        firsts = [self._ids(beginning) for beginning in _BEGINNINGS]
        stable = []
        for tokens in zip(*firsts, strict=False):
            if len(set(tokens)) > 1:
                break
            stable.append(tokens[0])
        return stable

    def _report(self, cut: list[int], prompts: list[str]) -> None:
        what = (
            f"{len(cut)} of {len(prompts)} prompts are longer than max_tokens={self.max_tokens} "
            f"allows (the first: prompts[{cut[0]}], {len(prompts[cut[0]])} characters)"
        )
        if self.on_truncation == "error":
            raise InvalidInputError(
                f"{what}; shorten them, raise max_tokens if the model allows it, or pass "
                "on_truncation='count'"
            )
        with self._lock:
            first = self._truncated_count == 0
            self._truncated_count += len(cut)
        if first and self.on_truncation == "warn":
            warnings.warn(
                f"{what} and are truncated at the start; see truncated_count for more of them",
                stacklevel=5,
            )
