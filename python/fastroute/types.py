"""The small typed objects that pass between the layers."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "WINNERS",
    "Battle",
    "BoolArray",
    "Decision",
    "Float32Array",
    "Float64Array",
    "Int64Array",
    "IntArray",
    "ModelPair",
    "Winner",
]

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]
Int64Array = npt.NDArray[np.int64]

#: The outcome of a battle, in the words of Chatbot Arena's data.
Winner = Literal["model_a", "model_b", "tie", "tie (bothbad)"]
WINNERS: tuple[Winner, ...] = ("model_a", "model_b", "tie", "tie (bothbad)")


class ModelPair(NamedTuple):
    """The two models between which prompts are routed, by the names their APIs know."""

    strong: str
    weak: str


class Battle(NamedTuple):
    """One comparison of two models' answers to one prompt."""

    prompt: str
    model_a: str
    model_b: str
    winner: Winner


class Decision(NamedTuple):
    """Where one prompt goes, and why.

    Attributes:
        model: name of the model that should answer.
        router: name of the router that scored the prompt.
        win_rate: probability, 0..1, that the strong model's answer would be preferred.
        threshold: ``win_rate >= threshold`` routes to the strong model.
        strong: whether ``model`` is the strong one.
        latency_us: microseconds from the text to this decision.
        difficulty: share, 0..1, of the prompts of the router's calibration that have a lower win
            rate: 0.83 is harder than 83 % of them. None for a router without calibration.
    """

    model: str
    router: str
    win_rate: float
    threshold: float
    strong: bool
    latency_us: float
    difficulty: float | None = None


class JsonSpan(NamedTuple):
    """Where a member of an object stands in its text, in bytes; an element of an array has a key
    of no length."""

    key_begin: int
    key_end: int
    value_begin: int
    value_end: int
