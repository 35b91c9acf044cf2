"""What a request costs: every call that its provider bills, at the prices of the configuration.

A request may make several calls: retries, a hedged one, another model's. A call that was answered
is billed; one that was refused or never arrived is not. Where a provider does not say how many
tokens a call had, or the answer was cancelled, they are estimated, and counted as estimates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fastroute.errors import AnswerCutError, ProviderConnectTimeoutError, ProviderTimeoutError
from fastroute.gateway.config.settings import ModelConfig
from fastroute.gateway.operations.metrics import Metrics
from fastroute.gateway.operations.usage import Usage, UsageReader, estimate_input_tokens
from fastroute.http.request import AsyncResponse, Request
from fastroute.resilience.wrapping import WrappingTransport

if TYPE_CHECKING:
    from fastroute.gateway.gateway import Gateway, Routed


#: The calls of the request that a task serves.
_CALLS: ContextVar[list[Request]] = ContextVar("fastroute_calls")


class MeteredTransport(WrappingTransport):
    """Notes every call of a request that is billed; it stands directly around HTTP."""

    async def asend(self, request: Request) -> AsyncResponse:
        """Send by the transport inside."""
        calls = _CALLS.get(None)
        if calls is None:
            return await self.inner.asend(request)
        calls.append(request)
        try:
            return await self.inner.asend(request)
        except BaseException as error:
            late = isinstance(error, ProviderTimeoutError)
            arrived = late and not isinstance(error, ProviderConnectTimeoutError)
            if not (arrived or isinstance(error, (AnswerCutError, asyncio.CancelledError))):
                calls.remove(request)
            raise


class Bill:
    """The calls of one request, and what they cost."""

    def __init__(self) -> None:
        self._calls: list[Request] = []
        self._reader: UsageReader | None = None
        self._model: str | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """A context in which every call through a MeteredTransport is noted."""
        token = _CALLS.set(self._calls)
        try:
            yield
        finally:
            _CALLS.reset(token)

    def begin(self, model: str, *, is_stream: bool) -> None:
        """Note that the answer of ``model`` has begun."""
        self._model = model
        self._reader = UsageReader(is_stream=is_stream)

    def feed(self, piece: bytes) -> None:
        """Note a piece of the answer."""
        if self._reader is not None:
            self._reader.feed(piece)

    def settle(self, gateway: Gateway, routed: Routed, metrics: Metrics) -> dict[str, Any]:
        """Count tokens and dollars; returns those of the request for its line in the log."""
        if not self._calls:
            return {}
        reader = self._reader or UsageReader(is_stream=True)
        answer = reader.finish()
        if answer is None:
            answer = reader.estimate(estimate_input_tokens(self._calls[0].body))
        # Calls to a model are alike: any of them is the one that was answered.
        models = [call.model for call in self._calls]
        answered = models.index(self._model) if self._model in models else None
        costs: list[float | None] = []
        for i, call in enumerate(self._calls):
            usage = answer if i == answered else _given_up(call, self._model, answer)
            cost = cost_usd(usage, gateway.model_config(call.model))
            metrics.billed(gateway.label(call.model), usage, cost)
            costs.append(cost)
        facts: dict[str, Any] = {
            "input_tokens": answer.all_input_tokens,
            "output_tokens": answer.output_tokens,
        }
        if answer.is_estimate:
            facts["tokens_are_estimates"] = True
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(costs):
            return facts
        facts["cost_usd"] = round(sum(known), 9)
        strong = cost_usd(answer, gateway.model_config(gateway.config.routing.strong_model))
        # Another model's answer is not a saving: the model that was chosen failed.
        chosen = routed.decision is not None and self._model == routed.decision.model
        if routed.decision is not None and chosen and strong is not None:
            metrics.saved.labels(routed.decision.router).inc(max(0.0, strong - sum(known)))
        return facts


def _given_up(call: Request, model: str | None, answer: Usage) -> Usage:
    """The usage of a call whose answer was not read: its input, and, unless the provider could stop
    writing when the connection closed, an output as long as that of the same model's answer."""
    output_tokens = answer.output_tokens if call.model == model and not call.stream else 0
    return answer._replace(output_tokens=output_tokens, is_estimate=True)


def cost_usd(usage: Usage, model: ModelConfig | None) -> float | None:
    """Dollars for ``usage``; None where the model's prices are not known."""
    if model is None or model.input_usd_per_mtok is None or model.output_usd_per_mtok is None:
        return None
    full = model.input_usd_per_mtok
    cached = full if model.cached_input_usd_per_mtok is None else model.cached_input_usd_per_mtok
    written = full if model.cache_write_usd_per_mtok is None else model.cache_write_usd_per_mtok
    return (
        usage.input_tokens * full
        + usage.cached_tokens * cached
        + usage.cache_write_tokens * written
        + usage.output_tokens * model.output_usd_per_mtok
    ) / 1e6
