"""Keeps a journal of a gateway's requests: what is known of each, written in a thread."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from fastroute.gateway.config.settings import Config
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.journal.calls import MODEL_CHARS, Calls, Noted, Paid, total_usd
from fastroute.gateway.journal.shadow import DailyBudget, Sampled, Shadows
from fastroute.gateway.journal.texts import Texts, answer_text
from fastroute.gateway.operations.books import Bill
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.metrics import BY_CHOICE
from fastroute.gateway.request.candidates import Choice
from fastroute.gateway.request.document import Document
from fastroute.gateway.request.routed import Routed
from fastroute.http.request import RawHeaders
from fastroute.journal.database import open_journal, writing
from fastroute.journal.pending import Note
from fastroute.journal.prices import note_prices
from fastroute.journal.prune import erase_texts
from fastroute.journal.schema import REQUESTS
from fastroute.journal.writer import Task, Writer

if TYPE_CHECKING:
    from fastroute.gateway.operations.state import State
    from fastroute.gateway.protocol.proxy import Facts

_HOUR_S = 3600.0


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
        self._noted: Noted | None = None

    def send(self, facts: Facts, document: Document, headers: RawHeaders, query: bytes) -> None:
        """Note what is sent to the provider."""
        name, path, model = facts.request_id, facts.path, self._routed.model[:MODEL_CHARS]
        note = Note(name, self._time_s, path, model, facts.caller)
        self._noted = self._recorder.calls.begin(self._gateway, note, len(document.raw))
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
        answered = None if bill is None else bill.answered
        prompt = self._routed.prompt
        latency_ms = round((perf_counter() - facts.began) * 1000, 3)
        known = {
            "request_id": facts.request_id,
            "time": self._time_s,
            "caller": facts.caller,
            "path": facts.path,
            "answered_by": (facts.model or "")[:MODEL_CHARS] or None,
            "stream": facts.stream,
            "latency_ms": latency_ms,
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
            answered,
            self._pieces,
            known,
        )
        kept = len(prompt) if self.texts.prompts else 0
        done = self._recorder.calls.end(self._noted, calls, answered, latency_ms, facts.status)
        self._recorder.writer.put(REQUESTS, make, self._bytes + kept, done)
        shadows, sampled = self._recorder.shadows, self._sampled
        succeeded = calls and facts.status == 200 and facts.error is None
        if shadows is not None and sampled is not None and succeeded:
            shadows.start(sampled, known, calls[answered or 0].usage, self._recorder)


class Recorder:
    """The journal of one process of the gateway."""

    def __init__(self, config: Config, state: State) -> None:
        section = config.journal
        assert section is not None
        self._state = state
        self._budget = DailyBudget(0.0)
        self.calls = Calls(section)
        self.configure(config)
        pending = self.calls.pending
        self.writer = Writer(
            partial(open_journal, section.url, password=section.password),
            state.metrics.journaled,
            log,
            most_rows=section.queue_rows,
            tasks=[
                Task(_HOUR_S, self._erase_texts),
                Task(60.0, self._note_prices),
                Task(5.0, self._budget.refresh),
                *([] if pending is None else [Task(60.0, pending.recover)]),
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
        if self.calls.pending is not None:
            self.calls.pending.close()

    def _erase_texts(self, engine: Engine) -> None:
        with writing(engine) as connection:
            erase_texts(connection, before=time.time() - self._retention_s)

    def _note_prices(self, engine: Engine) -> None:
        roles = {
            self._config.routing.strong_model: "strong",
            self._config.routing.weak_model: "weak",
        }
        rows = [
            {
                "model": model.name[:MODEL_CHARS],
                "role": roles.get(model.name),
                "input_usd_per_mtok": model.input_usd_per_mtok,
                "cached_input_usd_per_mtok": model.cached_input_usd_per_mtok,
                "cache_write_usd_per_mtok": model.cache_write_usd_per_mtok,
                "output_usd_per_mtok": model.output_usd_per_mtok,
            }
            for model in self._config.models.values()
        ]
        with writing(engine) as connection:
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
    row = dict(known) | {"chosen": routed.model[:MODEL_CHARS]}
    if routed.conversation is not None:
        row["conversation"] = routed.conversation.hex()
    row |= _decision(gateway, routed) | {"arm": routed.arm}
    if calls:
        usage = calls[answered or 0].usage
        row |= {
            "input_tokens": usage.all_input_tokens,
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "output_tokens": usage.output_tokens,
            "tokens_are_estimates": any(call.usage.is_estimate for call in calls),
            "cost_usd": total_usd(calls),
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
    if routed.choice is not None:
        return _choice(routed, routed.choice)
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
        "candidates": _names_json(pair),
        "scores": _json({pair.strong: decision.win_rate, pair.weak: 1 - decision.win_rate}),
        "probabilities": _json(probabilities),
        "propensity": probabilities.get(routed.model),
        "explored": chances is not None and chances.explored,
    }


def _choice(routed: Routed, choice: Choice) -> dict[str, Any]:
    """As ``_decision``, of a choice among candidates: the eligible ones, and scores of all."""
    names, chances = choice.eligible, routed.chances
    probabilities = {name: float(name == routed.model) for name in names}
    if chances is not None:
        probabilities = dict(chances.probabilities)
    return {
        "router": BY_CHOICE,
        "router_checksum": choice.checksum,
        "policy": choice.decision.policy,
        "candidates": _names_json(names),
        "scores": _json({view.name: view.quality for view in choice.views}),
        "probabilities": _json(probabilities),
        "propensity": probabilities.get(routed.model),
        "explored": chances is not None and chances.explored,
    }


@lru_cache(maxsize=64)
def _names_json(names: tuple[str, ...]) -> str:
    return json.dumps(names)


@lru_cache(maxsize=1024)
def _quoted(name: str) -> str:
    return json.dumps(name)


def _json(numbers: Mapping[str, float]) -> str:
    """An object of finite numbers as JSON, in a quarter of the time of json.dumps."""
    members = ",".join([f"{_quoted(name)}:{value!r}" for name, value in numbers.items()])
    return f"{{{members}}}"


def _call(call: Paid, is_answer: bool) -> dict[str, Any]:
    return {
        "model": call.model,
        "input_tokens": call.usage.all_input_tokens,
        "cached_tokens": call.usage.cached_tokens,
        "output_tokens": call.usage.output_tokens,
        "cost_usd": call.cost_usd,
        "is_answer": is_answer,
    }
