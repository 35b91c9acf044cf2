"""Whether answers agree: each kind, what cannot be compared, quorums, hostile texts."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evidence import Answer, Expectation, ToolCall, compare
from fastroute.evidence.kinds import KINDS
from fastroute.evidence.signals import signals

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
        ("", "{\"answer\": \"'00019'\"}", '{"answer": "0019"}', "disagree"),
        ("", '{"answer": "0019"}', '{"answer": "19"}', "disagree"),
        ("", "{\"answer\": \"'0019'\"}", '{"answer": "0019"}', "agree"),
        ("", '{"answer": "0.50"}', '{"answer": "0.5"}', "agree"),
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
    ("prompt", "a", "b"),
    [
        ("How many?", "The problem is inconsistent. The answer is: Cannot be determined, 3 ways",
         "The answer is 3."),
        ("How many?", "I cannot tell from the 3 facts given.", "3"),
        ("How many?", "So 7 apples are left. (See step 3)", "So 5 - 2 = 3 apples are left."),
        ("How many?", "Steps:\n1. Start.\n2. Add.\n3. Done.", "She has 3."),
        ("How many?", "It starts at 2:00 pm.", "It starts at 2:30 pm."),
        ("Answer with a letter.", "A triangle has three sides, so it is C", "A"),
        ("Answer with a letter.", "The answer is a matter of taste", "A"),
        ("Answer with a letter.", "The answer is A or B", "A"),
        ("Answer with a letter.", "A and C", "A"),
        ("Answer with a letter.", "A, B and D", "A"),
        ("Answer with a letter.", "The answer is not (A)", "The answer is (A)"),
        ("Answer with a letter.", "Option A is incorrect.", "A"),
        ("Answer with a letter.", "B is incorrect, so C.", "B"),
        ("Answer with a letter.", "I would say B", "I"),
        ("Answer yes or no.", "It is not true.", "True"),
        ("Answer yes or no.", "That's not correct.", "Correct."),
        ("Answer yes or no.", "There is no doubt that it is.", "No"),
        ("Answer yes or no.", "No doubt about it.", "No."),
        ("Answer yes or no.", "I have no idea", "No"),
        ("Answer yes or no.", "Yes and no", "Yes"),
        ("Answer yes or no.", "No problem! Yes.", "No."),
        ("Classify the number.", "1", "-1"),
        ("Classify the number.", "3.5", "3 5"),
        ("Write a function.", "```js\nu = 'http://a.com/x'\n```", "```js\nu = 'http://b.com'\n```"),
        ("Write a function.", "```js\ns = 'a  b'\n```", "```js\ns = 'a b'\n```"),
        ("Write a function.", "```c\n#define X 1\nint x;\n```", "```c\n#define X 2\nint x;\n```"),
        ("Write a function.", "```c\ni--; return i*2;\n```", "```c\ni--; return i*3;\n```"),
        ("Write a script.", "```sh\ngit push --force\n```", "```sh\ngit push --dry-run\n```"),
        ("Write a query.", "```sql\nWHERE c = ' # a'\n```", "```sql\nWHERE c = ' # b'\n```"),
        ("Write a function.", "```python\n'a'\n```", "```python\n'b'\n```"),
        ("Write a function.", "```python\n# one\n```", "```python\n# two\n```"),
        ("Write a function.", "```py\nif a:\n  b(\n  c\n```", "```py\nif a:\n  b(\nc\n```"),
        ("", "a*b", "a/b"),
        ("", "f(x)", "f[x]"),
        ("", "I don't know", "I don't know."),
        ("", "I'm sorry, I can't help with that.", "I'm sorry, I can't help with that."),
        ("", "5 apples", "5 oranges"),
        ("", "Apollo 11", "Gemini 11"),
        ("", "H2O", "CO2"),
        ("", "2x", "2y"),
        ("", "x^2", "x^3"),
        ("", "5 May", "5 June"),
        ("", "< 5", "> 5"),
        ("", "3!", "3"),
        ("", "3 of 5", "3"),
        ("", '{"answer": "\'a b\'"}', '{"answer": "\'ab\'"}'),
    ],
)  # fmt: skip
def test_answers_that_only_look_alike_do_not_agree(prompt: str, a: str, b: str) -> None:
    assert outcome(a, b, prompt=prompt) != "agree"
    assert outcome(b, a, prompt=prompt) != "agree"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("4000000000001", "4000000000002", False),
        ("1" * 400, "1.5", False),
        ("1e400", "2e400", False),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000, False),
        ("0.1", "0.10000000000000001", True),
    ],
)
def test_numbers_of_json_and_deep_values(a: str, b: str, same: bool) -> None:
    calls = [Answer("", (ToolCall("f", f'{{"a": {value}}}'),)) for value in (a, b)]
    assert (compare(calls).outcome == "agree") is same


def test_a_question_about_a_multiple_choice_test_asks_for_a_number() -> None:
    prompt = "A multiple-choice question gives 2 points. How many points are 4?"
    assert outcome("#### 8", "The answer is 8.", prompt=prompt) == "agree"


def test_odd_code_gives_no_warning() -> None:
    """Warnings are errors here, and Python warns of 1if and of unknown escapes."""
    odd = "```python\nx = 1if y else '\\d'\n```"
    assert outcome(odd, odd, prompt="Write a function.") == "agree"
    assert outcome("The answer is [1if x else 2]", "The answer is ['\\d']") == "disagree"


def test_a_long_sum_is_compared() -> None:
    code = "```python\nx = " + "1 + " * 2000 + "1\n```"
    assert outcome(code, code, prompt="Write a function.") == "agree"


MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    "text",
    ["[", "{", '{"a":', "1/", "9", "\\boxed{", "```", "#### ", "answer is ", "1 ", "1+1=2 ", "1:",
     "$", "(1)/(", "=", "\\frac{", "\n", " ", "a ", "yes ", '"', "\\", "(A)", "step ", "1 x "],
)  # fmt: skip
@pytest.mark.parametrize("length", [MEGABYTE, 9_000])
def test_hostile_texts_are_compared_in_time(text: str, length: int) -> None:
    """CPU time, because other processes may be busy; twice what the event loop is held up by."""
    repeated = text * (length // len(text))
    for body in (repeated, f"```js\n{repeated}\n```", f"The answer is {repeated}"):
        answers = [Answer(body), Answer(body)]
        for kind in (*KINDS, None):
            expectation = Expectation(kind)
            started = time.thread_time()
            compare(answers, expectation)
            assert time.thread_time() - started < 0.1, kind
            started = time.thread_time()
            signals("How many?", answers, expectation)
            assert time.thread_time() - started < 0.2, kind
        started = time.thread_time()
        Expectation.from_prompt(body)
        assert time.thread_time() - started < 0.1
