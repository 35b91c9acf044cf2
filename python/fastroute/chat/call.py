"""The arguments of one call of ``Controller.completion``, read and checked."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from fastroute.errors import (
    InvalidInputError,
    InvalidModelNameError,
    InvalidPromptError,
    InvalidTypeError,
    RoutingError,
)
from fastroute.http.address import check_seconds
from fastroute.http.request import Endpoint, Request
from fastroute.policy import MANY_MODELS, check_threshold, parse_model_name


class Call(NamedTuple):
    """What a call asks for."""

    #: router, threshold, strong_share: what decides; router None for a plain model name, the others
    #: None where they are not given.
    router: str | None
    threshold: float | None
    strong_share: float | None
    model: str  #: the plain model name; "" where a router decides
    body: dict[str, Any]  #: what is sent, once its ``model`` is chosen
    headers: Mapping[str, str]  #: HTTP headers to add or replace
    timeout_s: float | None  #: seconds to wait for the answer, if it is not the endpoint's
    query: Mapping[str, Any]  #: parameters to add to the address
    previous_model: str = ""  #: the model that gave the conversation's last answer; "" if not known
    cached_tokens: int = 0  #: input tokens that its provider last read from its cache

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> Self:
        """Part what is for fastroute from what is for the provider.

        Raises RoutingError if the call names no model or two different things, InvalidInputError
        for an option that can't be used.
        """
        try:
            body = given(arguments)
        except RecursionError as error:
            raise InvalidInputError("the arguments are nested too deep to be sent") from error
        router, threshold, share, timeout = (
            body.pop(name, None) for name in ("router", "threshold", "strong_share", "timeout")
        )
        previous, cached = (body.pop(name, None) for name in ("previous_model", "cached_tokens"))
        headers = _check_dict("extra_headers", body.pop("extra_headers", None))
        _check_headers(headers)
        query = _check_dict("extra_query", body.pop("extra_query", None))
        extra = _check_dict("extra_body", body.pop("extra_body", None))
        if "model" in extra:  # it would pass by the router
            raise InvalidModelNameError(
                f"extra_body has model={extra['model']!r}; name the model by model="
            )
        body.update(extra)
        timeout = getattr(timeout, "read", timeout)  # an httpx.Timeout, as OpenAI's client takes
        timeout_s = None if timeout is None else check_seconds("timeout", timeout)
        model = body.get("model")
        if model is not None and share is not None:
            raise InvalidModelNameError(
                f"model={model!r} and strong_share={share!r} contradict each other; give "
                "strong_share with router= instead of model="
            )
        cut = _read_cut(model, router, threshold)
        if (previous or cached) and model != MANY_MODELS:
            raise InvalidInputError(
                "previous_model and cached_tokens have an effect with "
                f"model={MANY_MODELS!r} only; leave them out"
            )
        if cut is None:
            return cls(
                None, None, None, str(model), body, headers, timeout_s, query,
                *_check_previous(previous, cached),
            )  # fmt: skip
        return cls(*cut, share, "", body, headers, timeout_s, query)

    @property
    def messages(self) -> Any:
        """The messages to route on. Raises InvalidPromptError if there are none."""
        if "messages" not in self.body:
            raise InvalidPromptError(
                'there are no messages to route; pass messages=[{"role": "user", "content": "..."}]'
            )
        return self.body["messages"]

    def request(self, model: str, endpoint: Endpoint) -> Request:
        """The request to ``model``: the body as it is, but for ``model``."""
        chosen = {"model": model}
        body = self.body | chosen if "model" in self.body else chosen | self.body
        try:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            encoded = content.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"the arguments can't be sent as JSON: {error}") from error
        return Request(
            endpoint,
            encoded,
            path="/chat/completions" + (f"?{urlencode(self.query, doseq=True)}" * bool(self.query)),
            stream=bool(body.get("stream")),
            headers=self.headers,
            timeout_s=self.timeout_s,
        )


def is_omitted(value: object) -> bool:
    """Whether it stands for an argument that is not given: openai.NOT_GIVEN or openai.omit."""
    kind = type(value)
    return kind.__name__ in ("NotGiven", "Omit") and kind.__module__.partition(".")[0] == "openai"


def given(value: Any) -> Any:
    """``value`` as JSON has it, where OpenAI's client takes more: pydantic models, such as a
    message of an earlier answer, tuples, iterators, dates; omitted fields are left out."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {name: given(entry) for name, entry in value.items() if not is_omitted(entry)}
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json", exclude_unset=True)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, (list, tuple, Iterator)):
        return [given(entry) for entry in value]
    return value


def _read_cut(model: Any, router: Any, threshold: Any) -> tuple[str, float | None] | None:
    """(router, threshold) that a call asks for; None for a plain model name."""
    if model is None:
        if router is None:
            raise RoutingError(
                "pass model='router-<name>-<threshold>', router=, or the name of a model"
            )
        return router, None if threshold is None else check_threshold(threshold)
    named = parse_model_name(model)
    said = named if named is not None else (None, None)
    for what, value, ours in zip(("router", "threshold"), (router, threshold), said, strict=True):
        if value is not None and value != ours:
            raise InvalidModelNameError(
                f"model={model!r} and {what}={value!r} contradict each other; give one of them"
            )
    return named


def _check_previous(model: object, cached_tokens: object) -> tuple[str, int]:
    if model is not None and not isinstance(model, str):
        raise InvalidTypeError(f"previous_model must be a model's name, got {model!r}")
    if cached_tokens is not None and (type(cached_tokens) is not int or cached_tokens < 0):
        raise InvalidInputError(
            f"cached_tokens must be a whole number of 0 or more, got {cached_tokens!r}"
        )
    return model or "", cached_tokens or 0


def _check_dict(what: str, value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidTypeError(f"{what} must be a dict with str keys, got {type(value).__name__}")
    return value


def _check_headers(headers: Mapping[str, Any]) -> None:
    """Values may be keys, so no message shows one."""
    for name, value in headers.items():
        if not isinstance(value, str):
            raise InvalidTypeError(
                f"extra_headers[{name!r}] must be a str, got {type(value).__name__}"
            )
        if not (name and all(text.isascii() and text.isprintable() for text in (name, value))):
            raise InvalidInputError(
                f"extra_headers[{name!r}] has no name, or holds a line end or a character outside "
                "ASCII; encode it first"
            )
