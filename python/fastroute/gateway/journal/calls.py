"""Notes of calls whose rows are not in the database yet, and what calls used and cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fastroute.gateway.config.journal import JournalConfig
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.operations.books import BilledCall, cost_usd
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.usage import Usage
from fastroute.journal.database import journal_url
from fastroute.journal.pending import Call, Figures, Pending, pending_folder

#: A client may name a model of any length.
MODEL_CHARS = 255
#: Weight of the newest answer in the mean length of a model's answers.
_STEP = 0.05
_NOTHING = Usage(0, 0, 0, 0)


def total_usd(calls: Sequence[BilledCall]) -> float | None:
    """The dollars of ``calls``; None where one's are not known, or there are none."""
    total = 0.0
    for call in calls:
        if call.cost_usd is None:
            return None
        total += call.cost_usd
    return total if calls else None


class Calls:
    """Notes calls before they end, so that a kill -9 leaves none out of the books."""

    def __init__(self, section: JournalConfig) -> None:
        self._pending: Pending | None = None
        #: Where the notes are; None if there is no room for them.
        self.folder: Path | None = None
        self._lengths: dict[str, float] = {}
        try:
            folder = pending_folder(journal_url(section.url))
            self._pending, self.folder = Pending(folder), folder
        except OSError as error:
            log("calls are not noted before they end", logging.WARNING, reason=error.strerror)

    def begin(self, gateway: Gateway, call: Call, model: str, body_bytes: int) -> int | None:
        """Note a call that is sent now, with an estimate of its figures; where it is noted."""
        if self._pending is None:
            return None
        # As long as answers of this model are, on average; a token has about four bytes.
        expected = round(self._lengths.get(model, 0.0))
        input_tokens = -(-body_bytes // 4)
        cost = cost_usd(Usage(input_tokens, 0, 0, expected), gateway.model_config(model))
        return self._pending.begin(call, Figures(model, input_tokens, 0, expected, True, 0, cost))

    def end(
        self, slot: int | None, model: str, calls: Sequence[BilledCall], answered: int | None,
        latency_ms: float, status: int,
    ) -> None:  # fmt: skip
        """Note what it came to; its slot is to be released when its row is in the database."""
        usage = _NOTHING
        if calls:
            model, _, _, usage, _ = calls[answered or 0]
            if answered is not None:
                before = self._lengths.get(model)
                if before is not None or len(self._lengths) < 1000:
                    before = usage.output_tokens if before is None else before
                    self._lengths[model] = before + _STEP * (usage.output_tokens - before)
        if slot is not None and self._pending is not None:
            is_estimate = any(call.usage.is_estimate for call in calls)
            figures = Figures(
                model, usage.all_input_tokens, usage.cached_tokens, usage.output_tokens,
                is_estimate, status, total_usd(calls), latency_ms,
            )  # fmt: skip
            self._pending.finish(slot, figures)

    def release(self, slots: Sequence[int]) -> None:
        """Forget calls: their rows are in the database, or lost."""
        if self._pending is not None:
            self._pending.release(slots)

    def close(self) -> None:
        """Forget all."""
        if self._pending is not None:
            self._pending.close()


def marshalled(calls: Sequence[BilledCall]) -> list[tuple[str, tuple[object, ...], float | None]]:
    """``calls`` as what can be sent to the journal's process: model, usage, dollars."""
    return [(call.model[:MODEL_CHARS], tuple(call.usage), call.cost_usd) for call in calls]
