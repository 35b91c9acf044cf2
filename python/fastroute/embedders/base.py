"""What every embedder is: text in, float32 vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from fastroute import _native
from fastroute.types import Float32Array, Float64Array


class TextScorer(Protocol):
    """Win rates of text, sigmoid(pair . embedding of the text), in one call.

    NaN says that the embedding has to be looked at: it is zero, not finite or exactly orthogonal
    to the pair. Raises TypeError or ValueError for what is not Unicode text.
    """

    def win_rate(self, prompt: str) -> float:
        """Win rate of one prompt."""
        ...

    def win_rates(self, prompts: list[str], num_threads: int) -> Float64Array:
        """Win rates of many prompts, float64[n], the same for any number of threads."""
        ...


class Embedder(ABC):
    """Maps prompts to float32 vectors of one length.

    Embedders are safe to call from several threads at once. A prompt without any token (an
    empty one, say) gets the zero vector from local embedders; routers know what to do with it.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What makes these vectors: kind and model. Artifacts and caches are keyed by it."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """Length of a vector."""

    @property
    def signals(self) -> int:
        """How many of a vector's last elements are measured signals, such as the prompt's length,
        and not directions of meaning."""
        return 0

    @property
    def is_quick(self) -> bool:
        """Whether ``embed`` takes microseconds for a usual prompt and waits for nothing."""
        return False

    def text_scorer(self, pair: Float32Array) -> TextScorer | None:  # noqa: ARG002 - of subclasses
        """What embeds and scores in one call, for a pair of models, float32[dimensions], where
        this embedder can do that; else None."""
        return None

    def text_estimator(
        self,
        estimator: _native.SuccessEstimator,  # noqa: ARG002 - of subclasses
    ) -> _native.TextEstimator | None:
        """The like for P(success) of many models."""
        return None

    @abstractmethod
    def embed(self, prompt: str) -> Float32Array:
        """Embed one prompt: float32[dimensions].

        Raises InvalidTypeError for what is not a str, InvalidInputError for a lone surrogate:
        routers leave these checks to their embedder.
        """

    @abstractmethod
    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        """Embed many prompts: float32[len(prompts), dimensions], C-contiguous. Raises likewise."""
