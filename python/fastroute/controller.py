"""RouteLLM's ``Controller``: chooses a model for each prompt, and calls it."""

from __future__ import annotations

import os
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fastroute._forking import ForkSafeLock
from fastroute.artifacts import load_artifact
from fastroute.candidates import ConversationMemory, LastAnswer
from fastroute.chat.call import Call
from fastroute.chat.client import ChatClient
from fastroute.chat.prompts import prompt_from_messages
from fastroute.decider import Decider
from fastroute.errors import DispatchError, InvalidInputError, InvalidTypeError
from fastroute.http.failures import overflow_in_stream
from fastroute.http.request import (
    AsyncResponse,
    AsyncTransport,
    Endpoint,
    Request,
    Response,
    Transport,
)
from fastroute.policy import CASCADE_MODEL, MANY_MODELS
from fastroute.routers import Router, create_router
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.share_control import HeldShare
from fastroute.types import Decision, ModelPair

if TYPE_CHECKING:
    from fastroute.candidates import Candidate, CandidateSet, ChoicePolicy
    from fastroute.chat.completion import ChatCompletion
    from fastroute.evidence.cascade import CascadeSettings
    from fastroute.evidence.controlled import CascadeSender
    from fastroute.many_models import CandidateDecider, CandidateDecision, CandidateRequest
    from fastroute.routers import ModelsRouter


#: The kind of artifacts with P(success) of many models.
MODELS = "models"


class Controller(Decider, ChatClient):
    """Routes prompts between a strong and a weak model, and sends them on.

    Drop-in for RouteLLM's class of this name: ``client.chat.completions.create(model=
    "router-mf-0.5", messages=[...])`` goes to the model that the router ``mf`` chooses at
    threshold 0.5; a plain model name is sent on as it is. Nothing is connected, and no key is
    looked for, before the first call. Safe to use from several threads and event loops.

    Args:
        routers: names (``mf``, ``sw_ranking``, ``length``, ``random``) or ready routers.
        strong_model, weak_model: their names at their APIs.
        config: arguments of named routers, by router name; see ``fastroute.create_router``.
        api_base, api_key: address and key of every model that has no endpoint of its own; see
            ``fastroute.Endpoint`` for the defaults.
        progress_bar: show a bar, on a terminal, while routers load and batches are scored.
        endpoints: a model's own ``Endpoint``, by the model's name; a candidate may have it in
            ``base_url`` instead.
        transport: carries the requests of ``completion``; by default an ``HttpTransport``, made at
            the first call. One that is given stays the caller's to close.
        async_transport: carries those of ``acompletion``; by default ``transport`` if that is an
            AsyncTransport too, as a ``MockTransport`` is, else an ``AsyncHttpTransport``.

        helpers: other cheap models. ``model="cascade"`` asks the weak model and these at once, and
            the strong model only where their answers do not agree; see ``fastroute.evidence``.
        cascade: what such a cascade may do.
        candidates: any number of models for ``model="fastroute"``: a ``CandidateDecider``, or its
            ``candidates``. Routers and a pair of models may then be left out.
        policy, models_router: with ``candidates``: the policy and the router of the
            ``CandidateDecider``.
        held_share: as for ``Decider``: a share of strong calls that decisions without a threshold
            hold, whatever prompts come.

    Attributes:
        routers, default_router, model_pair, share_control: as of ``Decider``. Without a pair of
            models there is no router, and the pair's names are empty.
        candidates: the ``CandidateDecider``; None without candidates.
        model_counts: ``model_counts[router][model]`` is the number of calls so routed.
        chat: ``chat.completions.create`` and ``acreate``: ``completion`` and ``acompletion``.

    Raises:
        UnknownRouterError: no router has this name.
        InvalidInputError, InvalidTypeError: another argument that can't be used.
    """

    def __init__(
        self,
        routers: Sequence[str | Router] = (),
        strong_model: str = "",
        weak_model: str = "",
        config: Mapping[str, Mapping[str, Any]] | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        progress_bar: bool = False,
        *,
        endpoints: Mapping[str, Endpoint] | None = None,
        transport: Transport | None = None,
        async_transport: AsyncTransport | None = None,
        helpers: Sequence[str] = (),
        cascade: CascadeSettings | None = None,
        held_share: HeldShare | float | None = None,
        candidates: CandidateDecider
        | CandidateSet
        | Iterable[Candidate]
        | str
        | os.PathLike[str]
        | None = None,
        policy: ChoicePolicy | str | None = None,
        models_router: ModelsRouter | str | os.PathLike[str] | None = None,
    ) -> None:
        endpoint = Endpoint(base_url=api_base, api_key=api_key)
        ChatClient.__init__(self, endpoint, endpoints, transport, async_transport)
        self.candidates = _candidate_decider(candidates, policy, models_router)
        pairless = not (routers or strong_model or weak_model or config or helpers or held_share)
        if self.candidates is not None and pairless:
            self._without_pair()
        else:
            Decider.__init__(
                self,
                routers,
                strong_model,
                weak_model,
                config,
                progress_bar=progress_bar,
                held_share=held_share,
            )
        self.model_counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._counting = ForkSafeLock()
        self._helpers = _check_helpers(helpers, self.model_pair)
        if cascade is not None:
            cascade.check_models(1 + len(self._helpers))
        self._settings = cascade
        self._sender: CascadeSender | None = None
        self._memory = ConversationMemory()

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        endpoints: Mapping[str, Endpoint] | None = None,
        transport: Transport | None = None,
        async_transport: AsyncTransport | None = None,
    ) -> Self:
        """A controller of a router that ``fastroute tune`` wrote.

        A saved ``mf`` router decides between the two models that it was made for; without a
        threshold, at the operating point that was saved with it; ``model="cascade"`` is the cascade
        in ``gateway.toml``, if there is one. A saved ``models`` router decides
        for ``model="fastroute"`` among the candidates beside it (``candidates.toml``), by the
        policy in ``gateway.toml``. Other arguments are the class's. Raises ArtifactError or a
        subclass, or InvalidInputError, for a folder that can't be used.
        """
        endpoint: dict[str, Any] = {
            "api_base": api_base,
            "api_key": api_key,
            "endpoints": endpoints,
            "transport": transport,
            "async_transport": async_transport,
        }
        place = Path(folder)
        if load_artifact(place, only=()).kind == MODELS:
            policy = _saved_config(place).get("policy", {}).get("choose", "max_quality")
            candidates = place / "candidates.toml"
            return cls(candidates=candidates, policy=policy, models_router=place, **endpoint)
        router = create_router("mf", checkpoint_path=place)
        assert isinstance(router, MatrixFactorizationRouter)
        saved = _saved_config(place).get("cascade")
        if saved:
            from fastroute.evidence.acceptance import AcceptanceModel
            from fastroute.evidence.cascade import CascadeSettings

            endpoint["helpers"] = saved["helpers"]
            endpoint["cascade"] = CascadeSettings(
                acceptance=AcceptanceModel.load(place / saved["acceptance"]),
                threshold=saved["threshold"],
            )
        return cls([router], router.strong_model, router.weak_model, **endpoint)

    def __repr__(self) -> str:  # never with a key
        pair = self.model_pair
        said = f"routers={list(self.routers)}, strong={pair.strong!r}, weak={pair.weak!r}"
        if self.candidates is not None:
            names = [candidate.name for candidate in self.candidates.candidates.current]
            said = f"{said}, candidates={names}" if self.routers else f"candidates={names}"
        return f"Controller({said})"

    def close(self) -> None:
        """As ``ChatClient.close``."""
        if self._sender is not None:
            self._sender.close()
        super().close()

    def _prepare(self, arguments: dict[str, Any]) -> tuple[Request, Decision | None]:
        call = Call.read(arguments)
        if call.router is None and call.model == CASCADE_MODEL:
            return self._prepare_cascade(call)
        if call.router is None and call.model == MANY_MODELS and self.candidates is not None:
            return self._prepare_candidate(call, self.candidates), None
        if call.router is None:
            return call.request(call.model, self._endpoint_of(call.model)), None
        prompt = prompt_from_messages(call.messages)
        decision = self.decide(prompt, call.router, call.threshold, strong_share=call.strong_share)
        return self._chosen(call, decision), decision

    def _chosen(self, call: Call, decision: Decision) -> Request:
        request = call.request(decision.model, self._endpoint_of(decision.model))
        self._count(decision.router, decision.model)
        return request

    def _prepare_candidate(
        self,
        call: Call,
        candidates: CandidateDecider,
        refused_by: CandidateDecision | None = None,
    ) -> CandidateRequest:
        from fastroute.candidates.memory import beginning_of, conversation_name, last_answer
        from fastroute.many_models import CandidateRequest

        name = conversation_name(call.body.get("user"), beginning_of(call.messages))
        last = LastAnswer(call.previous_model, call.cached_tokens)
        if not last.model:
            last = last_answer(self._memory, call.messages, name)
        decision = candidates.decide_request(
            {**call.body, "messages": call.messages},
            model=last.model,
            cached_tokens=last.cached_tokens,
            headers=call.headers,
            refused_by=refused_by,
        )
        if decision.drops_reasoning:
            from fastroute.candidates import without_reasoning

            call = call._replace(body={**call.body, "messages": without_reasoning(call.messages)})
        own = next(c for c in candidates.candidates.current if c.name == decision.model)
        endpoint = self._endpoints.get(decision.model) or own.endpoint or self._endpoint
        request = call.request(decision.model, endpoint)
        self._count(MANY_MODELS, decision.model)
        following = partial(self._prepare_candidate, call, candidates, decision)
        return CandidateRequest(
            **vars(request),
            decision=decision,
            after_overflow=None if refused_by is not None else following,
            name=name,
        )

    def _received(self, request: Request, completion: ChatCompletion) -> None:
        asked = _candidate_request(request)
        if self.candidates is not None and asked is not None and asked.decision is not None:
            self.candidates.account(asked.decision, completion.get("usage"))

    def _prepare_cascade(self, call: Call) -> tuple[Request, Decision]:
        # Heavier than all the rest of a Controller, and of no use to others.
        from fastroute.evidence.cascade import CascadeSettings
        from fastroute.evidence.request import cascade_request, is_applicable

        if not self._helpers:
            raise InvalidInputError(
                'model="cascade" compares the answers of several cheap models: pass helpers=[...] '
                "to the Controller"
            )
        prompt = prompt_from_messages(call.messages)
        router = next(iter(self.routers))
        decision = self.decide(prompt, router, self.default_threshold(router))
        if not is_applicable(call.body):
            return self._chosen(call, decision), decision
        strong, weak = self.model_pair
        made = cascade_request(
            self._request_to(call, strong),
            [self._request_to(call, model) for model in (weak, *self._helpers)],
            call.body,
            prompt=prompt,
            decision=decision,
            settings=self._settings or CascadeSettings(),
            decided=lambda evidence: self._count(CASCADE_MODEL, evidence.model),
        )
        return made, decision

    def _request_to(self, call: Call, model: str) -> Request:
        return replace(call.request(model, self._endpoint_of(model)), model=model)

    def _count(self, router: str, model: str) -> None:
        with self._counting:
            self.model_counts[router][model] += 1

    def _send(self, request: Request) -> Response:
        if type(request) is Request:
            return super()._send(request)
        asked = _candidate_request(request)
        if asked is None:
            return self._cascade_sender().send(request)
        try:
            response = super()._send(asked)
            if asked.may_move_stream:
                refusal = overflow_in_stream(asked, response.peek_event())
                if refusal is not None:
                    response.close()
                    raise refusal
        except DispatchError as error:
            following = asked.following(error)
            if following is None:
                raise
            asked, response = following, super()._send(following)
        self._note(asked, response)
        return response

    async def _asend(self, request: Request) -> AsyncResponse:
        if type(request) is Request:
            return await super()._asend(request)
        asked = _candidate_request(request)
        if asked is None:
            return await self._cascade_sender().asend(request)
        try:
            response = await super()._asend(asked)
            if asked.may_move_stream:
                refusal = overflow_in_stream(asked, await response.peek_event())
                if refusal is not None:
                    await response.aclose()
                    raise refusal
        except DispatchError as error:
            following = await self._threads.run(partial(asked.following, error))
            if following is None:
                raise
            asked, response = following, await super()._asend(following)
        self._note(asked, response)
        return response

    def _note(self, request: CandidateRequest, response: Response | AsyncResponse) -> None:
        from fastroute.candidates.memory import AnswerReader

        assert request.decision is not None
        response.evidence, response.sent_instead = request.decision, request
        reader = AnswerReader(self._memory, request.decision.model, request.name)
        response.observe(reader.feed)

    def _cascade_sender(self) -> CascadeSender:
        from fastroute.evidence.controlled import CascadeSender

        with self._counting:
            if self._sender is None:
                self._sender = CascadeSender(self._transports, self._settings)
            return self._sender


def _candidate_request(request: Request) -> CandidateRequest | None:
    """A request to a candidate; None for any other request."""
    if type(request) is Request:
        return None
    from fastroute.many_models import CandidateRequest

    return request if isinstance(request, CandidateRequest) else None


def _saved_config(folder: Path) -> dict[str, Any]:
    """What ``fastroute tune`` wrote for the gateway; empty without a file."""
    file = folder / "gateway.toml"
    try:
        return tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError(f"{file} can't be read: {error}") from error


def _candidate_decider(
    candidates: Any,
    policy: ChoicePolicy | str | None,
    router: ModelsRouter | str | os.PathLike[str] | None,
) -> CandidateDecider | None:
    if candidates is None:
        if policy is not None or router is not None:
            raise InvalidInputError("policy and models_router need candidates=[...]")
        return None
    # Heavier than all the rest of a Controller, and of no use to others.
    from fastroute.many_models import CandidateDecider

    if not isinstance(candidates, CandidateDecider):
        return CandidateDecider(candidates, "max_quality" if policy is None else policy, router)
    if policy is not None or router is not None:
        raise InvalidInputError("candidates is a CandidateDecider, which has a policy and a router")
    return candidates


def _check_helpers(helpers: Sequence[str], pair: ModelPair) -> tuple[str, ...]:
    if isinstance(helpers, str) or not all(isinstance(h, str) and h for h in helpers):
        raise InvalidTypeError(f"helpers must be a list of model names, got {helpers!r}")
    if pair.strong in helpers:
        raise InvalidInputError(
            f"helpers has {pair.strong!r}, the strong model; name cheaper models"
        )
    return tuple(helpers)
