"""Whether answers agree, where that can be determined."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fastroute.errors import InvalidInputError
from fastroute.evidence.answer import Answer
from fastroute.evidence.extraction import (
    choice_letter,
    code_of,
    declines,
    final_answer,
    final_quantity,
    label_of,
    normalize,
    yes_or_no,
)
from fastroute.evidence.kinds import Expectation, Kind
from fastroute.evidence.numbers import UNITS, Quantity, read_quantity, same_quantity
from fastroute.evidence.structures import find_json, read_literal, same_calls, same_value

Outcome = Literal["agree", "disagree", "incomparable"]

#: Answers up to this many characters are compared as short texts where no kind is known.
SHORT_TEXT_CHARACTERS = 100

_NUMBER_FIRST = re.compile(
    r"[\s*`\\$\u20ac\u00a3\u00a5.<>~\u2212\u2013-]*\d|[a-z]+\W*$", re.IGNORECASE
)

_CODE_NUMBER = re.compile(r"['\"`\s]*0\d+['\"`\s.]*$")  # such as 0019, which is not 19

Same = Callable[[object, object], bool]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How answers to one request compare.

    Attributes:
        outcome: "agree" where a quorum has equal values, "disagree" where it has not, and
            "incomparable" where there are no values to compare.
        kind: what was compared; None where nothing was.
        groups: for each answer the number of its group of equal values, counted from 0 in order of
            first appearance; -1 for an answer without a value.
        accepted: the index of the first answer of the largest group; None unless they agree.
    """

    outcome: Outcome
    kind: Kind | None
    groups: tuple[int, ...]
    accepted: int | None

    @property
    def majority(self) -> int:
        """The index of the first answer of the largest group; 0 where no answer has a value."""
        sizes = [self.groups.count(group) if group >= 0 else 0 for group in self.groups]
        return sizes.index(max(sizes))

    @property
    def votes(self) -> int:
        """The size of the largest group."""
        return max((self.groups.count(group) for group in set(self.groups) - {-1}), default=0)


def compare(
    answers: Sequence[Answer], expectation: Expectation | None = None, *, quorum: int = 2
) -> Comparison:
    """Compare the answers of several models to one request.

    An answer that was truncated or refused has no value. Essays, and whatever else has no value
    that can be compared, are "incomparable": the similarity of two free texts says nothing about
    whether they are right.

    Args:
        answers: at least one; with fewer than ``quorum`` they can't agree yet.
        expectation: what the request asks for; by default the answers decide.
        quorum: how many answers must have equal values.

    Raises:
        InvalidInputError: no answers, or a quorum below 1.
    """
    if not answers:
        raise InvalidInputError("answers is empty; pass at least one")
    if quorum < 1:
        raise InvalidInputError(f"quorum must be at least 1, got {quorum}")
    expectation = expectation or Expectation()
    kind = kind_of(answers, expectation)
    if kind is None and expectation.extract is None:
        return Comparison("incomparable", None, (-1,) * len(answers), None)
    values, same = _values(answers, kind, expectation)
    groups: list[int] = []
    firsts: list[object] = []
    for value in values:
        if value is None:
            groups.append(-1)
            continue
        number = next((g for g, first in enumerate(firsts) if same(first, value)), len(firsts))
        if number == len(firsts):
            firsts.append(value)
        groups.append(number)
    if not firsts:
        return Comparison("incomparable", kind, tuple(groups), None)
    largest = max(range(len(firsts)), key=groups.count)
    agreed = groups.count(largest) >= quorum
    return Comparison(
        "agree" if agreed else "disagree",
        kind,
        tuple(groups),
        groups.index(largest) if agreed else None,
    )


def kind_of(answers: Sequence[Answer], expectation: Expectation) -> Kind | None:
    """The kind that is compared: the expected one, or what the answers themselves show."""
    if any(answer.tool_calls for answer in answers):
        return "tool_calls"
    if expectation.kind is not None:
        return expectation.kind
    texts = [answer.text for answer in answers if answer.text.strip()]
    if not texts or expectation.extract is not None:
        return None
    marked = [final_answer(text) for text in texts]
    if any(mark is not None for mark in marked):
        numbers = [read_quantity(mark) for mark in marked if mark is not None]
        literals = [read_literal(mark) for mark in marked if mark is not None]
        if any(isinstance(literal, (list, tuple, dict, set)) for literal in literals):
            return "text"
        is_number = None not in numbers and not any(
            _CODE_NUMBER.match(mark or "") for mark in marked
        )
        return "number" if is_number else "text"
    if all(len(text) <= SHORT_TEXT_CHARACTERS for text in texts):
        return "text"
    if all(isinstance(find_json(text), (dict, list)) for text in texts):
        return "json"
    return None


def _values(
    answers: Sequence[Answer], kind: Kind | None, expectation: Expectation
) -> tuple[list[object], Same]:
    """What each answer is compared by, None for nothing, and when two of them are the same."""
    if kind == "tool_calls":
        return [answer.tool_calls or None for answer in answers], _same_calls
    read, same = _READERS.get(kind or "text", (None, same_value))
    if expectation.extract is not None:
        read, same = expectation.extract, same_value
    elif read is None:
        read = partial(label_of, labels=expectation.labels)
    return [_read(answer, read) for answer in answers], same


def _read(answer: Answer, read: Callable[[str], object]) -> object:
    cut = answer.finish_reason in ("length", "content_filter")
    refused = answer.refusal or declines(answer.text)
    return None if cut or refused or not answer.text.strip() else read(answer.text)


def _same_calls(a: object, b: object) -> bool:
    return same_calls(a, b)  # type: ignore[arg-type]  # values of kind "tool_calls" are these


def _short_text(text: str) -> object:
    """A literal's value, a number, or the words of a short answer."""
    said = final_answer(text)
    if said is None:
        said = text if len(text) <= SHORT_TEXT_CHARACTERS else None
    if said is None:
        return None
    if _NUMBER_FIRST.match(said) and not _CODE_NUMBER.match(said):
        quantity = read_quantity(said)
        if quantity is not None and len(normalize(said.replace(",", "")).split()) <= 3:
            return quantity
    literal = read_literal(said)
    return said if literal is None else literal


def _same_text(a: object, b: object) -> bool:
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        named = a.unit and b.unit and not {a.unit, b.unit} & UNITS.keys()
        return same_quantity(a, b) and (a.unit == b.unit or not named)
    if isinstance(a, str) and isinstance(b, str):
        return _bare(a) == _bare(b) or (normalize(a) != "" and normalize(a) == normalize(b))
    return same_value(a, b)


def _bare(text: str) -> str:
    """``text`` in one case, without white space but that between words, quotes around it and a
    full stop at its end."""
    apart = re.sub(r"(?<!\w)\s+|\s+(?!\w)", "", text.casefold().strip())
    return " ".join(apart.split()).strip("'\"`").rstrip(".")


def _same_number(a: object, b: object) -> bool:
    return isinstance(a, Quantity) and isinstance(b, Quantity) and same_quantity(a, b)


_READERS: dict[Kind, tuple[Callable[[str], object] | None, Same]] = {
    "number": (final_quantity, _same_number),
    "choice": (choice_letter, same_value),
    "yes_no": (yes_or_no, same_value),
    "json": (find_json, same_value),
    "code": (code_of, same_value),
    "text": (_short_text, _same_text),
}
