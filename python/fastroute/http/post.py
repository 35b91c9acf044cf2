"""One JSON request to an OpenAI-compatible API, with its retries, its deadline and its key."""

from __future__ import annotations

import datetime
import json
import os
import random
import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fastroute._validate import check_count
from fastroute.errors import (
    FastRouteError,
    MissingDependencyError,
    ProviderConnectionError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http.address import (
    KEY_VARIABLE,
    check_key,
    check_seconds,
    error_of,
    read_base_url,
    words_of,
)
from fastroute.http.retry import backoff, is_retryable, retry_after_s

if TYPE_CHECKING:
    import httpx2

_MAX_ANSWER_BYTES = 256 * 2**20

_REMEDIES = {
    404: "check base_url (it usually ends in /v1) and model",
    429: "lower the rate of requests, or raise max_retries and deadline_s",
}


class JsonPoster:
    """Posts JSON to one address and gives back the body of a 200.

    Nothing is sent, and no client is made, before the first ``post``. Safe to use from several
    threads at once, which share its connections.

    Retried, at most ``max_retries`` times: no connection, a broken one, no answer in time, and the
    statuses 408, 409, 429 and 5xx (not 501, 505, nor an exhausted quota). The wait doubles from
    ``backoff_s`` with full jitter, or is what ``Retry-After`` asks for, if ``deadline_s`` leaves
    that long.

    Args:
        owner: class that a user made, for messages.
        wanted: what the answer should have held, for messages: "embedding from 'tiny'".
        error: the kind of error raised.
        remedies: what to do about a status, beside the usual remedies.
        base_url, path: what to post to.
        api_key: sent as a bearer token. If None, the variable OPENAI_API_KEY is read at first use
            and sent to api.openai.com only; other hosts then get no Authorization header.
        timeout_s: seconds for one attempt, and for each wait on the network in it.
        deadline_s: seconds for one request with all its retries.
        max_retries: attempts after the first.
        backoff_s: upper bound of the first wait.

    Raises:
        InvalidInputError, InvalidTypeError: an argument that can't be used.
    """

    def __init__(
        self,
        *,
        owner: str,
        wanted: str,
        error: type[FastRouteError],
        remedies: Mapping[int, str],
        base_url: str,
        path: str,
        api_key: str | None,
        timeout_s: float,
        deadline_s: float,
        max_retries: int,
        backoff_s: float,
    ) -> None:
        self._owner, self._wanted, self._error = owner, wanted, error
        self._remedies = _REMEDIES | dict(remedies)
        self._url, self.endpoint, self._is_openai = read_base_url(base_url, path)
        self._key = None if api_key is None else check_key(api_key, "api_key")
        self.timeout_s = check_seconds("timeout_s", timeout_s)
        self.deadline_s = check_seconds("deadline_s", deadline_s)
        self.max_retries = check_count("max_retries", max_retries, least=0)
        self.backoff_s = check_seconds("backoff_s", backoff_s)
        self._client: httpx2.Client | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._rng = random.Random()

    def post(self, payload: Mapping[str, Any]) -> bytes:
        """Send ``payload`` and return the body of the answer.

        Raises ``error``. Its ``__cause__`` is a ProviderStatusError, ProviderTimeoutError or
        ProviderConnectionError where the HTTP exchange failed.
        """
        content = json.dumps(payload, ensure_ascii=False).encode()
        end_s = time.monotonic() + self.deadline_s
        attempts = 0
        while True:
            # A machine that woke us late may have left nothing, or less: no socket takes that.
            left_s = max(end_s - time.monotonic(), 1e-3)
            outcome = self._attempt(content, min(self.timeout_s, left_s))
            attempts += 1
            if isinstance(outcome, bytes):
                return outcome
            if not outcome.retryable or attempts > self.max_retries:
                raise self._failed(outcome, attempts)
            wait_s = max(backoff(attempts - 1, self.backoff_s, self._rng), outcome.wait_s)
            left_s = max(end_s - time.monotonic(), 0.0)
            if wait_s >= left_s:
                raise self._failed(
                    outcome,
                    attempts,
                    f"; the next attempt would come after {wait_s:.3g} s, and deadline_s="
                    f"{self.deadline_s:g} leaves {left_s:.3g} s",
                )
            time.sleep(wait_s)

    def scrub(self, text: str) -> str:
        """``text`` without the key."""
        return text if self._key is None else text.replace(self._key, "***")

    def close(self) -> None:
        """Close the connections; a later ``post`` is an error."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()

    def _failed(self, failure: _Failure, attempts: int, why: str = "") -> FastRouteError:
        error = self._error(
            f"{self.endpoint}: no {self._wanted} in {attempts} attempt"
            f"{'s' if attempts > 1 else ''}: {failure.cause}{why}; {failure.remedy}"
        )
        error.__cause__ = failure.cause
        return error

    def _attempt(self, content: bytes, seconds: float) -> bytes | _Failure:
        """Send once: the body of a 200, or what went wrong."""
        client = self.open_client()
        import httpx2

        end_s = time.monotonic() + seconds
        try:
            with client.stream("POST", self._url, content=content, timeout=seconds) as response:
                body = _read_body(response, end_s)
        except (httpx2.TimeoutException, TimeoutError) as error:
            return _Failure(
                _because(ProviderTimeoutError(f"no complete answer in {seconds:.3g} s"), error),
                "raise timeout_s if the endpoint is slow, or check that it is up",
                retryable=True,
            )
        except (httpx2.RequestError, _TooLongError) as error:
            reason = self.scrub(str(error)) or "no reason given"
            return _Failure(
                _because(ProviderConnectionError(f"{type(error).__name__}: {reason}"), error),
                "check base_url, the network and that the endpoint is up",
                retryable=isinstance(error, httpx2.TransportError)
                and not isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)),
            )
        except RuntimeError as error:  # what httpx2 says of a closed client
            if self._closed:
                raise self._closed_error() from error
            raise
        if response.status_code == 200:
            return body
        return self._status_failure(response, body)

    def _status_failure(self, response: httpx2.Response, body: bytes) -> _Failure:
        status = response.status_code
        said = words_of(body, self._key)
        no_quota = error_of(body).get("code") == "insufficient_quota"
        if status in (401, 403):
            remedy = "check api_key" + (
                f" (or {KEY_VARIABLE})"
                if self._is_openai
                else f" ({KEY_VARIABLE} is sent to api.openai.com only)"
            )
        elif no_quota:
            remedy = "the account has no quota left"
        elif 300 <= status < 400:
            remedy = "redirects are not followed: pass the final address as base_url"
        else:
            remedy = self._remedies.get(
                status, "the endpoint failed: try later, or look at its logs"
            )
        wait_s = retry_after_s(response.headers, datetime.datetime.now(datetime.UTC))
        return _Failure(
            ProviderStatusError(
                f"HTTP {status}" + (f" ({said})" if said else ""),
                status_code=status,
                body=body if self._key is None else body.replace(self._key.encode(), b"***"),
                headers={k.lower(): v for k, v in response.headers.items()},
            ),
            remedy,
            retryable=is_retryable(status) and not no_quota,
            wait_s=wait_s or 0.0,
        )

    def open_client(self) -> httpx2.Client:
        """The HTTP client, made at the first call."""
        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._client is None:
                try:
                    import httpx2
                except ImportError as error:
                    raise MissingDependencyError(
                        f"{self._owner} needs httpx2: pip install httpx2"
                    ) from error
                headers = {"Content-Type": "application/json"}
                key = self._find_key()
                if key is not None:
                    headers["Authorization"] = f"Bearer {key}"
                self._client = httpx2.Client(headers=headers)
                # An owner that is dropped without close() leaves no socket open.
                weakref.finalize(self, self._client.close)
            return self._client

    def _find_key(self) -> str | None:
        """The key given, else, for OpenAI's own host, the one in the environment."""
        if self._key is None and self._is_openai:
            found = os.environ.get(KEY_VARIABLE, "")
            if not found:
                raise self._error(
                    f"{self.endpoint} needs a key: pass api_key= or set {KEY_VARIABLE}"
                )
            self._key = check_key(found, KEY_VARIABLE)
        return self._key

    def _closed_error(self) -> FastRouteError:
        return self._error(f"this {self._owner} is closed; make a new one")


class _Failure(NamedTuple):
    """One attempt that failed."""

    cause: ProviderStatusError | ProviderTimeoutError | ProviderConnectionError
    remedy: str
    retryable: bool
    wait_s: float = 0.0


_Cause = TypeVar("_Cause", ProviderTimeoutError, ProviderConnectionError)


def _because(error: _Cause, cause: Exception) -> _Cause:
    error.__cause__ = cause
    return error


class _TooLongError(Exception):
    """An answer longer than any that could be right."""


def _read_body(response: httpx2.Response, end_s: float) -> bytes:
    """The body, if it is whole by ``end_s`` on the monotonic clock and not absurdly long."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if response.status_code != 200 and len(body) > 2**16:
            break  # enough for a message
        if len(body) > _MAX_ANSWER_BYTES:
            raise _TooLongError(f"the answer is longer than {_MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > end_s:  # each wait was short enough, all together were not
            raise TimeoutError
    return bytes(body)
