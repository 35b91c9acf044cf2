"""The gateway's paths, and what every request goes through."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from fastroute.gateway.dashboard.pages import page_routes
from fastroute.gateway.journal.feedback import FeedbackEndpoint
from fastroute.gateway.operations.logs import log_failure
from fastroute.gateway.operations.metrics import CONTENT_TYPE
from fastroute.gateway.operations.state import State
from fastroute.gateway.protocol.openapi import openapi_document
from fastroute.gateway.protocol.origin import refuse_other_pages
from fastroute.gateway.protocol.proxy import ProxyEndpoint, StoredEndpoint, caller_of
from fastroute.gateway.protocol.replies import RefusalError, json_response
from fastroute.gateway.request.stored import ID_PATTERN

#: Paths below /v1 that are passed on.
PROXIED = (
    *("/chat/completions", "/completions", "/responses", "/embeddings"),
    *("/messages", "/messages/count_tokens"),
)
#: Paths about one stored response, and their methods.
STORED = {
    "/responses/{id}": ("GET", "DELETE"),
    "/responses/{id}/cancel": ("POST",),
    "/responses/{id}/input_items": ("GET",),
}
_STORED_PATH = re.compile(rf"/v1/responses/{ID_PATTERN}(/cancel|/input_items)?")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Application:
    """Finds the handler of a request by its path as it came: an escaped path is another path."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._handlers: dict[str, dict[str, Handler]] = {
            f"/v1{path}": {"POST": ProxyEndpoint(state, path)} for path in (*PROXIED, "/route")
        }
        self._stored: dict[str, dict[str, Handler]] = {
            path: dict.fromkeys(methods, StoredEndpoint(state, path))
            for path, methods in STORED.items()
        }
        self._handlers["/v1/feedback"] = {"POST": FeedbackEndpoint(state)}
        self._one_model = self._with_key(self._model)
        for path, handler in (
            ("/v1/models", self._with_key(self._models)),
            ("/metrics", self._with_key(self._metrics)),
            ("/openapi.json", self._openapi),
            ("/health", self._health),
            ("/ready", self._ready),
        ):
            self._handlers[path] = {"GET": handler, "HEAD": handler}
        for path, method, handler, needs_key in page_routes(state):
            checked = self._with_key(handler) if needs_key else handler
            self._handlers[path] = {method: checked}
            if method == "GET":
                self._handlers[path]["HEAD"] = checked

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a slash at the end of its path makes no difference."""
        path = request.raw_path.partition("?")[0].rstrip("/") or "/"
        try:
            response = await self._find(request, path)(request)
        except RefusalError as refusal:
            response = refusal.response(path.removeprefix("/v1"))
        except Exception:
            log_failure("request failed")
            said = "the gateway failed; its log has the kind of the failure"
            response = RefusalError(500, "internal_error", said).response(path.removeprefix("/v1"))
        if not request.content.is_eof():
            response.force_close()  # what is left of the body is not read
        if not response.prepared:
            response.headers.setdefault("server", "fastroute")
        return response

    def _find(self, request: web.BaseRequest, path: str) -> Handler:
        """Raises RefusalError."""
        if not self._state.gateway.keys:
            refuse_other_pages(path, request.headers, self._state.host)
        handlers = self._handlers_of(path)
        handler = handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(handlers)
            raise RefusalError(
                405,
                "method_not_allowed",
                f"this path does not take {request.method}; use {allowed}",
                headers={"allow": allowed},
            )
        return handler

    def _handlers_of(self, path: str) -> dict[str, Handler]:
        """What serves ``path``, by method."""
        if path in self._handlers:
            return self._handlers[path]
        if path.startswith("/v1/models/"):
            return {"GET": self._one_model, "HEAD": self._one_model}
        found = _STORED_PATH.fullmatch(path)
        if found is not None:
            return self._stored["/responses/{id}" + (found[1] or "")]
        raise RefusalError(404, "not_found", f"there is no {path[:200]} here")

    def _with_key(self, handler: Handler) -> Handler:
        """``handler`` for callers with a key; for everybody where there are none."""

        async def checked(request: web.BaseRequest) -> web.StreamResponse:
            caller_of(self._state.gateway, request.headers)
            return await handler(request)

        return checked

    async def _models(self, _: web.BaseRequest) -> web.Response:
        data = [_model_object(name) for name in self._state.gateway.model_names()]
        return json_response({"object": "list", "data": data})

    async def _model(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path.partition("?")[0]
        name = unquote(path.removeprefix("/v1/models/").rstrip("/"))
        if not self._state.gateway.is_model(name):
            raise RefusalError(404, "model_not_found", f"unknown model {name[:200]!r}")
        return json_response(_model_object(name))

    async def _metrics(self, _: web.BaseRequest) -> web.Response:
        return web.Response(
            body=self._state.metrics.render(), headers={"content-type": CONTENT_TYPE}
        )

    async def _openapi(self, _: web.BaseRequest) -> web.Response:
        return json_response(openapi_document(PROXIED, STORED))

    async def _health(self, _: web.BaseRequest) -> web.Response:
        return json_response({"status": "online"})  # RouteLLM's words

    async def _ready(self, _: web.BaseRequest) -> web.Response:
        if self._state.draining:
            return json_response({"status": "draining"}, 503)
        degraded = self._state.shared.is_degraded  # requests are served, by what is known here
        return json_response({"status": "degraded" if degraded else "ready"})


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "fastroute"}
