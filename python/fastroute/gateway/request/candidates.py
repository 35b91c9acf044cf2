"""The choice among candidates for a request of the gateway: what it needs, where it stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fastroute._forking import ScoringThreads
from fastroute._native import find_json_members
from fastroute.candidates import CandidateSet, Needs, Turn, parse_policy
from fastroute.candidates.memory import last_answer, names_of
from fastroute.candidates.rules import Asked
from fastroute.candidates.switching import without_reasoning
from fastroute.chat.members import with_members
from fastroute.chat.needs import needs_of
from fastroute.chat.prompts import system_text
from fastroute.decider import Decider
from fastroute.errors import (
    BodyError,
    DispatchError,
    InvalidInputError,
    InvalidPromptError,
    NoEligibleModelError,
)
from fastroute.gateway.config.candidates import PolicyConfig
from fastroute.gateway.config.settings import Config, SessionAffinityConfig
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.gateway.request.affinity import Sessions
from fastroute.gateway.request.conversation import (
    messages_of,
    messages_of_long,
    prompt_to_route_on,
    session_key,
)
from fastroute.gateway.request.document import (
    LONG_BYTES,
    Document,
    Fields,
    copy_part,
    read_document,
    read_json,
)
from fastroute.gateway.request.sampling import Chances, Explorer
from fastroute.gateway.request.stored import Keeper
from fastroute.http.failures import overflow_in_stream
from fastroute.http.request import AsyncResponse, AsyncTransport, Request
from fastroute.many_models import CandidateDecider, CandidateDecision, CandidateRequest
from fastroute.resilience.wrapping import Observer, WrappingTransport
from fastroute.rollout.canary import CANARY

if TYPE_CHECKING:
    from fastroute.gateway.operations.canary import CanaryRouter

#: Members of a body that hold its messages or items, by path; of other paths "messages".
_LISTED = {"/responses": "input", "/completions": "prompt"}
#: Longer bodies are read and scored in a thread.
QUICK_BYTES = 8192
#: A short message ("yes, do it") keeps its conversation at its model, whatever others promise.
_WHOLE_QUALITY = 1.0


class Reading(NamedTuple):
    """What a choice reads of a request."""

    prompt: str  #: what is scored
    needs: Needs  #: of the request, by its rules too
    turn: Turn  #: where the conversation stands
    name: bytes | None  #: of the conversation; None where nothing names it


class Choice:
    """A request's candidate, and what is needed to choose another."""

    def __init__(
        self,
        decider: CandidateDecider,
        reading: Reading,
        *,
        counts: bool,
        arm: str | None = None,
    ) -> None:
        self._decider = decider
        self.reading = reading  #: what the choice was made by
        self.counts = counts  #: whether the policy counts it
        self.arm = arm  #: for the journal, while there is a canary
        self.moved = False  #: whether a provider refused the request as too long
        self.decision = self._decide(reading.needs)  #: the present one
        self.views = self.decision.candidates  #: what the first decision knew of each candidate

    @property
    def checksum(self) -> str | None:
        """Of the router that it was made by."""
        router = self._decider.router
        return None if router is None else router.provenance.checksum

    @property
    def eligible(self) -> tuple[str, ...]:
        """The candidates that could be chosen at first."""
        return tuple([view.name for view in self.views if view.reason is None])

    @property
    def distance(self) -> float | None:
        """Between the quality of the chosen candidate and that of the nearest other one; None where
        no other could be chosen."""
        chosen = self.decision
        others = (v.quality for v in self.views if v.reason is None and v.name != chosen.model)
        return min((abs(quality - chosen.quality) for quality in others), default=None)

    def explore(self, explorer: Explorer | None) -> Chances | None:
        """Perhaps choose an eligible candidate at random, where the conversation begins; the
        probability of each, or None where none is drawn."""
        if explorer is None or self.reading.turn.model:
            return None
        before = self.decision
        model, chances = explorer.draw(self.eligible, before.model, self.distance)
        if model != before.model:
            drawn = next(view for view in self.views if view.name == model)
            self._decider.policy.correct(before.usd, drawn.usd)
            self.decision = before._replace(model=model, quality=drawn.quality, usd=drawn.usd)
        return chances

    def request(
        self,
        make: Callable[[str, Document, Callable[[], Request] | None], Request],
        document: Document,
        path: str,
        *,
        falls_back: bool,
    ) -> CandidateRequest:
        """The request to the candidate, by ``make`` of its name, what is sent and the fallback.

        Where its provider says that the prompt is too long, or fails and it ``falls_back``, it
        moves to the next candidate, once for each.
        """
        decision = self.decision
        sent = without_signed_reasoning(document, path) if decision.drops_reasoning else document

        def after_overflow() -> CandidateRequest:
            self._move(overflowed=True)
            return self.request(make, document, path, falls_back=falls_back)

        def fallback() -> CandidateRequest:
            try:
                self._move(overflowed=False)
            except NoEligibleModelError as error:
                raise DispatchError(str(error)) from error
            return self.request(make, document, path, falls_back=False)

        asked = make(decision.model, sent, fallback if falls_back else None)
        return CandidateRequest(
            **vars(asked),
            decision=decision,
            after_overflow=None if self.moved else after_overflow,
        )

    def settle(self, cost_usd: float | None) -> None:
        """Correct what the policy expected by what was billed; None where that is not known."""
        if self.counts and cost_usd is not None:
            self._decider.policy.correct(self.decision.usd, cost_usd)

    def _move(self, *, overflowed: bool) -> None:
        """Choose another candidate: the present one's provider said that the prompt is too long,
        or failed. Raises NoEligibleModelError."""
        needs, failed = self.reading.needs, self.decision
        if overflowed:
            needs = self._decider.beyond(needs, failed)
        else:
            self._decider.policy.correct(failed.usd, 0.0)
            reason = "its provider has just failed"
            needs = replace(needs, excluded={**needs.excluded, failed.model: reason})
        self.decision = failed._replace(usd=0.0)  # it is not charged, if no other is left either
        self.moved = self.moved or overflowed
        self.decision = self._decide(needs)
        self.reading = self.reading._replace(needs=needs)

    def _decide(self, needs: Needs) -> CandidateDecision:
        prompt, _, turn, _ = self.reading
        return self._decider.decide(
            prompt,
            needs=needs,
            turn=turn,
            explain="candidates" if self.counts else True,
            counts=self.counts,
        )


def candidate_decider(config: Config, section: PolicyConfig) -> CandidateDecider | None:
    """What chooses among the candidates of ``config`` by ``section``; None without any.

    Raises ArtifactError for a router that can't load, InvalidInputError for a rule that names no
    candidate.
    """
    if not config.candidates:
        return None
    policy = parse_policy(section.choose)
    if config.state is None:  # by which workers and replicas share it otherwise
        policy = policy.for_each_of(config.server.workers)
    return CandidateDecider(
        CandidateSet(config.candidates),
        policy,
        section.router,
        drop_reasoning=section.drop_reasoning,
        rules=[section.rule() for section in config.rules],
    )


class _PairlessDecider(Decider):
    """Stands for a pair's decider where there are candidates only."""

    def __init__(self) -> None:
        self._without_pair()


def pair_decider(config: Config) -> Decider:
    """What decides between the pair of ``config``; without a pair it has no router."""
    routing = config.routing
    if not routing.strong_model:
        return _PairlessDecider()
    return Decider(
        tuple(dict.fromkeys((routing.router, *routing.router_names))),  # the default first
        routing.strong_model,
        routing.weak_model,
        dict(config.router_config),
        held_share=routing.held,
    )


async def choose(
    decider: CandidateDecider,
    sessions: Sessions,
    names: Callable[[], list[bytes]],
    read: Callable[[], Reading],
    size: int,
    threads: ScoringThreads,
    *,
    counts: bool,
    canary: CanaryRouter | None = None,
) -> Choice:
    """Choose by what ``read`` reads of a body of ``size`` bytes, whose conversation has these
    ``names``; the canary's conversations by its decider. Raises RefusalError."""

    def make() -> Choice:
        reading = read()
        if canary is None:
            return Choice(decider, reading, counts=counts)
        arm = None if reading.name is None else canary.arm(reading.name)
        chosen = canary.chooser if arm == CANARY else decider
        return Choice(chosen, reading, counts=counts, arm=canary.noted(arm))

    deciders = (decider,) if canary is None else (decider, canary.chooser)
    is_quick = size <= QUICK_BYTES and all(d.router is None or d.router.is_quick for d in deciders)
    try:
        if sessions.store is not None:
            await sessions.pull_answers(names() if is_quick else await threads.run(names))
        return make() if is_quick else await threads.run(make)
    except BodyError as error:
        raise RefusalError(400, "invalid_json", str(error)) from error
    except NoEligibleModelError as error:
        raise RefusalError(400, "no_eligible_model", str(error), param="model") from error
    except (InvalidPromptError, InvalidInputError) as error:
        raise RefusalError(400, "invalid_prompt", str(error), param="messages") from error


def read_for_choice(
    decider: CandidateDecider,
    config: Config,
    sessions: Sessions,
    document: Document,
    path: str,
    headers: Mapping[str, str],
    caller: str,
    keeper: Keeper | None = None,
) -> Reading:
    """What a choice reads of ``document``, posted to ``path``. For no event loop if it is longer
    than LONG_BYTES. Raises InvalidPromptError, BodyError."""
    routing = config.routing
    messages, body, beyond = _messages(config, document, path)
    needs = needs_of(body)
    if beyond:
        more = Needs.of_bytes(beyond)
        needs = replace(
            needs,
            most_tokens=needs.most_tokens + more.most_tokens,
            likely_tokens=needs.likely_tokens + more.likely_tokens,
        )
    needs = decider.ruled(needs, Asked(caller, headers, path, system_text(body)))
    names = [candidate.name for candidate in decider.candidates.current]
    if keeper is not None:
        reason = f"the conversation is stored with {keeper.model}"
        others = {name: reason for name in names if name != keeper.model}
        needs = replace(needs, excluded={**needs.excluded, **others})
    prompt = prompt_to_route_on(messages, routing.window)
    name, items = _conversation(config, document, path, headers, caller, messages, body)
    last = last_answer(sessions.answers, items, name, caller)
    if last.model not in names:
        return Reading(prompt, needs, Turn(), name)
    last_text = prompt if routing.window == 1 else prompt_to_route_on(messages, 1)
    margin = _margin(routing.session_affinity, len(last_text))
    return Reading(prompt, needs, Turn.read(items, last.model, last.cached_tokens, margin), name)


def conversation_names(
    config: Config, document: Document, path: str, headers: Mapping[str, str], caller: str
) -> list[bytes]:
    """What the last answer to ``document`` is looked for by; as ``read_for_choice``."""
    read = _messages(config, document, path)
    name, items = _conversation(config, document, path, headers, caller, *read[:2])
    return names_of(items, name, caller)


def _messages(
    config: Config, document: Document, path: str
) -> tuple[list[Any], Mapping[str, Any], int]:
    """The messages to route on, the body with all of them, and bytes of text that it lacks."""
    fields = document.fields
    if len(document.raw) <= LONG_BYTES:
        return messages_of(fields, path), fields, 0
    return messages_of_long(fields, path, config.routing.window), *_without_long_parts(fields)


def _conversation(
    config: Config,
    document: Document,
    path: str,
    headers: Mapping[str, str],
    caller: str,
    messages: list[Any],
    body: Mapping[str, Any],
) -> tuple[bytes | None, list[Mapping[str, Any]]]:
    """The name of the conversation, and its messages or items as the API has them."""
    sticky = config.routing.session_affinity
    name = session_key(sticky, document.fields, messages, headers, caller)
    listed = body.get(_LISTED.get(path, "messages"))
    return name, [m for m in listed if isinstance(m, Mapping)] if isinstance(listed, list) else []


def without_signed_reasoning(document: Document, path: str) -> Document:
    """``document`` without the reasoning that only one provider accepts."""
    key = _LISTED.get(path, "messages")
    listed = json.loads(document.fields.raw(key))
    kept = json.dumps(without_reasoning(listed), ensure_ascii=False).encode()
    return read_document(with_members(document.raw, {key: kept}))


#: Whether the request that a task sends may move to another candidate after its stream has begun.
_MAY_MOVE_STREAM: ContextVar[bool] = ContextVar("fastroute_may_move_stream", default=False)


class CandidateTransport(WrappingTransport):
    """Sends a request to the next eligible candidate where a provider says that it is too long."""

    def __init__(self, inner: AsyncTransport, observer: Observer) -> None:
        super().__init__(inner)
        self._observer = observer

    async def asend(self, request: Request) -> AsyncResponse:
        """Send the request; if its provider refuses it as too long, once to another candidate."""
        if not isinstance(request, CandidateRequest):
            return await self.inner.asend(request)
        token = _MAY_MOVE_STREAM.set(request.may_move_stream)
        try:
            return await self.inner.asend(request)
        except DispatchError as error:
            following = await asyncio.to_thread(request.following, error)
            if following is None:
                raise
            first = error
        finally:
            _MAY_MOVE_STREAM.reset(token)
        self._observer("overflow", request)
        try:
            return await self.inner.asend(following)
        except DispatchError as second:
            raise first from second


class RefusedStreams(WrappingTransport):
    """Raises the refusal of a prompt as too long that a candidate's stream begins with.

    It stands around HTTP, so that all other transports see a refusal, which is not billed.
    """

    async def asend(self, request: Request) -> AsyncResponse:
        """Send by the transport inside, and wait for a stream's first event."""
        response = await self.inner.asend(request)
        if _MAY_MOVE_STREAM.get():
            refusal = overflow_in_stream(request, await response.peek_event())
            if refusal is not None:
                await response.aclose()
                raise refusal
        return response


def _margin(sticky: SessionAffinityConfig, last_chars: int) -> float:
    if sticky.by == "none":
        return 0.0
    return _WHOLE_QUALITY if last_chars <= sticky.short_chars else sticky.margin


def _without_long_parts(fields: Fields) -> tuple[dict[str, Any], int]:
    """The members of a long body, and the bytes of text that are left out of it.

    Messages and parts of at most LONG_BYTES are read whole, one by one, so that other threads are
    not held up; of a longer one its kind is kept.
    """
    body: dict[str, Any] = {}
    beyond = 0
    for name in fields:
        raw = fields.raw(name)
        if len(raw) <= LONG_BYTES:
            body[name] = fields[name]
        elif raw[:1] == b"[":
            body[name], more = _long_list(raw, depth=2)
            beyond += more
        else:
            beyond += len(raw)
            body[name] = {} if raw[:1] == b"{" else ""
    return body, beyond


def _long_list(raw: bytes, depth: int) -> tuple[list[Any], int]:
    """As ``_without_long_parts`` of a list of messages, or of the parts of one."""
    fault, _, spans = find_json_members(raw, array=True)
    if fault:
        raise BodyError("the body has a list of more than 100,000 entries, or one nested too deep")
    entries: list[Any] = []
    beyond = 0
    for span in spans:
        text = copy_part(raw, span.value_begin, span.value_end)
        if len(text) <= LONG_BYTES:
            entries.append(read_json(text, 0, len(text)))
            continue
        fault, _, members = find_json_members(text)
        if fault:  # a text, or another list
            entries.append("")
            beyond += len(text)
            continue
        entry, of_text = Fields(text, members), 0
        kept: dict[str, Any] = {}
        for name in entry:
            value = entry.raw(name)
            if len(value) <= LONG_BYTES:
                kept[name] = entry[name]
            elif depth > 1 and value[:1] == b"[":
                kept[name], more = _long_list(value, depth - 1)
                of_text += more
            else:
                kept[name] = ""
                of_text += len(value)
        entries.append(kept)
        # The data of an image has no tokens of its own.
        is_data = str(kept.get("type", "")).startswith(("image", "input_image"))
        beyond += 0 if is_data else of_text
    return entries, beyond
