"""Which candidates can answer a request at all: decided before anything is scored.

The length of a prompt in tokens depends on the model's tokenizer. What is certain without one is a
bound: no byte-level tokenizer makes more tokens than a text has bytes. A candidate is eligible
where this bound fits its context window. Where it fits none, candidates are eligible whose window
fits the likely length; a count by the caller (``Needs.counted``) replaces both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from fastroute.candidates.candidate import ABILITIES, Candidate
from fastroute.errors import InvalidInputError, NoEligibleModelError

#: Bytes of a token in most languages and programs; tables of digits and base64 have fewer.
_LIKELY_BYTES = 2.5
_BIT = {ability: 1 << i for i, ability in enumerate(ABILITIES)}
_UNLIMITED = 2**62


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs of a model.

    Attributes:
        most_tokens: bound of the prompt's length in tokens, such as its length in bytes.
        likely_tokens: the expected length in tokens.
        abilities: those of ``ABILITIES`` that it asks for.
        max_output_tokens: the answer's limit that it sets; None where it sets none.
        allow: tags, of which a candidate must have one; empty where any candidate may answer.
        deny: tags, of which a candidate must have none.
        language: ISO 639-1 code of the prompt's language, which a candidate with ``languages`` must
            have; "" where it is not known.
        excluded: candidates that may not answer for another reason, and the reason.

    Raises InvalidInputError for an unknown ability or a negative length.
    """

    most_tokens: int = 0
    likely_tokens: float = 0.0
    abilities: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    excluded: Mapping[str, str] = field(default_factory=dict)
    language: str = ""

    def __post_init__(self) -> None:
        if self.abilities and not self.abilities <= _BIT.keys():
            unknown = sorted(self.abilities - _BIT.keys())
            raise InvalidInputError(
                f"abilities: unknown {', '.join(map(repr, unknown))}; they are "
                f"{', '.join(ABILITIES)}"
            )
        if self.most_tokens < 0 or self.likely_tokens < 0 or (self.max_output_tokens or 0) < 0:
            raise InvalidInputError(
                f"tokens must be 0 or more, got {self.most_tokens}, {self.likely_tokens} and "
                f"{self.max_output_tokens}"
            )

    @classmethod
    def of_text(cls, text: str) -> Needs:
        """The needs of a prompt alone."""
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        return cls.of_bytes(size)

    @classmethod
    def of_bytes(cls, size: int) -> Needs:
        """The needs of a prompt of ``size`` bytes in UTF-8."""
        return _of_bytes(size)

    def counted(self, tokens: int) -> Needs:
        """These needs with a counted length."""
        return replace(self, most_tokens=tokens, likely_tokens=float(tokens))

    def beyond(self, failed: Candidate) -> Needs:
        """These needs, now that the provider of ``failed`` says that the prompt is too long."""
        reason = "its provider says that the prompt is longer than its context window"
        window = failed.context_window or 0
        return replace(
            self,
            most_tokens=max(self.most_tokens, window),
            likely_tokens=max(self.likely_tokens, window),
            excluded={**self.excluded, failed.name: reason},
        )


@lru_cache(maxsize=4096)  # half a microsecond less; equal needs may be one object
def _of_bytes(size: int) -> Needs:
    return Needs(most_tokens=size, likely_tokens=size / _LIKELY_BYTES)


class Eligibility:
    """Finds the eligible ones among ``candidates``, in their order."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = tuple(candidates)
        self._rows = [
            (
                i,
                sum(_BIT[ability] for ability in candidate.abilities),
                candidate.context_window or _UNLIMITED,
                candidate.max_output_tokens or _UNLIMITED,
                candidate.tags,
            )
            for i, candidate in enumerate(self._candidates)
        ]
        self._all = list(range(len(self._rows)))
        #: Whether the language of a prompt can matter.
        self.asks_language = any(candidate.languages for candidate in self._candidates)
        self._least_window = min((row[2] for row in self._rows), default=_UNLIMITED)

    def needs_count(self, needs: Needs) -> bool:
        """Whether the bound alone does not show that every candidate has room."""
        return needs.most_tokens + (needs.max_output_tokens or 1) > self._least_window

    def find(self, needs: Needs) -> list[int]:
        """Indices of the eligible candidates; not to be changed.

        Raises NoEligibleModelError where there is none; its message names each model and why not.
        """
        if needs.most_tokens < self._least_window and not (
            needs.abilities
            or needs.max_output_tokens
            or needs.allow
            or needs.deny
            or needs.excluded
            or needs.language
        ):
            return self._all
        found = self._fitting(needs, needs.most_tokens)
        if not found and needs.likely_tokens < needs.most_tokens:
            found = self._fitting(needs, needs.likely_tokens)
        if found:
            return found
        reasons = {
            candidate.name: reason
            for candidate, reason in zip(self._candidates, self.reasons(needs), strict=True)
            if reason is not None
        }
        raise NoEligibleModelError(
            "no candidate can answer this request: "
            + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
            reasons=reasons,
        )

    def reasons(self, needs: Needs) -> list[str | None]:
        """Why each candidate is not eligible; None for one that is."""
        found = self._fitting(needs, needs.most_tokens)
        tokens: float = needs.most_tokens
        if not found and needs.likely_tokens < tokens:
            tokens = needs.likely_tokens
            found = self._fitting(needs, tokens)
        eligible = set(found)
        return [
            None if i in eligible else _reason(candidate, needs, tokens)
            for i, candidate in enumerate(self._candidates)
        ]

    def _fitting(self, needs: Needs, tokens: float) -> list[int]:
        asked = 0
        for ability in needs.abilities:
            asked |= _BIT[ability]
        output = needs.max_output_tokens or 1
        room = tokens + output
        allow, deny, excluded = needs.allow, needs.deny, needs.excluded
        found = [
            i
            for i, abilities, window, most, _ in self._rows
            if asked & abilities == asked and room <= window and output <= most
        ]
        if excluded:
            found = [i for i in found if self._candidates[i].name not in excluded]
        if needs.language and self.asks_language:
            spoken = [candidate.languages for candidate in self._candidates]
            found = [i for i in found if not spoken[i] or needs.language in spoken[i]]
        if allow or deny:
            return [
                i
                for i in found
                if not (allow and allow.isdisjoint(self._rows[i][4]))
                and deny.isdisjoint(self._rows[i][4])
            ]
        return found


def _reason(candidate: Candidate, needs: Needs, tokens: float) -> str:
    """Every reason why ``candidate`` is not eligible."""
    said = []
    missing = sorted(needs.abilities - candidate.abilities)
    if missing:
        said.append(f"lacks {', '.join(missing)}")
    output = needs.max_output_tokens or 1
    if candidate.context_window is not None and tokens + output > candidate.context_window:
        answer = f" and {output:,} of the answer" if needs.max_output_tokens else ""
        said.append(
            f"context window of {candidate.context_window:,} tokens, where the prompt may have "
            f"{int(tokens):,}{answer}"
        )
    if candidate.max_output_tokens is not None and output > candidate.max_output_tokens:
        said.append(
            f"answers of at most {candidate.max_output_tokens:,} tokens, where {output:,} are "
            "asked for"
        )
    if needs.allow and needs.allow.isdisjoint(candidate.tags):
        said.append(f"has none of the allowed tags {', '.join(sorted(needs.allow))}")
    denied = sorted(needs.deny & candidate.tags)
    if denied:
        said.append(f"has the denied tag {', '.join(denied)}")
    if needs.language and candidate.languages and needs.language not in candidate.languages:
        said.append(f"does not list the language {needs.language}")
    if candidate.name in needs.excluded:
        said.append(needs.excluded[candidate.name])
    return ", ".join(said)
