"""Keeps a journal of a gateway's requests: what is known of each, written in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fastroute.gateway.config.settings import Config
from fastroute.gateway.gateway import Gateway, Routed
from fastroute.gateway.journal.shadow import DailyBudget, Sampled, Shadows
from fastroute.gateway.journal.texts import Texts, answer_text
from fastroute.gateway.operations.books import Bill, BilledCall
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.usage import Usage
from fastroute.gateway.request.document import Document
from fastroute.http.request import RawHeaders
from fastroute.journal.database import open_journal
from fastroute.journal.prices import note_prices
from fastroute.journal.prune import erase_texts
from fastroute.journal.schema import REQUESTS
from fastroute.journal.writer import Task, Writer

if TYPE_CHECKING:
    from fastroute.gateway.operations.state import State
    from fastroute.gateway.protocol.proxy import Facts

_HOUR_S = 3600.0
#: A client may name a model of any length.
_MODEL_CHARS = 255


class Paid(NamedTuple):
    """What a call used and cost."""

    model: str
    usage: Usage
    cost_usd: float | None

    @classmethod
    def of(cls, call: BilledCall) -> Paid:
        """Without the request, which may have megabytes."""
        return cls(call.model[:_MODEL_CHARS], call.usage, call.cost_usd)


class Entry:
    """What is noted of one request until it is over."""

    def __init__(self, recorder: Recorder, gateway: Gateway, routed: Routed) -> None:
        self.bill: Bill | None = None
        self.texts = recorder.texts
        self._recorder = recorder
        self._gateway = gateway
        self._routed = routed
        self._time_s = time.time()
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._sampled: Sampled | None = None

    def send(self, document: Document, path: str, headers: RawHeaders, query: bytes) -> None:
        """Note what is sent to the provider, if the request is to have a shadow."""
        shadows = self._recorder.shadows
        if shadows is not None:
            self._sampled = shadows.sample(self._routed, document, path, headers, query)

    def feed(self, piece: bytes) -> None:
        """Note a piece of the answer."""
        if self.texts.answers and self._bytes < self.texts.most_bytes:
            self._bytes += len(piece)
            self._pieces.append(piece)

    def finish(self, facts: Facts) -> None:
        """Queue the request's row, and ask its shadow."""
        bill = self.bill
        calls = [] if bill is None else list(map(Paid.of, bill.settled))
        prompt = self._routed.prompt
        known = {
            "request_id": facts.request_id,
            "time": self._time_s,
            "caller": facts.caller,
            "path": facts.path,
            "answered_by": (facts.model or "")[:_MODEL_CHARS] or None,
            "stream": facts.stream,
            "latency_ms": round((perf_counter() - facts.began) * 1000, 3),
            "first_byte_ms": facts.more.get("first_byte_ms"),
            "status": facts.status,
            "error": facts.error,
            "prompt_characters": len(prompt),
        }
        make = partial(
            _row,
            self._gateway,
            self._routed._replace(prompt=self.texts.cut(prompt) if self.texts.prompts else ""),
            self.texts,
            calls,
            None if bill is None else bill.answered,
            self._pieces,
            known,
        )
        kept = len(prompt) if self.texts.prompts else 0
        self._recorder.writer.put(REQUESTS, make, self._bytes + kept)
        shadows, sampled = self._recorder.shadows, self._sampled
        answered = calls and facts.status == 200 and facts.error is None
        if shadows is not None and sampled is not None and bill is not None and answered:
            usage = calls[bill.answered or 0].usage
            shadows.start(sampled, known, usage, self._recorder.writer, self.texts)


class Recorder:
    """The journal of one process of the gateway."""

    def __init__(self, config: Config, state: State) -> None:
        section = config.journal
        assert section is not None
        self._state = state
        self._budget = DailyBudget(0.0)
        self.configure(config)
        self.writer = Writer(
            partial(open_journal, section.url, password=section.password),
            state.metrics.journaled,
            log,
            most_rows=section.queue_rows,
            tasks=[
                Task(_HOUR_S, self._erase_texts),
                Task(60.0, self._note_prices),
                Task(5.0, self._budget.refresh),
            ],
        )

    def configure(self, config: Config) -> None:
        """Take the options of another configuration, but for the database."""
        if config.journal is not None:
            self.texts = Texts(config.journal)
            self._retention_s = config.journal.retention_days * 86400
        self._config = config
        shadow = config.shadow
        self.shadows = None if shadow is None else Shadows(shadow, self._state, self._budget)

    def begin(self, gateway: Gateway, routed: Routed) -> Entry:
        """Begin to note a request."""
        return Entry(self, gateway, routed)

    async def aclose(self) -> None:
        """End the shadows, and write what waits."""
        await self._budget.aclose()
        await asyncio.to_thread(self.writer.close)

    def _erase_texts(self, connection: Any) -> None:
        erase_texts(connection, before=time.time() - self._retention_s)

    def _note_prices(self, connection: Any) -> None:
        roles = {
            self._config.routing.strong_model: "strong",
            self._config.routing.weak_model: "weak",
        }
        rows = [
            {
                "model": model.name[:_MODEL_CHARS],
                "role": roles.get(model.name),
                "input_usd_per_mtok": model.input_usd_per_mtok,
                "cached_input_usd_per_mtok": model.cached_input_usd_per_mtok,
                "cache_write_usd_per_mtok": model.cache_write_usd_per_mtok,
                "output_usd_per_mtok": model.output_usd_per_mtok,
            }
            for model in self._config.models.values()
        ]
        note_prices(connection, rows, time.time())


def _row(
    gateway: Gateway,
    routed: Routed,
    texts: Texts,
    calls: list[Paid],
    answered: int | None,
    pieces: list[bytes],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """The row of a request, made in the writer's thread."""
    row = dict(known) | {"chosen": routed.model[:_MODEL_CHARS]}
    if routed.conversation is not None:
        row["conversation"] = routed.conversation.hex()
    row |= _decision(gateway, routed)
    if calls:
        usage = calls[answered or 0].usage
        costs = [call.cost_usd for call in calls if call.cost_usd is not None]
        row |= {
            "input_tokens": usage.all_input_tokens,
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "output_tokens": usage.output_tokens,
            "tokens_are_estimates": any(call.usage.is_estimate for call in calls),
            "cost_usd": sum(costs) if len(costs) == len(calls) else None,
        }
        if len(calls) > 1:
            row["calls"] = [_call(call, i == answered) for i, call in enumerate(calls)]
    else:
        row["answered_by"] = None
    if texts.prompts and routed.prompt:
        row["prompt"] = texts.kept(routed.prompt)
    if pieces:
        row["answer"] = texts.kept(answer_text(b"".join(pieces), is_stream=bool(row["stream"])))
    return row


def _decision(gateway: Gateway, routed: Routed) -> dict[str, Any]:
    decision = routed.decision
    if decision is None:
        return {}
    held = gateway.decider.share_control
    router = gateway.decider.routers.get(decision.router)
    point = (
        f"threshold={decision.threshold:g}"
        if held is None
        else f"strong_share={held.held.strong_share:g}"
    )
    pair = gateway.decider.model_pair
    chances = routed.chances
    probabilities = {model: float(model == routed.model) for model in pair}
    if chances is not None:
        probabilities = dict(chances.probabilities)
    return {
        "router": decision.router,
        "router_checksum": None if router is None else router.provenance.checksum,
        "policy": "cascade" if routed.cascade else f"{decision.router} {point}",
        "win_rate": decision.win_rate,
        "threshold": decision.threshold,
        "difficulty": decision.difficulty,
        "candidates": list(pair),
        "scores": {pair.strong: decision.win_rate, pair.weak: 1 - decision.win_rate},
        "probabilities": probabilities,
        "propensity": probabilities.get(routed.model),
        "explored": chances is not None and chances.explored,
    }


def _call(call: Paid, is_answer: bool) -> dict[str, Any]:
    return {
        "model": call.model,
        "input_tokens": call.usage.all_input_tokens,
        "cached_tokens": call.usage.cached_tokens,
        "output_tokens": call.usage.output_tokens,
        "cost_usd": call.cost_usd,
        "is_answer": is_answer,
    }
