"""A cascade by evidence at run time: cheap models side by side, the strong one where they differ.

Every cheap model is asked at once. The first answers that agree end the wait, and the rest are
cancelled. Where the answers differ, can't be trusted, or are late, the strong model is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastroute.errors import InvalidInputError
from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.evidence.answer import Answer
from fastroute.evidence.comparison import Comparison, compare
from fastroute.evidence.kinds import Expectation
from fastroute.evidence.signals import signals
from fastroute.http.request import AsyncResponse, AsyncTransport, Request

#: How long an answer may wait for the ends of cancelled calls, in seconds.
_CLOSING_S = 0.05
#: A longer cheap answer counts as none: it is read in the event loop.
MOST_ANSWER_BYTES = 8 * 2**20
_DEFAULT_THRESHOLD = 0.5
_closing: set[asyncio.Task[None]] = set()  # an event loop alone would not keep them

CallOutcome = Literal["sent", "agreed", "not_sent", "cancelled", "failed"]
Reason = Literal["agree", "accepted", "disagree", "incomparable", "late", "failed", "rejected"]


@dataclass(frozen=True, slots=True)
class CascadeCall:
    """One call that a cascade made.

    Attributes:
        model: which model.
        outcome: "sent" to the client; "agreed" with what was sent; "not_sent"; "cancelled" before
            its end, which may still be billed; or "failed".
        seconds: how long it took, or ran until it was cancelled.
        usage: token counts as its provider gave them; None where there are none.
        answer: what a cheap model said; None where there is no answer that can be read.
        request: what its provider answered, one of several where a transport retries or balances;
            None for a call that was not answered.
    """

    model: str
    outcome: CallOutcome
    seconds: float
    usage: dict[str, Any] | None = None
    answer: Answer | None = field(default=None, repr=False)
    request: Request | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Evidence:
    """How a cascade decided, and every call that it made.

    Attributes:
        reason: why the sent answer was sent. "agree" and "accepted" (by the acceptance model) are
            cheap answers; "incomparable" is what the prompt's router decided; all others are the
            strong model's: "disagree", "rejected" by the acceptance model, "late", or "failed".
        votes: how many cheap answers have the value of the largest group.
        answers: how many cheap answers there were.
        model: whose answer was sent.
        calls: every call.
    """

    reason: Reason
    votes: int
    answers: int
    model: str
    calls: tuple[CascadeCall, ...] = ()

    def __str__(self) -> str:
        """As in the header ``x-fastroute-evidence``, such as "agree 2/2"."""
        return f"{self.reason} {self.votes}/{self.answers}"


@dataclass(frozen=True)
class CascadeSettings:
    """What a cascade may do.

    Attributes:
        quorum: how many cheap answers must agree.
        deadline_s: seconds until the strong model is asked although no answers agree yet.
        early_strong_s: seconds until the strong model is asked beside the cheap ones, to save
            time where they differ; None: only when it is needed. It is cancelled if they agree.
        threshold: with ``acceptance``, the least P(accept) with which a cheap answer is sent; None
            for the model's operating point, or 0.5 where it has none.
        acceptance: the acceptance model; None for the rule of agreement.
        expectation: what answers are compared by; None where each request tells.
        logprobs: the cheap models that are asked for log-probabilities, which the acceptance model
            reads. Where the client did not ask for them, they are removed from the answer.

    Raises InvalidInputError for a value that can't be used.
    """

    quorum: int = 2
    deadline_s: float = 60.0
    early_strong_s: float | None = None
    threshold: float | None = None
    acceptance: AcceptanceModel | None = field(default=None, repr=False)
    expectation: Expectation | None = None
    logprobs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.quorum < 1:
            raise InvalidInputError(f"quorum must be at least 1, got {self.quorum}")
        for name in ("deadline_s", "early_strong_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidInputError(f"{name} must be a number of seconds, got {value!r}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InvalidInputError(f"threshold must be from 0 to 1, got {self.threshold}")

    def check_models(self, count: int) -> None:
        """Raise InvalidInputError where ``count`` cheap models are not those of the acceptance
        model, which knows them by their places."""
        known = None if self.acceptance is None else self.acceptance.cheap_models
        if known is not None and known != count:
            raise InvalidInputError(
                f"the acceptance model was trained with {known} cheap models, and there are "
                f"{count}: name the same, in the same order, or train it again"
            )

    def accepts(self, probability: float) -> bool:
        """Whether a cheap answer with this P(accept) is sent."""
        if self.threshold is not None:
            return probability >= self.threshold
        point = None if self.acceptance is None else self.acceptance.provenance.operating_point
        return probability >= (_DEFAULT_THRESHOLD if point is None else point.threshold)


@dataclass
class _Call:
    """A running call and its outcome."""

    request: Request
    task: asyncio.Task[AsyncResponse | bytes]
    began_s: float
    ended_s: float | None = None
    response: AsyncResponse | None = None
    body: bytes | None = None
    answer: Answer | None = None
    usage: dict[str, Any] | None = None
    failed: bool = False


class Cascade:
    """Asks cheap models and, where needed, the strong one; safe for many requests at once.

    Args:
        transport: carries every request.
        settings: what it may do.
    """

    def __init__(self, transport: AsyncTransport, settings: CascadeSettings | None = None) -> None:
        self._transport = transport
        self._settings = settings or CascadeSettings()

    async def send(
        self,
        cheap: Sequence[Request],
        strong: Request,
        *,
        prompt: str,
        expectation: Expectation | None = None,
        prefers_strong: Callable[[], bool] = lambda: True,
        prompt_win_rate: float = 0.5,
    ) -> tuple[AsyncResponse, Evidence]:
        """Answer one request.

        Args:
            cheap: requests to the cheap models, at least one, for whole answers.
            strong: the request to the strong model, a stream if the client wants one.
            prompt: the text that is asked.
            expectation: what an answer is compared by; by default told from the prompt.
            prefers_strong: the prompt's router, asked only where answers can't be compared.
            prompt_win_rate: for the acceptance model.

        Returns:
            The answer to pass on, whole or as the strong model's stream, and how it was chosen.

        Raises DispatchError of the strong model, where no cheap answer can replace it.
        """
        if not cheap:
            raise InvalidInputError("cheap is empty; a cascade needs a cheap model")
        expectation = expectation or Expectation.from_prompt(prompt)
        run = _Run(self._transport, self._settings, list(cheap), strong)
        try:
            reason, chosen, comparison = await run.ask_cheap(prompt, expectation, prompt_win_rate)
            if reason == "incomparable" and not prefers_strong():
                chosen = next((call for call in run.calls if call.answer is not None), None)
            response: AsyncResponse | None = None
            if chosen is None:
                response = await run.ask_strong()
                if response is None:  # it failed: a cheap answer is better than none
                    chosen = run.stand_in(comparison)
                    reason = "failed"
            if chosen is not None:
                assert chosen.body is not None
                assert chosen.response is not None
                run.sent = chosen
                response = AsyncResponse(
                    chosen.response.status_code,
                    chosen.response.raw_headers or chosen.response.headers,
                    chosen.body,
                    request=chosen.response.request or chosen.request,
                )
            assert response is not None
            evidence = run.evidence(reason, comparison)
        except BaseException:
            run.sent = None
            await self._close(run)
            raise
        try:
            await self._close(run)
        except asyncio.CancelledError:  # nobody takes the answer any more
            await response.aclose()
            raise
        return response, evidence

    async def _close(self, run: _Run) -> None:
        """Cancel what isn't sent; wait a moment for its end."""
        task = asyncio.get_running_loop().create_task(run.cancel_rest())
        _closing.add(task)
        task.add_done_callback(_closing.discard)
        await asyncio.wait([task], timeout=_CLOSING_S)


class _Run:
    """The calls of one request."""

    def __init__(
        self,
        transport: AsyncTransport,
        settings: CascadeSettings,
        cheap: list[Request],
        strong: Request,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._strong_request = strong
        self._strong: _Call | None = None
        self._group_of: dict[int, int] = {}
        self.sent: _Call | None = None
        self.calls = [self._start(request, whole=True) for request in cheap]

    async def ask_cheap(
        self, prompt: str, expectation: Expectation, win_rate: float
    ) -> tuple[Reason, _Call | None, Comparison | None]:
        """Wait until cheap answers agree, are accepted, or nothing more is to be expected."""
        settings = self._settings
        pending = {call.task: call for call in self.calls}
        late = False
        while pending:
            now_s = self._loop.time() - self._began_s
            wake_s = settings.deadline_s - now_s
            if settings.early_strong_s is not None and self._strong is None:
                wake_s = min(wake_s, settings.early_strong_s - now_s)
            done, _ = await asyncio.wait(
                pending, timeout=max(0.0, wake_s), return_when=asyncio.FIRST_COMPLETED
            )
            elapsed_s = self._loop.time() - self._began_s
            for task in done:
                self._finish(pending.pop(task))
            answered = [call for call in self.calls if call.answer is not None]
            if done and settings.acceptance is None and len(answered) >= settings.quorum:
                comparison = self._compare(answered, expectation)
                if comparison.accepted is not None:
                    return "agree", answered[comparison.accepted], comparison
            if elapsed_s >= settings.deadline_s and pending:
                late = True
                break
            if settings.early_strong_s is not None and elapsed_s >= settings.early_strong_s:
                self._start_strong()
        answered = [call for call in self.calls if call.answer is not None]
        if not answered:
            return ("late" if late else "failed"), None, None
        comparison = self._compare(answered, expectation)
        if late:
            return "late", None, comparison
        if comparison.outcome == "incomparable":
            return "incomparable", None, comparison
        if settings.acceptance is None:
            return "disagree", None, comparison
        best = comparison.majority
        ordered = [answered[best], *answered[:best], *answered[best + 1 :]]
        found = signals(
            prompt,
            [call.answer for call in ordered if call.answer is not None],
            expectation,
            prompt_win_rate=win_rate,
            places=[self.calls.index(call) for call in ordered],
        )
        accepted = settings.accepts(float(settings.acceptance.probabilities(found)[0]))
        return (
            ("accepted", answered[best], comparison) if accepted else ("rejected", None, comparison)
        )

    def _compare(self, answered: Sequence[_Call], expectation: Expectation) -> Comparison:
        answers = [call.answer for call in answered if call.answer is not None]
        comparison = compare(answers, expectation, quorum=self._settings.quorum)
        self._group_of = dict(zip(map(id, answered), comparison.groups, strict=True))
        return comparison

    async def ask_strong(self) -> AsyncResponse | None:
        """The strong model's answer, begun; None where it failed but a cheap answer is here."""
        self._start_strong()
        strong = self._strong
        assert strong is not None
        for call in self.calls:
            call.task.cancel()
        try:
            response = await strong.task
        except Exception:  # any failure may be answered by a cheap answer, else it is raised
            strong.failed = True
            strong.ended_s = self._loop.time()
            if any(call.answer is not None for call in self.calls):
                return None
            raise
        assert isinstance(response, AsyncResponse)
        self.sent = strong
        strong.ended_s = self._loop.time()
        strong.response = response
        return response

    def stand_in(self, comparison: Comparison | None) -> _Call:
        """The cheap answer to send where the strong model failed: the largest group's first."""
        answered = [call for call in self.calls if call.answer is not None]
        return answered[0 if comparison is None else comparison.majority]

    def evidence(self, reason: Reason, comparison: Comparison | None) -> Evidence:
        """What was done, once the answer is chosen."""
        calls = self.calls if self._strong is None else [*self.calls, self._strong]
        sent = self.sent
        for call in calls:  # what ended while the strong model was asked is counted too
            if call.task.done() and not call.task.cancelled() and call.ended_s is None:
                self._finish(call)
        answered = [call for call in self.calls if call.answer is not None]
        group_of = self._group_of

        def outcome(call: _Call) -> CallOutcome:
            if call is sent:
                return "sent"
            if call.failed:
                return "failed"
            if call.ended_s is None:
                return "cancelled"
            mine = group_of.get(id(call), -1)
            same = sent is not None and mine >= 0 and mine == group_of.get(id(sent), -2)
            return "agreed" if same else "not_sent"

        now_s = self._loop.time()
        return Evidence(
            reason,
            comparison.votes if comparison is not None else 0,
            len(answered),
            sent.request.model if sent is not None else "",
            tuple(
                CascadeCall(
                    call.request.model,
                    outcome(call),
                    (call.ended_s or now_s) - call.began_s,
                    call.usage,
                    call.answer,
                    call.response.request if call.response is not None else None,
                )
                for call in calls
            ),
        )

    async def cancel_rest(self) -> None:
        """Cancel every call that isn't sent, and wait until its connection is closed."""
        calls = self.calls if self._strong is None else [*self.calls, self._strong]
        rest = [call for call in calls if call is not self.sent]
        for call in rest:
            call.task.cancel()
        for result in await asyncio.gather(*(c.task for c in rest), return_exceptions=True):
            if isinstance(result, AsyncResponse):
                await result.aclose()

    def _start(self, request: Request, *, whole: bool) -> _Call:
        call = _Call(request, None, self._loop.time())  # type: ignore[arg-type]  # set below
        call.task = self._loop.create_task(self._ask(call, whole))
        return call

    def _start_strong(self) -> None:
        if self._strong is None:
            self._strong = self._start(self._strong_request, whole=False)

    async def _ask(self, call: _Call, whole: bool) -> AsyncResponse | bytes:
        response = await self._transport.asend(call.request)
        if not whole:
            return response
        call.response = response
        try:
            return await response.read(at_most=MOST_ANSWER_BYTES)
        except BaseException:
            await response.aclose()
            raise

    def _finish(self, call: _Call) -> None:
        """Read what a cheap call brought; a failure of any kind counts as no answer."""
        call.ended_s = self._loop.time()
        try:
            body = call.task.result()
            if isinstance(body, AsyncResponse):  # the strong model's, which nobody needs
                call.ended_s, call.response = None, body
                return
            completion = json.loads(body)
            usage = completion.get("usage") if isinstance(completion, dict) else None
            call.usage = usage if isinstance(usage, dict) else None
            answer = Answer.from_choice(completion["choices"][0])
        except (Exception, asyncio.CancelledError):
            call.failed = True
        else:
            call.answer, call.body = answer, body
