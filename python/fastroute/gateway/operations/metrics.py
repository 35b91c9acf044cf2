"""Prometheus metrics: decisions, latency, tokens, dollars spent and saved."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Generic, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from fastroute.candidates import SpendState
from fastroute.evidence.cascade import Evidence
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.space import FOLDER, take_room
from fastroute.gateway.operations.usage import Usage
from fastroute.many_models import CandidateDecider
from fastroute.share_control import ShareControl
from fastroute.types import Decision

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: The label "router" of answers that a cascade by evidence chose.
BY_EVIDENCE = "evidence"
#: And of those of a candidate that a policy chose.
BY_CHOICE = "candidates"
_WIN_RATES = tuple(i / 20 for i in range(1, 20))
_DECISION_S = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0)
_STATE_S = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.1)
_UPSTREAM_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_M = TypeVar("_M", Counter, Histogram)


class _Uncounted:
    """Stands for a child of a metric for which the disk has no room."""

    def inc(self, amount: float = 1) -> None:
        """Count nothing."""

    def observe(self, amount: float) -> None:
        """Observe nothing."""


class _Family(Generic[_M]):
    """A metric whose children are looked up without the library's checks and its lock."""

    def __init__(self, metric: _M, folder: str | None) -> None:
        self._metric: Any = metric
        self._folder = folder
        self._children: dict[tuple[str, ...], _M] = {}

    def labels(self, *values: str) -> _M:
        """The child with these label values."""
        child = self._children.get(values)
        if child is None:
            if self._folder is not None:
                try:
                    take_room(self._folder)
                except OSError as error:
                    _warn_of_no_room(error.strerror)
                    return cast("_M", _Uncounted())
            child = self._children[values] = self._metric.labels(*values)
        return child


@cache
def _warn_of_no_room(reason: str | None) -> None:
    log(
        "not enough disk space for shared counts: what has a new label is not counted",
        logging.WARNING,
        reason=reason,
    )


def spend_state(decider: CandidateDecider | None) -> SpendState | None:
    """The account of the policy that chooses among candidates; None where it keeps none."""
    state = getattr(decider.policy, "state", None) if decider is not None else None
    return state if isinstance(state, SpendState) else None


class Metrics:
    """Counts what happens. With several workers, through files that all of them share."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # Without this, twice the lines, for what nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types
        self.registry = registry or CollectorRegistry()
        self._folder = os.environ.get(FOLDER)

        def counter(name: str, text: str, *labels: str) -> _Family[Counter]:
            made = Counter(f"fastroute_{name}", text, labels, registry=self.registry)
            return _Family(made, self._folder)

        def histogram(
            name: str, text: str, buckets: Iterable[float], *labels: str
        ) -> _Family[Histogram]:
            made = Histogram(
                f"fastroute_{name}", text, labels, buckets=tuple(buckets), registry=self.registry
            )
            return _Family(made, self._folder)

        self.requests = counter("requests", "Requests by path and status.", "path", "status")
        self.decisions = counter("decisions", "Decisions by router and model.", "router", "model")
        self.stayed = counter("stayed", "Decisions overridden by session affinity.", "router")
        self.win_rate = histogram("win_rate", "Win rates by router.", _WIN_RATES, "router")
        self.decision_s = histogram(
            "decision_seconds", "Seconds from the body to the decision.", _DECISION_S, "router"
        )
        self.first_byte_s = histogram(
            "upstream_first_byte_seconds",
            "Seconds to the first byte of a stream, or to the complete answer.",
            _UPSTREAM_S,
            "model",
        )
        self.upstream_s = histogram(
            "upstream_seconds", "Seconds to the end of an answer.", _UPSTREAM_S, "model"
        )
        self.failures = counter("upstream_failures", "Failed requests, by kind.", "model", "kind")
        self.events = counter(
            "resilience_events", "Retries, fallbacks, hedges and so on.", "model", "event"
        )
        self.calls = counter("billed_calls", "Calls that are billed.", "model", "source")
        self.tokens = counter(
            "tokens", "Tokens of calls that are billed.", "model", "way", "source"
        )
        self.spent = counter(
            "spent_dollars", "Dollars spent, where prices are given.", "model", "source"
        )
        self.saved = counter(
            "saved_dollars", "Dollars saved compared with the strong model.", "router"
        )
        self.overspent = counter(
            "overspent_dollars",
            "Dollars beyond what the strong model alone would have cost.",
            "router",
        )
        self.cascades = counter("cascades", "Cascades by evidence, by why it was sent.", "reason")
        self.cascade_calls = counter(
            "cascade_calls", "Calls of cascades by model and outcome.", "model", "outcome"
        )
        self.rollout_events = counter(
            "rollout_events", "Stages of a canary and alarms of drift.", "event"
        )
        self.learn_runs = counter("learn_runs", "Runs of the worker of [learn].", "outcome")
        self.held_decisions = counter(
            "held_decisions", "Decisions that count for the share that is held.", "side"
        )
        self.held_at_bound = counter(
            "held_at_bound", "Decisions that do not, as the threshold was at a bound.", "side"
        )
        self.held_threshold, self.held_share = (
            Gauge(
                f"fastroute_held_{name}",
                f"{text}, of each worker; NaN where no share is held.",
                registry=self.registry,
                multiprocess_mode="liveall",
            )
            for name, text in (
                ("threshold", "The threshold that holds the share"),
                ("strong_share", "The share of strong calls that is held"),
            )
        )
        self.held(None)
        self.journal_rows = counter(
            "journal_rows",
            "Rows of the journal: written, dropped as there was no room, refused.",
            *("table", "outcome"),
        )
        self.shadows = counter(
            "shadows", "Requests sampled for a shadow, by what became of it.", "outcome"
        )
        self.state_waits = histogram(
            "state_wait_seconds",
            "Seconds that requests waited for the server of [state], by how it ended.",
            _STATE_S,
            "outcome",
        )
        self._state_up = Gauge(
            "fastroute_state_up",
            "Whether the server of [state] answers, for the worker that it does worst; NaN without "
            "[state].",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self._state_up.set(math.nan)
        self.budget_refusals = counter(
            "budget_refusals", "Requests refused by [budgets].", "caller", "code"
        )
        self._spending = {
            name: Gauge(
                f"fastroute_policy_{name}",
                f"{text}, of each worker; NaN without a ceiling.",
                registry=self.registry,
                multiprocess_mode="liveall",
            )
            for name, text in (
                ("spent_usd", "Dollars that count for the ceiling: all, or those of the day"),
                ("balance_usd", "Dollars that may be spent now"),
                ("quality_per_usd", "The price of money: what a dollar must buy"),
                ("overdrafts", "Choices for which no candidate was within the balance"),
            )
        }
        self.spending(None)
        self.in_flight = Gauge(
            "fastroute_requests_in_flight",
            "Requests being served.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        if self._folder is not None:  # one of each kind makes the files
            self.requests.labels("/health", "200")
            self.first_byte_s.labels("other")
            take_room(self._folder)

    def decided(
        self, decision: Decision, seconds: float, stayed: bool, *, by_prompt: bool = True
    ) -> None:
        """Count a decision; one that is not by the prompt alone is counted by ``cascaded``."""
        if by_prompt:
            self.decisions.labels(decision.router, decision.model).inc()
        self.win_rate.labels(decision.router).observe(decision.win_rate)
        self.decision_s.labels(decision.router).observe(seconds)
        if stayed:
            self.stayed.labels(decision.router).inc()

    def held(self, control: ShareControl | None) -> None:
        """Show the state of ``control``."""
        self.held_threshold.set(math.nan if control is None else control.threshold)
        self.held_share.set(math.nan if control is None else control.held.strong_share)

    def chosen(self, model: str, seconds: float, stayed: bool, decider: CandidateDecider) -> None:
        """Count the choice of a candidate."""
        self.decisions.labels(BY_CHOICE, model).inc()
        self.decision_s.labels(BY_CHOICE).observe(seconds)
        if stayed:
            self.stayed.labels(BY_CHOICE).inc()
        self.spending(decider)

    def spending(self, decider: CandidateDecider | None) -> None:
        """Show the account of the policy, if it keeps one."""
        state = spend_state(decider)
        for name, gauge in self._spending.items():
            gauge.set(math.nan if state is None else getattr(state, name))

    def counted_for_share(self, decision: Decision, counts: bool, control: ShareControl) -> None:
        """Count a decision that a share is held over."""
        family = self.held_decisions if counts else self.held_at_bound
        family.labels("strong" if decision.strong else "weak").inc()
        self.held(control)

    def state_up(self, up: bool) -> None:
        """Note whether the server of [state] answers."""
        self._state_up.set(up)

    def waited_for_state(self, outcome: str, seconds: float) -> None:
        """Note a wait for the server of [state]."""
        self.state_waits.labels(outcome).observe(seconds)

    def cascaded(self, evidence: Evidence, label: Callable[[str], str]) -> None:
        """Count a cascade's decision and its calls; ``label`` gives a model's name here."""
        self.decisions.labels(BY_EVIDENCE, label(evidence.model)).inc()
        self.cascades.labels(evidence.reason).inc()
        for call in evidence.calls:
            self.cascade_calls.labels(label(call.model), call.outcome).inc()

    def billed(self, model: str, usage: Usage, cost_usd: float | None) -> None:
        """Count the tokens and dollars of one call."""
        source = "estimate" if usage.is_estimate else "provider"
        self.calls.labels(model, source).inc()
        for way, count in (
            ("input", usage.input_tokens),
            ("cached_input", usage.cached_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("output", usage.output_tokens),
        ):
            if count:
                self.tokens.labels(model, way, source).inc(count)
        if cost_usd is not None:
            self.spent.labels(model, source).inc(cost_usd)

    def journaled(self, table: str, outcome: str, count: int) -> None:
        """Count rows of the journal."""
        self.journal_rows.labels(table, outcome).inc(count)

    def render(self) -> bytes:
        """What ``/metrics`` answers."""
        return generate_latest(self.collected())

    def collected(self) -> CollectorRegistry:
        """A registry with the counts of every worker."""
        if self._folder is None:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # it has no types
        return registry
