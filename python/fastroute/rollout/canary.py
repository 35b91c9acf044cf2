"""A canary: a new router takes a part of the conversations, then more, then nearly all.

1. A conversation is in the canary if a hash of it is below the stage's share: a conversation stays
   where it is, and who is in at 5 % is in at 25 %.
2. ``settle_s`` after its first request a conversation counts, by what has come until then, in the
   order of first requests. Those that began before the stage do not.
3. On quality, errors, latency and dollars ``bets.Contrast`` asks whether the canary is worse than
   the control by more than a margin. If so, at confidence over all four, it is rolled back.
4. A stage gives way to the next after ``min_conversations`` of the canary. The last one is
   promoted only when the canary is better in quality or dollars, and good enough in all outcomes.
5. After a promotion a part of the conversations stays with the old router, so that a later alarm
   can still roll back.

Without proof after ``max_conversations`` the canary is rolled back too: it is not worth it. So is
a running one when prompts or grades drift (``drifted``): its router was learnt before the change.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

from fastroute.errors import InvalidInputError
from fastroute.rollout.bets import Contrast
from fastroute.rollout.drift import Alarm

Status = Literal["running", "frozen", "promoted", "reverted"]
OnDrift = Literal["revert", "none"]
OUTCOMES = ("quality", "errors", "latency", "dollars")
CANARY, CONTROL = "canary", "control"
#: The arm of a request whose gateway has not been able to read the stage: it does not count.
STALE = "stale"
#: Seconds that every worker has to learn of a new share before conversations count for it.
GRACE_S = 15.0
# Latency and dollars have no bound: what is above a multiple of a high quantile of the control's
# first conversations counts as that.
_WARM_UP, _QUANTILE, _MULTIPLE = 50, 0.95, 3.0


@dataclass(frozen=True, slots=True)
class Rules:
    """When a canary goes on, is promoted, or goes back.

    Attributes:
        stages: shares of the conversations, rising.
        holdback: share that stays with the old router after a promotion; above 0.
        settle_s: seconds from the first request of a conversation until it counts.
        min_conversations: of the canary in a stage before the next.
        max_conversations: of both without proof before it is rolled back.
        quality_margin: how much lower the mean grade may be.
        errors_margin: how much greater the share of failed requests may be.
        latency_margin, dollars_margin: how much greater they may be, as a part of the control's.
        confidence: of "no false alarm" and of "no false promotion", over the canary's whole life.
        on_drift: "revert": drift of prompts or quality rolls a running canary back; "none".
    """

    stages: tuple[float, ...] = (0.05, 0.25)
    holdback: float = 0.05
    settle_s: float = 600.0
    min_conversations: int = 100
    max_conversations: int = 50_000
    quality_margin: float = 0.03
    errors_margin: float = 0.01
    latency_margin: float = 0.1
    dollars_margin: float = 0.05
    confidence: float = 0.95
    on_drift: OnDrift = "revert"

    def __post_init__(self) -> None:
        rising = (0.0, *self.stages, 1.0)
        if not self.stages or any(a >= b for a, b in pairwise(rising)):
            raise InvalidInputError(
                f"stages must rise and be above 0 and below 1, got {list(self.stages)}"
            )
        if not 0.0 < self.holdback < 1.0:
            raise InvalidInputError(f"holdback must be above 0 and below 1, got {self.holdback}")
        if not 0.5 <= self.confidence < 1.0:
            raise InvalidInputError(f"confidence must be in 0.5..1, got {self.confidence}")

    def contrast(self, outcome: str, saved: Mapping[str, Any] | None = None) -> Contrast:
        """The comparison of ``outcome``."""
        margin = float(getattr(self, f"{outcome}_margin"))
        if outcome in ("latency", "dollars"):
            return Contrast(1.0 + margin, 0.0, saved)
        return Contrast(1.0, margin, saved)


@dataclass(frozen=True, slots=True)
class Settled:
    """A conversation that counts.

    Attributes:
        began: time of its first request, in seconds since the Unix epoch.
        arm: "canary" or "control".
        share: probability with which it was in the canary.
        quality: mean grade; None where there is none.
        errors: share of failed requests.
        latency: mean seconds a request; None where none was answered.
        dollars: mean a request; None where no prices are known.
    """

    began: float
    arm: str
    share: float
    quality: float | None
    errors: float
    latency: float | None
    dollars: float | None


@dataclass(slots=True)
class Event:
    """Something that happened to a canary."""

    time: float
    what: str
    reason: str


@dataclass(slots=True)
class Canary:
    """Where a canary is; see the module. ``to_dict`` and ``from_dict`` keep it.

    Attributes:
        name: salt of the hash; another canary draws other conversations.
        router: checksum of the new router.
        rules: when it goes on.
        status: "running", "frozen" (its share stays, an alarm still rolls back), "promoted",
            "reverted".
        stage: place in the stages; after a promotion the number of stages.
        since: when the stage began.
        cursor: conversations that began up to here have been counted.
        events: what happened, the newest last.
        folder: of a router that was proposed; "" of one that the configuration names.
    """

    name: str
    router: str
    since: float
    rules: Rules = field(default_factory=Rules)
    status: Status = "running"
    stage: int = 0
    cursor: float = 0.0
    conversations: dict[str, int] = field(default_factory=lambda: {CANARY: 0, CONTROL: 0})
    in_stage: int = 0
    limits: dict[str, float] = field(default_factory=dict)
    early: dict[str, list[float]] = field(default_factory=dict)
    contrasts: dict[str, Contrast] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    folder: str = ""

    def __post_init__(self) -> None:
        self.cursor = max(self.cursor, self.since)
        for name in OUTCOMES:
            self.contrasts.setdefault(name, self.rules.contrast(name))

    @classmethod
    def start(cls, router: str, rules: Rules, now: float, folder: str = "") -> Canary:
        """A new canary of the router with checksum ``router``."""
        began = Event(now, "started", folder)
        return cls(secrets.token_hex(8), router, now, rules, events=[began], folder=folder)

    @property
    def share(self) -> float:
        """The share of conversations that the new router has now."""
        if self.status == "reverted":
            return 0.0
        stages = (*self.rules.stages, 1.0 - self.rules.holdback)
        return stages[self.stage]

    def arm(self, conversation: str) -> str:
        """ "canary" or "control", the same for every request of a conversation."""
        return CANARY if place(self.name, conversation) < self.share else CONTROL

    def observe(self, found: Settled, now: float | None = None) -> None:
        """Count a conversation, and decide. A stage that it opens begins at ``now``; by default
        when the conversation settled."""
        self.cursor = max(self.cursor, found.began)
        if self.status == "reverted" or found.began < self.since or not 0 < found.share < 1:
            return
        is_canary = found.arm == CANARY
        self.conversations[found.arm] += 1
        self.in_stage += is_canary
        for name in OUTCOMES:
            value = self._bounded(name, getattr(found, name), is_canary)
            if value is not None:
                self.contrasts[name].observe(is_canary, found.share, value)
        self._decide(found.began + self.rules.settle_s if now is None else now)

    def _bounded(self, name: str, value: float | None, is_canary: bool) -> float | None:
        """The outcome on 0..1, of which less is better; None where it can't be told yet."""
        if value is None:
            return None
        if name in ("quality", "errors"):
            bounded = min(max(value, 0.0), 1.0)
            return 1.0 - bounded if name == "quality" else bounded
        if name not in self.limits:
            if not is_canary:
                first = self.early.setdefault(name, [])
                first.append(value)
                if len(first) == _WARM_UP:
                    high = sorted(first)[math.ceil(_QUANTILE * _WARM_UP) - 1]
                    self.limits[name] = max(_MULTIPLE * high, 1e-12)
                    del self.early[name]
            return None
        return min(max(value, 0.0) / self.limits[name], 1.0)

    def _decide(self, now: float) -> None:
        level = 1.0 - self.rules.confidence
        alarms = [
            name
            for name, contrast in self.contrasts.items()
            if contrast.evidence.worse >= math.log(len(OUTCOMES) / level)
        ]
        if alarms:
            self.revert(now, f"alarm: {', '.join(alarms)} worse than allowed")
            return
        if self.status != "running":
            return
        if self.stage < len(self.rules.stages) - 1:
            if self.in_stage >= self.rules.min_conversations:
                self._enter(self.stage + 1, now, "no alarm so far")
            return
        better = self.better()
        if better and not self.missing():
            self.status = "promoted"
            self._enter(len(self.rules.stages), now, f"{', '.join(better)} better")
        elif sum(self.conversations.values()) >= self.rules.max_conversations:
            lacking = self.missing() or ["better quality or dollars"]
            self.revert(now, f"no proof in time of {', '.join(lacking)}")

    def better(self) -> list[str]:
        """Outcomes in which the canary is proven better than the control."""
        least = math.log(2.0 / (1.0 - self.rules.confidence))
        goals = ("quality", "dollars")
        return [name for name in goals if self.contrasts[name].evidence.better >= least]

    def missing(self) -> list[str]:
        """Outcomes in which the canary is not proven good enough."""
        least = math.log(1.0 / (1.0 - self.rules.confidence))
        return [name for name, c in self.contrasts.items() if c.evidence.fit < least]

    def _enter(self, stage: int, now: float, reason: str) -> None:
        self.stage, self.since, self.in_stage = stage, now, 0
        self.events.append(Event(now, f"share {self.share:.0%}", reason))

    def drifted(self, alarms: Iterable[Alarm], now: float) -> None:
        """Follow ``rules.on_drift``, where an alarm is of prompts or quality and of a request after
        the canary's start. One that is frozen or promoted stays."""
        if self.status != "running" or self.rules.on_drift == "none":
            return
        began = self.events[0].time
        changed = {a.stream for a in alarms if a.time > began and a.is_of_traffic}
        if changed:
            self.revert(now, f"drift of {', '.join(sorted(changed))}")

    def freeze(self, now: float) -> None:
        """Keep the share; an alarm still rolls back."""
        if self.status != "running":
            raise InvalidInputError(f"the canary is {self.status}; only a running one is frozen")
        self.status = "frozen"
        self.events.append(Event(now, "frozen", "by command"))

    def revert(self, now: float, reason: str = "by command") -> None:
        """Give every conversation back to the old router."""
        if self.status == "reverted":
            raise InvalidInputError("the canary is reverted already")
        self.status = "reverted"
        self.events.append(Event(now, "reverted", reason))

    def to_dict(self) -> dict[str, Any]:
        """Its whole state, for JSON."""
        plain = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("contrasts", "rules", "events")
        }
        return plain | {
            "rules": asdict(self.rules) | {"stages": list(self.rules.stages)},
            "events": [asdict(event) for event in self.events],
            "contrasts": {name: c.to_dict() for name, c in self.contrasts.items()},
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Canary:
        """The canary that ``to_dict`` wrote. Raises KeyError, TypeError or ValueError for
        something else."""
        rules = Rules(**{**saved["rules"], "stages": tuple(saved["rules"]["stages"])})
        contrasts = {n: rules.contrast(n, saved["contrasts"][n]) for n in OUTCOMES}
        events = [Event(**event) for event in saved["events"]]
        return cls(**{**saved, "rules": rules, "contrasts": contrasts, "events": events})

    def summary(self) -> dict[str, Any]:
        """What a person wants to know, for the page and ``fastroute canary status``."""
        level = 1.0 - self.rules.confidence
        least = {
            "worse": len(OUTCOMES) / level, "fit": 1.0 / level, "better": 2.0 / level
        }  # fmt: skip
        outcomes = {}
        for name, contrast in self.contrasts.items():
            (control, canary), evidence = contrast.means, contrast.evidence
            if name == "quality":
                control, canary = 1.0 - control, 1.0 - canary
            scale = self.limits.get(name, 1.0)
            outcomes[name] = {
                "control": None if math.isnan(control) else scale * control,
                "canary": None if math.isnan(canary) else scale * canary,
                "conversations": [int(n) for n in contrast.counts],
                # Parts of the evidence that a decision takes: 1 decides.
                **{
                    test: min(max(getattr(evidence, test) / math.log(needed), 0.0), 1.0)
                    for test, needed in least.items()
                },
            }
        return {
            "status": self.status,
            "share": self.share,
            "router": self.router,
            "since": self.since,
            "conversations": self.conversations,
            "outcomes": outcomes,
            "better": self.better(),
            "missing": self.missing(),
            "events": [asdict(event) for event in self.events[-20:]],
        }


def place(salt: str, conversation: str) -> float:
    """A number in 0..1 for a conversation, evenly spread, the same everywhere."""
    digest = hashlib.blake2b(f"{salt}\0{conversation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2.0**64
