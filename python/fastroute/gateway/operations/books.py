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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fastroute.errors import AnswerCutError, ProviderConnectTimeoutError, ProviderTimeoutError
from fastroute.evidence.cascade import Evidence
from fastroute.gateway.config.endpoints import ModelConfig
from fastroute.gateway.operations.metrics import Metrics
from fastroute.gateway.operations.usage import Usage, UsageReader, estimate_input_tokens
from fastroute.http.request import AsyncResponse, Request
from fastroute.resilience.wrapping import WrappingTransport

if TYPE_CHECKING:
    from fastroute.gateway.gateway import Gateway
    from fastroute.gateway.request.routed import Routed


@dataclass(eq=False)
class _Call:
    """A call that may be billed."""

    request: Request
    response: AsyncResponse | None = None
    _usage: Usage | None = None

    def usage(self) -> Usage | None:
        """What the call used, if its answer has been read; None for any other call."""
        response = self.response
        if self._usage is None and response is not None and response.body is not None:
            kind = response.headers.get("content-type", "").lower()
            reader = UsageReader(is_stream=kind.startswith("text/event-stream"))
            reader.feed(response.body)
            self._usage = _read_usage(reader, self.request)
        return self._usage

    def is_answered_by(self, answer: AsyncResponse) -> bool:
        """Whether ``answer``, perhaps in another form, is the one to this call."""
        response = self.response
        return response is answer or (response is not None and self.request is answer.request)


class BilledCall(NamedTuple):
    """What one call to a model used and cost; None for dollars without prices. Whether an answer
    to it began."""

    model: str
    request: Request
    is_answered: bool
    usage: Usage
    cost_usd: float | None


#: The calls of the request that a task serves.
_CALLS: ContextVar[list[_Call]] = ContextVar("fastroute_calls")


class MeteredTransport(WrappingTransport):
    """Notes every call of a request that is billed; it stands directly around HTTP."""

    async def asend(self, request: Request) -> AsyncResponse:
        """Send by the transport inside."""
        calls = _CALLS.get(None)
        if calls is None:
            return await self.inner.asend(request)
        call = _Call(request)
        calls.append(call)
        try:
            call.response = await self.inner.asend(request)
        except BaseException as error:
            late = isinstance(error, ProviderTimeoutError)
            arrived = late and not isinstance(error, ProviderConnectTimeoutError)
            if not (arrived or isinstance(error, (AnswerCutError, asyncio.CancelledError))):
                calls.remove(call)
            raise
        return call.response


class Bill:
    """The calls of one request, and what they cost."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._reader: UsageReader | None = None
        self._answer: AsyncResponse | None = None
        #: The calls that were counted, and which of them has the answer that was sent.
        self.settled: list[BilledCall] = []
        self.answered: int | None = None

    def __bool__(self) -> bool:
        return bool(self._calls)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """A context in which every call through a MeteredTransport is noted."""
        token = _CALLS.set(self._calls)
        try:
            yield
        finally:
            _CALLS.reset(token)

    def begin(self, answer: AsyncResponse, *, is_stream: bool) -> None:
        """Note that ``answer`` has begun."""
        self._answer = answer
        self._reader = None if answer.body is not None else UsageReader(is_stream=is_stream)

    def feed(self, piece: bytes) -> None:
        """Note a piece of an answer that is not here yet."""
        if self._reader is not None:
            self._reader.feed(piece)

    def calls(self, gateway: Gateway) -> list[BilledCall]:
        """Every call so far."""
        usages = self._usages()
        return [
            BilledCall(
                call.request.model,
                call.request,
                call.response is not None,
                usage,
                cost_usd(usage, gateway.model_config(call.request.model)),
            )
            for call, usage in zip(self._calls, usages, strict=True)
        ]

    def close(self, gateway: Gateway) -> list[BilledCall]:
        """Every call, kept as ``settled``."""
        self.settled, self.answered = self.calls(gateway), self._answered()
        return self.settled

    def settle(self, gateway: Gateway, routed: Routed, metrics: Metrics) -> dict[str, Any]:
        """Count tokens and dollars; returns those of the request for its line in the log."""
        if not self._calls:
            return {}
        calls = self.close(gateway)
        for call in calls:
            metrics.billed(gateway.label(call.model), call.usage, call.cost_usd)
        answered = self.answered
        answer = calls[answered if answered is not None else 0]
        facts: dict[str, Any] = {
            "input_tokens": answer.usage.all_input_tokens,
            "output_tokens": answer.usage.output_tokens,
        }
        if answer.usage.is_estimate:
            facts["tokens_are_estimates"] = True
        known = [call.cost_usd for call in calls if call.cost_usd is not None]
        if len(known) < len(calls):
            return facts
        facts["cost_usd"] = round(sum(known), 9)
        strong = cost_usd(answer.usage, gateway.model_config(gateway.config.routing.strong_model))
        if answered is not None and strong is not None and self._is_as_chosen(routed):
            saved = strong - sum(known)
            router = routed.label
            (metrics.saved if saved >= 0 else metrics.overspent).labels(router).inc(abs(saved))
            facts["saved_usd"] = round(saved, 9)
        return facts

    def _is_as_chosen(self, routed: Routed) -> bool:
        """Whether what was chosen answered. Another model's answer is not a saving: the model that
        was chosen failed."""
        answer = self._answer
        if answer is None or answer.request is None:
            return False
        if routed.choice is not None:
            return answer.request.model == routed.choice.decision.model
        if routed.decision is None:
            return False
        if isinstance(answer.evidence, Evidence):
            return answer.evidence.reason != "failed" or answer.request.model == routed.model
        return answer.request.model == routed.decision.model

    def _answered(self) -> int | None:
        """The call whose answer is sent."""
        answer = self._answer
        if answer is None:
            return None
        return next((i for i, c in enumerate(self._calls) if c.is_answered_by(answer)), None)

    def _usages(self) -> list[Usage]:
        """What each call used: as its provider counts it, or an estimate."""
        answered = self._answered()
        found: list[Usage | None] = [
            _read_usage(self._reader, call.request)
            if self._reader is not None and call.response is self._answer
            else call.usage()
            for call in self._calls
        ]
        # Answers to one question are alike in length: those of one model most, then the one sent.
        of_model = {
            call.request.model: usage
            for call, usage in zip(self._calls, found, strict=True)
            if usage is not None
        }
        longest = max(of_model.values(), key=lambda usage: usage.output_tokens, default=None)
        like = longest if answered is None else found[answered]
        return [
            usage or _given_up(call.request, of_model.get(call.request.model, like))
            for usage, call in zip(found, self._calls, strict=True)
        ]


def _read_usage(reader: UsageReader, request: Request) -> Usage:
    usage = reader.finish()
    return reader.estimate(estimate_input_tokens(request.body)) if usage is None else usage


def _given_up(request: Request, like: Usage | None) -> Usage:
    """The usage of a call whose answer was not read: its input, and, unless the provider could stop
    writing when the connection closed, an output as long as that of the answer that was."""
    if like is None:
        return Usage(estimate_input_tokens(request.body), 0, 0, 0, is_estimate=True)
    output_tokens = 0 if request.stream else like.output_tokens
    return like._replace(output_tokens=output_tokens, is_estimate=True)


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
