"""Which model answered a conversation last, by the conversation's beginning and its tool calls."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fastroute._forking import ForkSafeLock

#: An identifier of a tool call that is shorter, such as "call_0", may be another conversation's.
_SHORTEST_ID = 8
_MOST_IDS = 128
#: The calls whose results are looked at, the last ones of a conversation.
_MOST_RESULTS = 8
#: A longer identifier or a longer distance of it from its call is not seen across two pieces.
_OVERLAP = 512
_CALLS = re.compile(rb'"(?:tool_calls|tool_use|function_call|custom_tool_call)"')
_ID = re.compile(rb'"(?:id|call_id)"\s*:\s*"([^"\\]{8,200})"')
_CACHED = re.compile(
    rb'"(cached_tokens|cache_read_input_tokens|cache_creation_input_tokens)"\s*:\s*(\d{1,10})(?!\d)'
)
_RESULT_IDS = ("tool_call_id", "tool_use_id", "call_id")
_ANSWERS = frozenset({"assistant", "tool", "function"})
_SORTED = json.JSONEncoder(sort_keys=True)


class LastAnswer(NamedTuple):
    """The model that answered last, and the input tokens that its provider has in its cache."""

    model: str
    cached_tokens: int = 0


class ConversationMemory:
    """At most ``most`` names of conversations, each for ``ttl_s`` unused. Safe in threads.

    Attributes:
        noted: is called with what ``remember`` was, such as to tell other processes.
    """

    def __init__(
        self,
        most: int = 100_000,
        ttl_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = ForkSafeLock()
        self._answers: OrderedDict[bytes, tuple[LastAnswer, float]] = OrderedDict()
        self.noted: Callable[[Sequence[bytes], LastAnswer], None] | None = None

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, names: Iterable[bytes]) -> LastAnswer | None:
        """The last answer to the conversation that one of ``names`` is a name of, the first that
        is known."""
        with self._lock:
            for name in names:
                found = self._answers.get(name)
                if found is None:
                    continue
                if self._clock() - found[1] <= self._ttl_s:
                    return found[0]
                del self._answers[name]
        return None

    def remember(self, names: Sequence[bytes], answer: LastAnswer) -> None:
        """Note the last answer to the conversation of ``names``."""
        self.learn(names, answer)
        if self.noted is not None:
            self.noted(names, answer)

    def learn(self, names: Iterable[bytes], answer: LastAnswer) -> None:
        """``remember`` what another process has noted."""
        with self._lock:
            for name in names:
                self._answers[name] = (answer, self._clock())
                self._answers.move_to_end(name)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)


class AnswerReader:
    """Notes in ``memory`` that ``model`` answers the conversation ``name``; also by the identifiers
    of the tool calls in its answer, whose pieces may be split anywhere, and with the tokens that
    its provider says to have in its cache."""

    def __init__(
        self, memory: ConversationMemory, model: str, name: bytes | None, caller: str = ""
    ) -> None:
        self._memory = memory
        self._caller = caller
        self._answer = LastAnswer(model)
        self._names = [] if name is None else [name]
        self._ids: set[str] = set()
        self._kept = b""
        self._calls = False
        memory.remember(self._names, self._answer)

    def feed(self, piece: bytes) -> None:
        """Note the next piece of the answer."""
        text = self._kept + piece
        self._kept = text[-_OVERLAP:]
        changed = False
        counts = {key: int(count) for key, count in _CACHED.findall(text)}
        if counts:
            cached = counts.pop(b"cache_creation_input_tokens", 0) + max(counts.values(), default=0)
            changed = cached > self._answer.cached_tokens
            self._answer = LastAnswer(self._answer.model, max(cached, self._answer.cached_tokens))
        self._calls = self._calls or _CALLS.search(text) is not None
        if self._calls and len(self._ids) < _MOST_IDS:
            found = {match.decode(errors="replace") for match in _ID.findall(text)} - self._ids
            self._ids |= found
            self._names += call_names(found, self._caller)
            changed = changed or bool(found)
        if changed:
            self._memory.remember(self._names, self._answer)


def conversation_name(*parts: Any) -> bytes | None:
    """A hash of ``parts``, JSON values; None if they are nested too deep to be told apart.

    Anthropic's ``cache_control``, which moves to later messages, makes no difference.
    """
    try:
        text = _SORTED.encode(_without_cache_marks(parts))
    except RecursionError:
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def beginning_of(messages: Sequence[Any]) -> Sequence[Any]:
    """All messages up to the first of the user, which later turns repeat; empty without one."""
    first = next((i for i, m in enumerate(messages) if _get(m, "role") == "user"), None)
    return () if first is None else messages[: first + 1]


def last_answer(
    memory: ConversationMemory, messages: Sequence[Any], name: bytes | None, caller: str = ""
) -> LastAnswer:
    """Who answered ``messages`` of the conversation ``name`` last, by its tool calls and then by
    its name; no model where no model has, or that is not known."""
    return memory.find(names_of(messages, name, caller)) or LastAnswer("")


def names_of(messages: Sequence[Any], name: bytes | None, caller: str = "") -> list[bytes]:
    """The names by which the last answer to ``messages`` is looked for, the best first; none where
    no model has answered."""
    if not has_answer(messages):
        return []
    names = call_names(result_ids(messages), caller)
    return names if name is None else [*names, name]


def has_answer(messages: Sequence[Any]) -> bool:
    """Whether a model has answered already."""
    return any(
        _get(m, "role") in _ANSWERS or _get(m, "type") not in (None, "message") for m in messages
    )


def call_names(ids: Iterable[str], caller: str = "") -> list[bytes]:
    """The names of a conversation of ``caller`` by the identifiers of its tool calls."""
    names = (conversation_name("call", caller, i) for i in ids if len(i) >= _SHORTEST_ID)
    return [name for name in names if name is not None]


def result_ids(messages: Sequence[Any]) -> list[str]:
    """The identifiers of the tool calls whose results stand in ``messages``, the last first."""
    found: list[str] = []
    for message in reversed(messages):
        content = _get(message, "content")
        parts = content if isinstance(content, (list, tuple)) else ()
        for part in (message, *reversed(parts)):
            ids = (_get(part, key) for key in _RESULT_IDS)
            found += [i for i in ids if isinstance(i, str)]
        if len(found) >= _MOST_RESULTS:
            break
    return found[:_MOST_RESULTS]


def _without_cache_marks(value: Any) -> Any:
    if isinstance(value, dict):
        members = ((name, v) for name, v in value.items() if name != "cache_control")
        return {name: _without_cache_marks(v) for name, v in members}
    return [_without_cache_marks(v) for v in value] if isinstance(value, (list, tuple)) else value


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None
