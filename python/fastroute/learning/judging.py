"""Judges the pairs of a journal: an answer that was sent, and its shadow.

By a language model, as ``fastroute augment judge`` does, within a day's dollars; by an answer key;
or by comparing the answers' values, where they have any: equal ones are a tie, others have no
verdict.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, func, select

from fastroute.evidence.answer import Answer
from fastroute.evidence.comparison import compare
from fastroute.journal.schema import JUDGEMENTS, REQUESTS, SHADOWS
from fastroute.training.label.answers import AnsweredPrompt
from fastroute.training.label.asking import Put
from fastroute.training.label.chat_model import Estimate
from fastroute.training.label.golden import KeyEntry, grade
from fastroute.training.label.judge import JudgeReport, PairJudge

#: The judge's name of what the answers' values decide.
EVIDENCE = "evidence"
#: The judge's name of what an answer key decides.
KEY = "key"
_DAY_S = 86400.0


class Models(NamedTuple):
    """The two models of pairs, by name."""

    model_a: str
    model_b: str


def unjudged_pairs(
    connection: Connection, judge: str, since: float, until: float
) -> dict[Models, list[AnsweredPrompt]]:
    """The pairs whose texts were kept and that have no verdict of ``judge``, the oldest first, by
    models; ``id`` is the request's."""
    of, shadow, known = REQUESTS.c, SHADOWS.c, JUDGEMENTS.c
    found: dict[Models, list[AnsweredPrompt]] = {}
    verdict = and_(
        known.request_id == of.request_id,
        known.judge == judge,
        shadow.model.in_([known.model_a, known.model_b]),
    )
    rows = connection.execute(
        select(of.request_id, of.prompt, of.answered_by, of.answer, shadow.model, shadow.answer)
        .join(SHADOWS, shadow.request_id == of.request_id)
        .outerjoin(JUDGEMENTS, verdict)
        .where(of.time >= since, of.time < until, known.judge.is_(None))
        .where(*(text.is_not(None) for text in (of.prompt, of.answer, shadow.answer)))
        .where(of.answered_by != shadow.model, shadow.error.is_(None))
        .order_by(of.time)
    )
    for name, prompt, sent_by, sent, shadow_by, shadowed in rows:
        models = Models(*sorted((sent_by, shadow_by)))
        answers = {sent_by: sent, shadow_by: shadowed}
        found.setdefault(models, []).append(AnsweredPrompt(prompt, "journal", name, answers))
    return found


def spent_today(connection: Connection) -> float:
    """Dollars of the judgements since midnight (UTC)."""
    begin = time.time() // _DAY_S * _DAY_S
    total = select(func.sum(JUDGEMENTS.c.cost_usd)).where(JUDGEMENTS.c.time >= begin)
    return connection.scalar(total) or 0.0


def by_evidence(models: Models, rows: Sequence[AnsweredPrompt]) -> Iterator[dict[str, Any]]:
    """A judgement of each pair: a tie where both answers have the same value, else no winner."""
    for row in rows:
        compared = compare([Answer(row.answers[model]) for model in models])
        winner = "tie" if compared.outcome == "agree" else None
        yield _judgement(row, EVIDENCE, models, winner, 0.0)


def by_key(
    models: Models, rows: Sequence[AnsweredPrompt], key: Mapping[tuple[str, str], KeyEntry]
) -> Iterator[dict[str, Any]]:
    """A judgement with scores of each pair whose prompt is in the key: 1 for the right answer."""
    for row in rows:
        for graded in grade([row], key).rows:
            scores = [graded["scores"][model] for model in models]
            winner = "tie" if scores[0] == scores[1] else models[scores[1] > scores[0]]
            of_models = dict(zip(("score_a", "score_b"), scores, strict=True))
            yield _judgement(row, KEY, models, winner, 0.0) | of_models


class CappedJudge(PairJudge):
    """``PairJudge`` that takes only as many pairs, the first ones, as ``most_usd`` allows."""

    most_usd: float | None = None
    _affordable: Sequence[AnsweredPrompt] = ()

    def estimates(self, items: Sequence[AnsweredPrompt]) -> list[Estimate]:
        """What the affordable ones of ``items`` will take; they are what ``run`` judges."""
        taken, left = [], self.most_usd
        for row in items:
            if left is not None:
                left -= super().estimates([row])[-1].most_usd or 0.0
                if left < 0:
                    break
            taken.append(row)
        self._affordable = taken
        return super().estimates(taken)

    async def _run(self, items: Sequence[AnsweredPrompt], put: Put) -> JudgeReport:
        del items
        return await super()._run(self._affordable, put)

    def judgements(self) -> Iterator[dict[str, Any]]:
        """A row for each pair that is judged; without a winner where a verdict can't be read."""
        models = Models(*self.models)
        for row in self._affordable:
            verdict = self.verdict(row)
            if verdict is not None:
                winner = {"model_a": models.model_a, "model_b": models.model_b}.get(
                    verdict.winner or "", verdict.winner
                )
                yield _judgement(row, self.judge.name, models, winner, verdict.cost_usd)


def _judgement(
    row: AnsweredPrompt, judge: str, models: Models, winner: str | None, cost_usd: float | None
) -> dict[str, Any]:
    return {
        "request_id": row.id,
        "judge": judge[:255],
        **models._asdict(),
        "winner": winner,
        "cost_usd": cost_usd,
        "time": time.time(),
    }
