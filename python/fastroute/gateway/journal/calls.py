"""What calls used and cost, and notes of those whose rows are not in the database yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
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


class Paid(NamedTuple):
    """What a call used and cost."""

    model: str
    usage: Usage
    cost_usd: float | None

    @classmethod
    def of(cls, call: BilledCall) -> Paid:
        """Without the request, which may have megabytes."""
        return cls(call.model[:MODEL_CHARS], call.usage, call.cost_usd)


def total_usd(calls: Sequence[Paid]) -> float | None:
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
        self.pending: Pending | None = None
        self._lengths: dict[str, float] = {}
        try:
            self.pending = Pending(pending_folder(journal_url(section.url)))
        except OSError as error:
            log("calls are not noted before they end", logging.WARNING, reason=error.strerror)

    def begin(self, gateway: Gateway, note: Note, body_bytes: int) -> Noted | None:
        """Note a call that is sent now, with an estimate of its figures."""
        if self.pending is None:
            return None
        # As long as answers of this model are, on average; a token has about four bytes.
        expected = round(self._lengths.get(note.model, 0.0))
        usage = Usage(-(-body_bytes // 4), 0, 0, expected, is_estimate=True)
        note.input_tokens, note.output_tokens = usage.input_tokens, expected
        note.cost_usd = cost_usd(usage, gateway.model_config(note.model))
        slot = self.pending.begin(note)
        return None if slot is None else Noted(slot, note)

    def end(
        self, noted: Noted | None, calls: Sequence[Paid], answered: int | None,
        latency_ms: float, status: int,
    ) -> Callable[[], None] | None:  # fmt: skip
        """Note what it came to; what is returned forgets it, when its row is in the database."""
        if calls and answered is not None:
            model, usage, _ = calls[answered]
            before = self._lengths.get(model, float(usage.output_tokens))
            if model in self._lengths or len(self._lengths) < 1000:
                self._lengths[model] = before + _STEP * (usage.output_tokens - before)
        if noted is None or self.pending is None:
            return None
        note = noted.note
        usage = Usage(0, 0, 0, 0)
        if calls:
            note.model, usage, _ = calls[answered or 0]
        note.input_tokens, note.output_tokens = usage.all_input_tokens, usage.output_tokens
        note.cached_tokens = usage.cached_tokens
        note.cost_usd = total_usd(calls)
        note.is_estimate = any(call.usage.is_estimate for call in calls)
        note.latency_ms, note.status = latency_ms, status
        self.pending.finish(noted.slot, note)
        return partial(self.pending.release, noted.slot)
