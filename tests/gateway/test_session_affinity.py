"""A conversation stays with its model unless the score moves past the margin."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.gateway.config.settings import SessionAffinityConfig
from fastroute.gateway.request.affinity import Sessions, Side, heard, stays, turn_of
from fastroute.gateway.request.conversation import (
    MAX_CHARACTERS,
    messages_of,
    prompt_to_route_on,
    session_key,
    turns_of,
    user_texts,
)
from fastroute.types import Decision, ModelPair

PAIR = ModelPair("strong", "weak")
RATES = st.floats(0, 1)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def decide(win_rate: float, threshold: float) -> Decision:
    strong = win_rate >= threshold
    return Decision(PAIR.strong if strong else PAIR.weak, "r", win_rate, threshold, strong, 1.0)


@given(st.lists(RATES, min_size=1, max_size=20), RATES, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_band_never_switches_more(
    rates: list[float], threshold: float, narrow: float, more: float
) -> None:
    def switches(margin: float) -> int:
        sessions = Sessions(SessionAffinityConfig(margin=margin, short_chars=0))
        side: bool | None = None
        count = 0
        for rate in rates:
            settled, _ = sessions.settle(decide(rate, threshold), 100, side, PAIR)
            count += side is not None and settled.strong != side
            side = settled.strong
        return count

    assert switches(narrow + more) <= switches(narrow)


@given(RATES, RATES, st.booleans(), st.floats(0, 0.5))
def test_the_margin(win_rate: float, threshold: float, was_strong: bool, margin: float) -> None:
    sessions = Sessions(SessionAffinityConfig(margin=margin, short_chars=0))
    plain = decide(win_rate, threshold)
    settled, stayed = sessions.settle(plain, 100, was_strong, PAIR)
    edge = threshold - margin if was_strong else threshold + margin
    assert settled.strong == (win_rate >= edge)
    assert stayed == (settled.strong != plain.strong)
    assert settled.model == (PAIR.strong if settled.strong else PAIR.weak)
    assert (settled.win_rate, settled.threshold) == (win_rate, threshold)


def test_a_short_answer_never_leaves_the_model() -> None:
    assert stays(True, 0.0, 0.5, chars=10, margin=0.1, short=40)
    assert not stays(True, 0.0, 0.5, chars=41, margin=0.1, short=40)


def test_of_a_very_long_text_both_ends_are_scored() -> None:
    whole = "a" * MAX_CHARACTERS
    long = "b" * MAX_CHARACTERS + "middle" + "c" * MAX_CHARACTERS
    half = MAX_CHARACTERS // 2
    ends = "b" * half + "\n" + "c" * half
    assert prompt_to_route_on([user(whole)], 1) == whole
    assert prompt_to_route_on([user(long)], 1) == ends
    assert prompt_to_route_on([user([{"type": "text", "text": long}])], 1) == ends
    assert user_texts([user(long), user("3")]) == [ends, "3"]
    joined = prompt_to_route_on([user(long), user(whole)], 2)
    assert (len(joined), joined[0], joined[-1]) == (MAX_CHARACTERS + 1, "b", "a")


def test_without_a_side_the_decision_holds() -> None:
    assert Sessions(SessionAffinityConfig()).settle(decide(0.4, 0.5), 1, None, PAIR)[1] is False


def test_sessions_end_by_time_and_number() -> None:
    now = [0.0]
    sessions = Sessions(SessionAffinityConfig(ttl_s=10, max_sessions=2), clock=lambda: now[0])
    strong, weak = Side(True, ""), Side(False, "")
    for key, side in ((b"a", strong), (b"b", weak), (b"a", strong), (b"c", strong)):
        sessions.remember(key, side)
    assert (sessions.side_of(b"a"), sessions.side_of(b"b")) == (strong, None)
    now[0] = 11.0
    assert sessions.side_of(b"a") is None
    assert len(sessions) == 1


def test_the_window() -> None:
    talk = [user("one"), {"role": "assistant", "content": "x"}, user(None), user("two"), user("3")]
    assert user_texts(talk) == ["one", "two", "3"]
    assert prompt_to_route_on(talk, 1) == "3"
    assert prompt_to_route_on(talk, 2) == "two\n\n3"
    assert prompt_to_route_on(talk, 9) == "one\n\ntwo\n\n3"


def test_the_turns_that_a_model_has_answered() -> None:
    said, result = {"role": "assistant", "content": "x"}, {"role": "tool", "content": "3"}
    assert turns_of([user("1")]) == (["1"], 0)
    assert turns_of([user("1"), user("2")]) == (["1", "2"], 1)
    assert turns_of([user("1"), said, user("2"), user("3")]) == (["1", "2", "3"], 1)
    assert turns_of([user("1"), said, result]) == (["1"], 1)  # it goes on with its first turn
    assert turns_of([{"role": "system", "content": "s"}, user(None)]) == ([], 0)


def test_the_turns_that_a_replica_has_heard_of() -> None:
    texts = ["yes", "no", "yes"]
    assert heard(texts, None) == 0
    assert [heard(texts, Side(True, turn_of(texts[:n]))) for n in (1, 2, 3)] == [1, 2, 3]
    assert heard(texts[1:], Side(True, turn_of(texts[:1]))) == 2  # of a shortened history
    assert turn_of(["\ud800"]) != turn_of([])


@given(
    st.lists(st.sampled_from(["h" * 90, "e" * 90, "m" * 90, "yes"]), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(1, 3),
)
def test_turns_decided_again_have_the_side_that_they_had(
    texts: list[str], known: int, window: int
) -> None:
    rates = {"h": 0.9, "e": 0.1, "m": 0.55, "y": 0.0}
    sessions = Sessions(SessionAffinityConfig(margin=0.2, short_chars=10))

    def rate(prompt: str) -> Decision:
        return decide(sum(rates[part[0]] for part in prompt.split("\n\n")) / window, 0.5)

    side: bool | None = None
    sides = [side]
    for n in range(1, len(texts) + 1):  # as requests came
        prompt = prompt_to_route_on([user(text) for text in texts[:n]], window)
        side = sessions.settle(rate(prompt), len(texts[n - 1]), side, PAIR)[0].strong
        sides.append(side)
    begin = min(known, len(texts))
    assert sessions.replay(texts, begin, sides[begin], window, rate, PAIR) == side


@pytest.mark.parametrize(
    ("path", "fields", "prompt"),
    [
        ("/completions", {"prompt": "a"}, "a"),
        ("/completions", {"prompt": ["a", "b"]}, "a\nb"),
        ("/completions", {"prompt": [1, 2]}, ""),
        ("/responses", {"input": "a"}, "a"),
        (
            "/responses",
            {"input": [user([{"type": "input_text", "text": "a"}, {"type": "input_image"}])]},
            "a",
        ),
        (
            "/responses",
            {"input": [user("a"), {"type": "function_call_output", "output": "o"}]},
            "a",
        ),
    ],
)
def test_the_text_of_every_api(path: str, fields: dict[str, Any], prompt: str) -> None:
    assert prompt_to_route_on(messages_of(fields, path), 1) == prompt


def test_what_names_a_conversation() -> None:
    system = {"role": "system", "content": "s"}
    first, later = [system, user("a")], [system, user("a"), user("b")]

    def key(messages: Any = first, caller: str = "me", **values: Any) -> bytes | None:
        fields = values.pop("fields", {})
        headers = values.pop("headers", {})
        return session_key(SessionAffinityConfig(**values), fields, messages, headers, caller)

    assert key() == key(later) != key([system, user("b")])
    assert key(caller="you") != key()
    assert key(fields={"user": "u"}) != key()
    assert key(by="user") is None
    assert key(by="user", fields={"user": "u"}) == key([user("z")], by="user", fields={"user": "u"})
    assert key(by="header", header="x-s", headers={"x-s": "1"}) is not None
    assert key(by="none") is None
