"""The sections ``[state]`` and ``[budgets]``: where replicas meet, and what callers may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from fastroute.gateway.config.section import (
    Amount,
    PositiveCount,
    Seconds,
    Secret,
    Section,
    Share,
    Text,
)
from fastroute.state.valkey import ValkeySettings


class StateConfig(Section):
    """Section ``[state]``: a Valkey or Redis server that replicas and workers share."""

    url: Text
    username: Text | None = None
    password: Secret | None = Field(default=None, alias="password_env", repr=False)
    prefix: Text = "fastroute"
    cluster: bool = False
    sentinel_service: Text | None = None
    wait_s: Seconds = 0.002

    @model_validator(mode="after")
    def _is_an_address(self) -> StateConfig:
        self.settings  # noqa: B018 # its errors are ValueErrors
        return self

    @property
    def settings(self) -> ValkeySettings:
        """The same for the store."""
        return ValkeySettings(**{name: getattr(self, name) for name in type(self).model_fields})


class LimitsConfig(Section):
    """What one caller may use."""

    usd_per_day: Amount | None = None
    requests_per_minute: PositiveCount | None = None


class BudgetsConfig(LimitsConfig):
    """Section ``[budgets]``: the limits of each caller; ``[budgets.callers.<name>]`` has those of
    one key."""

    callers: dict[str, LimitsConfig] = Field(default_factory=dict)
    lease_share: Annotated[Share, Field(gt=0)] = 0.02
    reserve_output_tokens: PositiveCount = 2048

    def limit(self, caller: str, name: str) -> float | None:
        """The limit ``name`` of ``caller``: its own, or that of all."""
        own = self.callers.get(caller)
        chosen = self if own is None or name not in own.model_fields_set else own
        found: float | None = getattr(chosen, name)
        return found

    @property
    def has_dollars(self) -> bool:
        """Whether any caller has a budget."""
        return any(limits.usd_per_day is not None for limits in (self, *self.callers.values()))

    def check(self, sections: Mapping[str, Any]) -> None:
        """Raises ValueError where the limits could not hold; ``sections`` are the others."""
        keys = sections.get("keys", ())
        names = {key.name for key in keys} or {"anyone"}
        unknown = sorted(self.callers.keys() - names)
        if unknown:
            raise ValueError(
                f"no key has the name {unknown[0]!r}; names of [[keys]]: {', '.join(sorted(names))}"
            )
        if sections["server"].workers > 1 and sections.get("state") is None:
            raise ValueError("several workers need [state] to share limits; or give workers = 1")
        routing, cascade, models = (sections.get(n) for n in ("routing", "cascade", "models"))
        assert routing is not None
        assert models is not None
        helpers = () if cascade is None else cascade.helpers
        for name in filter(None, (routing.strong_model, routing.weak_model, *helpers)):
            model = models.get(name)
            prices = ("input_usd_per_mtok", "output_usd_per_mtok")
            if self.has_dollars and None in [getattr(model, price, None) for price in prices]:
                raise ValueError(
                    f"usd_per_day needs the prices of every model that routing may choose; give "
                    f"{' and '.join(prices)} in [models.{name!r}]"
                )
