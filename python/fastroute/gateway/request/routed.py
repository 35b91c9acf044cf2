"""Where a request goes, and what decided."""

from __future__ import annotations

from typing import NamedTuple

from fastroute.gateway.operations.metrics import BY_CHOICE, BY_EVIDENCE
from fastroute.gateway.request.candidates import Choice
from fastroute.gateway.request.sampling import Chances
from fastroute.gateway.request.stored import Keeper
from fastroute.types import Decision


class Routed(NamedTuple):
    """Where a request goes."""

    model: str  #: the model's name as the gateway knows it
    decision: Decision | None  #: what a router decided; None for a model that was named outright
    stayed: bool  #: whether session affinity overruled the router
    seconds: float  #: how long it took, threads included
    prompt: str  #: what was scored; "" for a model that was named outright
    #: who keeps the response or conversation that the request goes on with.
    keeper: Keeper | None = None
    #: whether the answers of cheap models decide; ``model`` is then the strong one.
    cascade: bool = False
    #: whether the decision counts for the share that is held; None where none is.
    held: bool | None = None
    conversation: bytes | None = None  #: a digest that names the conversation, where something does
    chances: Chances | None = None  #: how the model was drawn, where models are drawn at random
    arm: str | None = None  #: "canary" or "control", while there is a canary
    choice: Choice | None = None  #: how one of many candidates was chosen; None where none was

    @property
    def label(self) -> str:
        """What decided, for metrics."""
        if self.cascade:
            return BY_EVIDENCE
        if self.choice is not None:
            return BY_CHOICE
        return "" if self.decision is None else self.decision.router
