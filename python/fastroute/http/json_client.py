"""JSON requests that are not chats, such as embeddings: one body out, one body back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastroute.errors import DispatchError, FastRouteError, ProviderStatusError
from fastroute.http.address import KEY_VARIABLE, without_key
from fastroute.http.request import Endpoint, Request
from fastroute.http.retry import RetryPolicy
from fastroute.http.sync_transport import HttpTransport


class JsonClient:
    """Posts JSON to one path of an endpoint, over an ``HttpTransport`` of its own.

    Nothing is sent, and no connection is made, before the first ``post``. Safe to use from several
    threads at once.

    Args:
        endpoint, path: where requests go.
        retry: when a failed request is sent again.
        error: the kind of error raised.
        wanted: what the answer should have held, for messages: "embedding from 'tiny'".
        hints: what to do about a status, beside the usual remedies.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        retry: RetryPolicy,
        error: type[FastRouteError],
        wanted: str,
        hints: Mapping[int, str],
    ) -> None:
        self._endpoint, self._path = endpoint, path
        self._error, self._wanted, self._hints = error, wanted, hints
        self._transport = HttpTransport(retry=retry)
        self._closed = False

    @property
    def shown(self) -> str:
        """The address, without its query."""
        return self._endpoint.address(self._path).shown

    def post(self, payload: Mapping[str, Any]) -> Any:
        """Send ``payload`` and return the answer's JSON.

        Raises ``error``. Its ``__cause__`` is the DispatchError where the HTTP exchange failed.
        """
        if self._closed:
            raise self._error(f"no {self._wanted}: its client is closed; make a new one")
        key = self._endpoint.find_key()
        if key is None and self._endpoint.address(self._path).is_openai:
            raise self._error(f"{self.shown} needs a key: pass api_key= or set {KEY_VARIABLE}")
        content = json.dumps(payload, ensure_ascii=False).encode()
        try:
            body = self._transport.send(Request(self._endpoint, content, self._path)).read()
        except DispatchError as error:
            said = [f"no {self._wanted}: {error}", *getattr(error, "__notes__", ())]
            if isinstance(error, ProviderStatusError) and error.status_code in self._hints:
                said.append(self._hints[error.status_code])
            raise self._error("; ".join(said)) from error
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            start = without_key(body[:4096].decode(errors="replace"), key)[:80]
            raise self.unusable(f"it is not JSON: {start!r}") from error

    def unusable(self, what: str) -> FastRouteError:
        """The error for an answer that can't be used."""
        return self._error(
            f"{self.shown}: no {self._wanted}: the answer can't be used: {what}; check that "
            "base_url is an OpenAI-compatible endpoint and that model is a model for it"
        )

    def close(self) -> None:
        """Close the connections; a later ``post`` is an error."""
        self._closed = True
        self._transport.close()
