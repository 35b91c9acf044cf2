"""A cascade that the page asks for: what each model said, whether they agreed, what it cost."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web
from multidict import CIMultiDict

from fastroute.evidence.answer import Answer
from fastroute.evidence.cascade import Evidence
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.protocol.proxy import Facts, ProxyEndpoint
from fastroute.gateway.protocol.replies import json_response
from fastroute.http.request import AsyncResponse, RawHeaders

if TYPE_CHECKING:
    from fastroute.gateway.operations.state import State


class CascadeEndpoint(ProxyEndpoint):
    """The handler of ``POST /ui/cascade``: a chat completion whose answer is the evidence.

    It is decided, sent, counted and billed as any other request, and the answers are only in what
    its caller gets.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state, "/chat/completions")

    async def _serve(
        self,
        gateway: Gateway,
        request: web.BaseRequest,
        raw_headers: RawHeaders,
        headers: Mapping[str, str],
        facts: Facts,
    ) -> web.StreamResponse:
        response = await super()._serve(gateway, request, raw_headers, headers, facts)
        if facts.evidence is None or not isinstance(response, web.Response):
            return response
        return json_response(_shown(facts.evidence, facts.more, response.body))

    async def _pass_on(
        self,
        answer: AsyncResponse,
        fields: CIMultiDict[str],
        request: web.BaseRequest,
        facts: Facts,
        observers: Sequence[Callable[[bytes], None]],
        shared: Callable[[], Awaitable[None]],
    ) -> web.StreamResponse:
        """The whole answer, which is not handed on."""
        await answer.read()
        return await super()._pass_on(answer, fields, request, facts, observers, shared)


def _shown(evidence: Evidence, facts: Mapping[str, Any], body: object) -> dict[str, Any]:
    answers = [call.answer or _answer_in(body, call.outcome) for call in evidence.calls]
    calls = [dict(row) for row in facts["calls"]]  # the log has no answers
    for row, answer in zip(calls, answers, strict=False):  # repeated calls have no answer
        if answer is not None:
            row["text"] = answer.refusal or answer.text
            row["tool_calls"] = [asdict(call) for call in answer.tool_calls]
    return {
        "reason": evidence.reason,
        "votes": evidence.votes,
        "answers": evidence.answers,
        "model": evidence.model,
        "calls": calls,
        "cost_usd": facts.get("cost_usd"),
        "saved_usd": facts.get("saved_usd"),
    }


def _answer_in(body: object, outcome: str) -> Answer | None:
    """The strong model's answer, where that was sent and can be read."""
    if outcome != "sent" or not isinstance(body, bytes):
        return None
    try:
        return Answer.from_choice(json.loads(body)["choices"][0])
    except Exception:  # it is the provider's, and may be anything
        return None
