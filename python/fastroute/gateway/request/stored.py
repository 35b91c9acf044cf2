"""Which provider keeps a stored response or a conversation: only it can go on with it.

Known are those that this process has seen, the newest of them. Callers with different keys do not
get at each other's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from fastroute.http.request import Endpoint

MAX_STORED = 100_000
ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}"
#: The id is among the first members of an answer, or in the first event of a stream.
SEARCHED_BYTES = 16 * 1024
_ID = re.compile(rf'"id"\s*:\s*"({ID_PATTERN})"'.encode())


class Keeper(NamedTuple):
    """Who may use a response, the model that made it, and the endpoint that keeps it."""

    caller: str
    model: str
    endpoint: Endpoint


class StoredResponses:
    """Remembers the keeper of each response and conversation by its id."""

    def __init__(self) -> None:
        self._keepers: OrderedDict[str, Keeper] = OrderedDict()

    def find(self, name: str) -> Keeper | None:
        """The keeper of the response or conversation ``name``."""
        return self._keepers.get(name)

    def find_of(self, caller: str, fields: Mapping[str, Any]) -> Keeper | None:
        """The keeper of what a request of ``caller`` goes on with."""
        keepers = filter(None, map(self.find, _named(fields)))
        return next((keeper for keeper in keepers if keeper.caller == caller), None)

    def remember(self, name: str, keeper: Keeper) -> None:
        """Note who keeps ``name``; who was there first stays its caller."""
        known = self._keepers.setdefault(name, keeper)
        self._keepers[name] = keeper._replace(caller=known.caller)
        self._keepers.move_to_end(name)
        if len(self._keepers) > MAX_STORED:
            self._keepers.popitem(last=False)

    def watch(self, fields: Mapping[str, Any], keeper: Keeper) -> Watch:
        """What to feed the answer to ``fields`` to, so that its id is remembered."""
        for name in _named(fields):
            self.remember(name, keeper)
        return Watch(self, keeper)


class Watch:
    """Looks for the id of one response, whose pieces may be split anywhere."""

    def __init__(self, stored: StoredResponses, keeper: Keeper) -> None:
        self._stored = stored
        self._keeper = keeper
        self._head: bytes | None = b""

    def feed(self, piece: bytes) -> None:
        """Note a piece of the answer."""
        if self._head is None:
            return
        self._head += piece[:SEARCHED_BYTES]
        found = _ID.search(self._head)
        if found is not None:
            self._stored.remember(found[1].decode(), self._keeper)
        if found is not None or len(self._head) > SEARCHED_BYTES:
            self._head = None


def is_response_id(name: object) -> TypeGuard[str]:
    """Whether ``name`` can be the id of a response, and so a part of a path."""
    return isinstance(name, str) and re.fullmatch(ID_PATTERN, name) is not None


def _named(fields: Mapping[str, Any]) -> list[str]:
    conversation = fields.get("conversation")
    if isinstance(conversation, Mapping):
        conversation = conversation.get("id")
    names = (fields.get("previous_response_id"), conversation)
    return [name for name in names if is_response_id(name)]
