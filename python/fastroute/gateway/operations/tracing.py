"""OpenTelemetry spans, where the config asks for them and the extra is installed.

A request is a span, its provider's part a span inside; the caller's ``traceparent`` is taken up and
ours handed on. No prompt, answer or key is in an attribute. Where spans go is told by
OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from fastroute import __version__
from fastroute._extras import needed_for


class Tracing(Protocol):
    """What the proxy asks of it."""

    def begin(self, path: str, headers: Mapping[str, str]) -> Any:
        """Begin the span of a request."""

    def end(self, span: Any, facts: Mapping[str, Any]) -> None:
        """End it, with ``facts`` for attributes; those that are None are left out."""

    def upstream(self, span: Any, model: str, /) -> Any:
        """A context for the provider's part; it gives the headers to hand on."""

    def close(self) -> None:
        """Send the pending spans."""


class NoTracing:
    """No spans: what there is without ``opentelemetry = true``."""

    def begin(self, path: str, headers: Mapping[str, str]) -> Any:
        """Nothing."""

    def end(self, span: Any, facts: Mapping[str, Any]) -> None:
        """Nothing."""

    @contextmanager
    def upstream(self, _span: Any, _model: str) -> Iterator[Mapping[str, str]]:
        """Nothing to hand on."""
        yield {}

    def close(self) -> None:
        """Nothing."""


class OpenTelemetry:
    """Spans by OpenTelemetry's SDK, sent in batches over OTLP."""

    def __init__(self) -> None:
        with needed_for("opentelemetry = true"):
            from opentelemetry import propagate, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        self._trace, self._propagate = trace, propagate
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence over this name.
        resource = Resource({"service.name": "fastroute"}).merge(Resource.create())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("fastroute", __version__)

    def begin(self, path: str, headers: Mapping[str, str]) -> Any:
        """Begin the span of a request, inside the caller's if its headers name one."""
        context = self._propagate.extract(headers)
        kind = self._trace.SpanKind.SERVER
        return self._tracer.start_span(f"POST /v1{path}", context, kind=kind)

    def end(self, span: Any, facts: Mapping[str, Any]) -> None:
        """End it."""
        for name, value in facts.items():
            if value is not None:
                span.set_attribute(f"fastroute.{name}", value)
        if int(facts.get("status") or 0) >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    @contextmanager
    def upstream(self, span: Any, model: str) -> Iterator[Mapping[str, str]]:
        """The provider's part."""
        context = self._trace.set_span_in_context(span)
        kind = self._trace.SpanKind.CLIENT
        inner = self._tracer.start_span("provider", context, kind=kind)
        inner.set_attribute("gen_ai.request.model", model)
        headers: dict[str, str] = {}
        self._propagate.inject(headers, self._trace.set_span_in_context(inner))
        try:
            yield headers
        except BaseException as error:
            # Its type only: what it says may quote a prompt.
            inner.set_attribute("error.type", type(error).__name__)
            inner.set_status(self._trace.StatusCode.ERROR)
            raise
        finally:
            inner.end()

    def close(self) -> None:
        """Send the pending spans."""
        self._provider.shutdown()
