"""Notes of calls whose rows are not in the database yet, and what calls used and cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastroute.gateway.config.journal import JournalConfig
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.operations.books import BilledCall, cost_usd
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.usage import Usage
from fastroute.journal.database import journal_url
from fastroute.journal.pending import Note, Pending, pending_folder

#: A client may name a model of any length.
MODEL_CHARS = 255
#: Weight of the newest answer in the mean length of a model's answers.
_STEP = 0.05


def total_usd(calls: Sequence[BilledCall]) -> float | None:
    """The dollars of ``calls``; None where one's are not known, or there are none."""
    costs = [call.cost_usd for call in calls if call.cost_usd is not None]
    return sum(costs) if calls and len(costs) == len(calls) else None


class Noted(NamedTuple):
    """A call that is noted, and where."""

    slot: int
    note: Note


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

    def begin(self, gateway: Gateway, note: Note, body_bytes: int) -> Noted | None:
        """Note a call that is sent now, with an estimate of its figures."""
        if self._pending is None:
            return None
        # As long as answers of this model are, on average; a token has about four bytes.
        expected = round(self._lengths.get(note.model, 0.0))
        usage = Usage(-(-body_bytes // 4), 0, 0, expected, is_estimate=True)
        note.input_tokens, note.output_tokens = usage.input_tokens, expected
        note.cost_usd = cost_usd(usage, gateway.model_config(note.model))
        slot = self._pending.begin(note)
        return None if slot is None else Noted(slot, note)

    def end(
        self, noted: Noted | None, calls: Sequence[BilledCall], answered: int | None,
        latency_ms: float, status: int,
    ) -> int | None:  # fmt: skip
        """Note what it came to; its slot is to be released when its row is in the database."""
        if calls and answered is not None:
            model, output_tokens = calls[answered].model, calls[answered].usage.output_tokens
            before = self._lengths.get(model, float(output_tokens))
            if model in self._lengths or len(self._lengths) < 1000:
                self._lengths[model] = before + _STEP * (output_tokens - before)
        if noted is None or self._pending is None:
            return None
        slot, note = noted
        usage = Usage(0, 0, 0, 0)
        if calls:
            note.model, usage = calls[answered or 0].model, calls[answered or 0].usage
        note.input_tokens, note.output_tokens = usage.all_input_tokens, usage.output_tokens
        note.cached_tokens = usage.cached_tokens
        note.cost_usd = total_usd(calls)
        note.is_estimate = any(call.usage.is_estimate for call in calls)
        note.latency_ms, note.status = latency_ms, status
        self._pending.finish(slot, note)
        return slot

    def release(self, slot: int) -> None:
        """Forget a call: its row is in the database, or lost."""
        assert self._pending is not None
        self._pending.release(slot)

    def close(self) -> None:
        """Forget all."""
        if self._pending is not None:
            self._pending.close()


def marshalled(calls: Sequence[BilledCall]) -> list[tuple[str, tuple[object, ...], float | None]]:
    """``calls`` as what can be sent to the journal's process: model, usage, dollars."""
    return [(call.model[:MODEL_CHARS], tuple(call.usage), call.cost_usd) for call in calls]
