"""Which model answered a conversation last."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastroute.candidates import ConversationMemory, LastAnswer
from fastroute.candidates.memory import (
    AnswerReader,
    beginning_of,
    call_names,
    conversation_name,
    has_answer,
    last_answer,
    result_ids,
)

USER = {"role": "user", "content": "Hello"}
OPENAI = {"choices": [{"message": {"role": "assistant", "tool_calls": [
    {"id": "call_aaaaaaaa", "type": "function", "function": {"name": "f", "arguments":
     '{"id": "not_this_one"}'}}, {"id": "call_bbbbbbbb", "type": "function"}]}}]}  # fmt: skip
ANTHROPIC = {"content": [{"type": "text", "text": '"id": "not_this_one"'},
                         {"type": "tool_use", "id": "toolu_cccccccc", "name": "f"}]}  # fmt: skip
RESPONSES = {"output": [{"type": "function_call", "id": "fc_00000000", "call_id": "call_dddddddd"}]}


def note(answer: dict[str, Any], size: int = 10**9) -> ConversationMemory:
    memory = ConversationMemory()
    reader = AnswerReader(memory, "gpt", b"name", "me")
    raw = json.dumps(answer).encode()
    for at in range(0, len(raw), size):
        reader.feed(raw[at : at + size])
    return memory


@pytest.mark.parametrize("size", [1, 7, 10**9])
@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        (OPENAI, ["call_aaaaaaaa", "call_bbbbbbbb"]),
        (ANTHROPIC, ["toolu_cccccccc"]),
        (RESPONSES, ["call_dddddddd"]),
    ],
)
def test_the_calls_of_an_answer_name_its_conversation(
    answer: dict[str, Any], ids: list[str], size: int
) -> None:
    memory = note(answer, size)
    for i in ids:
        assert memory.find(call_names([i], "me")) == LastAnswer("gpt")
        assert memory.find(call_names([i], "another caller")) is None
    assert memory.find(call_names(["not_this_one"], "me")) is None
    assert memory.find([b"name"]) == LastAnswer("gpt")


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 12}}, 12),
        ({"cache_read_input_tokens": 5, "cache_creation_input_tokens": 7}, 12),
        ({"input_tokens_details": {"cached_tokens": 0}}, 0),
        ({"cached_tokens": "12"}, 0),
    ],
)
def test_cached_tokens_are_those_that_the_provider_reports(usage: Any, cached: int) -> None:
    assert note({"usage": usage}, 9).find([b"name"]) == LastAnswer("gpt", cached)


def test_the_results_of_calls_name_the_conversation_again() -> None:
    memory = note(OPENAI)
    results: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": "call_bbbbbbbb", "content": "3"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_bbbbbbbb"}]},
        {"type": "function_call_output", "call_id": "call_bbbbbbbb", "output": "3"},
    ]
    for result in results:
        assert result_ids([USER, result]) == ["call_bbbbbbbb"]
        history = [{"role": "assistant", "content": "x"}, result]
        assert last_answer(memory, history, b"unknown", "me").model == "gpt"
        assert last_answer(memory, history, None, "me").model == "gpt"
        assert last_answer(memory, history, None, "you").model == ""
    assert call_names(["0", "call_0"]) == []  # every conversation has such a call


def test_a_conversation_without_an_answer_has_no_model() -> None:
    memory = note(OPENAI)
    assert last_answer(memory, [USER], b"name").model == ""
    assert last_answer(memory, [USER, {"role": "assistant"}, USER], b"name").model == "gpt"
    assert not has_answer([USER, {"type": "message", "role": "user"}])
    assert has_answer([USER, {"type": "reasoning"}])


def test_a_conversation_is_named_by_its_beginning() -> None:
    system = {"role": "system", "content": "Be brief."}
    later = [system, USER, {"role": "assistant"}, USER]
    assert list(beginning_of(later)) == [system, USER]
    assert beginning_of([system]) == ()
    marked = {**USER, "cache_control": {"type": "ephemeral"}}
    assert conversation_name([marked]) == conversation_name([USER])
    assert conversation_name("a", [USER]) != conversation_name("b", [USER])
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert conversation_name(deep) is None


def test_memory_is_bounded_and_forgets() -> None:
    now = [0.0]
    memory = ConversationMemory(2, ttl_s=10.0, clock=lambda: now[0])
    memory.remember([b"a", b"b"], LastAnswer("x"))
    memory.remember([b"c"], LastAnswer("y", 3))
    assert len(memory) == 2
    assert memory.find([b"a"]) is None
    assert memory.find([b"a", b"b"]) == LastAnswer("x")
    now[0] = 10.5
    assert memory.find([b"b", b"c"]) is None
    assert len(memory) == 0
