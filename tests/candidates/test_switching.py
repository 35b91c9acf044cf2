"""When a conversation may move to another model."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from fastroute.candidates import Candidate, Turn, without_reasoning
from fastroute.candidates.prices import Prices

MODELS = [
    Candidate("opus", 15.0, 75.0, 1.5, provider="anthropic"),
    Candidate("haiku", 1.0, 5.0, 0.1, provider="anthropic"),
    Candidate("gpt", 2.0, 8.0, provider="openai"),
]
USER = {"role": "user", "content": "And now?"}
DONE = {"role": "assistant", "content": "Done."}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "12 degrees"}
THEIR_CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f"}]}
THEIR_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}
SIGNED = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "text"}],
}
REDACTED = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
ITEM_CALL = {"type": "function_call", "call_id": "1", "name": "f"}
ITEM_RESULT = {"type": "function_call_output", "call_id": "1", "output": "12"}
ITEM_REASONING = {"type": "reasoning", "encrypted_content": "x", "summary": []}


@pytest.mark.parametrize(
    ("messages", "is_open"),
    [
        ([USER], False),
        ([USER, CALL], True),
        ([USER, CALL, RESULT], True),
        ([USER, CALL, RESULT, RESULT], True),
        ([USER, CALL, RESULT, {"role": "system", "content": "Be brief."}], True),
        ([USER, CALL, RESULT, DONE], False),
        ([USER, CALL, RESULT, DONE, USER], False),
        ([USER, {"role": "assistant", "function_call": {"name": "f"}}], True),
        ([USER, THEIR_CALL, THEIR_RESULT], True),
        ([USER, THEIR_CALL, THEIR_RESULT, DONE, USER], False),
        ([USER, ITEM_REASONING, ITEM_CALL], True),
        ([USER, ITEM_CALL, ITEM_RESULT], True),
        ([USER, ITEM_CALL, ITEM_RESULT, DONE], False),
        ([], False),
    ],
)
def test_a_tool_call_is_open_until_the_model_has_answered(
    messages: list[Mapping[str, Any]], is_open: bool
) -> None:
    turn = Turn.read(messages, "opus")
    assert turn.tool_call_open is is_open
    reasons = turn.lock_reasons(MODELS, drop_reasoning=True)
    assert reasons[0] is None
    wanted = "a tool call of opus is open" if is_open else None
    assert reasons[1] == reasons[2] == wanted


@pytest.mark.parametrize("message", [SIGNED, REDACTED, ITEM_REASONING,
                                     {**DONE, "thinking_blocks": [{"signature": "x"}]},
                                     {**DONE, "reasoning_details": [{"data": "x"}]}])  # fmt: skip
def test_signed_reasoning_keeps_the_provider(message: Mapping[str, Any]) -> None:
    messages = [USER, message, USER]
    turn = Turn.read(messages, "opus")
    assert turn.signed_reasoning
    assert turn.lock_reasons(MODELS) == [
        None, None, "the history holds signed reasoning of anthropic (opus)",
    ]  # fmt: skip
    assert turn.lock_reasons(MODELS, drop_reasoning=True) == [None, None, None]
    kept = without_reasoning(messages)
    assert not Turn.read(kept, "opus").signed_reasoning
    assert kept[0] == kept[-1] == USER
    assert messages == [USER, message, USER]  # the caller's is not changed


def test_plain_reasoning_locks_nothing() -> None:
    messages = [USER, {"type": "reasoning", "summary": []}, {**DONE, "reasoning": "Hm"}, USER]
    assert Turn.read(messages, "opus").lock_reasons(MODELS) == [None] * 3


def test_without_a_known_provider_signed_reasoning_keeps_the_model() -> None:
    turn = Turn.read([USER, SIGNED, USER], "one")
    assert turn.lock_reasons([Candidate("one"), Candidate("two")]) == [
        None, "the history holds signed reasoning of the provider (one)",
    ]  # fmt: skip


def test_the_first_turn_is_free() -> None:
    assert Turn.read([USER, CALL]).lock_reasons(MODELS) == [None] * 3


def test_a_switch_pays_for_the_lost_cache() -> None:
    prices = Prices(MODELS)
    away = prices.dollars(60_000, 0, cached_at="opus", cached_tokens=50_000)
    assert away == pytest.approx(
        [(10_000 * 15 + 50_000 * 1.5) / 1e6, 60_000 * 1.0 / 1e6, 60_000 * 2.0 / 1e6]
    )
    assert prices.dollars(60_000, 0) == pytest.approx([0.9, 0.06, 0.12])
    # A cache larger than the prompt, as after a cut history, is not paid back.
    cut = prices.dollars(100, 0, cached_at="opus", cached_tokens=10**9)
    assert cut[0] == pytest.approx(100 * 1.5e-6)
    no_price = prices.dollars(100, 0, cached_at="gpt", cached_tokens=50)
    assert no_price[2] == pytest.approx(100 * 2e-6)


def test_prices_are_those_of_each_candidate() -> None:
    models = [*MODELS, Candidate("long", 1.0, 2.0, answer_tokens=5000)]
    for limit in (None, 10, 1000, 10_000):
        expected = [
            m.dollars(300, m.answer_tokens if limit is None else min(m.answer_tokens, limit))
            for m in models
        ]
        assert Prices(models).dollars(300, limit) == pytest.approx(expected)


def test_20_000_conversations_have_no_unsafe_switch() -> None:
    """Models are chosen at random among those that are not locked; the provider checks."""
    chooser = random.Random(0)
    provider_of = {c.name: c.provider for c in MODELS}
    switches = unsafe = 0
    for _ in range(20_000):
        messages: list[dict[str, Any]] = [USER]
        signers: list[str] = []
        model, caller = "", ""
        for _ in range(6):
            reasons = Turn.read(messages, model).lock_reasons(MODELS)
            allowed = [c for c, why in zip(MODELS, reasons, strict=True) if why is None]
            chosen = chooser.choice(allowed).name
            switches += bool(model) and chosen != model
            unsafe += bool(caller) and chosen != caller
            unsafe += any(provider_of[s] != provider_of[chosen] for s in signers)
            model, kind = chosen, chooser.random()
            if kind < 0.4:
                messages += [CALL, RESULT]
                caller = model
                continue
            if kind < 0.6:
                messages.append(SIGNED)
                signers.append(model)
            else:
                messages.append(DONE)
            messages.append(USER)
            caller = ""
    assert switches > 10_000
    assert unsafe == 0
