"""Which routers an event loop calls itself, and what a gateway makes of its config."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fastroute.embedders import OpenAIEmbedder, StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.gateway.config.settings import Config, RoutingConfig, SessionAffinityConfig
from fastroute.gateway.gateway import QUICK_CHARS, Gateway
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.gateway.request.document import read_document
from fastroute.gateway.request.stored import Keeper, StoredResponses
from fastroute.http import Endpoint, MockTransport
from fastroute.routers import Router, create_router
from fastroute.types import Float64Array


class Watched(Router):
    """Remembers on which thread it was asked."""

    name = "watched"

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.threads: list[int] = []

    @property
    def is_quick(self) -> bool:
        return self.quick

    def win_rate(self, prompt: str) -> float:
        del prompt
        self.threads.append(threading.get_ident())
        return 0.5

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        return np.full(len(prompts), 0.5)


def test_routers_say_whether_they_are_quick() -> None:
    assert create_router("random").is_quick
    assert create_router("length").is_quick
    assert create_router("mf").is_quick  # the default embedder is in this process
    assert StaticEmbedder.load_default().is_quick
    assert not OpenAIEmbedder("text-embedding-3-small").is_quick


def make(**values: Any) -> Gateway:
    sticky = SessionAffinityConfig(by="none")
    routing = RoutingConfig(
        strong_model="s", weak_model="w", router="random", session_affinity=sticky, **values
    )
    return Gateway(Config(routing, endpoint=Endpoint("http://127.0.0.1:1/v1")), MockTransport())


@pytest.mark.parametrize(
    ("quick", "chars", "in_loop"),
    [(True, 10, True), (True, QUICK_CHARS + 1, False), (False, 10, False)],
)
def test_the_event_loop_scores_only_what_is_quick(quick: bool, chars: int, in_loop: bool) -> None:
    router = Watched(quick)

    async def run() -> int:
        gateway = make()
        gateway.decider.routers["watched"] = router
        messages = [{"role": "user", "content": "x" * chars}]
        raw = str({"model": "router-watched-0.5", "messages": messages}).replace("'", '"')
        routed = await gateway.route(read_document(raw.encode()), "/chat/completions", {}, "me")
        assert routed.model == "s"
        await gateway.aclose()
        return threading.get_ident()

    here = asyncio.run(run())
    assert [thread == here for thread in router.threads] == [in_loop]


def test_a_share_becomes_a_threshold() -> None:
    assert make(strong_share=0.25).threshold == pytest.approx(0.75, abs=1e-3)
    assert make(threshold=0.3).threshold == 0.3
    assert make().threshold == 0.5
    sticky = SessionAffinityConfig()
    routing = RoutingConfig(
        strong_model="s",
        weak_model="w",
        router="length",
        strong_share=0.5,
        session_affinity=sticky,
    )
    with pytest.raises(InvalidInputError, match="not calibrated"):
        Gateway(Config(routing), MockTransport())


def test_a_stored_response_is_not_asked_of_an_endpoint_that_a_reload_removed() -> None:
    gateway = make()
    there, gone = gateway.config.endpoint, Endpoint("http://127.0.0.1:1/v1", "old-key")
    gateway.stored.remember("resp_1", Keeper("me", "m", there))
    gateway.stored.remember("resp_2", Keeper("me", "m", gone))

    def asked(name: str) -> list[tuple[str, Endpoint]]:
        found = gateway.stored_requests(name, "me", f"/responses/{name}", "GET", (), b"")
        return [(request.model, request.endpoint) for request in found]

    assert asked("resp_1") == [("m", there)]
    assert asked("resp_2") == asked("resp_3") == [("w", there)]
    with pytest.raises(RefusalError, match="no response"):
        gateway.stored_requests("resp_2", "another", "/responses/resp_2", "GET", (), b"")


def test_no_more_responses_are_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastroute.gateway.request.stored.MAX_STORED", 3)
    stored = StoredResponses()
    for i in range(9):
        stored.remember(f"resp_{i}", Keeper("me", "m", Endpoint()))
        stored.remember("resp_0", Keeper("me", "m", Endpoint()))
    assert [i for i in range(9) if stored.find(f"resp_{i}")] == [0, 7, 8]
