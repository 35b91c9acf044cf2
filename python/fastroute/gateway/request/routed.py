"""Where a request goes, and what decided."""

from __future__ import annotations

from typing import NamedTuple

from fastroute.gateway.operations.metrics import BY_CHOICE, BY_EVIDENCE
from fastroute.gateway.request.candidates import Choice
from fastroute.gateway.request.sampling import Chances
from fastroute.gateway.request.stored import Keeper
from fastroute.types import Decision


class Routed(NamedTuple):
    """Where a request goes.

    Attributes:
        model: the model's name as the gateway knows it.
        decision: what a router decided; None for a model that was named outright.
        stayed: whether session affinity overruled the router.
        seconds: how long it took, threads included.
        prompt: what was scored; "" for a model that was named outright.
        keeper: who keeps the response or conversation that the request goes on with.
        cascade: whether the answers of cheap models decide; ``model`` is then the strong one.
        held: whether the decision counts for the share that is held; None where none is.
        conversation: a digest that names the conversation, where something does.
        chances: how the model was drawn, where models are drawn at random.
        arm: "canary" or "control", while there is a canary.
        choice: how one of many candidates was chosen; None where none was.
    """

    model: str
    decision: Decision | None
    stayed: bool
    seconds: float
    prompt: str
    keeper: Keeper | None = None
    cascade: bool = False
    held: bool | None = None
    conversation: bytes | None = None
    chances: Chances | None = None
    arm: str | None = None
    choice: Choice | None = None

    @property
    def label(self) -> str:
        """What decided, for metrics."""
        if self.cascade:
            return BY_EVIDENCE
        if self.choice is not None:
            return BY_CHOICE
        return "" if self.decision is None else self.decision.router
