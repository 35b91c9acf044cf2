"""Battles from a language model that judges pairs of answers, as RouteLLM's D_judge was made.

Each pair is judged in both orders. A model wins if it is preferred in both; a disagreement is a
tie. Every answer that was paid for goes to a journal at once: a run that was interrupted, or that
failed, is simply started again, and asks only for what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastroute.errors import InvalidInputError
from fastroute.training.label.answers import AnsweredPrompt
from fastroute.training.label.asking import Asked, Judging, Put
from fastroute.training.label.chat_model import ChatModel, Estimate, Question, estimate
from fastroute.training.label.journal import Journal
from fastroute.training.label.verdicts import PROMPT, Tally, check_template
from fastroute.types import Battle, Winner


class JudgedBattle(NamedTuple):
    """A battle, and the dataset of its prompt."""

    dataset: str
    battle: Battle

    def row(self) -> dict[str, Any]:
        """The line of a file, as every reader of battles here takes it."""
        return {"dataset": self.dataset, **self.battle._asdict()}


class PairVerdict(NamedTuple):
    """Who won a pair, None where a verdict can't be read; and what the verdicts cost, 0 without
    prices."""

    winner: Winner | None
    cost_usd: float


@dataclass
class JudgeReport(Tally):
    """What a run of the judge came to, beside the counts of ``Tally``."""

    #: one for each prompt with two answers and two verdicts, in the prompts' order.
    battles: list[JudgedBattle] = field(default_factory=list)
    #: how asking for answers went, by model.
    generated: dict[str, Asked] = field(default_factory=dict)
    judged: Asked = field(default_factory=Asked)  #: how asking for verdicts went
    #: pairs whose answers are the same text: ties that nobody was asked about.
    equal_answers: int = 0
    without_answers: int = 0  #: prompts that lack an answer, so that there was nothing to judge

    @property
    def missing(self) -> int:
        """How many questions have no answer; the same run, started again, asks for them."""
        return self.judged.missing + sum(asked.missing for asked in self.generated.values())

    @property
    def winners(self) -> Counter[str]:
        """How many battles each outcome has."""
        return Counter(judged.battle.winner for judged in self.battles)


class PairJudge(Judging[AnsweredPrompt, JudgeReport]):
    """Judges two models' answers to prompts: asks for answers that are missing, then for verdicts.

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

    def estimates(self, items: Sequence[AnsweredPrompt]) -> list[Estimate]:
        """What a run will take, one estimate for each model that is asked.

        An answer that is still to be generated counts with its most tokens in the judge's input.
        """
        found = []
        for model, questions in self._missing_answers(items).items():
            rest = [q for q in questions if q.key not in self.journal]
            kept = len(questions) - len(rest)
            found.append(estimate(self.answerers[model], rest, kept))
        questions = []
        more_tokens = 0
        for row in items:
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

    async def _run(self, items: Sequence[AnsweredPrompt], put: Put) -> JudgeReport:
        report = JudgeReport()
        for model, questions in self._missing_answers(items).items():
            what = f"answers of {model}"
            report.generated[model] = await put(self.answerers[model], questions, what)
        questions = []
        for row in items:
            first, second = (self._answer(row, model) for model in self.models)
            if first is not None and second is not None and first != second:
                questions += self._questions(row.prompt, first, second)
        report.judged = await put(self.judge, questions, "verdicts")
        for row in items:
            self._settle(row, report)
        return report

    def verdict(self, row: AnsweredPrompt) -> PairVerdict | None:
        """Who won ``row``, and what that cost, by the answers in the journal; None where one is
        missing."""
        first, second = (self._answer(row, model) for model in self.models)
        if first is None or second is None:
            return None
        report, cost = JudgeReport(), 0.0
        if first != second:
            records = [self.journal.get(q.key) for q in self._questions(row.prompt, first, second)]
            if None in records:
                return None
            for record in filter(None, records):
                tokens = record["prompt_tokens"] or 0, record["completion_tokens"] or 0
                cost += self.judge.usd(*tokens) or 0.0
        self._settle(row, report)
        return PairVerdict(report.battles[0].battle.winner if report.battles else None, cost)

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
        return self._both_orders(self.judge, self.template, first, second, prompt=prompt)
