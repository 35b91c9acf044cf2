"""A chat request as a cascade asks it: of the cheap models, and of the strong one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastroute.chat.members import with_members, with_members_of_each
from fastroute.evidence.cascade import Cascade, CascadeSettings, Evidence
from fastroute.evidence.kinds import Expectation
from fastroute.evidence.replies import as_stream
from fastroute.http.request import AsyncResponse, AsyncTransport, RawHeaders, Request
from fastroute.types import Decision

_OF_THE_BODY = frozenset({b"content-type", b"content-length", b"transfer-encoding"})


@dataclass(frozen=True)
class CascadeRequest(Request):
    """The request to the strong model, with what is asked before it."""

    cheap: tuple[Request, ...] = ()  #: the same question to the cheap models
    prompt: str = field(default="", repr=False)  #: the text that is asked
    #: what answers are compared by.
    expectation: Expectation = field(default=Expectation(), repr=False)
    #: of the prompt, by the router that decides where answers can't be compared.
    win_rate: float = 0.5
    prefers_strong: bool = True  #: what that router decided
    include_usage: bool = False  #: whether the client wants usage at the end of its stream
    #: the cheap models of which log-probabilities are asked that the client did not ask for.
    hide_logprobs: frozenset[str] = frozenset()
    #: is called with the evidence once the answer is chosen.
    decided: Callable[[Evidence], None] = field(default=lambda _: None, repr=False, compare=False)


def is_applicable(fields: Mapping[str, Any]) -> bool:
    """Whether a chat request can be decided by evidence: one choice, and text or tool calls out.

    A request for several choices (``n``) or for audio is decided by the prompt alone.
    """
    return fields.get("n") in (None, 1) and fields.get("modalities") in (None, ["text"])


def cascade_request(
    strong: Request,
    cheap: Sequence[Request],
    fields: Mapping[str, Any],
    *,
    prompt: str,
    decision: Decision,
    settings: CascadeSettings,
    decided: Callable[[Evidence], None] = lambda _: None,
) -> CascadeRequest:
    """The request that ``send_cascade`` sends.

    Args:
        strong: the client's request to the strong model.
        cheap: the same to the cheap models, in order of price.
        fields: the members of its body.
        prompt: the text that is asked.
        decision: the prompt's router's.
        settings: what the cascade may do.
        decided: is called with the evidence once the answer is chosen.
    """
    unasked = not fields.get("logprobs")
    options = fields.get("stream_options")
    return CascadeRequest(
        **vars(strong),
        cheap=tuple(cheap_requests(cheap, fields, logprobs=settings.logprobs if unasked else ())),
        prompt=prompt,
        expectation=settings.expectation or Expectation.from_request(fields, prompt),
        win_rate=decision.win_rate,
        prefers_strong=decision.strong,
        include_usage=isinstance(options, Mapping) and bool(options.get("include_usage")),
        hide_logprobs=frozenset(settings.logprobs if unasked else ()),
        decided=decided,
    )


def cheap_requests(
    requests: Sequence[Request], fields: Mapping[str, Any], *, logprobs: Sequence[str] = ()
) -> list[Request]:
    """``requests`` as a cascade sends them to the cheap models: whole answers, no streams.

    ``fields`` are the members of their bodies. A seed that the client gave goes to the first; each
    other gets the next number, because the same model with the same seed would agree with itself.
    The models in ``logprobs`` are asked for log-probabilities. All other bytes stay as they are.
    """
    made = []
    for number, request in enumerate(requests):
        changes: dict[str, bytes | None] = {}
        changes |= {name: None for name in ("stream", "stream_options") if name in fields}
        seed = fields.get("seed")
        if number and type(seed) is int:
            changes["seed"] = str(seed + number).encode()
        if request.model in logprobs:
            changes["logprobs"] = b"true"
        made.append(_whole(request, changes))
    return made


def _whole(request: Request, changes: Mapping[str, bytes | None]) -> Request:
    body = with_members(request.body, changes) if changes else request.body
    variants = tuple(_whole(variant, changes) for variant in request.variants)
    return replace(request, body=body, stream=False, variants=variants)


async def send_cascade(
    transport: AsyncTransport, settings: CascadeSettings, request: CascadeRequest
) -> AsyncResponse:
    """The answer to pass on, in the form that was asked for; its ``evidence`` says how it was
    chosen. Raises as ``Cascade.send``."""
    response, evidence = await Cascade(transport, settings).send(
        request.cheap,
        request,
        prompt=request.prompt,
        expectation=request.expectation,
        prefers_strong=lambda: request.prefers_strong,
        prompt_win_rate=request.win_rate,
    )
    request.decided(evidence)
    if evidence.model != request.model:
        response = _as_asked(response, request, evidence.model)
    response.evidence = evidence
    return response


def _as_asked(response: AsyncResponse, request: CascadeRequest, model: str) -> AsyncResponse:
    """A cheap answer without what only the cascade asked for, as a stream if one was asked for."""
    body = response.body
    assert body is not None
    if model in request.hide_logprobs and b'"logprobs"' in body:
        body = with_members_of_each(body, "choices", {"logprobs": b"null"})
    headers: RawHeaders | dict[str, str] = response.raw_headers or response.headers
    if request.stream:
        body = b"".join(as_stream(body, include_usage=request.include_usage))
        kept = (
            (name, value)
            for name, value in response.raw_headers
            if name.lower() not in _OF_THE_BODY
        )
        headers = (*kept, (b"content-type", b"text/event-stream; charset=utf-8"))
    elif body is not response.body and isinstance(headers, tuple):
        headers = tuple(pair for pair in headers if pair[0].lower() != b"content-length")
    return AsyncResponse(response.status_code, headers, body, request=response.request)
