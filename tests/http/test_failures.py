"""What providers say of a prompt that is too long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastroute.errors import ProviderConnectionError, ProviderStatusError
from fastroute.http.failures import is_context_overflow


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
