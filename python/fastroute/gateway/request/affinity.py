"""A conversation stays with its model unless the score moves clearly past the threshold.

A switch throws away the provider's prompt cache, and a short "yes, do it" in the middle of a hard
task says nothing of how hard the task is.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from fastroute.candidates import ConversationMemory, LastAnswer
from fastroute.gateway.config.settings import SessionAffinityConfig
from fastroute.gateway.request.conversation import MAX_REPLAYED, window_of
from fastroute.policy import stays
from fastroute.state.store import Store
from fastroute.types import Decision, ModelPair

#: What the request that a task serves has noted last.
_LAST: ContextVar[str] = ContextVar("fastroute_session")
_SIDES = {"strong": True, "weak": False}


class Side(NamedTuple):
    """Whether a conversation is with the strong model, and the turn that decided it, by its text:
    a replica that has not heard of later turns decides them again."""

    strong: bool
    turn: str


def turn_of(texts: Sequence[str]) -> str:
    """A digest that names the last of the user's ``texts``."""
    said = f"{len(texts)} {texts[-1]}" if texts else ""
    return hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def heard(texts: Sequence[str], known: Side | None) -> int:
    """How many of the user's ``texts`` have their part in ``known``; all where it is not known
    which, such as of a history that its client has shortened."""
    if known is None:
        return 0
    ends = range(len(texts), max(0, len(texts) - MAX_REPLAYED), -1)
    return next((end for end in ends if turn_of(texts[:end]) == known.turn), len(texts))


class Sessions:
    """Which side each conversation is on: at most ``max_sessions``, each for ``ttl_s`` unused.

    ``store`` shares them with other replicas; it answers soon, or this process goes on alone.
    """

    def __init__(
        self, config: SessionAffinityConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._sides: OrderedDict[bytes, tuple[Side, float]] = OrderedDict()
        self.store: Store | None = None
        #: the candidate that answered last, of conversations among many models.
        self.answers = ConversationMemory(config.max_sessions, config.ttl_s, clock)
        self.answers.noted = self._share

    def __len__(self) -> int:
        return len(self._sides)

    async def pull(self, key: bytes) -> None:
        """Take over what other replicas noted of conversation ``key``."""
        if self.store is not None:
            found = await self.store.get(f"session:{key.hex()}")
            noted = found[0] if found else None
            name, _, turn = (noted or b"").decode(errors="replace").partition(" ")
            if name in _SIDES:
                self._note(key, Side(_SIDES[name], turn))

    async def pull_answers(self, names: Sequence[bytes]) -> None:
        """Take over what other replicas noted of the last answer to the conversation ``names``."""
        if self.store is None or not names:
            return
        found = await self.store.get(*(f"answer:{name.hex()}" for name in names))
        for name, value in zip(names, found or (), strict=False):
            cached, _, model = (value or b"").decode(errors="replace").partition(" ")
            if cached.isdecimal() and model:
                self.answers.learn([name], LastAnswer(model, int(cached)))

    def side_of(self, key: bytes) -> Side | None:
        """The side of conversation ``key``; None if it is not known."""
        found = self._sides.get(key)
        if found is None:
            return None
        side, used_s = found
        if self._clock() - used_s > self._config.ttl_s:
            del self._sides[key]
            return None
        return side

    def replay(
        self,
        texts: Sequence[str],
        begin: int,
        strong: bool | None,
        window: int,
        decide: Callable[[str], Decision],
        pair: ModelPair,
    ) -> bool | None:
        """The side of a conversation after the user's ``texts``, from those from ``begin`` on, and
        the side before them."""
        for end in range(begin + 1, len(texts) + 1):
            decision = decide(window_of(texts[:end], window))
            strong = self.settle(decision, len(texts[end - 1]), strong, pair)[0].strong
        return strong

    def settle(
        self, decision: Decision, chars: int, was_strong: bool | None, pair: ModelPair
    ) -> tuple[Decision, bool]:
        """The decision that holds in a conversation, and whether the old side overruled the new.

        ``chars`` is the length of the last message, ``was_strong`` the side so far, if any.
        """
        if was_strong is None or was_strong == decision.strong:
            return decision, False
        margin, short = self._config.margin, self._config.short_chars
        if not stays(was_strong, decision.win_rate, decision.threshold, chars, margin, short):
            return decision, False
        model = pair.strong if was_strong else pair.weak
        return decision._replace(model=model, strong=was_strong), True

    def remember(self, key: bytes, side: Side) -> None:
        """Note the side of conversation ``key``, here and for other replicas."""
        self._note(key, side)
        if self.store is not None:
            value = f"{'strong' if side.strong else 'weak'} {side.turn}"
            _LAST.set(name := f"session:{key.hex()}")
            self.store.put(name, value.encode(), self._config.ttl_s)

    async def shared(self) -> None:
        """Wait a little until other replicas can see what the request of this task has noted: its
        client may send the next turn to any of them."""
        name = _LAST.get(None)
        if self.store is not None and name is not None:
            await self.store.written(name)

    def _share(self, names: Sequence[bytes], answer: LastAnswer) -> None:
        if self.store is not None:
            for name in names:
                _LAST.set(key := f"answer:{name.hex()}")
                value = f"{answer.cached_tokens} {answer.model}".encode()
                self.store.put(key, value, self._config.ttl_s)

    def _note(self, key: bytes, side: Side) -> None:
        self._sides[key] = (side, self._clock())
        self._sides.move_to_end(key)
        if len(self._sides) > self._config.max_sessions:
            self._sides.popitem(last=False)
