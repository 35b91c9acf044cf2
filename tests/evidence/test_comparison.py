"""Whether answers agree: each kind, what cannot be compared, quorums, hostile texts."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evidence import Answer, Expectation, ToolCall, compare

ESSAY = "The sea was calm. " * 30
OTHER_ESSAY = "Rivers shape the land over thousands of years. " * 30


def outcome(*texts: str, prompt: str = "", quorum: int = 2) -> str:
    return compare(
        [Answer(text) for text in texts], Expectation.from_prompt(prompt), quorum=quorum
    ).outcome


@pytest.mark.parametrize(
    ("prompt", "a", "b", "expected"),
    [
        ("How many eggs?", "3 + 4 = 7, 16 - 7 = 9.\n#### 9", "She has in total 9 eggs.", "agree"),
        ("How many eggs?", "#### 9", "#### 10", "disagree"),
        ("How many people?", '{"answer": "130,000"}', "The total is 130000.", "agree"),
        ("What is the cost?", r"Therefore \boxed{\$1{,}250}", "The answer is $1,250.00.", "agree"),
        ("", "The answer is 42.", r"so we get \boxed{42}", "agree"),
        ("", "The answer is 42.", "The answer is 43.", "disagree"),
        ("Which? Answer with a letter.", "B", "The answer is (B) Paris.", "agree"),
        ("Which? Answer with a letter.", "**C**", "(B)", "disagree"),
        ("Pick.\nA. one\nB. two\nC. three", "B. two", "Answer: B", "agree"),
        ("Answer yes or no: is it?", "Yes, because it is.", "yes", "agree"),
        ("Answer yes or no: is it?", "No.", "Yes.", "disagree"),
        ("Classify the review.", "Positive", "positive.", "agree"),
        ("Classify the review.", "Positive", "negative", "disagree"),
        ("", "Paris", "paris.", "agree"),
        ("", "The Eiffel Tower", "Eiffel Tower", "agree"),
        ("", "Paris", "Rome", "disagree"),
        ("", '{"answer": "[(4, 1), (2, 3)]"}', '{"answer": "[(4,1),(2,3)]"}', "agree"),
        ("", '{"answer": "[(4, 1), (2, 3)]"}', '{"answer": "[(4, 1), (2, 2)]"}', "disagree"),
        ("", "{\"answer\": \"'abc'\"}", '{"answer": "abc"}', "agree"),
        (
            "Write a function.",
            "```python\ndef f(x):\n    '''Add.'''\n    return x+1  # one\n```",
            "Here:\n```python\ndef f(x):\n    return x + 1\n```",
            "agree",
        ),
        ("Write a function.", "```\nx = 1\n```", "```\nx = 2\n```", "disagree"),
        ("Write a query.", "```\nGET a -- b\nFROM t\n```", "```\nGET a FROM t\n```", "agree"),
        ("Describe the sea.", ESSAY, OTHER_ESSAY, "incomparable"),
        ("Describe the sea.", ESSAY, ESSAY, "incomparable"),
    ],
)  # fmt: skip
def test_kinds(prompt: str, a: str, b: str, expected: str) -> None:
    assert outcome(a, b, prompt=prompt) == expected
    assert outcome(b, a, prompt=prompt) == expected


def test_json_is_compared_deeply_and_without_the_order_of_keys() -> None:
    expectation = Expectation.from_request(
        {"response_format": {"type": "json_object"}, "messages": []}
    )
    a = Answer('{"name": "Ann", "tags": ["x", "y"], "age": 3}')
    b = Answer('```json\n{"age": 3.0, "tags": ["x", "y"],\n "name": "Ann "}\n```')
    assert compare([a, b], expectation).outcome == "agree"
    swapped = Answer('{"name": "Ann", "tags": ["y", "x"], "age": 3}')
    assert compare([a, swapped], expectation).outcome == "disagree"
    assert compare([a, Answer('{"name": "Ann"')], expectation).outcome == "disagree"
    truth = Answer('{"name": "Ann", "tags": ["x", "y"], "age": true}')
    assert compare([a, truth], expectation).outcome == "disagree"


def test_tool_calls_are_compared_by_function_and_arguments() -> None:
    def call(name: str, arguments: object) -> ToolCall:
        return ToolCall(name, json.dumps(arguments))

    a = Answer("", (call("weather", {"city": "Rome", "days": 2}), call("time", {})))
    b = Answer("Sure.", (ToolCall("time", ""), call("weather", {"days": 2, "city": "Rome"})))
    assert compare([a, b]).outcome == "agree"
    assert compare([a, b]).kind == "tool_calls"
    other = Answer("", (call("weather", {"city": "Oslo", "days": 2}), call("time", {})))
    assert compare([a, other]).outcome == "disagree"
    fewer = Answer("", (call("weather", {"city": "Rome", "days": 2}),))
    assert compare([a, fewer]).outcome == "disagree"
    broken = Answer("", (ToolCall("weather", "{"), call("time", {})))
    assert compare([broken, broken]).outcome == "disagree"
    assert compare([a, Answer("It is sunny.")]).outcome == "disagree"


def test_configured_values_come_before_every_kind() -> None:
    texts = [Answer("id=7 and more " + ESSAY), Answer(ESSAY + " id=7")]
    assert compare(texts, Expectation.from_regex(r"id=(\d+)")).outcome == "agree"
    assert compare(texts, Expectation.from_regex("sea")).outcome == "agree"
    assert compare(texts, Expectation.from_regex("nowhere")).outcome == "incomparable"
    both = [Answer('{"a": {"b": [1, 2]}, "c": 1}'), Answer('{"a": {"b": [1, 3]}, "c": 2}')]
    assert compare(both, Expectation.from_pointer("/a/b/0")).outcome == "agree"
    assert compare(both, Expectation.from_pointer("/a/b/1")).outcome == "disagree"
    assert compare(texts, Expectation(extract=len)).outcome == "disagree"
    labels = Expectation("label", labels=("spam", "not spam"))
    assert (
        compare([Answer("It is not spam"), Answer("This is spam.")], labels).outcome == "disagree"
    )
    assert compare([Answer("Not spam"), Answer("not spam.")], labels).outcome == "agree"


def test_quorum_groups_and_the_accepted_answer() -> None:
    answers = [Answer(f"#### {n}") for n in (5, 7, 9, 7, 7)]
    two = compare(answers)
    assert (two.outcome, two.groups, two.accepted, two.votes) == ("agree", (0, 1, 2, 1, 1), 1, 3)
    assert compare(answers, quorum=4).outcome == "disagree"
    assert compare(answers[:1], quorum=1).accepted == 0
    assert compare(answers[:1]).outcome == "disagree"


def test_an_answer_that_was_cut_or_refused_has_no_value() -> None:
    whole, cut = Answer("#### 5"), Answer("#### 5", finish_reason="length")
    refused = Answer("#### 5", refusal="I can't help")
    assert compare([whole, cut]).outcome == "disagree"
    assert compare([whole, refused]).groups == (0, -1)
    assert compare([cut, refused, Answer("")]).outcome == "incomparable"


def test_an_answer_is_read_from_a_choice() -> None:
    choice = {
        "finish_reason": "tool_calls",
        "message": {
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}, {}],
            "refusal": None,
        },
        "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -1.0}]},
    }
    read = Answer.from_choice(choice)
    assert read == Answer("a\nb", (ToolCall("f", '{"x": 1}'),), "tool_calls", None, (-0.5, -1.0))
    assert Answer.from_choice({"message": {"content": None}}) == Answer("")
    with pytest.raises(InvalidInputError, match="no message"):
        Answer.from_choice({})
    with pytest.raises(InvalidTypeError, match="dict"):
        Answer.from_choice("text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: compare([]), "answers is empty"),
        (lambda: compare([Answer("")], quorum=0), "quorum"),
        (lambda: Expectation("essay"), "kind must be one of"),  # type: ignore[arg-type]
        (lambda: Expectation.from_regex("("), "regular expression"),
        (lambda: Expectation.from_pointer("a/b"), "pointer"),
    ],
)
def test_bad_arguments(make: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()  # type: ignore[operator]


@given(st.lists(st.text(max_size=300), min_size=1, max_size=4), st.text(max_size=100))
def test_any_texts_compare_without_an_error_and_an_answer_agrees_with_itself(
    texts: list[str], prompt: str
) -> None:
    expectation = Expectation.from_prompt(prompt)
    answers = [Answer(text) for text in texts]
    assert len(compare(answers, expectation).groups) == len(texts)
    twice = compare([answers[0], answers[0]], expectation)
    assert twice.outcome == ("incomparable" if twice.groups[0] < 0 else "agree")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{" * 100_000, '{"a":' * 50_000, "1/" * 200_000, "9" * 200_000,
     "\\boxed{" * 50_000, "```" * 100_000, "#### " * 50_000, "answer is " * 50_000, "1 " * 200_000,
     "$" * 200_000, "(1)/(" * 50_000, "=" * 200_000, "\\frac{" * 50_000],
)  # fmt: skip
def test_hostile_texts_are_compared_in_time(text: str) -> None:
    for prompt in (
        "How many?",
        "Answer with a letter.",
        "Answer yes or no.",
        "Write a function.",
        "",
    ):
        started = time.perf_counter()
        outcome(text, text, prompt=prompt)
        assert time.perf_counter() - started < 3.0
