"""A candidate: a model that may answer, with its prices and limits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, fields

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.http.request import Endpoint

#: What a request can ask of a model beside text.
ABILITIES = ("vision", "audio", "tools", "json_schema", "reasoning")

_LANGUAGE = re.compile("[a-z]{2}")

#: Bytes of a token in the mean, where its price is estimated.
BYTES_PER_TOKEN = 4.0

#: Length of an answer in tokens, where nothing is known of it.
DEFAULT_ANSWER_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer. Prices and limits are read at each request; none is learnt.

    Attributes:
        name: its name at its API.
        input_usd_per_mtok, output_usd_per_mtok: dollars per million tokens.
        cached_usd_per_mtok: dollars per million input tokens that the provider reads from its
            prompt cache; None where it has no price of its own, and the input price holds.
        context_window: most tokens of prompt and answer together; None where not known.
        max_output_tokens: most tokens of an answer; None where not known.
        abilities: those of ``ABILITIES`` that it has.
        tags: words of your own, for rules that allow or deny.
        quality_prior: expected share of good answers, 0..1, for a model without graded prompts;
            None where not known.
        answer_tokens: expected tokens of an answer, reasoning included.
        provider: who runs it: signed reasoning of one provider is invalid at another.
        languages: ISO 639-1 codes of the languages that it writes well; empty where it is used for
            all.
        base_url: of its OpenAI-compatible API; None for that of the client.
        api_key_env: the environment variable that holds the key for ``base_url``; "" for no key.

    Raises InvalidInputError, InvalidTypeError for a value that can't be used.
    """

    name: str
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    cached_usd_per_mtok: float | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    abilities: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    quality_prior: float | None = None
    answer_tokens: float = DEFAULT_ANSWER_TOKENS
    provider: str = ""
    languages: frozenset[str] = frozenset()
    base_url: str | None = None
    api_key_env: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InvalidInputError(f"name must be a model's name, got {self.name!r}")
        for field in ("abilities", "tags", "languages"):
            object.__setattr__(self, field, _words(self.name, field, getattr(self, field)))
        unknown = sorted(self.abilities - set(ABILITIES))
        if unknown:
            raise InvalidInputError(
                f"candidate {self.name!r}: unknown abilities {', '.join(map(repr, unknown))}; they "
                f"are {', '.join(ABILITIES)}"
            )
        for code in sorted(self.languages):
            if not _LANGUAGE.fullmatch(code):
                raise InvalidInputError(
                    f"candidate {self.name!r}: languages must be ISO 639-1 codes such as 'en', got "
                    f"{code!r}"
                )
        for field in ("provider", "api_key_env"):
            if not isinstance(getattr(self, field), str):
                raise InvalidTypeError(
                    f"candidate {self.name!r}: {field} must be a name, got {getattr(self, field)!r}"
                )
        self._check_endpoint()
        for field in ("input_usd_per_mtok", "output_usd_per_mtok", "answer_tokens"):
            self._check_number(field, math.inf)
        for field, most in (("cached_usd_per_mtok", math.inf), ("quality_prior", 1.0)):
            if getattr(self, field) is not None:
                self._check_number(field, most)
        for field in ("context_window", "max_output_tokens"):
            value = getattr(self, field)
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidInputError(
                    f"candidate {self.name!r}: {field} must be a whole number of tokens above 0, "
                    f"got {value!r}"
                )

    @property
    def endpoint(self) -> Endpoint | None:
        """Its own API, with the key that the environment has now; None without ``base_url``.

        Raises InvalidInputError where the variable ``api_key_env`` is not set.
        """
        if self.base_url is None:
            return None
        key = os.environ.get(self.api_key_env) if self.api_key_env else None
        if self.api_key_env and not key:
            raise InvalidInputError(
                f"candidate {self.name!r}: the environment variable {self.api_key_env} is not set; "
                "it must hold the API key"
            )
        return Endpoint(base_url=self.base_url, api_key=key)

    def _check_endpoint(self) -> None:
        if self.base_url is None and self.api_key_env:
            raise InvalidInputError(
                f"candidate {self.name!r}: api_key_env needs base_url, the only "
                "address that the key is sent to"
            )
        try:
            Endpoint(base_url=self.base_url)
        except (InvalidInputError, InvalidTypeError) as error:
            raise type(error)(f"candidate {self.name!r}: {error}") from None

    def dollars(
        self,
        input_tokens: float,
        output_tokens: float | None = None,
        cached_tokens: float = 0.0,
    ) -> float:
        """Dollars of a request.

        Args:
            input_tokens: of the prompt, cached ones included.
            output_tokens: of the answer; by default ``answer_tokens``.
            cached_tokens: how many of the prompt the provider reads from its cache.
        """
        out = self.answer_tokens if output_tokens is None else output_tokens
        cached_price = self.cached_usd_per_mtok
        if cached_price is None:
            cached_price = self.input_usd_per_mtok
        return 1e-6 * (
            (input_tokens - cached_tokens) * self.input_usd_per_mtok
            + cached_tokens * cached_price
            + out * self.output_usd_per_mtok
        )

    def _check_number(self, field: str, most: float) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidTypeError(
                f"candidate {self.name!r}: {field} must be a number, got {value!r}"
            )
        if not 0.0 <= value <= most or math.isinf(value):
            wanted = "0 or more" if math.isinf(most) else f"from 0 to {most:g}"
            raise InvalidInputError(
                f"candidate {self.name!r}: {field} must be {wanted}, got {value!r}"
            )


FIELDS = tuple(field.name for field in fields(Candidate))


def _words(name: str, field: str, value: object) -> frozenset[str]:
    if (
        isinstance(value, (str, bytes))
        or not isinstance(value, Collection)
        or not all(isinstance(word, str) and word for word in value)
    ):
        raise InvalidTypeError(
            f"candidate {name!r}: {field} must be a list of words, got {value!r}"
        )
    return frozenset(value)
