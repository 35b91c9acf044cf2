"""What was logged, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastroute.errors import InvalidInputError
from fastroute.types import Float64Array

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What s answers were like; NaN where it is not known.

    Attributes:
        row: int64[s], the request that each answers.
        model: int64[s], the model that answered, by its place in ``Log.models``.
        grade: float64[s], quality on 0..1.
        output_tokens, latency_ms, cost_usd: float64[s].
        weight: float64[s], 1 over the probability that it was asked; 1 for answers that were sent.
    """

    row: Integers
    model: Integers
    grade: Float64Array
    output_tokens: Float64Array
    latency_ms: Float64Array
    cost_usd: Float64Array
    weight: Float64Array


@dataclass(frozen=True, eq=False)
class Log:
    """n requests of conversations, in the order of time.

    Attributes:
        models: the K models that may answer.
        conversation: int64[n], the conversation of each request.
        probabilities: float64[n, K], with which the policy that ran chose each model, given what
            it had chosen before in the conversation.
        features: float64[n, F], what was known before the choice, for the outcome model.
        input_tokens, cached_tokens: float64[n], as billed; the latter are part of the former.
        sent: the n answers that were sent, in the order of the requests.
        shadows: answers of other models to some requests, which nobody saw.
        win_rates: float64[n], of the router that ran; NaN where none did.
        characters: float64[n], of each prompt.
        prompts: the n prompts; None where the log does not have all.
        eligible: bool[n, K], which models could have been chosen; None where all could.
        left_out: which grades are not in it, and why; "" where all are.
    """

    models: tuple[str, ...]
    conversation: Integers
    probabilities: Float64Array
    features: Float64Array
    input_tokens: Float64Array
    cached_tokens: Float64Array
    sent: Outcomes
    shadows: Outcomes
    win_rates: Float64Array
    characters: Float64Array
    prompts: list[str] | None = None
    eligible: npt.NDArray[np.bool_] | None = None
    left_out: str = ""
    previous: Integers = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.conversation)
        if self.probabilities.shape != (n, len(self.models)) or len(self.sent.row) != n:
            raise InvalidInputError(
                f"a log of {n} requests and {len(self.models)} models has probabilities of shape "
                f"{self.probabilities.shape} and {len(self.sent.row)} answers"
            )
        if (self.probabilities[np.arange(n), self.sent.model] <= 0.0).any():
            raise InvalidInputError("a logged choice has propensity 0; it can't have been made")
        # The request before in the conversation; -1 for the first.
        order = np.argsort(self.conversation, kind="stable")
        same = np.r_[False, np.diff(self.conversation[order]) == 0][:n]
        previous = np.full(n, -1, dtype=np.int64)
        previous[order[same]] = order[np.flatnonzero(same) - 1]
        object.__setattr__(self, "previous", previous)

    def __len__(self) -> int:
        return len(self.conversation)
