"""Puts questions to a model, several at a time, and keeps each answer in a journal at once."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Protocol, TypeVar

from fastroute._validate import check_count
from fastroute.chat.completion import beginning_of, read_completion
from fastroute.errors import DispatchError, ProviderResponseError, ProviderStatusError
from fastroute.http.request import AsyncTransport, Request
from fastroute.training.label.chat_model import ChatModel, Estimate, Question
from fastroute.training.label.journal import Journal
from fastroute.training.label.verdicts import fill

#: So many failures with no answer between them, each after its own retries, end the run: what
#: comes next would fail too.
STOP_AFTER = 5
# Nothing that is asked of this endpoint with this key can do better.
_HOPELESS = frozenset({401, 402, 403, 404})
_MOST_TOKENS = 2**53  # of more no float holds each
_COUNTS = ("prompt_tokens", "completion_tokens")
_Item = TypeVar("_Item")
_Report = TypeVar("_Report")

#: Called with what is being done, how many questions that is, and gives what counts them.
Progress = Callable[[str, int], Callable[[], object]]


def unheard(*_: object) -> None:
    """A listener that does nothing."""


def no_progress(_what: str, _count: int) -> Callable[[], object]:
    """A ``Progress`` that shows nothing."""
    return unheard


@dataclass
class Asked:
    """How the questions went."""

    answered: int = 0  #: how many were asked now and answered
    kept: int = 0  #: how many had their answer in the journal
    #: what went wrong with each that was asked and not answered.
    failures: list[DispatchError] = field(default_factory=list)
    unasked: int = 0  #: how many were not asked because the run was stopped
    #: prompt_tokens, completion_tokens: of the answers of now, as far as the provider says.
    prompt_tokens: int = 0
    completion_tokens: int = 0
    #: of those, answers whose tokens the provider does not say, or not in whole numbers from 0 on:
    #: they are not in the sums.
    uncounted: int = 0
    truncated: int = 0  #: how many answers, of now or before, end at ``max_tokens``

    @property
    def missing(self) -> int:
        """How many have no answer."""
        return len(self.failures) + self.unasked

    def add(self, other: Asked) -> None:
        """Count the questions of ``other`` too."""
        self.failures += other.failures
        for name in (f.name for f in fields(self) if f.name != "failures"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Put(Protocol):
    """``ask`` with the transport, the journal and the listeners of one run."""

    async def __call__(self, model: ChatModel, questions: list[Question], what: str) -> Asked:
        """Put ``questions`` to ``model``; ``what`` they are is shown."""
        ...


class Judging(ABC, Generic[_Item, _Report]):
    """Work that puts questions to models and makes a report of the answers."""

    journal: Journal  #: where all answers are kept

    @abstractmethod
    def estimates(self, items: Sequence[_Item]) -> list[Estimate]:
        """What a run will take, one estimate for each model that is asked. Raises as ``arun``."""

    @abstractmethod
    async def _run(self, items: Sequence[_Item], put: Put) -> _Report:
        """What is done in ``arun``."""

    def run(
        self,
        items: Sequence[_Item],
        *,
        transport: AsyncTransport | None = None,
        concurrency: int = 8,
        progress: Progress = no_progress,
        on_drain: Callable[[int], object] = unheard,
    ) -> _Report:
        """``arun`` in an event loop of its own, for callers that are in none."""
        return asyncio.run(self.arun(items, transport, concurrency, progress, on_drain))

    async def arun(
        self,
        items: Sequence[_Item],
        transport: AsyncTransport | None = None,
        concurrency: int = 8,
        progress: Progress = no_progress,
        on_drain: Callable[[int], object] = unheard,
    ) -> _Report:
        """Ask for what the journal lacks, and make the report.

        What fails is counted, not raised: the report's ``missing`` is then above 0.

        Args:
            items: what is judged.
            transport: carries the requests; an ``AsyncHttpTransport`` of its own if None.
            concurrency: most requests at a time.
            progress, on_drain: as for ``ask``.

        Raises InvalidInputError for items that can't be judged, or if the journal can't be written.
        """
        check_count("concurrency", concurrency, least=1)
        async with AsyncExitStack() as opened:
            if transport is None:
                from fastroute.http.async_transport import AsyncHttpTransport

                transport = await opened.enter_async_context(AsyncHttpTransport())
            used = transport

            async def put(model: ChatModel, questions: list[Question], what: str) -> Asked:
                shown = progress(what, sum(q.key not in self.journal for q in questions))
                return await ask(
                    model, questions, transport=used, journal=self.journal,
                    concurrency=concurrency, progress=shown, on_drain=on_drain,
                )  # fmt: skip

            return await self._run(items, put)

    def _both_orders(
        self, judge: ChatModel, template: str, first: str, second: str, **texts: str
    ) -> list[Question]:
        """The two questions about one pair."""
        return [
            judge.question(fill(template, first=one, second=other, **texts))
            for one, other in ((first, second), (second, first))
        ]


async def ask(
    model: ChatModel,
    questions: Iterable[Question],
    *,
    transport: AsyncTransport,
    journal: Journal,
    concurrency: int = 8,
    progress: Callable[[], object] = unheard,
    on_drain: Callable[[int], object] = unheard,
) -> Asked:
    """Ask every question that has no answer in the journal yet, each once.

    Cancelled (Ctrl-C does that), it asks nothing more, but waits for the answers under way, which
    will be paid for, and keeps them; cancelled again, it gives those up.

    Args:
        model: what is asked.
        questions: those with equal keys are one.
        transport: carries the requests, with the retries of ``Endpoint.max_retries``.
        journal: where answers are looked up and kept.
        concurrency: most requests at a time.
        progress: called after each question.
        on_drain: called with the number of requests under way when it is cancelled.

    Raises InvalidInputError if the journal can't be written.
    """
    check_count("concurrency", concurrency, least=1)
    distinct = list({question.key: question for question in questions}.values())
    result = Asked()
    rest = []
    for question in distinct:
        record = journal.get(question.key)
        if record is None:
            rest.append(question)
        else:
            result.kept += 1
            result.truncated += record["finish_reason"] == "length"
    run = _Run(model, transport, journal, result, iter(rest), progress)
    workers = [asyncio.create_task(run.work()) for _ in range(min(concurrency, len(rest)))]
    try:
        await _all_of(workers)
    except asyncio.CancelledError:
        run.stopped = True
        on_drain(run.under_way)
        await _all_of(workers)
        raise
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    result.unasked = len(rest) - result.answered - len(result.failures)
    return result


async def _all_of(workers: list[asyncio.Task[None]]) -> None:
    """Wait for all, without cancelling them when this is cancelled. Raises what one raised."""
    if workers:
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        for worker in done:
            worker.result()


@dataclass
class _Run:
    model: ChatModel
    transport: AsyncTransport
    journal: Journal
    result: Asked
    rest: Iterator[Question]
    progress: Callable[[], object]
    stopped: bool = False
    under_way: int = 0
    failures_in_a_row: int = 0

    async def work(self) -> None:
        for question in self.rest:
            self.under_way += 1
            try:
                record = await self._answer(question)
            except DispatchError as error:
                self._failed(error)
            else:
                self.failures_in_a_row = 0
                self.journal.add(question.key, record)
                self.result.answered += 1
                counts = record["prompt_tokens"], record["completion_tokens"]
                self.result.prompt_tokens += counts[0] or 0
                self.result.completion_tokens += counts[1] or 0
                self.result.uncounted += None in counts
                self.result.truncated += record["finish_reason"] == "length"
            finally:
                self.under_way -= 1
            self.progress()
            if self.stopped:
                return

    async def _answer(self, question: Question) -> dict[str, Any]:
        request = Request(self.model.endpoint, question.body, model=self.model.name)
        response = await self.transport.asend(request)
        body = await response.read()
        key = self.model.endpoint.find_key()
        completion = read_completion(body, response.headers, None, key=key)
        try:
            choice = completion["choices"][0]
            text = choice["message"].get("content") or ""
            reason = choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ProviderResponseError(
                f"{self.model.endpoint.address(request.path).shown}: the answer is not a "
                f"chat completion with a message: {beginning_of(body, key)!r}",
                body=body,
            ) from error
        counts = {n: _count(completion.get("usage"), n) for n in _COUNTS}
        return {"text": text if isinstance(text, str) else "", "finish_reason": reason, **counts}

    def _failed(self, error: DispatchError) -> None:
        self.result.failures.append(error)
        self.failures_in_a_row += 1
        hopeless = isinstance(error, ProviderStatusError) and error.status_code in _HOPELESS
        if hopeless or self.failures_in_a_row >= STOP_AFTER:
            self.stopped = True


def _count(usage: object, name: str) -> int | None:
    """A number of tokens, if it can be one."""
    count = usage.get(name) if isinstance(usage, dict) else None
    if not isinstance(count, int) or isinstance(count, bool):
        return None
    return count if 0 <= count < _MOST_TOKENS else None
