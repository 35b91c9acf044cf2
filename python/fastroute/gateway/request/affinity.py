"""A conversation stays with its model unless the score moves clearly past the threshold.

A switch throws away the provider's prompt cache, and a short "yes, do it" in the middle of a hard
task says nothing of how hard the task is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from fastroute.candidates import ConversationMemory, LastAnswer
from fastroute.gateway.config.settings import SessionAffinityConfig
from fastroute.policy import stays
from fastroute.state.store import Store
from fastroute.types import Decision, ModelPair

#: What the request that a task serves has noted last.
_LAST: ContextVar[str] = ContextVar("fastroute_session")
_STRONG, _WEAK = b"strong", b"weak"


class Sessions:
    """Which side each conversation is on: at most ``max_sessions``, each for ``ttl_s`` unused.

    ``store`` shares them with other replicas; it answers soon, or this process goes on alone.

    Attributes:
        answers: the candidate that answered last, of conversations among many models.
    """

    def __init__(
        self, config: SessionAffinityConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._sides: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self.store: Store | None = None
        self.answers = ConversationMemory(config.max_sessions, config.ttl_s, clock)
        self.answers.noted = self._share

    def __len__(self) -> int:
        return len(self._sides)

    async def pull(self, key: bytes) -> None:
        """Take over what other replicas noted of conversation ``key``."""
        if self.store is not None:
            found = await self.store.get(f"session:{key.hex()}")
            if found is not None and found[0] is not None:
                self._note(key, found[0] == _STRONG)

    async def pull_answers(self, names: Sequence[bytes]) -> None:
        """Take over what other replicas noted of the last answer to the conversation ``names``."""
        if self.store is None or not names:
            return
        found = await self.store.get(*(f"answer:{name.hex()}" for name in names))
        for name, value in zip(names, found or (), strict=False):
            cached, _, model = (value or b"").decode(errors="replace").partition(" ")
            if cached.isdecimal() and model:
                self.answers.learn([name], LastAnswer(model, int(cached)))

    def side_of(self, key: bytes) -> bool | None:
        """Whether conversation ``key`` is with the strong model; None if it is not known."""
        found = self._sides.get(key)
        if found is None:
            return None
        strong, used_s = found
        if self._clock() - used_s > self._config.ttl_s:
            del self._sides[key]
            return None
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

    def remember(self, key: bytes, strong: bool) -> None:
        """Note the side of conversation ``key``, here and for other replicas."""
        self._note(key, strong)
        if self.store is not None:
            value = _STRONG if strong else _WEAK
            _LAST.set(name := f"session:{key.hex()}")
            self.store.put(name, value, self._config.ttl_s)

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

    def _note(self, key: bytes, strong: bool) -> None:
        self._sides[key] = (strong, self._clock())
        self._sides.move_to_end(key)
        if len(self._sides) > self._config.max_sessions:
            self._sides.popitem(last=False)
