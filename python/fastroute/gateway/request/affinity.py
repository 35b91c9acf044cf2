"""A conversation stays with its model unless the score moves clearly past the threshold.

A switch throws away the provider's prompt cache, and a short "yes, do it" in the middle of a hard
task says nothing of how hard the task is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from fastroute.gateway.config.settings import SessionAffinityConfig
from fastroute.policy import stays
from fastroute.types import Decision, ModelPair


class Sessions:
    """Which side each conversation is on: at most ``max_sessions``, each for ``ttl_s`` unused."""

    def __init__(
        self, config: SessionAffinityConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._sides: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sides)

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
        """Note the side of conversation ``key``."""
        self._sides[key] = (strong, self._clock())
        self._sides.move_to_end(key)
        if len(self._sides) > self._config.max_sessions:
            self._sides.popitem(last=False)
