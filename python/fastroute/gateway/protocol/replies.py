"""Answers of the gateway's own, in the form that clients of OpenAI and Anthropic read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastroute.errors import FastRouteError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]
#: Statuses whose answers have neither a body nor its length (RFC 9110, 8.6).
_BODILESS = (204, 304)


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


async def send_whole(
    send: Send, status: int, headers: HeaderList, body: bytes, *, head: bool = False
) -> None:
    """Send a complete answer."""
    if status not in _BODILESS:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def without_length(headers: HeaderList) -> HeaderList:
    """``headers`` but for the length of the body, which ``send_whole`` writes."""
    return [pair for pair in headers if pair[0] != b"content-length"]


async def send_json(send: Send, status: int, value: Any, headers: HeaderList | None = None) -> None:
    """Send ``value`` as JSON."""
    kind = (b"content-type", b"application/json")
    body = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    await send_whole(send, status, [kind, *(headers or [])], body)


async def send_refusal(
    send: Send, refusal: RefusalError, headers: HeaderList, path: str = ""
) -> None:
    """Send the error in the form of the API of ``path``."""
    own = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    kind = (b"content-type", b"application/json")
    await send_whole(send, refusal.status, [kind, *own, *headers], refusal.body(path))
