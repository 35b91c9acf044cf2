"""One request through the gateway: read, decide, send on, hand back what comes as it comes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiohttp import web
from multidict import CIMultiDict

from fastroute.candidates.memory import AnswerReader
from fastroute.errors import (
    AnswerCutError,
    BodyError,
    DispatchError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.evidence.cascade import Evidence
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.operations.books import Bill
from fastroute.gateway.operations.budgets import settle
from fastroute.gateway.operations.logs import log
from fastroute.gateway.protocol.decision import (
    SHOWN_CHARS,
    choice_facts,
    decision_headers,
    decision_json,
)
from fastroute.gateway.protocol.evidence import call_rows, evidence_headers
from fastroute.gateway.protocol.headers import headers_to_client, headers_to_provider
from fastroute.gateway.protocol.limits import read_body
from fastroute.gateway.protocol.replies import HeaderList, RefusalError, json_response, to_text
from fastroute.gateway.protocol.server import cut_off
from fastroute.gateway.request.document import LONG_BYTES, Document, Fields, read_document
from fastroute.gateway.request.routed import Routed
from fastroute.gateway.request.stored import Keeper
from fastroute.http.request import AsyncResponse, AsyncTransport, RawHeaders, Request, folded
from fastroute.state.leases import Reservation

if TYPE_CHECKING:
    from fastroute.gateway.journal.recorder import Entry
    from fastroute.gateway.operations.state import State

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


@dataclass
class Facts:
    """What is known of a request when it is over, for its line in the log."""

    path: str
    request_id: str
    began: float = field(default_factory=perf_counter)
    duration_ms: float = 0.0
    caller: str | None = None
    status: int = 0
    model: str | None = None
    stream: bool = False
    error: str | None = None
    span: Any = None
    begun: web.StreamResponse | None = None
    evidence: Evidence | None = None
    reserved: Reservation | None = None
    more: dict[str, Any] = field(default_factory=dict)
    entry: Entry | None = None


class ProxyEndpoint:
    """The handler of one path, such as ``/chat/completions``."""

    def __init__(self, state: State, path: str) -> None:
        self._state = state
        self._path = path

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request."""
        state = self._state
        facts = Facts(self._path, os.urandom(8).hex())
        try:
            state.admission.enter()
        except RefusalError as refusal:
            return self._refuse(refusal, facts)
        state.metrics.in_flight.inc()
        raw = tuple((name.lower(), value) for name, value in request.raw_headers)
        headers = folded(raw)
        facts.span = state.tracing.begin(self._path, headers)
        gateway = state.lease()
        try:
            return await self._serve(gateway, request, raw, headers, facts)
        except RefusalError as refusal:
            return self._refuse(refusal, facts, finish=False)
        except (asyncio.CancelledError, ConnectionError) as error:
            facts.status = facts.status or _CUT
            left = request.transport is None or isinstance(error, ConnectionError)
            facts.error = "client_left" if left else "shutdown"
            if facts.begun is None or isinstance(error, asyncio.CancelledError):
                cut_off(request)
                raise
            return facts.begun
        except Exception as error:
            facts.status, facts.error = facts.status or 500, type(error).__name__
            raise
        finally:
            if facts.reserved is not None:
                settle(facts.reserved, facts.more)
            state.release(gateway)
            state.admission.leave()
            state.metrics.in_flight.dec()
            self._finish(facts)

    async def _serve(
        self,
        gateway: Gateway,
        request: web.BaseRequest,
        raw_headers: RawHeaders,
        headers: Mapping[str, str],
        facts: Facts,
    ) -> web.StreamResponse:
        facts.caller = caller = caller_of(gateway, headers)
        raw = await read_body(request, gateway.config.server)
        try:
            if len(raw) > LONG_BYTES:  # the parser gives the lock away, so others are served
                document = await asyncio.to_thread(read_document, raw)
            else:
                document = read_document(raw)
            # What every request needs is read here, where it can still be refused.
            facts.stream = bool(document.fields.get("stream"))
            document.fields.get("model")
        except BodyError as error:
            raise RefusalError(400, "invalid_json", str(error)) from error
        is_billed = self._path != "/route" and self._path not in _UNBILLED
        facts.reserved = await self._state.shared.admit(
            gateway, document, caller, is_billed=is_billed
        )
        if self._path == "/route":
            routed = await gateway.route(
                document, "/chat/completions", headers, caller, remember=False
            )
            facts.status, facts.model = 200, routed.model
            return json_response(decision_json(routed), 200, decision_headers(routed))
        remember = self._path not in _UNBILLED
        routed = await gateway.route(document, self._path, headers, caller, remember=remember)
        facts.model = routed.model
        metrics = self._state.metrics
        if remember and self._state.recorder is not None:
            facts.entry = self._state.recorder.begin(gateway, routed)
        if routed.choice is not None:
            facts.more = choice_facts(routed.choice)
            if routed.choice.counts and gateway.candidates is not None:
                metrics.chosen(routed.model, routed.seconds, routed.stayed, gateway.candidates)
        elif routed.decision is not None:
            if self._path not in _UNBILLED:
                metrics.decided(
                    routed.decision, routed.seconds, routed.stayed, by_prompt=not routed.cascade
                )
            control = gateway.decider.share_control
            if routed.held is not None and control is not None:
                metrics.counted_for_share(routed.decision, routed.held, control)
            difficulty = routed.decision.difficulty
            facts.more = {
                "router": routed.decision.router,
                "win_rate": round(routed.decision.win_rate, 6),
                "threshold": routed.decision.threshold,
                "difficulty": None if difficulty is None else round(difficulty, 4),
                "stayed": routed.stayed,
            }
        if facts.more and gateway.config.server.log_prompts:
            facts.more["prompt"] = routed.prompt
        with self._state.tracing.upstream(facts.span, routed.model) as traced:
            sent = headers_to_provider(raw_headers, traced, _version(request))
            if facts.entry is not None:
                facts.entry.send(facts, document, sent, _query(request))
            return await self._ask(gateway, routed, document, sent, request, facts)

    async def _ask(
        self,
        gateway: Gateway,
        routed: Routed,
        document: Document,
        headers: RawHeaders,
        request: web.BaseRequest,
        facts: Facts,
    ) -> web.StreamResponse:
        """Write the request for the provider, send it, and hand the answer back."""
        query = _query(request)
        if routed.cascade:
            asked = await gateway.cascade_request(routed, document, self._path, headers, query)
            return await self._exchange(gateway, routed, [asked], request, facts)
        stored = document.fields if self._path == "/responses" else None
        if routed.choice is not None:
            chosen = partial(
                gateway.candidate_request, routed, document, self._path, headers, query
            )
            asked = await asyncio.to_thread(chosen) if len(document.raw) > LONG_BYTES else chosen()
            return await self._exchange(gateway, routed, [asked], request, facts, stored)
        other = gateway.other_model(routed)
        fallback = (
            None
            if other is None
            else partial(gateway.request, other, document, self._path, headers, query=query)
        )
        write = partial(
            gateway.request,
            routed.model, document, self._path, headers, fallback, query, routed.keeper,
        )  # fmt: skip
        # A copy with another model takes 40 ms for 32 MB.
        asked = await asyncio.to_thread(write) if len(document.raw) > LONG_BYTES else write()
        return await self._exchange(gateway, routed, [asked], request, facts, stored)

    async def _exchange(
        self,
        gateway: Gateway,
        routed: Routed,
        requests: list[Request],
        request: web.BaseRequest,
        facts: Facts,
        stored: Fields | None = None,
    ) -> web.StreamResponse:
        """Send the first of ``requests``, the next where a provider does not know what it asks for,
        and hand the answer back. The id of one to ``stored`` is remembered."""
        metrics = self._state.metrics
        sent = perf_counter()
        bill = Bill()
        answering = routed.model
        try:
            async with asyncio.timeout(gateway.config.resilience.total_timeout_s):
                with bill.recording() if self._path not in _UNBILLED else nullcontext():
                    answer = await send_until_known(gateway.transport, requests)
                await gateway.sessions.shared()
                if answer.request is not None and answer.request.model != routed.model:
                    answering = answer.request.model
                    if routed.choice is not None:
                        facts.more |= choice_facts(routed.choice)
                    if routed.label and not routed.cascade:
                        facts.more["fallback_from"] = routed.model[:SHOWN_CHARS]
                facts.model = answering
                label = gateway.label(answering)
                first_s = perf_counter() - sent
                metrics.first_byte_s.labels(label).observe(first_s)
                facts.more["first_byte_ms"] = round(first_s * 1000, 3)
                observers = [bill.feed]
                if facts.entry is not None:
                    observers.append(facts.entry.feed)
                if stored is not None and answer.request is not None:
                    keeper = Keeper(facts.caller or "", answering, answer.request.endpoint)
                    observers.append(gateway.stored.watch(stored, keeper).feed)
                if routed.choice is not None:
                    observers.append(
                        AnswerReader(
                            gateway.sessions.answers, answering, routed.choice.reading.name,
                            facts.caller or "",
                        ).feed
                    )  # fmt: skip
                is_stream = _is_event_stream(answer)
                bill.begin(answer, is_stream=is_stream)
                passed = gateway.redaction.headers(headers_to_client(answer.raw_headers))
                if isinstance(answer.evidence, Evidence):
                    facts.evidence = answer.evidence
                    metrics.cascaded(answer.evidence, gateway.label)
                    passed += evidence_headers(answer, bill.calls(gateway))
                fields = _fields(passed, routed, facts, answering)
                response = await self._pass_on(
                    answer, fields, request, facts, observers, gateway.sessions.shared
                )
        except ProviderStatusError as error:
            metrics.failures.labels(gateway.label(routed.model), str(error.status_code)).inc()
            facts.error = "provider_status"
            if not 300 <= error.status_code < 600:
                raise _unreadable(gateway) from error
            facts.status = error.status_code
            passed = gateway.redaction.headers(headers_to_client(error.raw_headers), of_error=True)
            body = gateway.redaction.error(error.body)
            return _whole(facts, _fields(passed, routed, facts), body)
        except (DispatchError, TimeoutError) as error:
            metrics.failures.labels(gateway.label(routed.model), type(error).__name__).inc()
            facts.error = type(error).__name__
            if facts.begun is None:
                raise _refusal_of(error, gateway) from error
            cut_off(request)
            return facts.begun
        finally:
            facts.more |= bill.settle(gateway, routed, metrics)
            if facts.entry is not None:
                facts.entry.bill = bill
            if routed.choice is not None and gateway.candidates is not None:
                routed.choice.settle(facts.more.get("cost_usd", None if bill else 0.0))
                metrics.spending(gateway.candidates)
            if routed.cascade:
                facts.more["evidence"] = facts.evidence and str(facts.evidence)
                facts.more["calls"] = call_rows(facts.evidence, bill.calls(gateway))
        metrics.upstream_s.labels(label).observe(perf_counter() - sent)
        return response

    async def _pass_on(
        self,
        answer: AsyncResponse,
        fields: CIMultiDict[str],
        request: web.BaseRequest,
        facts: Facts,
        observers: Sequence[Callable[[bytes], None]],
        shared: Callable[[], Awaitable[None]],
    ) -> web.StreamResponse:
        """Hand the answer on, piece by piece as it comes; ``observers`` are shown the pieces first,
        and other replicas what they noted, by ``shared``: a client that has a piece with a tool
        call, or the end, may go on at any replica."""
        facts.status = answer.status_code
        if answer.body is not None:
            for observe in observers:
                observe(answer.body)
            await shared()
            return _whole(facts, fields, answer.body)
        facts.begun = response = web.StreamResponse(status=facts.status, headers=fields)
        try:
            await response.prepare(request)
            async for piece in answer.iter_bytes():
                for observe in observers:
                    observe(piece)
                await shared()
                await response.write(piece)
            await response.write_eof()
        finally:
            await answer.aclose()
        return response

    def _refuse(
        self, refusal: RefusalError, facts: Facts, *, finish: bool = True
    ) -> web.StreamResponse:
        facts.status, facts.error = refusal.status, refusal.code
        if finish:
            self._finish(facts)
        request_id = (b"x-fastroute-request-id", facts.request_id.encode())
        return refusal.response(self._path, [request_id])

    def _finish(self, facts: Facts) -> None:
        self._state.metrics.requests.labels(facts.path, str(facts.status)).inc()
        facts.duration_ms = round((perf_counter() - facts.began) * 1000, 3)
        known = {
            "request_id": facts.request_id,
            "path": facts.path,
            "status": facts.status,
            "caller": facts.caller,
            "model": facts.model and facts.model[:SHOWN_CHARS],
            "stream": facts.stream,
            "error": facts.error,
            "duration_ms": facts.duration_ms,
        }
        log("request", logging.INFO, **known, **facts.more)
        if facts.entry is not None:
            facts.entry.finish(facts)
        if facts.span is not None:
            kept = (item for item in facts.more.items() if item[0] not in ("prompt", "calls"))
            more = dict(kept)
            self._state.tracing.end(facts.span, known | more)


class StoredEndpoint(ProxyEndpoint):
    """The handler of requests about a stored response, such as ``/responses/{id}``."""

    async def _serve(
        self,
        gateway: Gateway,
        request: web.BaseRequest,
        raw_headers: RawHeaders,
        headers: Mapping[str, str],
        facts: Facts,
    ) -> web.StreamResponse:
        facts.caller = caller = caller_of(gateway, headers)
        await read_body(request, gateway.config.server)  # none is expected
        path = request.raw_path.partition("?")[0].rstrip("/").removeprefix("/v1")
        sent = headers_to_provider(raw_headers, {}, _version(request))
        requests = gateway.stored_requests(
            path.split("/")[2], caller, path, request.method, sent, _query(request)
        )
        facts.model = requests[0].model
        routed = Routed(requests[0].model, None, False, 0.0, "")
        return await self._exchange(gateway, routed, requests, request, facts)


def _version(request: web.BaseRequest) -> str:
    return f"{request.version.major}.{request.version.minor}"


def _query(request: web.BaseRequest) -> bytes:
    return request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")


def _fields(
    passed: HeaderList, routed: Routed, facts: Facts, answering: str | None = None
) -> CIMultiDict[str]:
    """The headers of an answer: its provider's, and the gateway's own."""
    request_id = (b"x-fastroute-request-id", facts.request_id.encode())
    own = decision_headers(routed, answering)
    return to_text([*passed, *own, request_id, (b"server", b"fastroute")])


def _whole(facts: Facts, fields: CIMultiDict[str], body: bytes) -> web.Response:
    fields.popall("content-length", None)  # aiohttp writes it
    return web.Response(body=body, status=facts.status, headers=fields)


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
    """The answer to the first of ``requests`` whose provider knows what it is about."""
    errors = []
    for request in requests:
        try:
            return await transport.asend(request)
        except ProviderStatusError as error:
            errors.append(error)
            if error.status_code not in (404, 405, 501):  # the latter keep no responses at all
                raise
    raise min(errors, key=lambda error: error.status_code)


def _is_event_stream(response: AsyncResponse) -> bool:
    return response.headers.get("content-type", "").lower().startswith("text/event-stream")


def _refusal_of(error: Exception, gateway: Gateway) -> RefusalError:
    """For a provider that did not answer. The message does not show its address or name."""
    if isinstance(error, (ProviderTimeoutError, TimeoutError)):
        return RefusalError(504, "provider_timeout", "the model's provider did not answer in time")
    if isinstance(error, AnswerCutError):
        return RefusalError(
            502,
            "provider_answer_cut",
            "the provider's answer was interrupted; it may have been billed, so the request was "
            "not sent again (the gateway's retry_cut_answers allows that)",
        )
    if isinstance(error, ProviderResponseError):
        return _unreadable(gateway)
    if isinstance(error, ProviderConnectionError):
        return RefusalError(
            502, "provider_unreachable", "the model's provider could not be reached"
        )
    seconds = str(max(1, round(gateway.config.resilience.breaker_open_s)))
    return RefusalError(
        503,
        "provider_unavailable",
        "no request is sent to the model's provider while its circuit breaker is open",
        headers={"retry-after": seconds},
    )


def _unreadable(gateway: Gateway) -> RefusalError:
    most = gateway.config.server.max_provider_header_bytes
    return RefusalError(
        502,
        "provider_answer_unreadable",
        "the provider's answer is not valid HTTP/1.1, its status is not from 200 to 599, or one of "
        f"its headers is longer than {most} bytes, the gateway's max_provider_header_bytes",
    )
