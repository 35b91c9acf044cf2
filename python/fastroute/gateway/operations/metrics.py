"""Prometheus metrics: decisions, latency, tokens, dollars spent and saved."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from fastroute.gateway.config.settings import ModelConfig
from fastroute.types import Decision

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_WIN_RATES = tuple(i / 20 for i in range(1, 20))
_DECISION_S = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0)
_UPSTREAM_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
#: How much of the end of an answer is searched for its usage.
TAIL_BYTES = 16 * 1024


class Usage(NamedTuple):
    """Tokens of one answer, as its provider counts them."""

    input_tokens: int
    output_tokens: int


def read_usage(tail: bytes) -> Usage | None:
    """The last ``"usage": {...}`` in the end of an answer, whole or streamed; None without one.

    A quote inside a text is escaped in JSON, so what an answer says is not taken for it.
    """
    for found in reversed(list(_USAGE.finditer(tail))):
        text = tail[found.end() - 1 :].decode(errors="replace")
        try:
            usage, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            continue
        counts = [
            next((usage[k] for k in keys if isinstance(usage.get(k), int)), None)
            for keys in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
        ]
        if counts[0] is not None:
            return Usage(max(0, counts[0]), max(0, counts[1] or 0))
    return None


_M = TypeVar("_M", Counter, Histogram)


class _Family(Generic[_M]):
    """A metric whose children are looked up without the library's checks and its lock."""

    def __init__(self, metric: _M) -> None:
        self._metric: Any = metric
        self._children: dict[tuple[str, ...], _M] = {}

    def labels(self, *values: str) -> _M:
        """The child with these label values."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


class Metrics:
    """Counts what happens. With several workers, through files that all of them share."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # Without this, twice the lines, for what nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types
        self.registry = registry or CollectorRegistry()
        self._multiprocess = _MULTIPROCESS in os.environ

        def counter(name: str, text: str, *labels: str) -> _Family[Counter]:
            made = Counter(f"fastroute_{name}", text, labels, registry=self.registry)
            return _Family(made)

        def histogram(
            name: str, text: str, buckets: Iterable[float], *labels: str
        ) -> _Family[Histogram]:
            made = Histogram(
                f"fastroute_{name}", text, labels, buckets=tuple(buckets), registry=self.registry
            )
            return _Family(made)

        self.requests = counter("requests", "Requests by path and status.", "path", "status")
        self.decisions = counter("decisions", "Decisions by router and model.", "router", "model")
        self.stayed = counter("stayed", "Decisions that session affinity overruled.", "router")
        self.win_rate = histogram("win_rate", "Win rates by router.", _WIN_RATES, "router")
        self.decision_s = histogram(
            "decision_seconds", "Seconds from the body to the decision.", _DECISION_S, "router"
        )
        self.first_byte_s = histogram(
            "upstream_first_byte_seconds",
            "Seconds to an answer's first byte (of a stream), or to the whole of it.",
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
        self.tokens = counter("tokens", "Tokens by model and way.", "model", "way")
        self.spent = counter("spent_dollars", "Dollars spent, where prices are given.", "model")
        self.saved = counter(
            "saved_dollars", "Dollars that the strong model would have cost more.", "router"
        )
        self.in_flight = Gauge(
            "fastroute_requests_in_flight",
            "Requests being served.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    def decided(self, decision: Decision, seconds: float, stayed: bool) -> None:
        """Count a decision."""
        self.decisions.labels(decision.router, decision.model).inc()
        self.win_rate.labels(decision.router).observe(decision.win_rate)
        self.decision_s.labels(decision.router).observe(seconds)
        if stayed:
            self.stayed.labels(decision.router).inc()

    def answered(
        self,
        model: str,
        usage: Usage | None,
        models: Mapping[str, ModelConfig],
        decision: Decision | None,
        strong_model: str,
    ) -> None:
        """Count the tokens and dollars of one answer."""
        if usage is None:
            return
        self.tokens.labels(model, "input").inc(usage.input_tokens)
        self.tokens.labels(model, "output").inc(usage.output_tokens)
        cost = cost_usd(usage, models.get(model))
        if cost is None:
            return
        self.spent.labels(model).inc(cost)
        strong = cost_usd(usage, models.get(strong_model))
        if decision is not None and strong is not None:
            self.saved.labels(decision.router).inc(max(0.0, strong - cost))

    def render(self) -> bytes:
        """What ``/metrics`` answers."""
        return generate_latest(self.collected())

    def collected(self) -> CollectorRegistry:
        """A registry with the counts of every worker."""
        if not self._multiprocess:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # it has no types
        return registry


def cost_usd(usage: Usage, model: ModelConfig | None) -> float | None:
    """Dollars for ``usage``; None where the model's prices are not known."""
    if model is None or model.input_usd_per_mtok is None or model.output_usd_per_mtok is None:
        return None
    return (
        usage.input_tokens * model.input_usd_per_mtok
        + usage.output_tokens * model.output_usd_per_mtok
    ) / 1e6
