"""What every router is: prompts in, win rates out. Thresholds live in the policy, not here."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from fastroute._validate import list_prompts
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.provenance import Provenance
from fastroute.types import Float32Array, Float64Array

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def check_embedder(embedder: Embedder | None) -> Embedder | None:
    """Return ``embedder`` if it is one, or None."""
    if embedder is not None and not isinstance(embedder, Embedder):
        raise InvalidTypeError(
            f"embedder must be an Embedder, got {embedder!r}; make one from fastroute.embedders, "
            "for example StaticEmbedder.load_default()"
        )
    return embedder


def check_pair(strong_model: object, weak_model: object) -> None:
    """Raise InvalidInputError or InvalidTypeError unless these are the names of two models."""
    for argument, model in (("strong_model", strong_model), ("weak_model", weak_model)):
        if not isinstance(model, str):
            raise InvalidTypeError(f"{argument} must be a model name (str), got {model!r}")
    if strong_model == weak_model:
        raise InvalidInputError(
            f"strong_model and weak_model are both {strong_model!r}; name two different models "
            "(the default of each is the router's own)"
        )


class Router(ABC):
    """Scores prompts by the win rate of the strong model.

    Routers are safe to call from several threads at once.
    """

    #: The router's name in configs and in ``router-<name>-<threshold>`` model strings.
    name: ClassVar[str]

    # Set by constructors, and by what fits a router anew.
    _provenance: Provenance = Provenance()

    @property
    def provenance(self) -> Provenance:
        """What the router was trained on, and what was measured of it."""
        return self._provenance

    def with_provenance(self, provenance: Provenance) -> Self:
        """This router, sharing everything with it, with another provenance."""
        twin = copy.copy(self)
        twin._provenance = provenance
        return twin

    @property
    def is_quick(self) -> bool:
        """Whether one usual prompt takes microseconds and waits for nothing, so that an event loop
        may call ``win_rate`` itself. A router that does not say so is called in a thread."""
        return False

    @abstractmethod
    def win_rate(self, prompt: str) -> float:
        """Probability, 0..1, that the strong model's answer to ``prompt`` would be preferred."""

    @abstractmethod
    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        """Win rates of many prompts, float64[n]: the same numbers as ``win_rate`` of each."""


def has_words(prompt: str) -> bool:
    """Whether ``prompt`` has a letter or a digit of any script; emoji and marks are neither."""
    return _LETTER_OR_DIGIT.search(prompt) is not None


def without_words(prompts: Sequence[str]) -> list[int]:
    """The indices of the prompts that have none."""
    # Nearly every prompt begins with a letter, which takes a third of the time to see.
    return [
        i for i, prompt in enumerate(prompts) if not prompt[:1].isalnum() and not has_words(prompt)
    ]


class EmbeddingRouter(Router):
    """A router that looks at a prompt only through its embedding.

    A prompt without a letter or a digit ("", emoji, "???") asks for nothing that could be hard: its
    win rate is the least of the router's calibration, so its difficulty is 0. A router without
    calibration gives it ``win_rate_without_signal``, as any router does to words without tokens.
    """

    _embedder_or_none: Embedder | None = None

    @property
    def embedder(self) -> Embedder | None:
        """Embeds prompts; None where only ``win_rates_from_embeddings`` will be called."""
        return self._embedder_or_none

    @embedder.setter
    def embedder(self, embedder: Embedder | None) -> None:
        self._embedder_or_none = check_embedder(embedder)

    @abstractmethod
    def win_rate_from_embedding(self, x: Float32Array) -> float:
        """Win rate for one prompt embedding, float32[d]."""

    @abstractmethod
    def win_rates_from_embeddings(
        self, X: Float32Array, *, num_threads: int | None = None
    ) -> Float64Array:
        """Win rates, float64[n], for prompt embeddings float32[n, d], C-contiguous.

        Bitwise the same for any ``num_threads``. Raises InvalidInputError for NaN, infinity,
        zero rows, a wrong dimension, dtype or layout; nothing is converted silently.
        """

    @property
    @abstractmethod
    def win_rate_without_signal(self) -> float:
        """Win rate of a prompt that has no tokens, and so no direction to look in."""

    def win_rate(self, prompt: str) -> float:
        x = self._embedder().embed(prompt)  # which checks it
        if not has_words(prompt):
            return self.win_rate_without_words
        # One nonzero element settles it, and looking at one takes a tenth of looking at all.
        if x[0] or x.any():
            return self.win_rate_from_embedding(x)
        return self.win_rate_without_signal

    @property
    def win_rate_without_words(self) -> float:
        """Win rate of a prompt without a letter or a digit."""
        calibration = self.provenance.calibration
        return self.win_rate_without_signal if calibration is None else float(calibration[0])

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        texts = list_prompts(prompts)
        rates = np.full(len(texts), self.win_rate_without_signal)
        if texts:
            X = self._embedder().embed_batch(texts)
            has_signal = np.asarray(X.any(axis=1))
            blank = without_words(texts)
            rates[blank], has_signal[blank] = self.win_rate_without_words, False
            if has_signal.all():  # the usual case, without a copy
                return self.win_rates_from_embeddings(X)
            if has_signal.any():
                rates[has_signal] = self.win_rates_from_embeddings(X[has_signal])
        return rates

    def _embedder(self) -> Embedder:
        if self.embedder is None:
            raise InvalidInputError(
                f"this {self.name} router has no embedder, so it can't score text; pass "
                "embedder=... when you make it, or call win_rates_from_embeddings"
            )
        return self.embedder
