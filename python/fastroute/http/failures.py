"""Turns what went wrong with a request into an error: the address, the cause, what to do."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from fastroute.errors import (
    AnswerCutError,
    DispatchError,
    ProviderConnectionError,
    ProviderConnectTimeoutError,
    ProviderResponseError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http.address import KEY_VARIABLE, without_key
from fastroute.http.request import EVENT_END, RawHeaders, Request, folded

#: The longest whole answer; none that could be right is longer.
MOST_ANSWER_BYTES = 256 * 2**20
#: Of an error's body no more is read.
MOST_ERROR_BYTES = 8 * 2**20

_REMEDIES = {
    400: "the endpoint refused the request as it is",
    401: f"check api_key ({KEY_VARIABLE} is used only where base_url is not given or OpenAI's)",
    404: "check base_url (it usually ends in /v1) and the model's name",
    413: "the request is too large for this endpoint",
    422: "the endpoint refused the request as it is",
    429: "lower the rate of requests, or raise max_retries",
}


def error_of(body: bytes) -> dict[str, Any]:
    """The ``error`` object of an OpenAI-style body; empty if there is none."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(answer, dict):
        return {}
    # The error event of OpenAI's Responses has no object of its own.
    error = answer if answer.get("type") == "error" and "code" in answer else answer.get("error")
    return error if isinstance(error, dict) else {}


#: What providers say of a prompt that is too long, where they have no code for it.
_OVERFLOW = re.compile(
    r"prompt is too long|maximum context length|context (?:length|limit|size|window)|"
    r"maximum number of tokens|too large for model",
    re.IGNORECASE,
)
_OVERFLOW_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})


def is_context_overflow(error: BaseException) -> bool:
    """Whether a provider refused a request as longer than its model's context window: by OpenAI's
    code, or in the words of Anthropic and of servers such as vLLM and llama.cpp."""
    if not isinstance(error, ProviderStatusError) or error.status_code not in (400, 413, 422):
        return False
    said = error_of(error.body)
    if _OVERFLOW_CODES & {str(said.get("code")), str(said.get("type"))}:
        return True
    return _OVERFLOW.search(str(said.get("message", ""))) is not None


def overflow_in_stream(request: Request, begun: bytes) -> ProviderStatusError | None:
    """The error for a stream of status 200 whose first event says that the prompt is too long, as
    if the provider had refused it; None for any other. ``begun`` is from ``peek_event``."""
    body = begun
    for event in EVENT_END.split(begun):
        data = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
        if data:
            body = b"\n".join(data)
            break
    if b'"error"' not in body:
        return None
    error = status_error(request, 400, (), body)
    return error if is_context_overflow(error) else None


def shown_address(request: Request) -> str:
    """The address of ``request`` for messages: without its query."""
    return request.endpoint.address(request.path).shown


def status_error(
    request: Request, status: int, headers: Mapping[str, str] | RawHeaders, body: bytes
) -> ProviderStatusError:
    """The error for an answer whose status is not 2xx."""
    error = error_of(body)
    text = error.get("message")
    if not isinstance(text, str):
        text = body.decode(errors="replace")
    said = " ".join(without_key(text, request.endpoint.find_key()).split())[:300]
    if error.get("code") == "insufficient_quota":
        remedy = "the account has no quota left"
    elif 300 <= status < 400:
        remedy = "redirects are not followed: give the final address as base_url"
    else:
        remedy = _REMEDIES.get(
            401 if status == 403 else status, "the endpoint failed: try later, or look at its logs"
        )
    if isinstance(headers, tuple):
        raw, named = headers, folded(headers)
    else:
        raw, named = (), {name.lower(): value for name, value in headers.items()}
    return ProviderStatusError(
        f"{shown_address(request)}: HTTP {status}{f' ({said})' if said else ''}; {remedy}",
        status_code=status,
        body=body,
        headers=named,
        raw_headers=raw,
    )


def raise_for_status(
    request: Request, status: int, headers: Mapping[str, str] | RawHeaders, body: bytes
) -> None:
    """Raise ProviderStatusError unless ``status`` is 2xx; ProviderResponseError for a status that
    HTTP does not have (RFC 9110, 15) or that nobody asked for, such as 101."""
    if 200 <= status < 300:
        return
    if not 300 <= status < 600:
        raise ProviderResponseError(
            f"{shown_address(request)}: {status} is not a valid status of an HTTP answer; check "
            "that base_url is an OpenAI-compatible API",
            body=body,
        )
    raise status_error(request, status, headers, body)


def connection_error(request: Request, error: BaseException) -> ProviderConnectionError:
    """The error for no connection, or one that broke before an answer began."""
    causes = list(_causes(error))
    reason = next((text for cause in causes if (text := str(cause))), "no reason given")
    remedy = "check base_url, the network and that the endpoint is up"
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            remedy = "check the host name in base_url, and the DNS of this machine"
        elif isinstance(cause, ssl.SSLCertVerificationError):
            remedy = "check the endpoint's certificate, or name its CA's file by SSL_CERT_FILE"
    reason = without_key(reason, request.endpoint.find_key())
    return ProviderConnectionError(
        f"{shown_address(request)}: {type(error).__name__}: {reason}; {remedy}"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error``, what it was raised from, and so on; libraries nest the errors of sockets."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__


def connect_timeout(request: Request) -> ProviderConnectTimeoutError:
    """The error for no connection in time."""
    return ProviderConnectTimeoutError(
        f"{shown_address(request)}: no connection; check that the endpoint is up, or raise "
        "connect_timeout_s"
    )


def late_error(request: Request, what: str, limit: str = "timeout_s") -> ProviderTimeoutError:
    """The error for an answer that did not come within the ``limit``."""
    return ProviderTimeoutError(
        f"{shown_address(request)}: no {what}; check that the endpoint is up, or raise {limit}"
    )


def cut_error(request: Request, received_bytes: int, error: BaseException) -> AnswerCutError:
    """The error for a successful answer that broke off."""
    return AnswerCutError(
        f"{shown_address(request)}: the answer was interrupted after {received_bytes} bytes "
        f"({type(error).__name__}); it may have been billed, so send the request again only if "
        "you accept that, or set retry_cut_answers"
    )


def malformed(request: Request, what: str) -> ProviderResponseError:
    """The error for bytes that are not an HTTP answer, or one that is too long."""
    return ProviderResponseError(
        f"{shown_address(request)}: {what}; look at what the endpoint sends", body=b""
    )


def unsendable(request: Request, error: BaseException) -> DispatchError:
    """The error for a request that HTTP can't carry, whatever the endpoint."""
    reason = without_key(str(error), request.endpoint.find_key())
    return DispatchError(
        f"{shown_address(request)}: the request can't be sent: {reason}; check base_url and headers"
    )
