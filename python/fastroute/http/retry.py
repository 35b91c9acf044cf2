"""When to ask again, and how long to wait before that."""

from __future__ import annotations

import datetime
import email.utils
import math
import random
from collections.abc import Mapping

#: Timeout, conflict, too many requests; every 5xx but 501 and 505 joins them.
_RETRYABLE = frozenset({408, 409, 429})
_NEVER = frozenset({501, 505})

#: No backoff of ours is longer, whatever the number of the attempt.
MAX_BACKOFF_S = 8.0


def is_retryable(status: int) -> bool:
    """Whether the same request may succeed a little later."""
    return status in _RETRYABLE or (500 <= status < 600 and status not in _NEVER)


def retry_after_s(headers: Mapping[str, str], now: datetime.datetime) -> float | None:
    """Seconds that the server asks to wait, at least 0; None if it doesn't say, or not readably.

    Reads ``Retry-After`` (RFC 9110, 10.2.3: seconds or an HTTP date, compared with ``now``, which
    has a time zone) and OpenAI's finer ``retry-after-ms``. ``headers`` ignores case.
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
    """Seconds before attempt ``attempt + 1``: exponential, with full jitter.

    Uniform in 0..min(MAX_BACKOFF_S, base_s * 2**attempt), so that clients that failed together
    don't come back together. ``attempt`` counts from 0.
    """
    return rng.uniform(0.0, min(MAX_BACKOFF_S, base_s * 2.0 ** min(attempt, 60)))
