"""What of a chat is routed on."""

from __future__ import annotations

import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.chat.prompts import prompt_from_messages
from fastroute.errors import InvalidPromptError, RoutingError


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
    "messages", [[], [TOOL], [{"role": "system", "content": "x"}, TOOL_CALL, TOOL]]
)
def test_without_a_user_there_is_nothing_to_route_on(messages: Any) -> None:
    with pytest.raises(InvalidPromptError, match="no user message") as caught:
        prompt_from_messages(messages)
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
    [5, 1.5, True, {"type": "text"}, b"x", ["x"], [None], [{}], [{"type": 1}], [{"type": "text"}],
     [{"type": "text", "text": None}]],
)  # fmt: skip
def test_malformed_content_is_named(content: Any) -> None:
    with pytest.raises(InvalidPromptError, match=r"messages\[1\]: content"):
        prompt_from_messages([user("a"), user(content)])


others = st.sampled_from(["system", "assistant", "tool", "developer"]).map(
    lambda role: {"role": role, "content": "not this"}
)


@given(st.lists(others), st.text(min_size=1).filter(lambda t: not t.isspace()), st.lists(others))
def test_other_roles_never_matter(before: list[Any], prompt: str, after: list[Any]) -> None:
    assert prompt_from_messages([*before, user(prompt), *after]) == prompt
