"""Members of a JSON object that are changed while every other byte stays as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastroute._native import find_json_members
from fastroute.types import JsonSpan

#: No key that anybody asks for is longer.
MAX_KEY_BYTES = 1024
_STRICT = json.JSONDecoder()


def member_name(raw: bytes, span: JsonSpan) -> str:
    """The key of a member of ``raw``; a key of more than MAX_KEY_BYTES with its quotes."""
    quoted = raw[span.key_begin : span.key_end]
    if len(quoted) > MAX_KEY_BYTES:
        return quoted.decode()
    if b"\\" in quoted:
        return str(_STRICT.decode(quoted.decode()))
    return quoted[1:-1].decode()


def with_members(raw: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """``raw``, a valid JSON object, with other values (JSON) for the members in ``changes``.

    None removes a member. One that ``raw`` does not have is added at its end.
    """
    _, _, members = find_json_members(raw)
    missing = {name: value for name, value in changes.items() if value is not None}
    parts: list[bytes] = []
    at, is_first = 0, True
    for i, span in enumerate(members):
        name = member_name(raw, span)
        if name not in changes:
            is_first = False
            continue
        value = changes[name]
        missing.pop(name, None)
        if value is not None:
            parts += [raw[at : span.value_begin], value]
            at, is_first = span.value_end, False
        elif is_first:  # with the comma after it, if there is one
            parts.append(raw[at : span.key_begin])
            at = members[i + 1].key_begin if i + 1 < len(members) else span.value_end
        else:
            parts.append(raw[at : members[i - 1].value_end])
            at = span.value_end
    end = members[-1].value_end if members else raw.index(b"{") + 1
    parts.append(raw[at:end])
    added = [json.dumps(name).encode() + b":" + value for name, value in missing.items()]
    parts.append(b",".join([b"", *added] if added and not is_first else added))
    parts.append(raw[end:])
    return b"".join(parts)


def with_members_of_each(raw: bytes, name: str, changes: Mapping[str, bytes | None]) -> bytes:
    """``raw``, a valid JSON object, with ``changes`` made in each object of its list ``name``."""
    _, _, members = find_json_members(raw)
    span = next((span for span in members if member_name(raw, span) == name), None)
    if span is None:
        return raw
    listed = raw[span.value_begin : span.value_end]
    _, _, entries = find_json_members(listed, array=True)
    parts, at = [], 0
    for entry in entries:
        changed = with_members(listed[entry.value_begin : entry.value_end], changes)
        parts += [listed[at : entry.value_begin], changed]
        at = entry.value_end
    parts.append(listed[at:])
    return with_members(raw, {name: b"".join(parts)})
