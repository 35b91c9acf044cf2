"""RouteLLM's ``Controller``: chooses a model for each prompt, and calls it."""

from __future__ import annotations

import contextvars
import os
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

from fastroute.chat.call import Call
from fastroute.chat.completion import (
    AsyncChatStream,
    ChatCompletion,
    ChatStream,
    choices_of,
    read_completion,
)
from fastroute.chat.prompts import prompt_from_messages
from fastroute.errors import (
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    UnknownRouterError,
)
from fastroute.http.pair import Transports
from fastroute.http.request import AsyncTransport, Endpoint, Request, Transport
from fastroute.policy import (
    DecisionBatch,
    are_strong,
    check_threshold,
    check_win_rate,
    is_strong,
)
from fastroute.routers import ROUTER_NAMES, Router, create_router
from fastroute.types import Decision, Float64Array, ModelPair

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_PROGRESS_CHUNK = 1024


class Controller:
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
            ``fastroute.Endpoint`` for what holds without them.
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
        UnknownRouterError: a name that is no router's.
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
        self.model_pair = ModelPair(
            _check_name("strong_model", strong_model), _check_name("weak_model", weak_model)
        )
        self._endpoint = Endpoint(base_url=api_base, api_key=api_key)
        self._endpoints = _check_endpoints(endpoints)
        self._progress_bar = progress_bar
        self.routers = self._load(routers, config)
        self.model_counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.chat = SimpleNamespace(
            completions=SimpleNamespace(create=self.completion, acreate=self.acompletion)
        )
        self._transports = Transports(transport, async_transport)
        self._workers: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        _controllers.add(self)

    # Decisions

    def decide(self, prompt: str, router: str, threshold: float) -> Decision:
        """Choose a model for ``prompt``; nothing is sent.

        Raises:
            UnknownRouterError: a router that this controller did not load.
            InvalidThresholdError: a threshold outside 0..1.
            InvalidInputError, InvalidTypeError: a prompt that is no text.
        """
        started_ns = perf_counter_ns()
        chosen = self._router(router)
        threshold = check_threshold(threshold)
        win_rate = check_win_rate(chosen.win_rate(prompt))
        strong = is_strong(win_rate, threshold)
        return Decision(
            self.model_pair.strong if strong else self.model_pair.weak,
            router,
            win_rate,
            threshold,
            strong,
            (perf_counter_ns() - started_ns) / 1000,
        )

    def decide_batch(self, prompts: Iterable[str], router: str, threshold: float) -> DecisionBatch:
        """Choose a model for each of ``prompts``. Raises as ``decide``."""
        started_ns = perf_counter_ns()
        threshold = check_threshold(threshold)
        win_rates = self.batch_calculate_win_rate(prompts, router)
        strong = are_strong(win_rates, threshold)
        elapsed_us = (perf_counter_ns() - started_ns) / 1000
        return DecisionBatch(router, threshold, self.model_pair, win_rates, strong, elapsed_us)

    def route(self, prompt: str, router: str, threshold: float) -> str:
        """The name of the model that should answer ``prompt``. Raises as ``decide``."""
        return self.decide(prompt, router, threshold).model

    def batch_calculate_win_rate(self, prompts: Iterable[str], router: str) -> Float64Array:
        """Win rates of ``prompts`` (a list, a NumPy array, a pandas Series): float64[n].

        RouteLLM takes and returns a pandas Series; ``pd.Series(win_rates, index=prompts.index)``
        makes one of this. Raises as ``decide``.
        """
        chosen = self._router(router)
        # Arrays and Series give Python's own str this way.
        texts: Any = prompts.tolist() if hasattr(prompts, "tolist") else prompts
        if not self._progress_bar or not isinstance(texts, list):
            return chosen.win_rates(texts)
        parts = []
        with _bar(len(texts), "Scoring", "prompt") as bar:
            for i in range(0, len(texts), _PROGRESS_CHUNK):
                parts.append(chosen.win_rates(texts[i : i + _PROGRESS_CHUNK]))
                bar.update(len(parts[-1]))
        return np.concatenate(parts) if parts else chosen.win_rates(texts)

    # Calls

    @overload
    def completion(self, *, stream: Literal[True], **arguments: Any) -> ChatStream: ...

    @overload
    def completion(
        self, *, stream: Literal[False] | None = ..., **arguments: Any
    ) -> ChatCompletion: ...

    def completion(self, **arguments: Any) -> ChatCompletion | ChatStream:
        """Route on the last user message, call the chosen model, return its answer.

        The arguments are those of OpenAI's ``chat.completions.create`` and reach the provider as
        they are, known or not; only ``model`` is replaced. These are not part of the body:

        Args:
            router, threshold: instead of, or in agreement with, ``model="router-<name>-<t>"``.
            timeout: seconds to wait for the answer, instead of the endpoint's ``timeout_s``.
            extra_headers: HTTP headers to add or replace.
            extra_body: fields to add to the body or replace in it, as in OpenAI's client.
            extra_query: parameters to add to the address.

        Returns:
            A ``ChatCompletion``, or with ``stream=True`` a ``ChatStream`` of chunks: the provider's
            JSON with fields as attributes. Its ``fastroute`` is the Decision (None for a plain
            model name).

        Raises:
            RoutingError: an unknown router, a bad threshold or model string, messages that
                can't be read, or a model string that ``router`` or ``threshold`` contradicts.
            DispatchError: ProviderStatusError with the provider's status, headers and body as they
                were, ProviderConnectionError, ProviderTimeoutError, ProviderResponseError.
        """
        request, decision = self._prepare(arguments)
        response = self._transports.sync().send(request)
        key = request.endpoint.find_key()
        if request.stream:
            return ChatStream(response, decision, key=key, n=choices_of(request))
        return read_completion(response.read(), response.headers, decision, key=key)

    @overload
    async def acompletion(self, *, stream: Literal[True], **arguments: Any) -> AsyncChatStream: ...

    @overload
    async def acompletion(
        self, *, stream: Literal[False] | None = ..., **arguments: Any
    ) -> ChatCompletion: ...

    async def acompletion(self, **arguments: Any) -> ChatCompletion | AsyncChatStream:
        """``completion`` for an event loop, which it never blocks: a worker thread scores."""
        import asyncio  # heavier than all of fastroute, and of no use to a plain decision

        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        job = partial(context.run, self._prepare_in_thread, arguments)
        request, decision = await loop.run_in_executor(self._open_workers(), job)
        response = await self._transports.of_loop().asend(request)
        key = request.endpoint.find_key()
        if request.stream:
            return AsyncChatStream(response, decision, key=key, n=choices_of(request))
        return read_completion(await response.read(), response.headers, decision, key=key)

    def close(self) -> None:
        """Close the connections of calls; decisions can still be made, and a call opens new ones.

        After ``acompletion``, use ``aclose`` in its event loop.
        """
        self._release_workers()
        self._transports.close()

    async def aclose(self) -> None:
        """``close``, with the connections of ``acompletion`` in this event loop."""
        self._release_workers()
        await self._transports.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:  # never with a key
        pair = self.model_pair
        return (
            f"Controller(routers={list(self.routers)}, strong={pair.strong!r}, weak={pair.weak!r})"
        )

    # Inside

    def _load(
        self,
        routers: Sequence[str | Router],
        config: Mapping[str, Mapping[str, Any]] | None,
    ) -> dict[str, Router]:
        if isinstance(routers, (str, Router)) or not isinstance(routers, Sequence) or not routers:
            raise InvalidTypeError(
                f'routers must be a list with names or routers, such as ["mf"], got {routers!r}'
            )
        sections = _check_config(config, routers)
        loaded: dict[str, Router] = {}
        with _bar(len(routers), "Loading", "router", shown=self._progress_bar) as bar:
            for router in routers:
                if not isinstance(router, (str, Router)):
                    raise InvalidTypeError(f"routers must hold names and routers, got {router!r}")
                name = router.name if isinstance(router, Router) else router
                if isinstance(router, Router) and (not isinstance(name, str) or not name):
                    raise InvalidTypeError(f"{router!r} must have a name (str), got {name!r}")
                if name in loaded:
                    raise InvalidInputError(f"routers has {name!r} twice; give each name once")
                if not isinstance(router, Router):
                    router = create_router(router, **sections.get(name, {}))
                loaded[name] = router
                bar.update(1)
        return loaded

    def _router(self, name: str) -> Router:
        try:
            return self.routers[name]
        except (KeyError, TypeError):
            raise UnknownRouterError(
                f"router {name!r} is not loaded; this controller has {', '.join(self.routers)}"
            ) from None

    def _prepare(self, arguments: dict[str, Any]) -> tuple[Request, Decision | None]:
        """Decide, and write the request."""
        call = Call.read(arguments)
        if call.router is None:
            return call.request(call.model, self._endpoint_of(call.model)), None
        decision = self.decide(prompt_from_messages(call.messages), call.router, call.threshold)
        request = call.request(decision.model, self._endpoint_of(decision.model))
        with self._lock:
            self.model_counts[decision.router][decision.model] += 1
        return request, decision

    def _prepare_in_thread(self, arguments: dict[str, Any]) -> tuple[Request, Decision | None]:
        try:
            return self._prepare(arguments)
        except StopIteration as error:  # no future can carry it: its caller would wait for ever
            raise RuntimeError("a router raised StopIteration") from error

    def _endpoint_of(self, model: str) -> Endpoint:
        return self._endpoints.get(model, self._endpoint)

    def _open_workers(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor

        # Not the loop's own threads: a slow router would keep name look-ups waiting there.
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(thread_name_prefix="fastroute-scoring")
            return self._workers

    def _start_anew(self) -> None:
        """In the child of a fork: threads, connections and a held lock stayed with the parent."""
        self._lock = threading.Lock()
        self._workers = None
        self._transports.start_anew()

    def _release_workers(self) -> None:
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.shutdown(wait=False)


_controllers: weakref.WeakSet[Controller] = weakref.WeakSet()


def _start_all_anew() -> None:
    for controller in list(_controllers):
        controller._start_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_start_all_anew)


def _check_name(what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what} must be a model's name, got {value!r}")
    return value


def _check_endpoints(endpoints: object) -> dict[str, Endpoint]:
    if endpoints is None:
        return {}
    if not isinstance(endpoints, Mapping):
        raise InvalidTypeError(
            f"endpoints must be a dict from model name to Endpoint, got {type(endpoints).__name__}"
        )
    for model, endpoint in endpoints.items():
        if not isinstance(endpoint, Endpoint):  # and it may hold a key, so only its type is shown
            raise InvalidTypeError(
                f"endpoints[{model!r}] must be an Endpoint, got {type(endpoint).__name__}"
            )
    return dict(endpoints)


def _check_config(
    config: Mapping[str, Mapping[str, Any]] | None, routers: Sequence[str | Router]
) -> Mapping[str, Mapping[str, Any]]:
    if config is None:
        return {}
    if not isinstance(config, Mapping) or not all(isinstance(c, Mapping) for c in config.values()):
        raise InvalidTypeError(
            "config must be a dict from router name to a dict of its arguments, got "
            f"{config!r}; read a YAML file with yaml.safe_load first"
        )
    ready = {router.name for router in routers if isinstance(router, Router)}
    for name in config:
        if name in ready:
            raise InvalidInputError(f"config[{name!r}] has no effect: that router is made already")
        if name not in ROUTER_NAMES:
            raise UnknownRouterError(
                f"config[{name!r}] is for no router; the routers are {', '.join(ROUTER_NAMES)}"
            )
    return config


def _bar(total: int, title: str, unit: str, *, shown: bool = True) -> Any:
    """A progress bar, if it is wanted and standard error is a terminal."""
    if not shown:
        return _NoBar()
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingDependencyError("progress_bar needs tqdm: pip install tqdm") from error
    return tqdm(total=total, desc=title, unit=unit, leave=False, disable=None)


class _NoBar:
    def update(self, count: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
