"""Shadows: a sample of the requests is also answered by another model, which no client sees.

A shadow is asked after the answer, and only where that can have no effect: never for a request with
tools, or one that the provider stores. It never takes a place that a request could need, and stops
at the day's dollars.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from fastroute.errors import BodyError, DispatchError
from fastroute.gateway.config.journal import ShadowConfig
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.journal.calls import MODEL_CHARS, marshalled, total_usd
from fastroute.gateway.operations.books import Bill, BilledCall, cost_usd
from fastroute.gateway.operations.usage import Usage
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.gateway.request.document import Document
from fastroute.gateway.request.routed import Routed
from fastroute.gateway.request.sampling import Sampler
from fastroute.http.request import RawHeaders
from fastroute.journal.pending import Call

if TYPE_CHECKING:
    from fastroute.gateway.journal.recorder import Recorder
    from fastroute.gateway.operations.state import State

_PATHS = frozenset({"/chat/completions", "/completions", "/messages", "/responses"})
#: Fields of requests whose answer may do something, or go on with something that is stored.
_NEVER = (
    *("tools", "functions", "tool_choice", "function_call", "mcp_servers", "web_search_options"),
    *("container", "background", "conversation", "previous_response_id", "audio"),
)
#: Seconds within which what was put into the queue is in the database.
_WRITTEN_S = 2.0
_DAY_S = 86400.0


class Sampled(NamedTuple):
    """A request that is to have a shadow of one of ``models``, or of all but who answers."""

    document: Document
    headers: RawHeaders
    query: bytes
    weight: float
    models: Sequence[str]


class Asked(NamedTuple):
    """A request that was answered, and by which model."""

    request_id: str
    time: float
    path: str
    answered_by: str | None


class DailyBudget:
    """The dollars that shadows may cost in a day (UTC), by all workers and before a restart."""

    def __init__(self, daily_usd: float) -> None:
        self.daily_usd = daily_usd
        self._written = (-1.0, 0.0)  # the day, and what the database has of it
        self._read_s = 0.0
        self._recent: deque[tuple[float, float]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()  # over reloads, too
        self._reserved = 0.0

    def read(self, day: float, usd: float, read_s: float) -> None:
        """Note that at ``read_s`` the database had ``usd`` since ``day``. Called by a thread."""
        self._written = day, usd
        self._read_s = read_s

    def reserve(self, usd: float) -> bool:
        """Set ``usd`` aside, if there is so much left."""
        now = time.time()
        day, spent = self._written
        while self._recent and self._recent[0][0] < self._read_s - _WRITTEN_S:
            self._recent.popleft()
        spent += sum(cost for _, cost in self._recent) + self._reserved
        if day != now // _DAY_S * _DAY_S or spent + usd > self.daily_usd:
            return False
        self._reserved += usd
        return True

    def spend(self, usd: float, reserved_usd: float) -> None:
        """Note that what was set aside came to ``usd``."""
        self._reserved -= reserved_usd
        self._recent.append((time.time(), usd))

    async def aclose(self) -> None:
        """End the shadows under way; they are in the journal with what they cost."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Shadows:
    """The shadows of one process."""

    def __init__(self, config: ShadowConfig, state: State, budget: DailyBudget) -> None:
        self._config = config
        self._state = state
        self._sampler = Sampler(config.share, config.prefer)
        self._budget = budget
        budget.daily_usd = config.daily_usd

    def sample(
        self, routed: Routed, document: Document, path: str, headers: RawHeaders, query: bytes
    ) -> Sampled | None:
        """What to keep of a request until its shadow is asked; None for most."""
        decision, choice = routed.decision, routed.choice
        if routed.cascade or routed.keeper is not None or path not in _PATHS:
            return None
        models: Sequence[str]
        if choice is not None:
            models, distance = choice.eligible, choice.distance
            if len(models) < 2 or choice.reading.turn.signed_reasoning:  # for one provider only
                return None
        elif decision is not None:
            models = self._state.gateway.decider.model_pair
            distance = abs(decision.win_rate - decision.threshold)
        else:
            return None
        probability = self._sampler.sample(distance)
        if probability is None or not _is_harmless(document, path):
            return None
        sent = tuple(field for field in headers if field[0] != b"idempotency-key")
        return Sampled(document, sent, query, 1 / probability, models)

    def start(self, sampled: Sampled, asked: Asked, usage: Usage, recorder: Recorder) -> None:
        """Ask other models than the one that answered, if there is room for it."""
        others = [model for model in sampled.models if model != asked.answered_by]
        if self._config.models == "one":
            sampled = sampled._replace(weight=sampled.weight * len(others))
            others = [random.choice(others)]
        for model in others:
            self._start(sampled, model, asked, usage, recorder)

    def _start(
        self, sampled: Sampled, model: str, asked: Asked, usage: Usage, recorder: Recorder
    ) -> None:
        state = self._state
        gateway = state.gateway
        estimate = cost_usd(usage, gateway.model_config(model))
        running = len(self._budget.tasks)
        if running >= min(self._config.max_concurrency, state.admission.free):
            outcome = "no_room"
        elif not recorder.writer.is_writing:
            outcome = "no_journal"
        elif estimate is None or not self._budget.reserve(estimate):
            outcome = "over_budget"
        else:
            job = self._ask(sampled, asked, model, estimate, recorder)
            task = asyncio.get_running_loop().create_task(job)
            self._budget.tasks.add(task)
            task.add_done_callback(self._budget.tasks.discard)
            return
        state.metrics.shadows.labels(outcome).inc()

    async def _ask(
        self,
        sampled: Sampled,
        asked: Asked,
        model: str,
        reserved_usd: float,
        recorder: Recorder,
    ) -> None:
        gateway, texts = self._state.lease(), recorder.texts
        bill, began = Bill(), perf_counter()
        pieces: list[bytes] = []
        kept_bytes = 0
        error: str | None = None
        slot: int | None = None
        name = model[:MODEL_CHARS]
        is_stream = False
        try:
            document, path = sampled.document, asked.path
            call = Call(asked.request_id, path, None, asked.time, sampled.weight)
            slot = recorder.calls.begin(gateway, call, name, len(document.raw))
            request = gateway.request(model, document, path, sampled.headers, query=sampled.query)
            async with asyncio.timeout(gateway.config.resilience.total_timeout_s):
                with bill.recording():
                    answer = await gateway.transport.asend(request)
                kind = answer.headers.get("content-type", "").lower()
                is_stream = kind.startswith("text/event-stream")
                bill.begin(answer, is_stream=is_stream)
                try:
                    async for piece in answer.iter_bytes():
                        bill.feed(piece)
                        if texts.answers and kept_bytes < texts.most_bytes:
                            pieces.append(piece)
                            kept_bytes += len(piece)
                finally:
                    await answer.aclose()
        except (DispatchError, RefusalError, TimeoutError) as failure:
            error = type(failure).__name__
        except asyncio.CancelledError:
            error = "shutdown"
            raise
        finally:
            calls = self._count(bill, gateway)
            cost = total_usd(calls) or 0.0
            self._budget.spend(cost, reserved_usd)
            self._state.metrics.shadows.labels("failed" if error else "answered").inc()
            self._state.release(gateway)
            latency_ms = round((perf_counter() - began) * 1000, 3)
            shadow = (  # in the order of rows.SHADOW
                asked.request_id, name, asked.time, sampled.weight, cost, latency_ms,
                error, marshalled(calls), bill.answered, b"".join(pieces), is_stream,
            )  # fmt: skip
            recorder.calls.end(slot, name, calls, bill.answered, latency_ms, 0)
            recorder.writer.put("shadows", shadow, slot)

    def _count(self, bill: Bill, gateway: Gateway) -> list[BilledCall]:
        """Count tokens and dollars of the shadow; it saved nothing."""
        metrics = self._state.metrics
        for call in bill.close(gateway):
            metrics.billed(gateway.label(call.model), call.usage, call.cost_usd)
            metrics.overspent.labels("shadow").inc(call.cost_usd or 0.0)
        return bill.settled


def _is_harmless(document: Document, path: str) -> bool:
    fields = document.fields
    if any(name in fields for name in _NEVER):
        return False
    try:
        stores = path == "/responses" and fields.get("store") is not False
        return not stores and fields.get("n") in (None, 1)
    except BodyError:
        return False
