"""RouteLLM's ``Controller``: chooses a model for each prompt, and calls it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastroute._forking import ForkSafeLock
from fastroute.chat.call import Call
from fastroute.chat.client import ChatClient
from fastroute.chat.prompts import prompt_from_messages
from fastroute.decider import Decider
from fastroute.http.request import AsyncTransport, Endpoint, Request, Transport
from fastroute.routers import Router
from fastroute.types import Decision


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
        endpoints: a model's own ``Endpoint``, by the model's name.
        transport: carries the requests of ``completion``; by default an ``HttpTransport``, made at
            the first call. One that is given stays the caller's to close.
        async_transport: carries those of ``acompletion``; by default ``transport`` if that is an
            AsyncTransport too, as a ``MockTransport`` is, else an ``AsyncHttpTransport``.

    Attributes:
        routers: the routers by name.
        model_pair: ``ModelPair(strong, weak)``.
        model_counts: ``model_counts[router][model]`` is the number of calls so routed.
        chat: ``chat.completions.create`` and ``acreate``: ``completion`` and ``acompletion``.

    Raises:
        UnknownRouterError: no router has this name.
        InvalidInputError, InvalidTypeError: another argument that can't be used.
    """

    def __init__(
        self,
        routers: Sequence[str | Router],
        strong_model: str,
        weak_model: str,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        progress_bar: bool = False,
        *,
        endpoints: Mapping[str, Endpoint] | None = None,
        transport: Transport | None = None,
        async_transport: AsyncTransport | None = None,
    ) -> None:
        endpoint = Endpoint(base_url=api_base, api_key=api_key)
        ChatClient.__init__(self, endpoint, endpoints, transport, async_transport)
        Decider.__init__(self, routers, strong_model, weak_model, config, progress_bar=progress_bar)
        self.model_counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._counting = ForkSafeLock()

    def __repr__(self) -> str:  # never with a key
        pair = self.model_pair
        return (
            f"Controller(routers={list(self.routers)}, strong={pair.strong!r}, weak={pair.weak!r})"
        )

    def _prepare(self, arguments: dict[str, Any]) -> tuple[Request, Decision | None]:
        call = Call.read(arguments)
        if call.router is None:
            return call.request(call.model, self._endpoint_of(call.model)), None
        decision = self.decide(prompt_from_messages(call.messages), call.router, call.threshold)
        request = call.request(decision.model, self._endpoint_of(decision.model))
        with self._counting:
            self.model_counts[decision.router][decision.model] += 1
        return request, decision
