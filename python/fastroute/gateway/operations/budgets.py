"""What each caller may spend in a day and ask for in a minute, over all replicas.

A day is one of UTC, a minute one of the clock. A request reserves what it may cost before anything
is decided, and settles what it did cost when it is over.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastroute.gateway.operations.usage import estimate_input_tokens
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.policy import CASCADE_MODEL, MANY_MODELS
from fastroute.state.leases import Ledger, Refusal, Reservation
from fastroute.state.store import Store

if TYPE_CHECKING:
    from fastroute.gateway.config.endpoints import ModelConfig
    from fastroute.gateway.config.state import BudgetsConfig
    from fastroute.gateway.gateway import Gateway
    from fastroute.gateway.request.document import Document

#: Dollars are counted in whole nanodollars: a token costs a few hundred.
NANODOLLARS = 10**9
_DAY_S, _MINUTE_S = 86_400.0, 60.0
#: A minute is short: a replica takes a larger part of it at once.
_RATE_LEASE_SHARE = 0.25
_LIMIT_KEYS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class Budgets:
    """The limits of every caller; see the module."""

    def __init__(self, store: Store, config: BudgetsConfig) -> None:
        self._config = config
        self._days = Ledger(store, "budget", _DAY_S, config.lease_share)
        self._minutes = Ledger(store, "rate", _MINUTE_S, _RATE_LEASE_SHARE, fails_open=True)

    def configure(self, config: BudgetsConfig) -> None:
        """Take the limits of a new config; what was used stays used."""
        self._config = config

    async def open(self, callers: list[str]) -> None:
        """Take leases before the first request, so that it needs no server."""
        for caller in callers:
            dollars = self._config.limit(caller, "usd_per_day")
            if dollars is not None:
                await self._days.open(caller, round(dollars * NANODOLLARS))

    async def admit(
        self, gateway: Gateway, document: Document, caller: str, *, is_billed: bool
    ) -> Reservation | None:
        """Reserve what a request may cost; None where no budget is set, or nothing is billed.
        Raises RefusalError 429 where a limit is reached, 503 where that can't be known."""
        rate = self._config.limit(caller, "requests_per_minute")
        if rate is not None:
            taken = await self._minutes.reserve(caller, int(rate), 1)
            if isinstance(taken, Refusal):
                raise _too_many(int(rate), taken)
            taken.settle(1)
        dollars = self._config.limit(caller, "usd_per_day")
        if dollars is None or not is_billed:
            return None
        amount = self._most(gateway, document)
        found = await self._days.reserve(caller, round(dollars * NANODOLLARS), amount)
        if isinstance(found, Refusal):
            raise _over_budget(dollars, amount, found)
        return found

    def renew(self) -> None:
        """As Ledger.renew."""
        self._days.renew()

    async def aclose(self) -> None:
        """Tell the store what was used, and give leases back."""
        await self._days.aclose()
        await self._minutes.aclose()

    def _most(self, gateway: Gateway, document: Document) -> int:
        """Nanodollars that a request may cost, by the dearest model that may answer it."""
        fields = document.fields
        routing, cascade = gateway.config.routing, gateway.config.cascade
        name = fields.get("model") or routing.default_model
        pair = [routing.strong_model, routing.weak_model]
        if isinstance(name, str) and _is_priced(gateway.model_config(name)):
            names = [name]
        elif name == CASCADE_MODEL and cascade is not None:
            names = [*pair, *cascade.helpers]
        elif name == MANY_MODELS and gateway.config.candidates:
            names = [candidate.name for candidate in gateway.config.candidates]
        elif isinstance(name, str) and not gateway.is_model(name):
            raise RefusalError(
                403,
                "model_without_price",
                "the caller has a budget in dollars, and the price of this model is not known; "
                "name another, or give its prices in the gateway's [models]",
                param="model",
            )
        else:
            names = pair
        tokens = (estimate_input_tokens(document.raw), self._output_tokens(fields))
        costs = [_cost(gateway.config.models[model], *tokens) for model in names]
        return math.ceil(sum(costs) if name == CASCADE_MODEL else max(costs))

    def _output_tokens(self, fields: Mapping[str, Any]) -> int:
        given = [fields.get(key) for key in _LIMIT_KEYS]
        limits = [n for n in given if type(n) is int and 0 < n < 10**7]
        answers = fields.get("n")
        count = answers if type(answers) is int and 0 < answers < 1000 else 1
        return count * (max(limits) if limits else self._config.reserve_output_tokens)


def settle(reserved: Reservation, facts: Mapping[str, Any]) -> None:
    """Settle ``reserved`` by the cost in ``facts``, those of a request that is over. What has no
    known cost, though it was billed, costs what was reserved."""
    cost_usd = facts.get("cost_usd")
    if cost_usd is not None:
        reserved.settle(round(cost_usd * NANODOLLARS))
    else:
        reserved.settle(reserved.amount if "input_tokens" in facts else 0)


def _is_priced(model: ModelConfig | None) -> bool:
    return model is not None and None not in (model.input_usd_per_mtok, model.output_usd_per_mtok)


def _cost(model: ModelConfig, input_tokens: int, output_tokens: int) -> float:
    """Nanodollars."""
    dearest = max(model.input_usd_per_mtok or 0.0, model.cache_write_usd_per_mtok or 0.0)
    output = model.output_usd_per_mtok or 0.0
    return (input_tokens * dearest + output_tokens * output) * (NANODOLLARS / 1e6)


def _too_many(rate: int, refusal: Refusal) -> RefusalError:
    seconds = _seconds_until(refusal.renews_s)
    return RefusalError(
        429,
        "rate_limited",
        f"the caller's limit of {rate} requests a minute is reached; try again in {seconds} s",
        headers={"retry-after": str(seconds)},
    )


def _over_budget(dollars: float, amount: int, refusal: Refusal) -> RefusalError:
    if refusal.reason == "away":
        return RefusalError(
            503,
            "budget_unknown",
            "the server of [state] does not answer, and what this replica may spend without it is "
            "used up; try again",
            headers={"retry-after": "1"},
        )
    left, most = refusal.left / NANODOLLARS, amount / NANODOLLARS
    if refusal.reason == "held":
        return RefusalError(
            429,
            "budget_reserved",
            "requests under way reserve what is left of the caller's budget of "
            f"${dollars:g} a day; try again",
            headers={"retry-after": "1"},
        )
    renews = datetime.datetime.fromtimestamp(refusal.renews_s, datetime.UTC)
    return RefusalError(
        429,
        "budget_exhausted",
        f"of the caller's budget of ${dollars:g} a day ${left:.6f} is left, and this request may "
        f"cost ${most:.6f}; the budget renews at {renews:%Y-%m-%dT%H:%M:%SZ}",
        # OpenAI's clients would try again at once.
        headers={
            "retry-after": str(_seconds_until(refusal.renews_s)),
            "x-should-retry": "false",
        },
    )


def _seconds_until(time_s: float) -> int:
    return max(1, math.ceil(time_s - datetime.datetime.now(datetime.UTC).timestamp()))
