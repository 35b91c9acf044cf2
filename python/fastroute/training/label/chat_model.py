"""A model to put questions to, what a question is, and what it costs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from fastroute._validate import check_count
from fastroute.errors import InvalidInputError
from fastroute.http.request import Endpoint

if TYPE_CHECKING:
    from fastroute.embedders.static import StaticEmbedder

#: What a chat's format adds to each message, about.
_TOKENS_PER_MESSAGE = 8


class Question(NamedTuple):
    """One request, and the key under which its answer is kept.

    ``key`` is the SHA-256 of the body, so it is the same for the same model, messages and options,
    wherever they are sent.
    """

    key: str
    body: bytes
    text: str


@dataclass(frozen=True)
class ChatModel:
    """A model behind an OpenAI-compatible API."""

    name: str  #: what the API calls it
    endpoint: Endpoint  #: where it is, with its key
    max_tokens: int = 512  #: most tokens of an answer
    temperature: float = 0.0  #: of sampling
    #: further fields of a request's body; None as a value leaves a field out, such as
    #: ``{"max_tokens": None, "max_completion_tokens": 900}``.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: dollars per million tokens, of input and of output; None if unknown.
    usd_per_mtok: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_count("max_tokens", self.max_tokens, least=1)
        for price in self.usd_per_mtok or ():
            if not (math.isfinite(price) and price >= 0):
                raise InvalidInputError(
                    f"usd_per_mtok must be dollars per million tokens, 0 or more, got {price}"
                )

    def question(self, text: str) -> Question:
        """``text`` as the only message of a user."""
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            **self.options,
        }
        body = {name: value for name, value in body.items() if value is not None}
        content = json.dumps(body, ensure_ascii=False, sort_keys=True).encode()
        return Question(hashlib.sha256(content).hexdigest(), content, text)

    def usd(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """What so many tokens cost; None if the prices are unknown."""
        if self.usd_per_mtok is None:
            return None
        into, out = self.usd_per_mtok
        return (prompt_tokens * into + completion_tokens * out) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What putting questions to one model will take."""

    model: str  #: name of the model
    questions: int  #: how many will be asked
    kept: int  #: how many have their answer in the journal already
    prompt_tokens: int  #: of all that will be asked, about: counted with fastroute's own tokenizer
    most_completion_tokens: int  #: of all answers, if each takes ``max_tokens``
    most_usd: float | None  #: the cost of that; None if the prices are unknown

    def __str__(self) -> str:
        kept = f" ({self.kept:,} more are in the journal)" if self.kept else ""
        cost = (
            "cost unknown: no prices given"
            if self.most_usd is None
            else f"at most about {dollars(self.most_usd)}"
        )
        return (
            f"{self.model}: {self.questions:,} questions{kept}, about {self.prompt_tokens:,} input "
            f"tokens, at most {self.most_completion_tokens:,} output tokens; {cost}"
        )


def dollars(usd: float) -> str:
    """An amount as one reads it: cents, and below a dollar hundredths of them."""
    return f"${usd:,.2f}" if usd >= 1.0 else f"${usd:.4f}"


def estimate(
    model: ChatModel, questions: Iterable[Question], kept: int = 0, more_tokens: int = 0
) -> Estimate:
    """What ``questions`` will take; ``more_tokens`` of input are not in their texts yet."""
    texts = [question.text for question in questions]
    tokens = sum(count_tokens(texts)) + _TOKENS_PER_MESSAGE * len(texts) + more_tokens
    most = model.max_tokens * len(texts)
    return Estimate(model.name, len(texts), kept, tokens, most, model.usd(tokens, most))


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text by the bundled tokenizer: about what a provider counts."""
    embedder = _bundled_embedder()
    return [len(embedder.token_ids(text)) for text in texts]


@cache
def _bundled_embedder() -> StaticEmbedder:
    """Loaded once: a capped judge estimates each pair by itself."""
    from fastroute.embedders.static import StaticEmbedder

    return StaticEmbedder.load_default()
