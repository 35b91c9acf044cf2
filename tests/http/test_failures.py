"""What providers say of a prompt that is too long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastroute.errors import ProviderConnectionError, ProviderStatusError
from fastroute.http.failures import is_context_overflow, overflow_in_stream
from fastroute.http.request import AsyncResponse, Endpoint, Request, Response


def refused(status: int, body: Any) -> ProviderStatusError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ProviderStatusError("", status_code=status, body=raw, headers={})


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded", "message": "?", "type": "invalid_request_error"},
        {"type": "invalid_request_error",
         "message": "prompt is too long: 213462 tokens > 200000 maximum"},
        {"type": "invalid_request_error",
         "message": "input length and `max_tokens` exceed context limit: 198190 + 20000 > 200000"},
        {"code": 400, "message": "This model's maximum context length is 4096 tokens. However, "
                                 "you requested 5000 tokens"},
        {"code": 400, "type": "exceed_context_size_error", "message": "the request exceeds ..."},
        {"code": 400, "message": "The input token count (1200000) exceeds the maximum number of "
                                 "tokens allowed (1048576)."},
    ],
)  # fmt: skip
def test_an_overflow_is_recognised(error: dict[str, Any]) -> None:
    assert is_context_overflow(refused(400, {"type": "error", "error": error}))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": "invalid_value", "message": "max_tokens is too large"}}),
        (429, {"error": {"message": "context length: tokens per minute"}}),
        (500, {"error": {"code": "context_length_exceeded"}}),
        (400, b"not JSON: context length"),
        (400, {"error": "context length"}),
    ],
)
def test_other_refusals_are_not(status: int, body: Any) -> None:
    assert not is_context_overflow(refused(status, body))
    assert not is_context_overflow(ProviderConnectionError("context length"))


OVERFLOW = {"type": "error", "error": {"type": "invalid_request_error",
                                       "message": "prompt is too long: 9 tokens > 8"}}  # fmt: skip
RESPONSES = {"type": "error", "code": "context_length_exceeded", "message": "?"}
CUT = {"choices": [{"delta": {"content": "context_length_exceeded"}}], "error": None}


@pytest.mark.parametrize(
    ("begun", "refuses"),
    [
        (f"event: error\ndata: {json.dumps(OVERFLOW)}\n\n", True),
        (f"event: error\r\ndata:{json.dumps(RESPONSES)}\r\n\r\n", True),
        (json.dumps(OVERFLOW), True),
        (f": waiting\n\ndata: {json.dumps(OVERFLOW)}\n\ndata: [DONE]\n\n", True),
        (f"data: {{}}\n\ndata: {json.dumps(OVERFLOW)}\n\n", False),
        (f"data: {json.dumps(CUT)}\n\n", False),
        (f": {json.dumps(OVERFLOW)}\n\n", False),
        ("data: [DONE]\n\n", False),
        ("", False),
    ],
)
def test_an_overflow_in_a_stream_is_recognised(begun: str, refuses: bool) -> None:
    request = Request(Endpoint("http://127.0.0.1:9/v1"), b"{}", stream=True)
    error = overflow_in_stream(request, begun.encode())
    assert (error is not None) == refuses
    assert error is None or (error.status_code, is_context_overflow(error)) == (400, True)


@pytest.mark.parametrize(
    ("pieces", "first"),
    [
        ([b"data: 1\n", b"\ndata: 2", b"\n\n"], 2),
        ([b"data: 1\r\n\r", b"\n", b"x"], 2),
        ([b": alive\n", b"\n", b"data: 1\n\n"], 1),
        ([b"x" * 40_000, b"x" * 40_000, b"x"], 2),
        ([b"data: 1"], 1),
        ([], 0),
    ],
)
def test_a_look_at_the_first_event_takes_nothing_away(pieces: list[bytes], first: int) -> None:
    response = Response(200, {}, iter(pieces))
    assert response.peek_event() == b"".join(pieces[:first])
    assert response.read() == b"".join(pieces)

    async def look() -> tuple[bytes, bytes]:
        async def come() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        response = AsyncResponse(200, {}, come())
        return await response.peek_event(), await response.read()

    assert asyncio.run(look()) == (b"".join(pieces[:first]), b"".join(pieces))
