"""The paths of requests: which are routed, and how they go to a provider."""

from __future__ import annotations

from urllib.parse import quote

from fastroute.gateway.protocol.replies import RefusalError
from fastroute.http.request import Endpoint

_QUERY_SAFE = "%/:?@!$&'()*+,;=-._~[]"
_ROUTED = frozenset(
    {"/chat/completions", "/completions", "/responses", "/messages", "/messages/count_tokens"}
)


def check_routed(path: str) -> None:
    """Raise RefusalError for a path whose requests are forwarded only."""
    if path not in _ROUTED:
        raise RefusalError(
            400,
            "not_routed",
            f"requests to {path} are forwarded and not routed; name a model",
            param="model",
        )


def with_query(path: str, query: bytes, endpoint: Endpoint) -> str:
    """``path`` at ``endpoint``, with what the client asked for in its query."""
    asked = quote(query, safe=_QUERY_SAFE)
    # An endpoint's own query, such as an api-version, is not to be overruled.
    own = endpoint.base_url is not None and "?" in endpoint.base_url
    return path if own or not asked else f"{path}?{asked}"
