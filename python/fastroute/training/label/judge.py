"""Battles from a language model that judges pairs of answers, as RouteLLM's D_judge was made.

Each pair is judged in both orders. A model wins if it is preferred in both; a disagreement is a
tie. Every answer that was paid for goes to a journal at once: a run that was interrupted, or that
failed, is simply started again, and asks only for what is missing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastroute._validate import check_count
from fastroute.errors import InvalidInputError
from fastroute.http.request import AsyncTransport
from fastroute.training.label.answers import AnsweredPrompt
from fastroute.training.label.asking import (
    Asked,
    Progress,
    ask,
    no_progress,
    unheard,
    with_transport,
)
from fastroute.training.label.chat_model import ChatModel, Estimate, Question, estimate
from fastroute.training.label.journal import Journal
from fastroute.training.label.verdicts import PROMPT, Tally, check_template, fill
from fastroute.types import Battle


class JudgedBattle(NamedTuple):
    """A battle, and the dataset of its prompt."""

    dataset: str
    battle: Battle

    def row(self) -> dict[str, Any]:
        """The line of a file, as every reader of battles here takes it."""
        return {"dataset": self.dataset, **self.battle._asdict()}


@dataclass
class JudgeReport(Tally):
    """What a run of the judge came to, beside the counts of ``Tally``.

    Attributes:
        battles: one for each prompt with two answers and two verdicts, in the prompts' order.
        generated: how asking for answers went, by model.
        judged: how asking for verdicts went.
        equal_answers: pairs whose answers are the same text: ties that nobody was asked about.
        without_answers: prompts that lack an answer, so that there was nothing to judge.
    """

    battles: list[JudgedBattle] = field(default_factory=list)
    generated: dict[str, Asked] = field(default_factory=dict)
    judged: Asked = field(default_factory=Asked)
    equal_answers: int = 0
    without_answers: int = 0

    @property
    def missing(self) -> int:
        """How many questions have no answer; the same run, started again, asks for them."""
        return self.judged.missing + sum(asked.missing for asked in self.generated.values())

    @property
    def winners(self) -> Counter[str]:
        """How many battles each outcome has."""
        return Counter(judged.battle.winner for judged in self.battles)


class PairJudge:
    """Judges two models' answers to prompts.

    Args:
        judge: the model that judges.
        model_a, model_b: names of the models whose answers are compared.
        answerers: models to ask where an answer is missing, by name; a prompt that then still
            lacks one is not judged.
        journal: where all answers are kept.
        template: the judge's prompt, with {prompt}, {first} and {second}.

    Raises InvalidInputError for equal names, an answerer for another model, or a template that
    lacks a field.
    """

    def __init__(
        self,
        judge: ChatModel,
        model_a: str,
        model_b: str,
        *,
        journal: Journal,
        answerers: Mapping[str, ChatModel] | None = None,
        template: str = PROMPT,
    ) -> None:
        if model_a == model_b:
            raise InvalidInputError(f"model_a and model_b are both {model_a!r}; give two models")
        self.judge = judge
        self.models = (model_a, model_b)
        self.answerers = dict(answerers or {})
        self.journal = journal
        self.template = check_template(template)
        others = set(self.answerers) - set(self.models)
        if others:
            raise InvalidInputError(
                f"answerers has {', '.join(sorted(others))}, which is neither {model_a!r} nor "
                f"{model_b!r}"
            )

    def estimates(self, rows: Sequence[AnsweredPrompt]) -> list[Estimate]:
        """What a run on ``rows`` will take, one estimate for each model that is asked.

        An answer that is still to be generated counts with its most tokens in the judge's input.
        """
        found = []
        for model, questions in self._missing_answers(rows).items():
            rest = [q for q in questions if q.key not in self.journal]
            kept = len(questions) - len(rest)
            found.append(estimate(self.answerers[model], rest, kept))
        questions = []
        more_tokens = 0
        for row in rows:
            texts = [self._answer(row, model) for model in self.models]
            if texts[0] == texts[1] and texts[0] is not None:
                continue
            missing = [m for m, text in zip(self.models, texts, strict=True) if text is None]
            if any(model not in self.answerers for model in missing):
                continue
            more_tokens += 2 * sum(self.answerers[model].max_tokens for model in missing)
            questions += self._questions(row.prompt, texts[0] or "", texts[1] or "")
        rest = [q for q in questions if q.key not in self.journal]
        kept = len(questions) - len(rest)
        return [*found, estimate(self.judge, rest, kept, more_tokens)]

    def run(
        self,
        rows: Sequence[AnsweredPrompt],
        *,
        transport: AsyncTransport | None = None,
        concurrency: int = 8,
        progress: Progress = no_progress,
        on_drain: Callable[[int], object] = unheard,
    ) -> JudgeReport:
        """``arun`` in an event loop of its own, for callers that are in none."""
        return asyncio.run(
            self.arun(
                rows,
                transport=transport,
                concurrency=concurrency,
                progress=progress,
                on_drain=on_drain,
            )
        )

    async def arun(
        self,
        rows: Sequence[AnsweredPrompt],
        *,
        transport: AsyncTransport | None = None,
        concurrency: int = 8,
        progress: Progress = no_progress,
        on_drain: Callable[[int], object] = unheard,
    ) -> JudgeReport:
        """Ask for answers that are missing, then for verdicts, and put the battles together.

        What fails is counted, not raised: the report's ``missing`` is then above 0.

        Args:
            rows: the prompts, with the answers that are there.
            transport: carries the requests; an ``AsyncHttpTransport`` of its own if None.
            concurrency: most requests at a time.
            progress, on_drain: as for ``asking.ask``.

        Raises InvalidInputError if the journal can't be written.
        """
        check_count("concurrency", concurrency, least=1)
        return await with_transport(
            transport, lambda own: self._run(rows, own, concurrency, progress, on_drain)
        )

    async def _run(
        self,
        rows: Sequence[AnsweredPrompt],
        transport: AsyncTransport,
        concurrency: int,
        progress: Progress,
        on_drain: Callable[[int], object],
    ) -> JudgeReport:
        report = JudgeReport()

        async def put(model: ChatModel, questions: list[Question], what: str) -> Asked:
            return await ask(
                model,
                questions,
                transport=transport,
                journal=self.journal,
                concurrency=concurrency,
                progress=progress(what, sum(q.key not in self.journal for q in questions)),
                on_drain=on_drain,
            )

        for model, questions in self._missing_answers(rows).items():
            asked = await put(self.answerers[model], questions, f"answers of {model}")
            report.generated[model] = asked
        questions = []
        for row in rows:
            first, second = (self._answer(row, model) for model in self.models)
            if first is not None and second is not None and first != second:
                questions += self._questions(row.prompt, first, second)
        report.judged = await put(self.judge, questions, "verdicts")
        for row in rows:
            self._settle(row, report)
        return report

    def _settle(self, row: AnsweredPrompt, report: JudgeReport) -> None:
        """Count one pair, and add its battle if there is one."""
        a, b = self.models
        first, second = self._answer(row, a), self._answer(row, b)
        if first is None or second is None:
            report.without_answers += 1
            return
        if first == second:
            report.equal_answers += 1
            report.battles.append(JudgedBattle(row.dataset, Battle(row.prompt, a, b, "tie")))
            return
        winner = report.settle(
            *(self.journal.text(q.key) for q in self._questions(row.prompt, first, second))
        )
        if winner is not None:
            report.battles.append(JudgedBattle(row.dataset, Battle(row.prompt, a, b, winner)))

    def _missing_answers(self, rows: Sequence[AnsweredPrompt]) -> dict[str, list[Question]]:
        """Questions for the answers that the file lacks, by model; answered ones among them."""
        return {
            model: [answerer.question(row.prompt) for row in rows if model not in row.answers]
            for model, answerer in self.answerers.items()
            if any(model not in row.answers for row in rows)
        }

    def _answer(self, row: AnsweredPrompt, model: str) -> str | None:
        """The answer in the file, else the one in the journal."""
        found = row.answers.get(model)
        if found is None and model in self.answerers:
            found = self.journal.text(self.answerers[model].question(row.prompt).key)
        return found

    def _questions(self, prompt: str, first: str, second: str) -> list[Question]:
        """The two orders of one pair."""
        return [
            self.judge.question(fill(self.template, prompt=prompt, first=one, second=other))
            for one, other in ((first, second), (second, first))
        ]
