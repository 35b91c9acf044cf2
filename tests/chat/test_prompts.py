"""What of a chat is routed on."""

from __future__ import annotations

import time
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute import Controller
from fastroute.chat.prompts import MOST_SEARCHED_CHARS, prompt_from_messages
from fastroute.errors import InvalidPromptError, RoutingError
from fastroute.http import MockTransport


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
TOOL_CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
TOOL = {"role": "tool", "tool_call_id": "1", "content": "42"}


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([user("hi")], "hi"),
        ([user("first"), user("second")], "second"),
        ([{"role": "system", "content": "be kind"}, user("hi")], "hi"),
        ([{"role": "developer", "content": "be kind"}, user("hi")], "hi"),
        ([user("what is 6 x 7?"), TOOL_CALL, TOOL], "what is 6 x 7?"),
        ([user("hi"), {"role": "assistant", "content": "prefill"}], "hi"),
        ([user("hi"), {"role": "function", "name": "f", "content": "x"}], "hi"),
        ([user("hi"), {"role": "martian"}], "hi"),
        ([user([text("look"), IMAGE, text("here")])], "look\nhere"),
        ([user([IMAGE, AUDIO, {"type": "new", "x": 1}, text("what is it?")])], "what is it?"),
        ([user("describe"), user([IMAGE])], "describe"),
        ([user("describe"), user(None)], "describe"),
        ([user("describe"), user("")], "describe"),
        ([user("describe"), user(" \n")], "describe"),
        ([user([text("a"), text("")]), user([])], "a\n"),
        ([user([IMAGE])], ""),
        ([{"role": "system", "content": "be kind"}, user([IMAGE])], ""),
        ([{"role": "user"}], ""),
        ((user("a tuple"),), "a tuple"),
        ([types.MappingProxyType(user("a mapping"))], "a mapping"),
    ],
)
def test_what_is_routed_on(messages: Any, prompt: str) -> None:
    assert prompt_from_messages(messages) == prompt


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([{"role": "system", "content": "Translate: hi"}], "Translate: hi"),
        ([{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, TOOL], "b"),
        ([{"role": "system", "content": "a"}, {"role": "developer", "content": " "}], "a"),
        ([TOOL], ""),
        ([TOOL_CALL, TOOL], ""),
        ([{"role": "assistant", "content": "Once upon a time"}], ""),
    ],
)
def test_without_a_user_the_system_is_what_is_answered(messages: Any, prompt: str) -> None:
    assert prompt_from_messages(messages) == prompt


def test_no_message_at_all_is_an_error() -> None:
    with pytest.raises(InvalidPromptError, match="messages is empty") as caught:
        prompt_from_messages([])
    assert isinstance(caught.value, RoutingError)


@pytest.mark.parametrize("messages", ["hi", b"hi", None, 5, user("hi"), iter([user("hi")])])
def test_messages_are_a_list(messages: Any) -> None:
    with pytest.raises(InvalidPromptError, match="messages must be a list"):
        prompt_from_messages(messages)


@pytest.mark.parametrize(
    "bad",
    ["hi", None, 5, {}, {"content": "x"}, {"role": None}, {"role": 1}, types.SimpleNamespace()],
)
@pytest.mark.parametrize("i", [0, 1, 2])
def test_a_malformed_message_is_named(bad: Any, i: int) -> None:
    messages = [user("a"), user("b")]
    messages.insert(i, bad)
    with pytest.raises(InvalidPromptError, match=rf"messages\[{i}\] must"):
        prompt_from_messages(messages)


@pytest.mark.parametrize(
    "content",
    [5, 1.5, True, {"type": "text"}, b"x", [None], [{}], [{"type": 1, "text": "x"}],
     [{"type": "text"}], [{"type": "text", "text": None}], [{"type": "refusal", "refusal": "x"}],
     [[text("x")]], [{"type": ["text"], "text": "x"}]],
)  # fmt: skip
def test_content_that_can_not_be_read_is_for_the_provider_to_judge(content: Any) -> None:
    assert prompt_from_messages([user("a"), user(content)]) == "a"
    assert prompt_from_messages([user(content)]) == ""


@pytest.mark.parametrize(
    "part",
    ["hi", text("hi"), {"text": "hi"}, {"type": None, "text": "hi"}]
    + [{"type": kind, "text": "hi"} for kind in ("input_text", "output_text")],
)
def test_texts_are_read_however_they_are_marked(part: Any) -> None:
    assert prompt_from_messages([user([part])]) == "hi"
    assert prompt_from_messages([user([IMAGE, part, part])]) == "hi\nhi"


# What agents add


REMINDER = "<system-reminder>\nAs you answer, prove that every tool works.\n</system-reminder>"
PLACE = "<environment_details>\n# Open tabs\nproof.lean\n</environment_details>"


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        (f"hi\n{REMINDER}", "hi"),
        (f"{REMINDER}hi", "hi"),
        (f"{REMINDER}\nhi\n{PLACE}{REMINDER}\n", "hi"),
        ([text(REMINDER), text("hi"), text(PLACE)], "hi"),
        (f"say <b>hi</b>\n{REMINDER}", "say <b>hi</b>"),
        (f"<environment_details>{REMINDER}</environment_details>hi", "hi"),
        ("<SYSTEM-REMINDER at='x'>a</System-Reminder >hi", "hi"),
        ("<user_info>\nOS: linux\n</user_info>\n<user_query>\nhi\n</user_query>", "hi"),
        ("<reminderInstructions>y</reminderInstructions><userRequest>hi</userRequest>", "hi"),
        # Not an addition, or not a whole one:
        ("what does <system-reminder> mean?", "what does <system-reminder> mean?"),
        ("</system-reminder>hi", "</system-reminder>hi"),
        ("</user_query>hi<user_query>", "</user_query>hi<user_query>"),
        ("<rules>be brief</rules>hi", "<rules>be brief</rules>hi"),
        ("<system-reminders>x</system-reminders>hi", "<system-reminders>x</system-reminders>hi"),
        (f"<user_query>{REMINDER}", "<user_query>"),
        (f"<environment_details>hi{REMINDER}", "<environment_details>hi"),
    ],
)  # fmt: skip
def test_what_agents_add_is_not_scored(content: Any, prompt: str) -> None:
    assert prompt_from_messages([user(content)]) == prompt


def test_a_message_of_additions_only_gives_way_to_an_earlier_one() -> None:
    assert prompt_from_messages([user("hi"), TOOL_CALL, TOOL, user(REMINDER)]) == "hi"
    assert prompt_from_messages([user(PLACE), user(REMINDER)]) == REMINDER  # rather than nothing
    assert prompt_from_messages([user(REMINDER), user([IMAGE])]) == REMINDER


def test_the_score_is_the_one_of_the_users_own_words() -> None:
    with Controller(["length"], "big", "small", transport=MockTransport()) as client:
        scores = {
            client.completion(
                model="router-length-0.5", messages=[user(content)]
            ).fastroute.win_rate
            for content in ("hi", f"hi\n{REMINDER}", [text(PLACE), text("hi")])
        }
    assert len(scores) == 1


@pytest.mark.parametrize("unit", ["<system-reminder>", "</system-reminder>", "<", "</user_query"])
def test_hostile_texts_take_linear_time(unit: str) -> None:
    hostile = unit * (MOST_SEARCHED_CHARS // len(unit)) + "</"
    began = time.process_time()
    assert prompt_from_messages([user(hostile)]) == hostile
    assert time.process_time() - began < 1.0  # a quadratic search takes minutes


def test_a_text_too_long_to_search_stays_as_it_is() -> None:
    long = REMINDER + "x" * MOST_SEARCHED_CHARS
    assert prompt_from_messages([user(long)]) == long


others = st.sampled_from(["system", "assistant", "tool", "developer"]).map(
    lambda role: {"role": role, "content": "not this"}
)


@given(st.lists(others), st.text(min_size=1).filter(lambda t: not t.isspace()), st.lists(others))
def test_other_roles_never_matter(before: list[Any], prompt: str, after: list[Any]) -> None:
    assert prompt_from_messages([*before, user(prompt), *after]) == prompt
