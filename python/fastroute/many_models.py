"""Decisions among any number of candidate models.

A request's needs leave the eligible candidates, a ``models`` router estimates P(success) of each,
and a policy chooses by quality and dollars. A pair of models is the special case that
``fastroute.decider`` decides faster.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fastroute.candidates import (
    Candidate,
    CandidateSet,
    ChoicePolicy,
    Eligibility,
    Needs,
    Rule,
    Turn,
    parse_policy,
)
from fastroute.candidates.candidate import BYTES_PER_TOKEN
from fastroute.candidates.languages import language_of
from fastroute.candidates.policies import Chosen
from fastroute.candidates.prices import Prices
from fastroute.candidates.rules import Asked, Rules
from fastroute.chat.needs import needs_of
from fastroute.chat.prompts import prompt_from_messages, system_text
from fastroute.errors import InvalidInputError, InvalidTypeError, NoEligibleModelError
from fastroute.http.failures import is_context_overflow
from fastroute.http.request import Request
from fastroute.routers import ModelsRouter
from fastroute.routers.many_models.examples import NearPrompt
from fastroute.types import Float64Array

__all__ = [
    "CandidateDecider",
    "CandidateDecision",
    "CandidateRequest",
    "CandidateView",
]

Explain: TypeAlias = bool | Literal["candidates"]
#: Expected quality of a candidate of which nothing is known.
UNKNOWN_QUALITY = 0.5
_START = Turn()
#: Longer prompts are scored outside a policy's lock, and without the interpreter's.
_QUICK_CHARS = 16_384


class CandidateView(NamedTuple):
    """What a decision knew of one candidate.

    Attributes:
        name: of the model.
        quality: P(success), calibrated.
        low, high: its 95 % interval.
        usd: expected dollars.
        reason: why it could not be chosen; None where it could.
    """

    name: str
    quality: float
    low: float
    high: float
    usd: float
    reason: str | None

    @property
    def eligible(self) -> bool:
        """Whether it could be chosen."""
        return self.reason is None


class CandidateDecision(NamedTuple):
    """Which candidate answers, and why.

    Attributes:
        model: its name.
        quality: its P(success), calibrated.
        usd: its expected dollars.
        policy: what chose it, as ``parse_policy`` reads it.
        abstained: whether the graded prompts say nothing of this one, so that levels decided.
        drops_reasoning: whether signed reasoning has to be removed from the history, because the
            conversation moves to another provider.
        stayed: whether the model before was kept, where another would have been chosen at a
            conversation's start.
        latency_us: microseconds from the request to this decision.
        candidates: what was known of each; empty unless asked for by ``explain``.
        nearest: with ``explain=True``, the nearest graded prompts, if the router keeps any.
    """

    model: str
    quality: float
    usd: float
    policy: str
    abstained: bool
    drops_reasoning: bool
    latency_us: float
    candidates: tuple[CandidateView, ...] = ()
    stayed: bool = False
    nearest: tuple[NearPrompt, ...] = ()


@dataclass(frozen=True)
class CandidateRequest(Request):
    """A request to a chosen candidate.

    Attributes:
        decision: why it was chosen.
        after_overflow: makes the request to the next eligible candidate; called where the provider
            says that the prompt is too long. None where that has happened already.
        name: of the conversation; None where nothing names it.
    """

    decision: CandidateDecision | None = None
    after_overflow: Callable[[], CandidateRequest] | None = field(default=None, repr=False)
    name: bytes | None = field(default=None, repr=False)

    @property
    def may_move_stream(self) -> bool:
        """Whether a stream whose first event says that the prompt is too long goes to another."""
        return self.stream and self.after_overflow is not None

    def following(self, error: BaseException) -> CandidateRequest | None:
        """The request to the next eligible candidate, where ``error`` says that the prompt was too
        long for this one; None for another error, or where no candidate is left."""
        if self.after_overflow is None or not is_context_overflow(error):
            return None
        try:
            return self.after_overflow()
        except NoEligibleModelError:
            return None


class _Prepared(NamedTuple):
    """Candidates as they were at one time, and what follows from them."""

    candidates: tuple[Candidate, ...]
    eligibility: Eligibility
    prices: Prices
    estimate: Callable[[str], tuple[Float64Array, bool]]
    choose: Callable[..., Chosen] | None
    rules: Rules


class CandidateDecider:
    """Chooses among candidates for each request; nothing is sent. Safe in several threads.

    Args:
        candidates: a ``CandidateSet``, or what makes one: candidates, or the path of a TOML file.
        policy: a ``ChoicePolicy``, or the text of one, such as "spend_at_most=1.2".
        router: a ``models`` router, or the folder of one. Candidates that it does not know have
            their ``quality_prior``. Without a router all have.
        count_tokens: counts the tokens of a text. It is called where the length in bytes does not
            show that every candidate has room.
        drop_reasoning: whether signed reasoning is removed from a history before a switch to
            another provider, instead of staying with the provider.
        rules: which candidates may answer which requests; all of them hold.

    Raises InvalidInputError, InvalidTypeError for an argument that can't be used.
    """

    def __init__(
        self,
        candidates: CandidateSet | Iterable[Candidate] | str | os.PathLike[str],
        policy: ChoicePolicy | str = "max_quality",
        router: ModelsRouter | str | os.PathLike[str] | None = None,
        *,
        count_tokens: Callable[[str], int] | None = None,
        drop_reasoning: bool = False,
        rules: Sequence[Rule] = (),
    ) -> None:
        self.candidates = (
            candidates if isinstance(candidates, CandidateSet) else CandidateSet(candidates)
        )
        self.policy = parse_policy(policy) if isinstance(policy, str) else policy
        if not isinstance(self.policy, ChoicePolicy):
            raise InvalidTypeError(f"policy must be a ChoicePolicy or a text, got {policy!r}")
        if isinstance(router, (str, os.PathLike)):
            router = ModelsRouter.load(router)
        if router is not None and not isinstance(router, ModelsRouter):
            raise InvalidTypeError(f"router must be a ModelsRouter or a folder, got {router!r}")
        if router is not None and router.embedder is None:
            raise InvalidInputError(
                "router has no embedder: it was trained with another one than the bundled; train "
                "it again, or load it with ModelsRouter.load(folder, embedder=...)"
            )
        self.router = router
        self._policy_text = repr(self.policy)
        self.drop_reasoning = drop_reasoning
        self._count_tokens = count_tokens
        self._rules = tuple(rules)
        self._prepared = self._prepare()

    def decide(
        self,
        prompt: str,
        *,
        needs: Needs | None = None,
        turn: Turn | None = None,
        explain: Explain = False,
        counts: bool = True,
    ) -> CandidateDecision:
        """Choose a candidate for ``prompt``.

        Args:
            prompt: what is scored.
            needs: of the whole request; by default those of the prompt alone.
            turn: where the conversation stands; by default at its start.
            explain: whether to state what was known of each candidate, and, unless it is
                "candidates", the nearest graded prompts.
            counts: whether the policy counts the choice; False where nothing will be sent.

        Raises:
            NoEligibleModelError: no candidate can answer; it names each and why not.
            InvalidInputError, InvalidTypeError: a prompt that is not text.
        """
        started_ns = perf_counter_ns()
        if needs is None:
            if not isinstance(prompt, str):
                raise InvalidTypeError(f"prompt must be a str, got {type(prompt).__name__}")
            needs = Needs.of_text(prompt)
        return self._decide(prompt, prompt, needs, turn or _START, explain, started_ns, counts)

    def decide_request(
        self,
        body: Mapping[str, Any],
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        model: str = "",
        cached_tokens: int = 0,
        explain: Explain = False,
        headers: Mapping[str, str] | None = None,
        refused_by: CandidateDecision | None = None,
    ) -> CandidateDecision:
        """Choose a candidate for the body of a chat request.

        Args:
            body: with ``messages``; its tools, images, limits and formats are taken into account.
            allow: tags, of which the candidate must have one.
            deny: tags, of which it must have none.
            model: the candidate that gave the conversation's last answer; "" at its start.
            cached_tokens: input tokens that its provider last read from its cache.
            explain: whether to state what was known of each candidate, and, unless it is
                "candidates", the nearest graded prompts.
            headers: of the request, for rules.
            refused_by: the decision before on this request, if that candidate's provider said that
                the prompt is longer than its context window.

        Raises as ``decide``, and InvalidPromptError for messages that can't be read.
        """
        started_ns = perf_counter_ns()
        messages = body.get("messages", ())
        prompt = prompt_from_messages(messages)
        needs = needs_of(body)
        if allow or deny:
            needs = replace(needs, allow=frozenset(allow), deny=frozenset(deny))
        named = {name.lower(): value for name, value in (headers or {}).items()}
        needs = self.ruled(needs, Asked("", named, "/chat/completions", system_text(body)))
        if refused_by is not None:
            needs = self.beyond(needs, refused_by)
        turn = Turn.read(messages, model, cached_tokens) if model else _START
        return self._decide(prompt, body, needs, turn, explain, started_ns, counts=True)

    def ruled(self, needs: Needs, asked: Asked) -> Needs:
        """``needs``, with the candidates excluded that the rules do not leave for ``asked``."""
        excluded = self._now().rules.excluded(asked) if self._rules else None
        return replace(needs, excluded={**needs.excluded, **excluded}) if excluded else needs

    def beyond(self, needs: Needs, refused_by: CandidateDecision) -> Needs:
        """``needs`` for a second choice, where the provider of the first said that the prompt is
        longer than its context window. The first is not charged."""
        self.policy.correct(refused_by.usd, 0.0)
        known = (c for c in self.candidates.current if c.name == refused_by.model)
        return needs.beyond(next(known, Candidate(refused_by.model)))

    def account(self, decision: CandidateDecision, usage: object) -> None:
        """Take note of what an answer cost, from the ``usage`` of a chat completion.

        A usage that can't be read leaves the expected dollars as they are.
        """
        candidate = next((c for c in self.candidates.current if c.name == decision.model), None)
        if candidate is None or not isinstance(usage, Mapping):
            return
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
        counts = [usage.get("prompt_tokens"), usage.get("completion_tokens"), cached or 0]
        tokens = [count for count in counts if type(count) is int and count >= 0]
        if len(tokens) == len(counts):
            self.policy.correct(decision.usd, candidate.dollars(*tokens))

    def _decide(
        self,
        prompt: str,
        counted: object,
        needs: Needs,
        turn: Turn,
        explain: Explain,
        started_ns: int,
        counts: bool,
    ) -> CandidateDecision:
        prepared = self._prepared
        candidates = prepared.candidates
        if candidates is not self.candidates.current:
            prepared = self._now()
            candidates = prepared.candidates
        tokens = needs.most_tokens / BYTES_PER_TOKEN
        if self._count_tokens is not None and prepared.eligibility.needs_count(needs):
            count = self._count_tokens(counted if isinstance(counted, str) else _text_of(counted))
            needs, tokens = needs.counted(count), float(count)
        if prepared.eligibility.asks_language and not needs.language:
            needs = replace(needs, language=language_of(prompt))
        able = eligible = prepared.eligibility.find(needs)
        locks: list[str | None] = []
        if turn.model:
            locks = turn.lock_reasons(candidates, drop_reasoning=self.drop_reasoning)
            eligible = [i for i in able if locks[i] is None]
            if not eligible:
                raise _locked(candidates, prepared.eligibility.reasons(needs), locks)
        most = needs.max_output_tokens
        views: tuple[CandidateView, ...] = ()
        near: tuple[NearPrompt, ...] = ()
        stayed, found = False, None
        is_plain = counts and not explain and not turn.model and len(able) == len(candidates)
        if is_plain and prepared.choose is not None and len(prompt) <= _QUICK_CHARS:
            try:
                found = self.policy.choose_by(
                    prepared.choose, prompt, prepared.prices.by_token, tokens,
                    math.inf if most is None else most,
                )  # fmt: skip
            except (TypeError, ValueError):
                found = None  # the steps below say what is wrong
        if found is None:
            usd = prepared.prices.dollars(
                tokens, most, cached_at=turn.model, cached_tokens=turn.cached_tokens
            )
            numbers, abstained = prepared.estimate(prompt)
            weighed = quality = numbers[0]
            if turn.model:
                before = next((i for i in able if candidates[i].name == turn.model), None)
                if before is not None:
                    free = self.policy.preview(quality[able], usd[able], safely=abstained)
                    stayed = able[free] != before
                    weighed = quality.copy()
                    weighed[before] += turn.margin
            if len(eligible) < len(candidates):
                weighed, paid = weighed[eligible], usd[eligible]
            else:
                paid = usd
            at = eligible[self._choose(weighed, paid, abstained, counts)]
            found = at, quality.item(at), usd.item(at), abstained
            if explain:
                views = _views(prepared, needs, locks, *numbers, usd)
                if self.router is not None and explain != "candidates":
                    near = self.router.nearest_graded(prompt)
        chosen, expected, dollars, abstained = found
        model = candidates[chosen].name
        drops = turn.signed_reasoning and _moves(candidates, turn.model, chosen)
        latency_us = (perf_counter_ns() - started_ns) / 1000
        # Half as long as a call of CandidateDecision.
        return tuple.__new__(
            CandidateDecision,
            (
                model, expected, dollars, self._policy_text, abstained, drops, latency_us, views,
                stayed and model == turn.model, near,
            ),
        )  # fmt: skip

    def _choose(
        self, quality: Float64Array, usd: Float64Array, abstained: bool, counts: bool
    ) -> int:
        if not counts:
            return self.policy.preview(quality, usd, safely=abstained)
        return (self.policy.choose_safely if abstained else self.policy.choose)(quality, usd)

    def _now(self) -> _Prepared:
        prepared = self._prepared
        if prepared.candidates is not self.candidates.current:
            prepared = self._prepared = self._prepare()
        return prepared

    def _prepare(self) -> _Prepared:
        candidates = self.candidates.current
        priors = {c.name: c.quality_prior for c in candidates}
        choose = None
        if self.router is not None:
            assert self.router.embedder is not None
            estimator = self.router.estimator.select(list(priors), priors)
            estimate = estimator.text_estimator(self.router.embedder)
            choose = estimator.text_chooser(self.router.embedder)
        else:
            known = [UNKNOWN_QUALITY if prior is None else prior for prior in priors.values()]
            alone = np.array([known, [0.0] * len(known), [1.0] * len(known)])

            def priors_alone(prompt: str) -> tuple[Float64Array, bool]:  # noqa: ARG001
                return alone, True

            estimate = priors_alone

        return _Prepared(
            candidates, Eligibility(candidates), Prices(candidates), estimate, choose,
            Rules(self._rules, candidates),
        )  # fmt: skip


def _moves(candidates: Sequence[Candidate], model: str, chosen: int) -> bool:
    """Whether the chosen candidate is of another provider than the ``model`` before."""
    if candidates[chosen].name == model:
        return False
    before = next((c.provider for c in candidates if c.name == model), "")
    return not (before and candidates[chosen].provider == before)


def _views(
    prepared: _Prepared,
    needs: Needs,
    locks: Sequence[str | None],
    *columns: Float64Array,
) -> tuple[CandidateView, ...]:
    reasons = prepared.eligibility.reasons(needs)
    numbers = (column.tolist() for column in columns)
    rows = zip(prepared.candidates, *numbers, reasons, locks or [None] * len(reasons), strict=True)
    return tuple(
        CandidateView(c.name, quality, low, high, usd, reason or lock)
        for c, quality, low, high, usd, reason, lock in rows
    )


def _locked(
    candidates: Sequence[Candidate], reasons: Sequence[str | None], locks: Sequence[str | None]
) -> NoEligibleModelError:
    said = {
        c.name: " and ".join(why for why in (reason, lock) if why)
        for c, reason, lock in zip(candidates, reasons, locks, strict=True)
    }
    parts = "; ".join(f"{name}: {why}" for name, why in said.items())
    return NoEligibleModelError(f"no candidate can answer this request: {parts}", reasons=said)


def _text_of(body: object) -> str:
    """All text of a body's messages, for a count of tokens."""
    found: list[str] = []
    waiting: list[Any] = [body.get("messages", ())] if isinstance(body, Mapping) else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Mapping):
            waiting += [v for k, v in value.items() if k not in ("image_url", "input_audio")]
        elif isinstance(value, (list, tuple)):
            waiting += value
    return "\n".join(found)
