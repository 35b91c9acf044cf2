"""One request through the gateway: read, decide, send on, hand back what comes as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastroute.errors import (
    AnswerCutError,
    BodyError,
    DispatchError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.gateway.gateway import Gateway, Routed
from fastroute.gateway.operations.books import Bill
from fastroute.gateway.operations.logs import log
from fastroute.gateway.protocol.headers import (
    folded_request,
    headers_to_client,
    headers_to_provider,
)
from fastroute.gateway.protocol.limits import ClientGoneError, read_body
from fastroute.gateway.protocol.replies import (
    HeaderList,
    Receive,
    RefusalError,
    Scope,
    Send,
    send_json,
    send_refusal,
    send_whole,
    without_length,
)
from fastroute.gateway.request.document import LONG_BYTES, Document, Fields, read_document
from fastroute.gateway.request.stored import Keeper
from fastroute.http.request import AsyncResponse, AsyncTransport, RawHeaders, Request

if TYPE_CHECKING:
    from fastroute.gateway.operations.state import State
    from fastroute.gateway.protocol.redaction import Redaction

#: Paths that make no answer of a model.
_UNBILLED = frozenset(
    {
        "/messages/count_tokens",
        "/responses/{id}",
        "/responses/{id}/cancel",
        "/responses/{id}/input_items",
    }
)
_CUT = 499  # the status that logs have for a client that left, as nginx has it
#: A client may name a model of any length; logs and headers show no more of it.
_SHOWN_CHARS = 200


@dataclass
class Facts:
    """What is known of a request when it is over, for its line in the log."""

    path: str
    request_id: str
    began: float = field(default_factory=perf_counter)
    caller: str | None = None
    status: int = 0
    model: str | None = None
    stream: bool = False
    error: str | None = None
    span: Any = None
    query: bytes = b""
    more: dict[str, Any] = field(default_factory=dict)


class ProxyEndpoint:
    """The ASGI application for one path, such as ``/chat/completions``."""

    def __init__(self, state: State, path: str) -> None:
        self._state = state
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        state = self._state
        facts = Facts(self._path, secrets.token_hex(8), query=scope.get("query_string", b""))
        try:
            state.admission.enter()
        except RefusalError as refusal:
            await self._refuse(refusal, facts, send)
            self._finish(facts)
            return
        state.metrics.in_flight.inc()
        headers = folded_request(scope["headers"])
        facts.span = state.tracing.begin(self._path, headers)
        watch = _Watch(receive)
        gateway = state.lease()
        try:
            await self._serve(gateway, scope, headers, watch, send, facts)
        except RefusalError as refusal:
            await self._refuse(refusal, facts, send)
        except (ClientGoneError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not watch.has_left():
                raise
            facts.status = facts.status or _CUT
            facts.error = "client_left"
        finally:
            await watch.stop()
            state.release(gateway)
            state.admission.leave()
            state.metrics.in_flight.dec()
            self._finish(facts)

    async def _serve(
        self,
        gateway: Gateway,
        scope: Scope,
        headers: Mapping[str, str],
        watch: _Watch,
        send: Send,
        facts: Facts,
    ) -> None:
        facts.caller = caller = caller_of(gateway, headers)
        raw = await read_body(scope, watch.receive, gateway.config.server)
        try:
            if (
                len(raw) > LONG_BYTES
            ):  # the walk gives the lock away, so others are served meanwhile
                document = await asyncio.to_thread(read_document, raw)
            else:
                document = read_document(raw)
            # What every request needs is read here, where it can still be refused.
            facts.stream = bool(document.fields.get("stream"))
            document.fields.get("model")
        except BodyError as error:
            raise RefusalError(400, "invalid_json", str(error)) from error
        watch.start()
        if self._path == "/route":
            routed = await gateway.route(
                document, "/chat/completions", headers, caller, remember=False
            )
            facts.status, facts.model = 200, routed.model
            await send_json(send, 200, decision_json(routed), decision_headers(routed))
            return
        remember = self._path not in _UNBILLED
        routed = await gateway.route(document, self._path, headers, caller, remember=remember)
        facts.model = routed.model
        metrics = self._state.metrics
        if routed.decision is not None:
            if self._path not in _UNBILLED:
                metrics.decided(routed.decision, routed.seconds, routed.stayed)
            facts.more = {
                "router": routed.decision.router,
                "win_rate": round(routed.decision.win_rate, 6),
                "threshold": routed.decision.threshold,
                "stayed": routed.stayed,
            }
            if gateway.config.server.log_prompts:
                facts.more["prompt"] = routed.prompt
        with self._state.tracing.upstream(facts.span, routed.model) as traced:
            sent = headers_to_provider(scope["headers"], traced, scope["http_version"])
            await self._ask(gateway, routed, document, sent, send, facts)

    async def _ask(
        self,
        gateway: Gateway,
        routed: Routed,
        document: Document,
        headers: RawHeaders,
        send: Send,
        facts: Facts,
    ) -> None:
        """Write the request for the provider, send it, and hand the answer back."""
        other = gateway.other_model(routed)
        query = facts.query
        fallback = (
            None
            if other is None
            else gateway.request(other, document, self._path, headers, query=query)
        )
        request = gateway.request(
            routed.model, document, self._path, headers, fallback, query, routed.keeper
        )
        stored = document.fields if self._path == "/responses" else None
        await self._exchange(gateway, routed, [request], send, facts, stored)

    async def _exchange(
        self,
        gateway: Gateway,
        routed: Routed,
        requests: list[Request],
        send: Send,
        facts: Facts,
        stored: Fields | None = None,
    ) -> None:
        """Send the first of ``requests``, the next where a provider does not know what it asks for,
        and hand the answer back. The id of one to ``stored`` is remembered."""
        metrics = self._state.metrics
        sent = perf_counter()
        bill = Bill()
        answering = routed.model
        try:
            async with asyncio.timeout(gateway.config.resilience.total_timeout_s):
                with bill.recording() if self._path not in _UNBILLED else nullcontext():
                    response = await send_until_known(gateway.transport, requests)
                if response.request is not None and response.request.model != routed.model:
                    answering = response.request.model
                    if routed.decision is not None:
                        facts.more["fallback_from"] = routed.model[:_SHOWN_CHARS]
                facts.model = answering
                label = gateway.label(answering)
                first_s = perf_counter() - sent
                metrics.first_byte_s.labels(label).observe(first_s)
                facts.more["first_byte_ms"] = round(first_s * 1000, 3)
                observers = [bill.feed]
                if stored is not None and response.request is not None:
                    keeper = Keeper(facts.caller or "", answering, response.request.endpoint)
                    observers.append(gateway.stored.watch(stored, keeper).feed)
                is_stream = _is_event_stream(response)
                bill.begin(answering, is_stream=is_stream)
                await self._pass_on(response, routed, gateway.redaction, send, facts, observers)
        except ProviderStatusError as error:
            facts.status = error.status_code
            facts.error = "provider_status"
            metrics.failures.labels(gateway.label(routed.model), str(error.status_code)).inc()
            passed = headers_to_client(error.raw_headers)
            passed = [
                *without_length(gateway.redaction.headers(passed, of_error=True)),
                *decision_headers(routed),
                (b"x-fastroute-request-id", facts.request_id.encode()),
            ]
            await send_whole(send, error.status_code, passed, gateway.redaction.error(error.body))
            return
        except (DispatchError, TimeoutError) as error:
            metrics.failures.labels(gateway.label(routed.model), type(error).__name__).inc()
            facts.error = type(error).__name__
            if facts.status:  # the answer has begun: all that is left is to cut it off
                return
            raise _refusal_of(error, gateway) from error
        finally:
            facts.more |= bill.settle(gateway, routed, metrics)
        metrics.upstream_s.labels(label).observe(perf_counter() - sent)

    async def _pass_on(
        self,
        response: AsyncResponse,
        routed: Routed,
        redaction: Redaction,
        send: Send,
        facts: Facts,
        observers: Sequence[Callable[[bytes], None]],
    ) -> None:
        """Hand the answer on, piece by piece as it comes; ``observers`` are shown the pieces."""
        passed = redaction.headers(headers_to_client(response.raw_headers))
        redacted = redaction.answer()
        headers = [
            *(without_length(passed) if response.body is not None else passed),
            *decision_headers(routed, facts.model),
            (b"x-fastroute-request-id", facts.request_id.encode()),
        ]
        if response.body is not None:
            facts.status = response.status_code
            body = redacted.feed(response.body) + redacted.finish()
            for observe in observers:
                observe(response.body)
            await send_whole(send, response.status_code, headers, body)
            return
        try:
            facts.status = response.status_code
            start = {"type": "http.response.start", "status": facts.status, "headers": headers}
            await send(start)
            async for piece in response.iter_bytes():
                for observe in observers:
                    observe(piece)
                passed_on = redacted.feed(piece)
                await send({"type": "http.response.body", "body": passed_on, "more_body": True})
            await send({"type": "http.response.body", "body": redacted.finish()})
        finally:
            await response.aclose()

    async def _refuse(self, refusal: RefusalError, facts: Facts, send: Send) -> None:
        facts.status, facts.error = refusal.status, refusal.code
        request_id = (b"x-fastroute-request-id", facts.request_id.encode())
        await send_refusal(send, refusal, [request_id], self._path)

    def _finish(self, facts: Facts) -> None:
        self._state.metrics.requests.labels(facts.path, str(facts.status)).inc()
        known = {
            "request_id": facts.request_id,
            "path": facts.path,
            "status": facts.status,
            "caller": facts.caller,
            "model": facts.model and facts.model[:_SHOWN_CHARS],
            "stream": facts.stream,
            "error": facts.error,
            "duration_ms": round((perf_counter() - facts.began) * 1000, 3),
        }
        log("request", logging.INFO, **known, **facts.more)
        if facts.span is not None:
            more = {name: value for name, value in facts.more.items() if name != "prompt"}
            self._state.tracing.end(facts.span, known | more)


class StoredEndpoint(ProxyEndpoint):
    """The ASGI application for requests about a stored response, such as ``/responses/{id}``."""

    async def _serve(
        self,
        gateway: Gateway,
        scope: Scope,
        headers: Mapping[str, str],
        watch: _Watch,
        send: Send,
        facts: Facts,
    ) -> None:
        facts.caller = caller = caller_of(gateway, headers)
        await read_body(scope, watch.receive, gateway.config.server)  # none is expected
        watch.start()
        path = scope["path"].removeprefix("/v1")
        sent = headers_to_provider(scope["headers"], {}, scope["http_version"])
        requests = gateway.stored_requests(
            path.split("/")[2], caller, path, scope["method"], sent, facts.query
        )
        facts.model = requests[0].model
        routed = Routed(requests[0].model, None, False, 0.0, "")
        await self._exchange(gateway, routed, requests, send, facts)


class _Watch:
    """Ends the request's task when the client hangs up."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self._left = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch; the whole body has been read."""
        serving = asyncio.current_task()
        assert serving is not None
        self._task = asyncio.create_task(self._wait(serving))

    async def _wait(self, serving: asyncio.Task[Any]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._left = True
        serving.cancel()

    def has_left(self) -> bool:
        """Whether the client left; takes the cancellation that this caused back."""
        if self._left:
            current = asyncio.current_task()
            if current is not None:
                current.uncancel()
        return self._left

    async def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def caller_of(gateway: Gateway, headers: Mapping[str, str]) -> str:
    """The name of the key in ``headers``. Raises RefusalError where it is not one of ours."""
    caller = gateway.keys.caller(headers)
    if caller is None:
        raise RefusalError(
            401,
            "invalid_api_key",
            "authentication required: send an API key of this gateway as Authorization: Bearer "
            "<key>, or as x-api-key",
            headers={"www-authenticate": "Bearer"},
        )
    return caller


async def send_until_known(transport: AsyncTransport, requests: list[Request]) -> AsyncResponse:
    """The answer to the first of ``requests`` whose provider does not say 404, else the last's."""
    for request in requests[:-1]:
        try:
            return await transport.asend(request)
        except ProviderStatusError as error:
            if error.status_code != 404:
                raise
    return await transport.asend(requests[-1])


def _is_event_stream(response: AsyncResponse) -> bool:
    return response.headers.get("content-type", "").lower().startswith("text/event-stream")


def decision_headers(routed: Routed, answered_by: str | None = None) -> HeaderList:
    """The decision as response headers."""
    model = answered_by or routed.model
    headers: HeaderList = []
    if model.isascii() and model.isprintable() and len(model) <= _SHOWN_CHARS:
        headers.append((b"x-fastroute-model", model.encode()))
    decision = routed.decision
    if decision is None:
        return headers
    headers += [
        (b"x-fastroute-router", decision.router.encode()),
        (b"x-fastroute-win-rate", f"{decision.win_rate:.6g}".encode()),
        (b"x-fastroute-threshold", repr(decision.threshold).encode()),
        (b"x-fastroute-decision-us", f"{routed.seconds * 1e6:.1f}".encode()),
    ]
    if routed.stayed:
        headers.append((b"x-fastroute-sticky", b"stayed"))
    if model != routed.model:
        headers.append((b"x-fastroute-fallback-from", routed.model.encode("ascii", "replace")))
    return headers


def decision_json(routed: Routed) -> dict[str, Any]:
    """The answer of ``POST /v1/route``."""
    decision = routed.decision
    if decision is None:
        return {"model": routed.model, "router": None}
    return {
        "model": decision.model,
        "router": decision.router,
        "win_rate": decision.win_rate,
        "threshold": decision.threshold,
        "strong": decision.strong,
        "stayed": routed.stayed,
        "decision_us": routed.seconds * 1e6,
    }


def _refusal_of(error: Exception, gateway: Gateway) -> RefusalError:
    """For a provider that did not answer. Our words do not show its address or name."""
    if isinstance(error, (ProviderTimeoutError, TimeoutError)):
        return RefusalError(504, "provider_timeout", "the model's provider did not answer in time")
    if isinstance(error, AnswerCutError):
        return RefusalError(
            502,
            "provider_answer_cut",
            "the provider's answer broke off after it had begun; it may have been billed, so it "
            "was not asked again (the gateway's retry_cut_answers allows that)",
        )
    if isinstance(error, ProviderResponseError):
        most = gateway.config.server.max_provider_header_bytes
        return RefusalError(
            502,
            "provider_answer_unreadable",
            f"the provider's answer is no HTTP, or one of its headers is longer than {most} bytes, "
            "the gateway's max_provider_header_bytes",
        )
    if isinstance(error, ProviderConnectionError):
        return RefusalError(
            502, "provider_unreachable", "the model's provider could not be reached"
        )
    seconds = str(max(1, round(gateway.config.resilience.breaker_open_s)))
    return RefusalError(
        503,
        "provider_unavailable",
        "the model's provider is not being asked at the moment",
        headers={"retry-after": seconds},
    )
