"""The one retry policy: which failures are tried again, and after how long."""

from __future__ import annotations

import datetime
import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastroute.errors import (
    AnswerCutError,
    DispatchError,
    ProviderConnectionError,
    ProviderConnectTimeoutError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http.address import check_seconds
from fastroute.http.failures import error_of
from fastroute.http.request import Request

#: No back-off is longer, whatever the number of the attempt.
MAX_BACKOFF_S = 8.0
#: Where a provider asks for a longer wait, the request fails at once: its caller can decide better.
#: Load balancers commonly drop a request after 60 s without an answer; two such waits fit.
MAX_RETRY_AFTER_S = 30.0

# Timeout, conflict, too many requests; every 5xx but 501 and 505 joins them.
_RETRYABLE = frozenset({408, 409, 429})
_NEVER = frozenset({501, 505})


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed request is sent again, and how long to wait before that.

    Sent again: no connection, a broken one, and the statuses 408, 409, 429 and 5xx (not 501, 505,
    an exhausted quota, or where the provider says ``x-should-retry: false``). Not again: an
    interrupted answer, unless the endpoint's ``retry_cut_answers`` is set, because it may be
    billed.

    The wait before attempt n + 1 is uniform in 0..min(8 s, ``backoff_s`` * 2^(n - 1)) ("full
    jitter": clients that failed together don't return together), and at least what Retry-After
    asks for. The endpoint's ``max_retries`` limits the number of attempts.

    Attributes:
        backoff_s: upper bound of the first wait.
        deadline_s: seconds for one request with all its attempts; None for no bound.
        retry_late: whether an answer that is late is asked for again, as suits requests that cost
            little, such as embeddings.
    """

    backoff_s: float = 0.5
    deadline_s: float | None = None
    retry_late: bool = False

    def __post_init__(self) -> None:
        check_seconds("backoff_s", self.backoff_s)
        if self.deadline_s is not None:
            check_seconds("deadline_s", self.deadline_s)

    def wait_s(
        self,
        request: Request,
        error: DispatchError,
        attempts: int,
        rng: random.Random,
        *,
        elsewhere: bool = False,
    ) -> float | None:
        """Seconds to wait after ``error``, the failure of attempt number ``attempts`` (from 1);
        None where ``request`` must not be sent again. 0 if it goes ``elsewhere``: to an endpoint
        that did not fail."""
        asked_s = 0.0
        if isinstance(error, ProviderStatusError):
            if not may_retry(error):
                return None
            asked_s = retry_after_s(error.headers, datetime.datetime.now(datetime.UTC)) or 0.0
            if asked_s > MAX_RETRY_AFTER_S and not elsewhere:
                return None
        elif isinstance(error, ProviderTimeoutError):
            if not (self.retry_late or isinstance(error, ProviderConnectTimeoutError)):
                return None
        elif not (isinstance(error, ProviderConnectionError) and is_unpaid(request, error)):
            return None
        return 0.0 if elsewhere else max(backoff(attempts - 1, self.backoff_s, rng), asked_s)


class Attempts:
    """The attempts at one request under a policy: counted, and held to the deadline."""

    def __init__(self, policy: RetryPolicy, request: Request, rng: random.Random) -> None:
        self._policy = policy
        self._request = request
        self._rng = rng
        self._count = 0
        deadline_s = policy.deadline_s
        self._end_s = math.inf if deadline_s is None else time.monotonic() + deadline_s

    def request(self) -> Request:
        """The request for the next attempt, which may take no longer than the deadline leaves."""
        if self._end_s == math.inf:
            return self._request
        # A machine that woke up late may leave nothing, or less: no socket takes that.
        left_s = max(self._end_s - time.monotonic(), 1e-3)
        return replace(self._request, timeout_s=min(self._request.limit_s, left_s))

    def wait_s(self, error: DispatchError) -> float | None:
        """Seconds before the next attempt; None if there is none, and ``error`` then says in a
        note how often the request was sent."""
        self._count += 1
        wait_s = None
        if self._count <= self._request.endpoint.max_retries:
            wait_s = self._policy.wait_s(self._request, error, self._count, self._rng)
        left_s = max(self._end_s - time.monotonic(), 0.0)
        if wait_s is not None and wait_s >= left_s:
            error.add_note(
                f"the next attempt would come after {wait_s:.3g} s, and deadline_s="
                f"{self._policy.deadline_s:g} leaves {left_s:.3g} s"
            )
            wait_s = None
        if wait_s is None and self._count > 1:
            error.add_note(f"after {self._count} attempts")
        return wait_s


def is_retryable(status: int) -> bool:
    """Whether the same request may succeed a little later."""
    return status in _RETRYABLE or (500 <= status < 600 and status not in _NEVER)


def may_retry(error: ProviderStatusError) -> bool:
    """The same of an error, whose headers and body may know better."""
    if error.headers.get("x-should-retry") == "false":  # OpenAI's way to say so
        return False
    no_quota = error_of(error.body).get("code") == "insufficient_quota"
    return is_retryable(error.status_code) and not no_quota


def is_unpaid(request: Request, error: DispatchError) -> bool:
    """Whether ``error`` left nothing behind that would be billed twice: False for an interrupted
    answer, unless the endpoint says otherwise, and for a stream always."""
    if isinstance(error, AnswerCutError):
        return request.endpoint.retry_cut_answers and not request.stream
    return True


def retry_after_s(headers: Mapping[str, str], now: datetime.datetime) -> float | None:
    """Seconds that the server asks to wait, at least 0; None if it doesn't say, or not readably.

    Reads ``Retry-After`` (RFC 9110, 10.2.3: seconds or an HTTP date, compared with ``now``, which
    has a time zone) and OpenAI's finer ``retry-after-ms``. Names in ``headers`` are in lower case.
    """
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit_s
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000" is UTC without a place
        date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - now).total_seconds())


def backoff(attempt: int, base_s: float, rng: random.Random) -> float:
    """Seconds before attempt ``attempt + 1``, which counts from 0; see ``RetryPolicy``."""
    return rng.uniform(0.0, min(MAX_BACKOFF_S, base_s * 2.0 ** min(attempt, 60)))
