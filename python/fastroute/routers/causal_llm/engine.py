"""What asks a language model for the label of a prompt: an engine, whatever runs the model."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from fastroute.types import Float64Array

LABELS = 5


class LabelEngine(ABC):
    """Asks a language model which of five labels it would answer to a prompt.

    Engines are safe to use from several threads at once.
    """

    @abstractmethod
    def probabilities(self, prompts: list[str]) -> Float64Array:
        """Probabilities of the labels at the first generated position, float64[n, 5].

        Each row adds up to 1, whatever the model would say beside the labels; it is NaN where the
        model had no label to offer. Raises ScoringError where the model can't be asked.
        """

    @property
    @abstractmethod
    def truncated_count(self) -> int:
        """How many prompts were truncated at the start since this engine was made."""

    @property
    @abstractmethod
    def checksum(self) -> str | None:
        """SHA-256 over all that decides an answer; None where that is unknown."""

    def close(self) -> None:  # noqa: B027 - most engines hold nothing open
        """Close what is open."""


def softmax(logits: Float64Array) -> Float64Array:
    """Softmax over the last axis, float64; -inf has no part in it, and all -inf gives NaN."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: Float64Array = weights / weights.sum(axis=-1, keepdims=True)
    return shares
