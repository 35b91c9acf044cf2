"""Only the model's value is rewritten; everything else keeps its bytes."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastroute.errors import BodyError
from fastroute.gateway.config.settings import SessionAffinityConfig
from fastroute.gateway.request import document
from fastroute.gateway.request.conversation import (
    MAX_REPLAYED,
    messages_of,
    messages_of_long,
    prompt_to_route_on,
    session_key,
    user_texts,
)
from fastroute.gateway.request.document import LONG_BYTES, read_bounded, read_document

SPACES = st.text(alphabet=" \t\r\n", max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["model", "messages", 'mo"del', "model\\", "mødel", ""]) | st.text(
    max_size=6
)


@st.composite
def written(draw: st.DrawFn) -> tuple[list[tuple[str, str]], str]:
    """Members as (key, text of the value), and an object of them with odd white space."""
    members: list[tuple[str, str]] = []
    parts = []
    for key, value in draw(st.lists(st.tuples(KEYS, VALUES), max_size=6)):
        text = json.dumps(
            value, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1))
        )
        name = json.dumps(key, ensure_ascii=draw(st.booleans()))
        if key == "model" and draw(st.booleans()):
            name = '"m\\u006fdel"'  # the same key, spelled otherwise
        space = [draw(SPACES) for _ in range(4)]
        parts.append(f"{space[0]}{name}{space[1]}:{space[2]}{text}{space[3]}")
        members.append((key, text))
    return members, draw(SPACES) + "{" + ",".join(parts) + "}" + draw(SPACES)


@given(written(), st.text(min_size=1, max_size=10))
def test_only_the_model_changes(document: tuple[list[tuple[str, str]], str], model: str) -> None:
    members, text = document
    try:
        raw = text.encode()
        model.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return
    read = read_document(raw)
    assert read.fields == json.loads(text)
    models = [value for key, value in members if key == "model"]
    assert [raw[a:b].decode() for a, b in read.spans] == models
    changed = read.with_model(model).decode()
    # Every top-level "model" has the new value and what stands around the values is the same.
    assert json.loads(changed) == json.loads(text) | {"model": model}
    if not models:
        return  # where it is added, a test below says
    outside, at = [], 0
    for begin, end in read.spans:
        outside.append(raw[at:begin].decode())
        at = end
    rest = changed
    new = json.dumps(model, ensure_ascii=False)
    for piece in outside:
        assert rest.startswith(piece + new)
        rest = rest[len(piece) + len(new) :]
    assert rest == raw[at:].decode()


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda t: t.encode(errors="replace")))
def test_what_json_refuses_is_refused(raw: bytes) -> None:
    try:
        expected: Any = json.loads(raw.decode())
    except ValueError:
        expected = None
    if isinstance(expected, dict):
        assert read_document(raw).fields == expected
    else:
        with pytest.raises(BodyError):
            read_document(raw)


@given(written(), st.integers(0, 200), st.sampled_from(['"', "{", "}", ",", ":", "\\", "[", "0"]))
def test_damage_is_judged_as_json_judges_it(
    document: tuple[list[tuple[str, str]], str], at: int, character: str
) -> None:
    text = document[1]
    damaged = text[: at % (len(text) + 1)] + character + text[at % (len(text) + 1) :]
    try:
        raw = damaged.encode()
    except UnicodeEncodeError:
        return
    try:
        expected: Any = json.loads(damaged)
    except ValueError:
        expected = None
    if isinstance(expected, dict):
        assert read_document(raw).fields == expected
    else:
        with pytest.raises(BodyError):
            read_document(raw)


def test_numbers_order_escapes_and_duplicates_keep_their_bytes() -> None:
    raw = (
        '{"z": 1.0e-05,\t"model":"a", "n": 0.10, "big": 123456789012345678901234567890,'
        ' "s": "\\u00e9\\/é", "model" : "b", "x": {"model": "inner"}}\n'
    ).encode()
    expected = raw.replace(b'"a"', b'"new"').replace(b'"b"', b'"new"')
    assert read_document(raw).with_model("new") == expected


def test_the_same_model_gives_the_same_bytes() -> None:
    raw = b'{"model":"a"}'
    assert read_document(raw).with_model("a") is raw


def test_a_number_longer_than_python_reads_passes() -> None:
    raw = b'{"model":"a","n":' + b"1" * 5000 + b"}"
    assert read_document(raw).with_model("b") == raw.replace(b'"a"', b'"b"')


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "must be a JSON object"),
        (b"[1]", "must be a JSON object"),
        (b'{"a":\xff}', "not UTF-8"),
        (b'{"a":1,}', "property name"),
        (b'{"a" 1}', "':' delimiter"),
        (b'{"a":1} x', "Extra data"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
    ],
)
def test_the_error_says_what_is_wrong(raw: bytes, said: str) -> None:
    with pytest.raises(BodyError, match=said):
        read_document(raw)


CONTENT = (
    st.none()
    | st.text(max_size=5)
    | st.lists(
        st.builds(lambda t: {"type": "text", "text": t, "more": [t]}, st.text(max_size=5))
        | st.just({"type": "image_url", "image_url": {"url": "data:"}}),
        max_size=3,
    )
)
MESSAGES = st.lists(
    st.builds(
        lambda role, content, more: {"role": role, "content": content, "more": more},
        st.sampled_from(["user", "assistant", "system", "tool"]),
        CONTENT,
        VALUES,
    ),
    max_size=30,
)


@given(MESSAGES, st.integers(1, 12))
def test_of_a_long_body_the_same_is_read(messages: list[Any], window: int) -> None:
    messages = [*messages, {"role": "user", "content": "the last"}]
    raw = json.dumps({"model": "m", "messages": messages}).encode()
    usual = messages_of(read_document(raw).fields, "/chat/completions")
    pruned = messages_of_long(read_document(raw).fields, "/chat/completions", window)
    assert usual == messages
    assert prompt_to_route_on(pruned, window) == prompt_to_route_on(usual, window)
    end = next(i for i, m in enumerate(messages) if m["role"] == "user") + 1
    assert pruned[:end] == messages[:end]
    texts = user_texts(usual)[:-1][-MAX_REPLAYED:]
    assert user_texts(pruned)[:-1][-MAX_REPLAYED:] == texts


ITEMS = MESSAGES.map(
    lambda messages: [
        *messages,
        {"type": "function_call_output", "output": "o"},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "x"}, 5]},
        {"type": "message", "role": "user", "content": "the last"},
        "no item",
    ]
)


@given(ITEMS, st.integers(1, 12))
def test_of_long_responses_the_same_is_read(items: list[Any], window: int) -> None:
    raw = json.dumps({"model": "m", "input": items}).encode()
    usual = messages_of(read_document(raw).fields, "/responses")
    pruned = messages_of_long(read_document(raw).fields, "/responses", window)
    assert prompt_to_route_on(pruned, window) == prompt_to_route_on(usual, window)
    end = next(i for i, m in enumerate(usual) if m["role"] == "user") + 1
    assert pruned[:end] == usual[:end]
    assert user_texts(pruned)[:-1][-MAX_REPLAYED:] == user_texts(usual)[:-1][-MAX_REPLAYED:]


def _key(path: str, body: dict[str, Any]) -> bytes | None:
    """As the gateway names a conversation, by a body of any length."""
    raw = json.dumps(body).encode()
    fields = read_document(raw).fields
    long = len(raw) > LONG_BYTES
    messages = messages_of_long(fields, path, 1) if long else messages_of(fields, path)
    return session_key(SessionAffinityConfig(by="messages"), fields, messages, {}, "me")


@pytest.mark.parametrize(
    ("path", "name"), [("/chat/completions", "messages"), ("/responses", "input")]
)
@pytest.mark.parametrize("size", [10, LONG_BYTES // 2, LONG_BYTES + 1, 3 * LONG_BYTES])
def test_a_conversation_keeps_its_name_as_it_grows(path: str, name: str, size: int) -> None:
    def turns(first: str, *later: str) -> list[dict[str, str]]:
        said = [{"role": "user", "content": text} for text in (first, *later)]
        return [{"role": "system", "content": "be brief"}, *said]

    first = "x" * size
    key = _key(path, {name: turns(first)})
    assert key is not None
    for later in (["b"], ["b" * LONG_BYTES], ["b", "c" * LONG_BYTES]):
        assert _key(path, {name: turns(first, *later)}) == key
    for other in (first[:-1] + "y", first + "x"):
        assert _key(path, {name: turns(other)}) != key
    grown = turns(first)
    grown[0]["content"] = "be long"
    assert _key(path, {name: grown}) != key


def test_a_long_prompt_has_a_name_of_its_own() -> None:
    keys = {_key("/completions", {"prompt": "x" * LONG_BYTES + end}) for end in "abc"}
    assert len(keys) == 3
    assert None not in keys


def test_a_long_first_message_is_not_made_into_objects() -> None:
    more = b"[" + b"[]," * 1_000_000 + b"0]"
    first = b'{"role": "user", "content": "hi", "x": ' + more + b"}"
    raw = b'{"model": "a", "messages": [' + first + b"]}"
    fields = read_document(raw).fields
    tracemalloc.start()
    try:
        messages = messages_of_long(fields, "/chat/completions", 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert messages == [{"role": "user", "content": "hi"}]
    assert peak < 2.5 * len(raw)  # two copies, of which one is let go


def test_a_long_body_is_not_made_into_objects() -> None:
    raw = b'{"model": "a", "x": [' + b"[]," * 1_000_000 + b'0], "stream": true}'
    tracemalloc.start()
    try:
        document = read_document(raw)
        assert document.fields["stream"] is True
        changed = document.with_model("b")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert changed == raw.replace(b'"a"', b'"b"')
    assert peak < 1.5 * len(raw)  # one more copy, which is what is sent


def test_more_members_than_anybody_has_are_refused_before_they_fill_the_memory() -> None:
    most = 100_000
    members = [f'"k{i}":0' for i in range(most)]
    assert len(read_document(f"{{{','.join(members)}}}".encode()).fields) == most
    with pytest.raises(BodyError, match="more than 100,000 members"):
        read_document(f"{{{','.join([*members, members[0]])}}}".encode())
    # Further in they are handed on, as the numbers of an embedding may be.
    numbers = ",".join(["1"] * (most + 1))
    document = read_document(f'{{"model":"m","input":[{numbers}]}}'.encode())
    assert document.raw.endswith(b"1]}")
    asked = read_document(f'{{"model":"m","messages":[{numbers}]}}'.encode())
    with pytest.raises(BodyError, match="more than 100,000 messages"):
        messages_of_long(asked.fields, "/chat/completions", 1)
    first = '{"role":"user","content":"a"}'
    last = f'{{"role":"user","content":[{numbers}]}}'
    asked = read_document(f'{{"model":"m","messages":[{first},{last}]}}'.encode())
    with pytest.raises(BodyError, match="more than 100,000 parts"):
        messages_of_long(asked.fields, "/chat/completions", 1)


@pytest.mark.parametrize("raw", [b"{}", b' {"a": 1}', b'\n{ "b" : [ {"model": "x"} ] }\n'])
def test_a_model_is_added_where_there_is_none(raw: bytes) -> None:
    written = read_document(raw).with_model('m"')
    assert json.loads(written) == {"model": 'm"', **json.loads(raw)}
    assert written.replace(b'"model":"m\\""', b"").replace(b"{,", b"{") == raw


@pytest.mark.parametrize("unit", ["\\u00e9", "\\ud83d\\ude00", "\\\\", '\\"', "é", "😀", "a"])
@pytest.mark.parametrize("shift", range(13))
def test_a_long_string_is_read_at_both_ends_wherever_it_is_cut(unit: str, shift: int) -> None:
    raw = ('"' + "x" * shift + unit * 200_000 + "end" + '"').encode()
    text = read_bounded(raw, 0, len(raw))
    character = json.loads(f'"{unit}"')
    assert text.startswith("x" * shift + character * 1000)
    assert text.endswith(character * 1000 + "end")
    assert len(text) <= LONG_BYTES + 1
    text.encode()  # no half of a pair is left


@given(
    units=st.lists(
        st.sampled_from(["\\\\", '\\"', "\\n", "\\u00e9", "u00", "n", "\\/", "é"]), min_size=90
    )
)
@settings(max_examples=500)
def test_a_long_string_of_any_escapes_is_read_at_both_ends(units: list[str]) -> None:
    raw = ('"' + "".join(units) + '"').encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(document, "LONG_BYTES", 80)
        text = read_bounded(raw, 0, len(raw))
    whole = json.loads(raw)
    # At a cut a few characters may be lost, or left of an escape.
    assert whole.startswith(text[:4])
    assert whole.endswith(text[-3:])
