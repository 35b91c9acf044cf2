"""Sections ``[canary]`` and ``[drift]``: a new router for a part of the traffic, and alarms."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from fastroute.errors import FastRouteError
from fastroute.gateway.config.candidates import PolicyText
from fastroute.gateway.config.section import (
    Amount,
    FilePath,
    PositiveCount,
    Section,
    Share,
    Text,
    TupleOf,
    in_folder,
)
from fastroute.rollout.canary import OnDrift, Rules
from fastroute.routers.registry import ROUTER_NAMES
from fastroute.routers.specification import RouterChoice, parse_router

_Part = Annotated[float, Field(gt=0, lt=1)]
# What comes within this time of the journal's last write may not be there yet.
_Settling = Annotated[float, Field(ge=10)]


class CanaryConfig(Section):
    """Section ``[canary]``: a new router for the model name "fastroute", on a part of the
    conversations; ``Rules`` has the other keys.

    ``router`` is the folder of one that ``fastroute tune`` or ``learn`` wrote, ROUTER=FOLDER, or a
    router's name; by default the latest that ``[learn]`` proposed. It decides at its own operating
    point, or at ``threshold``; with 1 the weak model answers everything, with 0 the strong one.
    Among candidates ``router`` is the folder of one for many models, and ``policy`` what chooses by
    it: by default what is beside the router, or the present one. ``state`` is the file of an
    earlier version, which the journal takes over.
    """

    router: Text | None = None
    policy: PolicyText | None = None
    threshold: Share | None = None
    state: FilePath = Field(default="canary.json", validate_default=True)
    stages: TupleOf[_Part] = Rules().stages
    holdback: _Part = Rules().holdback
    settle_s: _Settling = Rules().settle_s
    min_conversations: PositiveCount = Rules().min_conversations
    max_conversations: PositiveCount = Rules().max_conversations
    quality_margin: Amount = Rules().quality_margin
    errors_margin: Amount = Rules().errors_margin
    latency_margin: Amount = Rules().latency_margin
    dollars_margin: Amount = Rules().dollars_margin
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = Rules().confidence
    on_drift: OnDrift = Rules().on_drift

    @field_validator("router")
    @classmethod
    def _is_a_router(cls, router: str | None, info: ValidationInfo) -> str | None:
        if router is None or router in ROUTER_NAMES:
            return router
        try:
            router_choice(router)
        except FastRouteError as error:
            raise ValueError(str(error)) from error
        name, equals, path = router.rpartition("=")
        return f"{name}{equals}{in_folder(path, info)}"

    @field_validator("stages")
    @classmethod
    def _rise(cls, stages: tuple[float, ...]) -> tuple[float, ...]:
        Rules(stages=stages)  # its errors are ValueErrors
        return stages

    def check(self, *, has_candidates: bool, learns: bool) -> None:
        """Raises ValueError for what does not go with the other sections."""
        if has_candidates and self.threshold is not None:
            raise ValueError("threshold is for a pair of models; give policy")
        if self.policy is not None and not has_candidates:
            raise ValueError("policy needs [[candidates]]")
        if self.router is None and self.policy is None and not learns:
            raise ValueError("needs router, or [learn], which proposes one")

    @property
    def rules(self) -> Rules:
        """When it goes on, is promoted, or goes back."""
        return Rules(**self.model_dump(exclude={"router", "policy", "threshold", "state"}))


class DriftConfig(Section):
    """Section ``[drift]``: alarms when prompts, grades, answers or prices change. ``state`` as in
    ``[canary]``."""

    state: FilePath = Field(default="drift.json", validate_default=True)
    settle_s: _Settling = Rules().settle_s


def router_choice(router: str) -> RouterChoice:
    """A router by its folder, ROUTER=FOLDER or its name. Raises FastRouteError."""
    is_named = "=" in router or router in ROUTER_NAMES
    return parse_router(router if is_named else f"mf={router}")
