"""What answers show of themselves: features of the acceptance model.

Each signal is a number that can be computed before the strong model is asked. They describe the
first answer, which would be sent, and the helpers' answers beside it.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Sequence

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.evidence.answer import Answer
from fastroute.evidence.comparison import compare
from fastroute.evidence.extraction import declines, final_answer, final_quantity
from fastroute.evidence.kinds import Expectation
from fastroute.evidence.numbers import Quantity
from fastroute.evidence.structures import find_json, valid_arguments
from fastroute.types import Float64Array

#: Whether each of the cheap models, the weak one first, says the first answer's value: some models
#: are right more often than others. Of more models, the others are in "agreeing" alone.
AGREES = tuple(f"agrees_{place}" for place in range(1, 9))
#: The names of the signals, in the order of ``signals``.
SIGNALS = (
    "agreeing",  # share of the helpers whose value is the first answer's
    "united_against",  # share of the helpers in the largest other group
    "incomparable",
    "no_value",  # the answers can be compared, but the first has no value
    "cut",  # finish_reason "length", or an end in the middle of a sentence
    "refused",
    "malformed",  # JSON or arguments of tools were asked for and can't be read
    "unmarked",  # another answer marks its final value, this one doesn't
    "value_elsewhere",  # the first answer's value occurs inside a helper's disagreeing answer
    "fraction",  # the value is a number with more than two decimals
    "wrong_equations",  # log(1 + equations of the first answer that are false)
    "right_equations",  # log(1 + equations that hold)
    "helpers_wrong_equations",
    "log_characters",
    "helpers_log_characters",
    "prompt_log_characters",
    "prompt_log_numbers",
    "mean_logprob",
    "least_logprob",
    "without_logprobs",
    "prompt_win_rate",
    *AGREES,
)

_CHECKED_CHARACTERS = 10_000
_NUMBER = r"\$?\d[\d,]*(?:\.\d+)?%?"
_EQUATION = re.compile(
    rf"(?<![\d,.])((?:{_NUMBER}\s{{0,3}}[-+*/x\u00d7\u00f7]\s{{0,3}}){{1,12}}{_NUMBER})\s{{0,3}}="
    r"\s{0,3}\$?(\d[\d,]*(?:\.\d+)?)"
)
_ANNOTATION = re.compile(r"<<[^<>]*>>")
_DIGITS = re.compile(r"\d[\d,]*(?:\.\d+)?")
_ENDS = tuple(".!?}])`\"'*|:$\u3002\uff01\uff1f")
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def signals(
    prompt: str,
    answers: Sequence[Answer],
    expectation: Expectation | None = None,
    *,
    prompt_win_rate: float = 0.5,
    places: Sequence[int] | None = None,
) -> Float64Array:
    """The signals of one request, float64[len(SIGNALS)].

    Args:
        prompt: the text that was asked.
        answers: the answer that would be sent, then the helpers'.
        expectation: what the request asks for; by default told from the prompt.
        prompt_win_rate: the win rate that the prompt's router gives.
        places: of each answer's model among the cheap models, 0 for the weak one; by default
            ``answers`` are those of the first cheap models, in order.

    Raises InvalidInputError where there is no answer, or not one place for each.
    """
    if not answers:
        raise InvalidInputError("answers is empty; pass at least one")
    expectation = expectation or Expectation.from_prompt(prompt)
    places = range(len(answers)) if places is None else places
    if len(places) != len(answers):
        raise InvalidInputError(f"places has {len(places)} numbers for {len(answers)} answers")
    first, helpers = answers[0], answers[1:]
    comparison = compare(answers, expectation)
    same = {
        place
        for place, g in zip(places, comparison.groups, strict=True)
        if g == comparison.groups[0] >= 0
    }
    group, others = comparison.groups[0], comparison.groups[1:]
    against = [others.count(g) for g in set(others) - {group, -1}]
    right, wrong = _equations(first.text)
    logprobs = first.logprobs or ()
    marked = [final_answer(answer.text) is not None for answer in answers]
    quantity = final_quantity(first.text) if comparison.kind == "number" else None
    number_count = len(set(_DIGITS.findall(prompt[:_CHECKED_CHARACTERS])))
    found = {
        "agreeing": others.count(group) / len(helpers) if helpers and group >= 0 else 0.0,
        "united_against": max(against, default=0) / len(helpers) if helpers else 0.0,
        "incomparable": comparison.outcome == "incomparable",
        "no_value": comparison.outcome != "incomparable" and group < 0,
        "cut": _is_cut(first),
        "refused": first.refusal is not None or declines(first.text),
        "malformed": _is_malformed(first, comparison.kind),
        "unmarked": any(marked[1:]) and not marked[0],
        "value_elsewhere": _is_elsewhere(quantity, helpers, comparison.groups),
        "fraction": quantity is not None and abs(quantity.value - round(quantity.value, 2)) > 1e-9,
        "wrong_equations": math.log1p(wrong),
        "right_equations": math.log1p(right),
        "helpers_wrong_equations": _mean([math.log1p(_equations(h.text)[1]) for h in helpers]),
        "log_characters": math.log1p(len(first.text)),
        "helpers_log_characters": _mean([math.log1p(len(h.text)) for h in helpers]),
        "prompt_log_characters": math.log1p(len(prompt)),
        "prompt_log_numbers": math.log1p(number_count),
        "mean_logprob": _mean(logprobs),
        "least_logprob": max(min(logprobs, default=0.0), -20.0),
        "without_logprobs": not logprobs,
        "prompt_win_rate": prompt_win_rate,
        **{name: place in same for place, name in enumerate(AGREES)},
    }
    return np.array([float(found[name]) for name in SIGNALS])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _is_cut(answer: Answer) -> bool:
    if answer.finish_reason is not None:
        return answer.finish_reason == "length"
    last = answer.text.rstrip()
    return len(last) > 200 and not last.endswith(_ENDS) and not _DIGITS.search(last[-12:])


def _is_malformed(answer: Answer, kind: str | None) -> bool:
    if kind == "tool_calls":
        return not answer.tool_calls or not valid_arguments(answer.tool_calls)
    return kind == "json" and find_json(answer.text) is None


def _is_elsewhere(
    quantity: Quantity | None, helpers: Sequence[Answer], groups: Sequence[int]
) -> bool:
    if quantity is None:
        return False
    shown = f"{quantity.value:.10g}"
    return any(
        group != groups[0]
        and shown in {d.replace(",", "") for d in _DIGITS.findall(h.text[:_CHECKED_CHARACTERS])}
        for h, group in zip(helpers, groups[1:], strict=True)
    )


def _equations(text: str) -> tuple[int, int]:
    """How many equations between numbers in ``text`` hold, and how many don't."""
    right = wrong = 0
    for left, said in _EQUATION.findall(_ANNOTATION.sub("", text[:_CHECKED_CHARACTERS])):
        value = _evaluate(left)
        if value is not None:
            close = abs(value - float(said.replace(",", ""))) <= 0.011 * max(1.0, abs(value))
            right, wrong = right + close, wrong + (not close)
    return right, wrong


def _evaluate(expression: str) -> float | None:
    """The value of numbers joined by + - * /; None for a division by zero or too long a chain."""
    plain = re.sub(r"[$,\s]", "", expression).replace("%", "/100")
    plain = re.sub(r"[x\u00d7]", "*", plain).replace("\u00f7", "/")
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)  # Python knows no leading zeros
    if len(plain) > 200:
        return None
    try:
        return _value(ast.parse(plain, mode="eval").body)
    except (
        SyntaxError,
        ZeroDivisionError,
        OverflowError,
        RecursionError,
        SystemError,
    ):  # 3.11: ast.parse in threads
        return None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    assert isinstance(node, ast.Constant)
    return float(str(node.value))
