"""Rules that allow or deny candidates by who asks, by header, by path, or by system prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

from fastroute.candidates.candidate import Candidate
from fastroute.errors import InvalidInputError, InvalidTypeError

#: Of a longer system prompt no more is compared.
MOST_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Which candidates may answer the requests that it applies to.

    It applies where every condition that it has is met; of a list, by one entry. In a pattern ``*``
    stands for any text, and case makes no difference.

    Attributes:
        keys: patterns of the caller's name.
        headers: patterns of header values, by the header's name.
        paths: patterns of the path, such as "/messages*".
        system_prompts: patterns of the system prompt, such as "*confidential*".
        allow: names or tags, of which a candidate must have one; empty where any may answer.
        deny: names or tags, of which it must have none.

    Raises InvalidInputError, InvalidTypeError for a value that can't be used.
    """

    keys: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    paths: Sequence[str] = ()
    system_prompts: Sequence[str] = ()
    allow: Sequence[str] = ()
    deny: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("keys", "paths", "system_prompts", "allow", "deny"):
            _check_words(name, getattr(self, name))
        if not isinstance(self.headers, Mapping):
            raise InvalidTypeError(f"headers must be a table of patterns, got {self.headers!r}")
        _check_words("headers", [*self.headers, *self.headers.values()])
        if not (self.allow or self.deny):
            raise InvalidInputError("a rule needs allow or deny: names or tags of candidates")


@dataclass(frozen=True, slots=True)
class Asked:
    """What rules know of a request; empty where it is not known.

    Attributes:
        key: the caller's name.
        headers: values by name in lower case.
        path: of the API, such as "/chat/completions".
        system_prompt: its text.
    """

    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    system_prompt: str = ""


class Rules:
    """What several rules, all of which hold, leave of ``candidates``.

    Raises InvalidInputError for a word in ``allow`` or ``deny`` that no candidate has as its name
    or as a tag.
    """

    def __init__(self, rules: Sequence[Rule], candidates: Sequence[Candidate]) -> None:
        known = {word for c in candidates for word in (c.name, *c.tags)}
        self._rules: list[tuple[_Conditions, dict[str, str]]] = []
        for number, rule in enumerate(rules, 1):
            unknown = sorted({*rule.allow, *rule.deny} - known)
            if unknown:
                raise InvalidInputError(
                    f"rule {number}: no candidate has the name or tag {unknown[0]!r}; they are "
                    f"{', '.join(sorted(known))}"
                )
            self._rules.append((_Conditions(rule), _refused(number, rule, candidates)))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def excluded(self, asked: Asked) -> dict[str, str]:
        """The candidates that may not answer, and why not."""
        found: dict[str, str] = {}
        for conditions, refused in self._rules:
            if conditions.are_met(asked):
                for name, reason in refused.items():
                    found[name] = f"{found[name]}, {reason}" if name in found else reason
        return found


class _Conditions:
    def __init__(self, rule: Rule) -> None:
        self._lists = [
            (name, [_compiled(pattern) for pattern in patterns])
            for name, patterns in (
                ("key", rule.keys),
                ("path", rule.paths),
                ("system_prompt", rule.system_prompts),
            )
            if patterns
        ]
        self._headers = [(name.lower(), _compiled(p)) for name, p in rule.headers.items()]

    def are_met(self, asked: Asked) -> bool:
        return all(
            any(pattern.match(getattr(asked, name)[:MOST_CHARACTERS]) for pattern in patterns)
            for name, patterns in self._lists
        ) and all(
            name in asked.headers and pattern.match(asked.headers[name])
            for name, pattern in self._headers
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    # Only the asterisk is special.
    return re.compile(translate(re.sub(r"[\[?]", r"[\g<0>]", pattern)), re.IGNORECASE)


def _refused(number: int, rule: Rule, candidates: Sequence[Candidate]) -> dict[str, str]:
    found: dict[str, str] = {}
    for candidate in candidates:
        words = {candidate.name, *candidate.tags}
        denied = sorted(words & set(rule.deny))
        if rule.allow and words.isdisjoint(rule.allow):
            found[candidate.name] = f"rule {number} allows only {', '.join(rule.allow)}"
        elif denied:
            found[candidate.name] = f"rule {number} denies {', '.join(denied)}"
    return found


def _check_words(name: str, value: object) -> None:
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(word, str) and word for word in value)
    ):
        raise InvalidTypeError(f"{name} of a rule must be a list of texts, got {value!r}")
