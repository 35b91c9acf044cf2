"""Keeps a journal of a gateway's requests: notes what is known of each, for another process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from fastroute.gateway.config.settings import Config
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.journal.calls import MODEL_CHARS, Calls, marshalled
from fastroute.gateway.journal.process import WriterProcess
from fastroute.gateway.journal.shadow import Asked, DailyBudget, Sampled, Shadows
from fastroute.gateway.journal.texts import Texts
from fastroute.gateway.operations.books import Bill
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.metrics import BY_CHOICE
from fastroute.gateway.request.candidates import Choice
from fastroute.gateway.request.document import Document
from fastroute.gateway.request.routed import Routed
from fastroute.http.request import RawHeaders
from fastroute.journal.pending import Call

if TYPE_CHECKING:
    from fastroute.gateway.operations.state import State
    from fastroute.gateway.protocol.proxy import Facts


class Entry:
    """What is noted of one request until it is over."""

    __slots__ = (
        *("_bytes", "_gateway", "_pieces", "_recorder", "_routed", "_sampled"),
        *("_slot", "_texts", "_time_s", "bill"),
    )

    def __init__(self, recorder: Recorder, gateway: Gateway, routed: Routed) -> None:
        self.bill: Bill | None = None
        self._texts = recorder.texts
        self._recorder = recorder
        self._gateway = gateway
        self._routed = routed
        self._time_s = time.time()
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._sampled: Sampled | None = None
        self._slot: int | None = None

    def send(self, facts: Facts, document: Document, headers: RawHeaders, query: bytes) -> None:
        """Note what is sent to the provider."""
        call = Call(facts.request_id, facts.path, facts.caller, self._time_s)
        model = self._routed.model[:MODEL_CHARS]
        self._slot = self._recorder.calls.begin(self._gateway, call, model, len(document.raw))
        shadows = self._recorder.shadows
        if shadows is not None:
            self._sampled = shadows.sample(self._routed, document, facts.path, headers, query)

    def feed(self, piece: bytes) -> None:
        """Note a piece of the answer."""
        if self._texts.answers and self._bytes < self._texts.most_bytes:
            self._bytes += len(piece)
            self._pieces.append(piece)

    def finish(self, facts: Facts) -> None:
        """Queue what the request's row is made of, and ask its shadow."""
        bill, routed, texts, recorder = self.bill, self._routed, self._texts, self._recorder
        calls, answered = ([], None) if bill is None else (bill.settled, bill.answered)
        latency_ms = facts.duration_ms
        choice, decision = routed.choice, routed.decision
        model = routed.model[:MODEL_CHARS]
        answered_by = (facts.model or "")[:MODEL_CHARS] or None
        noted = (  # in the order of rows.REQUEST
            facts.request_id, self._time_s, facts.caller, routed.conversation, facts.path,
            model, routed.arm, answered_by, facts.stream, latency_ms,
            facts.more.get("first_byte_ms"), facts.status, facts.error,
            (texts.cut(routed.prompt) or None) if texts.prompts else None, len(routed.prompt),
            marshalled(calls), answered, b"".join(self._pieces),
            None if choice is not None or decision is None else _decision(self._gateway, routed),
            None if choice is None else _choice(routed, choice),
        )  # fmt: skip
        recorder.calls.end(self._slot, model, calls, answered, latency_ms, facts.status)
        recorder.writer.put("requests", noted, self._slot)
        shadows, sampled = recorder.shadows, self._sampled
        succeeded = calls and facts.status == 200 and facts.error is None
        if shadows is not None and sampled is not None and succeeded:
            asked = Asked(facts.request_id, self._time_s, facts.path, answered_by)
            shadows.start(sampled, asked, calls[answered or 0].usage, recorder)


class Recorder:
    """The journal of one process of the gateway."""

    def __init__(self, config: Config, state: State) -> None:
        section = config.journal
        assert section is not None
        self._state = state
        self._budget = DailyBudget(0.0)
        self.calls = Calls(section)
        self._use(config)
        self.writer = WriterProcess(
            self._settings(config),
            state.metrics.journaled,
            log,
            self.calls.release,
            self._budget.read,
            most_rows=section.queue_rows,
        )

    def configure(self, config: Config) -> None:
        """Take the options of another configuration, but for the database."""
        self._use(config)
        if config.journal is not None:
            self.writer.configure(self._settings(config))

    def begin(self, gateway: Gateway, routed: Routed) -> Entry:
        """Begin to note a request."""
        return Entry(self, gateway, routed)

    async def aclose(self) -> None:
        """End the shadows, and write what waits."""
        await self._budget.aclose()
        await asyncio.to_thread(self.writer.close)
        self.calls.close()

    def _use(self, config: Config) -> None:
        if config.journal is not None:
            self.texts = Texts(config.journal)
        shadow = config.shadow
        self.shadows = None if shadow is None else Shadows(shadow, self._state, self._budget)

    def _settings(self, config: Config) -> dict[str, Any]:
        """What the journal's process goes by."""
        assert config.journal is not None
        routing = config.routing
        roles = {routing.strong_model: "strong", routing.weak_model: "weak"}
        return {
            "section": config.journal.model_dump(by_alias=True),
            "pending": None if self.calls.folder is None else str(self.calls.folder),
            "prices": [
                {
                    "model": model.name[:MODEL_CHARS],
                    "role": roles.get(model.name),
                    "input_usd_per_mtok": model.input_usd_per_mtok,
                    "cached_input_usd_per_mtok": model.cached_input_usd_per_mtok,
                    "cache_write_usd_per_mtok": model.cache_write_usd_per_mtok,
                    "output_usd_per_mtok": model.output_usd_per_mtok,
                }
                for model in config.models.values()
            ],
        }


def _decision(gateway: Gateway, routed: Routed) -> tuple[Any, ...]:
    """The values of ``rows.DECISION``."""
    decision, chances, decider = routed.decision, routed.chances, gateway.decider
    assert decision is not None
    router = decider.routers.get(decision.router)
    held = decider.share_control
    return (
        decision.router,
        None if router is None else router.provenance.checksum,
        routed.cascade,
        None if held is None else held.held.strong_share,
        decision.win_rate,
        decision.threshold,
        decision.difficulty,
        tuple(decider.model_pair),
        None if chances is None else dict(chances.probabilities),
        chances is not None and chances.explored,
    )


def _choice(routed: Routed, choice: Choice) -> tuple[Any, ...]:
    """The values of ``rows.CHOICE``: candidates are those eligible, scores are of all."""
    names, chances = choice.eligible, routed.chances
    probabilities = {name: float(name == routed.model) for name in names}
    if chances is not None:
        probabilities = dict(chances.probabilities)
    return (
        BY_CHOICE,
        choice.checksum,
        choice.decision.policy,
        list(names),
        {view.name: view.quality for view in choice.views},
        probabilities,
        probabilities.get(routed.model),
        chances is not None and chances.explored,
    )
