"""Answers of the gateway's own, in the form that clients of OpenAI and Anthropic read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from fastroute.errors import FastRouteError

HeaderList = list[tuple[bytes, bytes]]
_JSON = "application/json"


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class RefusalError(FastRouteError):
    """A request that is answered by an error of the gateway's own."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self, path: str = "") -> bytes:
        """The error object of the API that ``path``, below /v1, belongs to."""
        if path.startswith("/messages"):
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
            return json.dumps(
                {"type": "error", "error": {"type": kind, "message": str(self)}}
            ).encode()
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return json.dumps(
            {
                "error": {
                    "message": str(self),
                    "type": kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        ).encode()

    def response(self, path: str = "", headers: Iterable[tuple[bytes, bytes]] = ()) -> web.Response:
        """The error as a response, in the form of the API of ``path``."""
        fields = to_text(headers)
        fields.extend(self.headers)
        return web.Response(
            body=self.body(path), status=self.status, headers=fields, content_type=_JSON
        )


def json_response(
    value: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> web.Response:
    """``value`` as JSON."""
    body = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    return web.Response(body=body, status=status, headers=to_text(headers), content_type=_JSON)


def to_text(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    """``headers`` as aiohttp takes them, in order, repeats apart.

    aiohttp writes UTF-8: a value in another encoding is taken for Latin-1, and becomes UTF-8.
    """
    found: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        found.add(name.decode("latin-1"), text)
    return found
