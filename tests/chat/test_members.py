"""Changes to members of a JSON object leave every other byte as it was."""

from __future__ import annotations

import itertools
import json

import pytest

from fastroute.chat.members import with_members, with_members_of_each


@pytest.mark.parametrize(
    ("raw", "changes", "made"),
    [
        ('{"a":1, "b" : 2}', {"a": None}, '{"b" : 2}'),
        ('{"a":1, "b" : 2}', {"b": None}, '{"a":1}'),
        ('{ "a":1, "b" : 2 }', {"a": None, "b": None}, "{  }"),
        ('{"a":1,"b":2}', {"b": b"[3]"}, '{"a":1,"b":[3]}'),
        ('{"a":1,"a":2}', {"a": b"3"}, '{"a":3,"a":3}'),
        ('{"\\u0061":1e-1,"b":2}', {"a": None}, '{"b":2}'),
        ("{}", {"c": b"true"}, '{"c":true}'),
        ('{"a":1.0 }', {"c": b"true"}, '{"a":1.0,"c":true }'),
        ('{"a":1}', {"a": None, "c": b"true"}, '{"c":true}'),
        ('{"a":{"b":1}}', {"b": None}, '{"a":{"b":1}}'),
        ("{}", {"c": None}, "{}"),
    ],
)
def test_a_member_is_changed(raw: str, changes: dict[str, bytes | None], made: str) -> None:
    assert with_members(raw.encode(), changes) == made.encode()


def test_every_choice_of_members_gives_valid_json() -> None:
    raw = b'{ "a" : 1 , "b":2,"c": 3, "d":4}'
    for kinds in itertools.product(("keep", "remove", "replace"), repeat=4):
        chosen = dict(zip("abcd", kinds, strict=True))
        changes = {n: None if k == "remove" else b"9" for n, k in chosen.items() if k != "keep"}
        expected = {
            name: 9 if chosen[name] == "replace" else value
            for name, value in json.loads(raw).items()
            if chosen[name] != "remove"
        }
        found = json.loads(with_members(raw, {**changes, "e": b"5"}))
        assert found == {**expected, "e": 5}


def test_members_of_each_object_of_a_list() -> None:
    raw = b'{"n":1.0,"choices":[{"x":1,"logprobs":{"content":[]}}, {"logprobs":null}],"z":0}'
    made = b'{"n":1.0,"choices":[{"x":1,"logprobs":null}, {"logprobs":null}],"z":0}'
    assert with_members_of_each(raw, "choices", {"logprobs": b"null"}) == made
    assert with_members_of_each(b'{"a":1}', "choices", {"logprobs": None}) == b'{"a":1}'
