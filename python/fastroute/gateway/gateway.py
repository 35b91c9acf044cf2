"""Decides on a request, and writes what goes to the provider. It knows nothing of ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

from fastroute._forking import ScoringThreads
from fastroute.errors import (
    BodyError,
    DispatchError,
    InvalidInputError,
    InvalidModelNameError,
    InvalidPromptError,
    InvalidThresholdError,
    UnknownRouterError,
)
from fastroute.evidence.request import cascade_request, is_applicable
from fastroute.gateway.config.cascade import CascadeConfig
from fastroute.gateway.config.endpoints import ModelConfig, Target
from fastroute.gateway.config.settings import Config
from fastroute.gateway.operations.canary import CanaryRouter, begin_canary
from fastroute.gateway.operations.logs import log
from fastroute.gateway.protocol.auth import KeyRing
from fastroute.gateway.protocol.redaction import Redaction
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.gateway.request.affinity import Sessions, Side, heard, turn_of
from fastroute.gateway.request.candidates import (
    candidate_decider,
    choose,
    conversation_names,
    pair_decider,
    read_for_choice,
)
from fastroute.gateway.request.cascade import CascadeTransport, cascade_settings
from fastroute.gateway.request.conversation import (
    MAX_CHARACTERS,
    MAX_REPLAYED,
    messages_of,
    messages_of_long,
    prompt_to_route_on,
    session_key,
    turns_of,
)
from fastroute.gateway.request.document import LONG_BYTES, Document
from fastroute.gateway.request.paths import check_routed, with_query
from fastroute.gateway.request.routed import Routed
from fastroute.gateway.request.sampling import Explorer
from fastroute.gateway.request.stored import Keeper, StoredResponses, is_response_id
from fastroute.http.request import AsyncTransport, Endpoint, RawHeaders, Request
from fastroute.many_models import CandidateRequest
from fastroute.policy import CASCADE_MODEL, MANY_MODELS, parse_model_name
from fastroute.rollout.canary import CANARY
from fastroute.routers.base import EmbeddingRouter, Router
from fastroute.types import Decision

#: The model name that stands for the default router at its default threshold.
DEFAULT_NAME = "fastroute"
#: Longer prompts are scored in a thread even by quick routers.
QUICK_CHARS = 8192
#: Seconds to look for a response of another worker at one endpoint.
LOOK_UP_S = 10.0
#: Where the model "cascade" is served: the answers of other APIs can't be compared yet.
_CASCADED_PATH = "/chat/completions"


def _is_for_evidence(cascade: CascadeConfig, fields: Mapping[str, Any]) -> bool:
    """Whether cheap answers decide on a request, and not the prompt's router."""
    exempt = cascade.streams == "prompt_only" and bool(fields.get("stream"))
    return not exempt and is_applicable(fields)


class Gateway:
    """Everything that one config makes: routers, endpoints, keys. A reload makes another."""

    def __init__(self, config: Config, transport: AsyncTransport) -> None:
        routing = config.routing
        self.config = config
        self.cascade = None if config.cascade is None else cascade_settings(config.cascade)
        self.transport = (
            transport if self.cascade is None else CascadeTransport(transport, self.cascade)
        )
        self.keys = KeyRing(config.keys)
        self.candidates = candidate_decider(config, config.policy)
        self.decider = pair_decider(config)
        self.default_threshold = self._default_threshold()
        self.canary: CanaryRouter | None = None
        begin_canary(self)
        for router in self.decider.routers.values():
            if isinstance(router, EmbeddingRouter) and router.is_quick:
                router.win_rate("the first prompt loads what later ones find loaded")
        named = (target.endpoint for model in config.models.values() for target in model.targets)
        self._known_models = frozenset(config.model_names)
        self.redaction = Redaction([config.endpoint, *named])
        self.sessions = Sessions(routing.session_affinity)
        self.stored = StoredResponses()
        self.explorer = None if config.explore is None else Explorer(config.explore)
        self._threads = ScoringThreads()

    async def route(
        self,
        document: Document,
        path: str,
        headers: Mapping[str, str],
        caller: str,
        *,
        remember: bool = True,
    ) -> Routed:
        """Where ``document``, posted to ``path``, goes. Raises RefusalError."""
        name = document.fields.get("model")
        if name is None:
            name = self.config.routing.default_model
            if name is None:
                raise RefusalError(
                    400,
                    "missing_model",
                    'there is no "model"; give "fastroute", "router-<name>-<threshold>" or a model',
                    param="model",
                )
            log("the request names no model: routing.default_model is used", model=name)
        elif document.fields.size("model") > LONG_BYTES:
            raise RefusalError(
                400,
                "invalid_model",
                f'"model" must be a string of at most {LONG_BYTES} bytes',
                param="model",
            )
        named: tuple[str, float | None] | None
        try:
            named = parse_model_name(name)
        except (InvalidModelNameError, InvalidThresholdError) as error:
            raise RefusalError(400, "invalid_model", str(error), param="model") from error
        if name == MANY_MODELS and self.candidates is not None:
            return await self._choose(document, path, headers, caller, counts=remember)
        cascade = self.config.cascade if name == CASCADE_MODEL else None
        if name == DEFAULT_NAME or cascade is not None:
            named = (self.config.routing.router, self._fixed_threshold)
        if cascade is not None and path != _CASCADED_PATH:
            raise RefusalError(
                400,
                "not_cascaded",
                f'the model "{CASCADE_MODEL}" answers requests to {_CASCADED_PATH} only, not to '
                f'{path}; name "{DEFAULT_NAME}", a router or a model',
                param="model",
            )
        keeper = await self._keeper(document.fields, caller) if path == "/responses" else None
        if named is None:
            return Routed(str(name), None, False, 0.0, "", keeper)
        check_routed(path)
        explorer = self.explorer if remember and cascade is None and keeper is None else None
        canary = self.canary if name == DEFAULT_NAME else None
        routed = await self._decide(
            document, path, headers, caller, named, remember, explorer, canary
        )
        if cascade is not None and _is_for_evidence(cascade, document.fields):
            return routed._replace(model=self.config.routing.strong_model, cascade=True)
        routed = routed if keeper is None else self._kept(routed, keeper)
        control, decision = self.decider.share_control, routed.decision
        is_fixed = named[1] is not None or (decision is not None and decision.router == CANARY)
        if is_fixed or control is None or decision is None or not remember:
            return routed
        # Nothing was awaited since its threshold was read: no other request came in between.
        return routed._replace(held=control.record(decision.win_rate, decision.strong))

    def request(
        self,
        model: str,
        document: Document,
        path: str,
        headers: RawHeaders,
        fallback: Callable[[], Request] | None = None,
        query: bytes = b"",
        keeper: Keeper | None = None,
    ) -> Request:
        """What goes to the provider of ``model``, with ``headers``; to the endpoint of ``keeper``
        if that is one of the model's. Raises RefusalError if the model has none."""
        # Some providers take 1 for true.
        stream = bool(document.fields.get("stream"))

        def to(target: Target, **more: Any) -> Request:
            return Request(
                endpoint=target.endpoint,
                body=document.with_model(target.model),
                path=with_query(path, query, target.endpoint),
                stream=stream,
                raw_headers=headers,
                model=model,
                weight=target.weight,
                **more,
            )

        targets = self.targets(model)
        if keeper is not None:
            targets = tuple(t for t in targets if t.endpoint == keeper.endpoint) or targets
        first, *others = targets
        return to(first, variants=tuple(map(to, others)), fallback=fallback)

    def candidate_request(
        self,
        routed: Routed,
        document: Document,
        path: str,
        headers: RawHeaders,
        query: bytes = b"",
    ) -> CandidateRequest:
        """What goes to the candidate that ``routed`` chose, and to another where it must."""
        choice, keeper = routed.choice, routed.keeper
        assert choice is not None

        def request(model: str, sent: Document, fallback: Callable[[], Request] | None) -> Request:
            return self.request(model, sent, path, headers, fallback, query, keeper)

        falls_back = self.config.resilience.fallback == "both"
        return choice.request(request, document, path, falls_back=falls_back and keeper is None)

    async def cascade_request(
        self,
        routed: Routed,
        document: Document,
        path: str,
        headers: RawHeaders,
        query: bytes = b"",
    ) -> Request:
        """What a cascade sends for ``routed``: the requests to the cheap models, and that to the
        strong one. Raises RefusalError if one of them has no endpoint."""
        decision, settings, section = routed.decision, self.cascade, self.config.cascade
        assert decision is not None
        assert settings is not None
        assert section is not None

        def make() -> Request:
            strong, *cheap = (
                self.request(model, document, path, headers, query=query)
                for model in (routed.model, self.config.routing.weak_model, *section.helpers)
            )
            return cascade_request(
                strong,
                cheap,
                document.fields,
                prompt=routed.prompt,
                decision=decision,
                settings=settings,
            )

        return await self._threads.run(make) if len(document.raw) > LONG_BYTES else make()

    def stored_requests(
        self, name: str, caller: str, path: str, method: str, headers: RawHeaders, query: bytes
    ) -> list[Request]:
        """Requests about the stored response ``name``: to its keeper, or, if that is not known, one
        to each endpoint, to be sent until one knows it. Raises RefusalError for the response of
        another caller."""
        keeper = self.stored.find(name)
        if keeper is not None and keeper.caller != caller:
            raise RefusalError(404, "response_not_found", "there is no response with that id")
        names = self.config.model_names
        targets = ((name, target.endpoint) for name in names for target in self.targets(name))
        known = {endpoint: Keeper(caller, name, endpoint) for name, endpoint in targets}
        keepers = list(known.values())
        # A reload may have changed the endpoint or its key.
        if keeper is not None and keeper.endpoint in {*known, self.config.endpoint}:
            keepers = [keeper]
        return [
            Request(
                endpoint=found.endpoint,
                body=b"",
                path=with_query(path, query, found.endpoint),
                raw_headers=headers,
                model=found.model,
                method=method,
            )
            for found in keepers
        ]

    def other_model(self, routed: Routed) -> str | None:
        """The model to fall back to when the chosen one fails; None where the policy says so, and
        for what only one provider can go on with."""
        decision = routed.decision
        if decision is None or routed.keeper is not None:
            return None
        pair = self.config.routing
        wanted = "strong_to_weak" if decision.strong else "weak_to_strong"
        if self.config.resilience.fallback not in (wanted, "both"):
            return None
        return pair.weak_model if decision.strong else pair.strong_model

    def targets(self, model: str) -> tuple[Target, ...]:
        """The endpoints of ``model``. Raises RefusalError if it has none."""
        known = self.config.models.get(model)
        if known is not None:
            return known.targets
        if self.config.other_models or model in self._known_models:
            return (Target(self.config.endpoint, model),)
        raise RefusalError(
            404, "model_not_found", "this gateway does not serve that model", param="model"
        )

    def label(self, model: str) -> str:
        """``model`` for metrics, which must not have a label for every name that clients try."""
        return model if model in self._known_models else "other"

    def model_names(self) -> list[str]:
        """What ``GET /v1/models`` lists."""
        routed = [f"router-{name}-{self.default_threshold:g}" for name in self.decider.routers]
        cascade = [] if self.cascade is None else [CASCADE_MODEL]
        return list(dict.fromkeys([DEFAULT_NAME, *routed, *cascade, *self.config.model_names]))

    def is_model(self, name: str) -> bool:
        """Whether ``name`` is one of ``model_names``, or one of these routers at a threshold."""
        try:
            routed = parse_model_name(name)
        except (InvalidModelNameError, InvalidThresholdError):
            return False
        return name in self.model_names() or (
            routed is not None and routed[0] in self.decider.routers
        )

    def model_config(self, model: str) -> ModelConfig | None:
        """The model's section in the config, if it has one."""
        return self.config.models.get(model)

    async def aclose(self) -> None:
        """Close connections and threads."""
        self._threads.close()
        await self.transport.aclose()

    async def _choose(
        self,
        document: Document,
        path: str,
        headers: Mapping[str, str],
        caller: str,
        *,
        counts: bool,
    ) -> Routed:
        """The candidate for ``document``. Raises RefusalError."""
        began = perf_counter()
        check_routed(path)
        keeper = await self._keeper(document.fields, caller) if path == "/responses" else None
        decider = self.candidates
        assert decider is not None
        if keeper is not None and keeper.model not in {c.name for c in self.config.candidates}:
            return Routed(keeper.model, None, True, 0.0, "", keeper)
        read = partial(
            read_for_choice,
            decider, self.config, self.sessions, document, path, headers, caller, keeper,
        )  # fmt: skip
        names = partial(conversation_names, self.config, document, path, headers, caller)
        choice = await choose(
            decider, self.sessions, names, read, len(document.raw), self._threads, counts=counts,
            canary=self.canary if keeper is None else None,
        )  # fmt: skip
        chances = choice.explore(self.explorer) if counts and keeper is None else None
        return Routed(
            choice.decision.model, None, choice.decision.stayed, perf_counter() - began,
            choice.reading.prompt, keeper, conversation=choice.reading.name, chances=chances,
            arm=choice.arm, choice=choice,
        )  # fmt: skip

    async def _decide(
        self,
        document: Document,
        path: str,
        headers: Mapping[str, str],
        caller: str,
        named: tuple[str, float | None],
        remember: bool,
        explorer: Explorer | None,
        canary: CanaryRouter | None,
    ) -> Routed:
        began = perf_counter()
        routing = self.config.routing
        name, threshold = named
        try:
            messages = await self._messages(document, path)
            prompt = prompt_to_route_on(messages, routing.window)
            key = session_key(routing.session_affinity, document.fields, messages, headers, caller)
            conversation, chances = key, None
            arm = None if canary is None or key is None else canary.arm(key)
            if canary is not None and arm == CANARY:
                name, threshold = CANARY, canary.threshold
            decision = await self._score(prompt, name, threshold)
            stayed = False
            was_strong: bool | None = None
            texts: list[str] = []
            if key is not None:
                key += f"{name}-{threshold}".encode()
                await self.sessions.pull(key)
                texts, answered = turns_of(messages)
                was_strong = await self._side_so_far(key, texts[:answered], name, threshold)
            if threshold is None:  # which other requests may have moved meanwhile
                decision = self.decider.at_threshold(decision, self.threshold)
            if key is not None:
                last = prompt if routing.window == 1 else prompt_to_route_on(messages, 1)
                pair = self.decider.model_pair
                decision, stayed = self.sessions.settle(decision, len(last), was_strong, pair)
            if explorer is not None and was_strong is None:  # a conversation is drawn only once
                decision, chances = explorer.choose(decision, self.decider.model_pair)
            if key is not None and remember:
                self.sessions.remember(key, Side(decision.strong, turn_of(texts)))
            if canary is not None:
                arm = canary.noted(arm)
        except BodyError as error:
            raise RefusalError(400, "invalid_json", str(error)) from error
        except UnknownRouterError as error:
            raise RefusalError(400, "unknown_router", str(error), param="model") from error
        except InvalidPromptError as error:
            raise RefusalError(400, "invalid_prompt", str(error), param="messages") from error
        except InvalidInputError as error:
            # Such as a lone surrogate in the prompt, which no tokenizer takes.
            raise RefusalError(400, "invalid_prompt", str(error), param="messages") from error
        return Routed(
            decision.model, decision, stayed, perf_counter() - began, prompt,
            conversation=conversation, chances=chances, arm=arm,
        )  # fmt: skip

    async def _keeper(self, fields: Mapping[str, Any], caller: str) -> Keeper | None:
        """Who keeps what a request goes on with; a response of another worker, or of before a
        restart, is looked up at the endpoints."""
        keeper = self.stored.find_of(caller, fields)
        name = fields.get("previous_response_id")
        if keeper is not None or not is_response_id(name) or self.stored.find(name) is not None:
            return keeper
        for request in self.stored_requests(name, caller, f"/responses/{name}", "GET", (), b""):
            made: object = None
            with contextlib.suppress(DispatchError, TimeoutError, ValueError, RecursionError):
                async with asyncio.timeout(LOOK_UP_S):
                    made = json.loads(await (await self.transport.asend(request)).read())
            model = made.get("model") if isinstance(made, dict) else None
            if isinstance(model, str):
                keeper = self._keeper_by_model(model, caller, request.endpoint)
                self.stored.remember(name, keeper)
                return keeper
        return None

    def _keeper_by_model(self, there: str, caller: str, endpoint: Endpoint) -> Keeper:
        """The keeper of a response whose provider calls its model ``there``: a configured name, or
        a version of it, such as gpt-4.1-2025-04-14 of gpt-4.1."""
        fitting = [
            (len(target.model), name)
            for name in self.config.model_names
            for target in self.targets(name)
            if target.endpoint == endpoint and there.startswith(target.model)
        ]
        return Keeper(caller, max(fitting)[1] if fitting else there, endpoint)

    def _kept(self, routed: Routed, keeper: Keeper) -> Routed:
        """``routed``, with the model that made what the request goes on with."""
        pair, decision = self.decider.model_pair, routed.decision
        if decision is None or keeper.model not in (pair.strong, pair.weak):
            return routed._replace(model=keeper.model, decision=None, stayed=True, keeper=keeper)
        stayed = routed.stayed or keeper.model != decision.model
        decision = decision._replace(model=keeper.model, strong=keeper.model == pair.strong)
        return routed._replace(model=keeper.model, decision=decision, stayed=stayed, keeper=keeper)

    async def _messages(self, document: Document, path: str) -> list[Any]:
        if len(document.raw) <= LONG_BYTES:
            with contextlib.suppress(BodyError):
                return messages_of(document.fields, path)
        read = partial(messages_of_long, document.fields, path, self.config.routing.window)
        return await self._threads.run(read)

    async def _score(self, prompt: str, router: str, threshold: float | None) -> Decision:
        if threshold is None:
            return self.decider.at_threshold(await self._score(prompt, router, 0.0), self.threshold)
        loaded: Router | None = self.decider.routers.get(router)
        if loaded is None or (loaded.is_quick and len(prompt) <= QUICK_CHARS):
            return self.decider.decide(prompt, router, threshold)
        job = partial(self.decider.decide, prompt, router, threshold)
        return await self._threads.run(job)

    async def _side_so_far(
        self, key: bytes, texts: list[str], name: str, threshold: float | None
    ) -> bool | None:
        """The side of a conversation after the answered ``texts`` of its user; None if it has none.

        Another replica may have served some of them and not have told it yet, or this one before a
        restart: their decisions are made again, where that costs little.
        """
        routing, known = self.config.routing, self.sessions.side_of(key)
        if routing.session_affinity.by == "messages" and not texts:
            return None  # another conversation that began alike
        begin, side = heard(texts, known), None if known is None else known.strong
        chars = sum(map(len, texts[begin : begin + MAX_REPLAYED]))
        if not chars or chars > MAX_CHARACTERS or not self.decider.routers[name].is_quick:
            return side
        at = self.threshold if threshold is None else threshold
        job = partial(
            self.sessions.replay, texts[: begin + MAX_REPLAYED], begin, side, routing.window,
            partial(self.decider.decide, router=name, threshold=at), self.decider.model_pair,
        )  # fmt: skip
        return job() if chars <= QUICK_CHARS else await self._threads.run(job)

    @property
    def threshold(self) -> float:
        """The present threshold of the model name "fastroute"."""
        control = self.decider.share_control
        return self.default_threshold if control is None else control.threshold

    @property
    def _fixed_threshold(self) -> float | None:
        """``threshold``; None where it moves."""
        return self.default_threshold if self.decider.share_control is None else None

    def _default_threshold(self) -> float:
        routing = self.config.routing
        if not self.decider.routers:
            return 0.5  # of no pair
        if routing.threshold is not None:
            return routing.threshold
        if routing.strong_share is None:
            return self.decider.default_threshold(routing.router)
        return self.decider.threshold_for_strong_share(routing.router, routing.strong_share)
