"""The ASGI application: its paths."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastroute.gateway.dashboard.pages import page_routes
from fastroute.gateway.operations.state import State
from fastroute.gateway.protocol.openapi import openapi_document
from fastroute.gateway.protocol.origin import refuse_other_pages
from fastroute.gateway.protocol.proxy import ProxyEndpoint, StoredEndpoint, caller_of
from fastroute.gateway.protocol.replies import Receive, RefusalError, Scope, Send, send_refusal

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
_STORED_PATH = re.compile(
    r"/v1/responses/[A-Za-z0-9][\w.:-]{0,199}(/cancel|/input_items)?", re.ASCII
)
Handler = Callable[[Request], Awaitable[Response]]


class Application:
    """Requests that are passed on go straight to their endpoint, all others through Starlette."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._posts = {f"/v1{path}": ProxyEndpoint(state, path) for path in (*PROXIED, "/route")}
        self._stored = {path: StoredEndpoint(state, path) for path in STORED}
        self._others = _starlette(state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; a slash at the end of its path makes no difference."""
        if scope["type"] == "http":
            if scope["path"].endswith("/"):
                scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
            if not self._state.gateway.keys:
                host = self._state.gateway.config.server.host
                other = refuse_other_pages(scope["path"], scope["headers"], host)
                if other is not None:
                    await send_refusal(send, other, [])
                    return
            endpoint, methods = self._find(scope["path"])
            if endpoint is not None:
                if scope["method"] in methods:
                    await endpoint(scope, receive, send)
                else:
                    allowed = ", ".join(methods)
                    said = f"this path does not take {scope['method']}; use {allowed}"
                    refusal = RefusalError(
                        405, "method_not_allowed", said, headers={"allow": allowed}
                    )
                    await send_refusal(send, refusal, [], scope["path"].removeprefix("/v1"))
                return
        await self._others(scope, receive, send)

    def _find(self, path: str) -> tuple[ProxyEndpoint | None, tuple[str, ...]]:
        """What serves ``path``, and its methods."""
        if path in self._posts:
            return self._posts[path], ("POST",)
        found = _STORED_PATH.fullmatch(path)
        if found is None:
            return None, ()
        known = "/responses/{id}" + (found[1] or "")
        return self._stored[known], STORED[known]


def _starlette(state: State) -> Starlette:
    routes = [
        Route("/v1/models", _with_key(state, _models(state)), methods=["GET"]),
        Route("/v1/models/{name:path}", _with_key(state, _model(state)), methods=["GET"]),
        Route("/metrics", _with_key(state, _metrics(state)), methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
        Route("/health", _health, methods=["GET"]),
        Route("/ready", _ready(state), methods=["GET"]),
        *page_routes(state, lambda handler: _with_key(state, handler)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await state.aclose()

    handlers = {404: _not_found, 405: _wrong_method}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


def _with_key(state: State, handler: Handler) -> Handler:
    """``handler`` for callers with a key; for everybody where there are none."""

    async def checked(request: Request) -> Response:
        try:
            caller_of(state.gateway, request.headers)
            return await handler(request)
        except RefusalError as refusal:
            return refusal_response(refusal)

    return checked


def refusal_response(refusal: RefusalError) -> Response:
    """The error as a response of Starlette's."""
    return Response(refusal.body(), refusal.status, refusal.headers, "application/json")


def _models(state: State) -> Handler:
    async def models(_: Request) -> Response:
        data = [_model_object(name) for name in state.gateway.model_names()]
        return JSONResponse({"object": "list", "data": data})

    return models


def _model(state: State) -> Handler:
    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if not state.gateway.is_model(name):
            raise RefusalError(404, "model_not_found", f"unknown model {name[:200]!r}")
        return JSONResponse(_model_object(name))

    return model


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "fastroute"}


def _metrics(state: State) -> Handler:
    async def metrics(_: Request) -> Response:
        return Response(state.metrics.render(), media_type="text/plain; version=0.0.4")

    return metrics


async def _openapi(_: Request) -> Response:
    return JSONResponse(openapi_document(PROXIED, STORED))


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "online"})  # RouteLLM's words


def _ready(state: State) -> Handler:
    async def ready(_: Request) -> Response:
        if state.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ready"})

    return ready


async def _not_found(request: Request, _: Exception) -> Response:
    return refusal_response(
        RefusalError(404, "not_found", f"there is no {request.url.path[:200]} here")
    )


async def _wrong_method(request: Request, error: Exception) -> Response:
    allowed = getattr(error, "headers", None) or {}
    said = f"{request.method} is not what this path takes"
    return refusal_response(RefusalError(405, "method_not_allowed", said, headers=allowed))
