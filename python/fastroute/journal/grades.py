"""Grades of answers, 0 to 1, from feedback and judgements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, REQUESTS

# People and applications know better than a judge: where there are several kinds, the first counts.
_RANKS = {"user": 0, "application": 0, "key": 1, "evidence": 2, "judge": 3}
_TIE = 0.5


class Grade(NamedTuple):
    """A grade of one answer.

    Attributes:
        request_id: the request that was answered.
        model: the model that answered.
        grade: 0 to 1; of a winner 1, of a loser 0, of a tie 1/2.
        time: when it was given, in seconds since the Unix epoch.
        rank: the lower, the more it is believed.
        compares: it says only which answer is better, and was made of a winner.
    """

    request_id: str
    model: str
    grade: float
    time: float
    rank: int
    compares: bool


def read_grades(
    connection: Connection,
    *,
    since: float,
    until: float = float("inf"),
    requests: Sequence[str] | None = None,
) -> Iterator[Grade]:
    """Every grade that was given from ``since`` to ``until``, or those of ``requests`` only."""
    who = FEEDBACK.c
    model = REQUESTS.c

    def asked(of: ReadOnlyColumnCollection[str, Any]) -> list[ColumnElement[bool]]:
        within = [of.time >= since, of.time <= min(until, 1e300)]
        return within if requests is None else [*within, of.request_id.in_(requests)]

    rows = connection.execute(
        select(who.request_id, who.source, who.time, who.score, who.winner,
               model.chosen, model.answered_by)
        .join(REQUESTS, model.request_id == who.request_id)
        .where(*asked(who))
    )  # fmt: skip
    for row in rows:
        answered = row.answered_by or row.chosen
        if answered is None:
            continue
        grade = row.score if row.winner is None else _of_winner(row.winner, answered)
        if grade is not None:
            rank = _RANKS.get(row.source, len(_RANKS))
            yield Grade(
                row.request_id, answered, float(grade), row.time, rank, row.winner is not None
            )
    of = JUDGEMENTS.c
    found = connection.execute(select(JUDGEMENTS).where(*asked(of)))
    for row in found:
        for name, score in ((row.model_a, row.score_a), (row.model_b, row.score_b)):
            compares = score is None
            if score is None and row.winner is not None:
                score = _of_winner(row.winner, name)
            if score is not None:
                rank = _RANKS.get(row.judge, _RANKS["judge"])
                yield Grade(row.request_id, name, float(score), row.time, rank, compares)


def on_one_scale(grades: Iterable[Grade]) -> tuple[list[Grade], str]:
    """Grades that can be compared among models, and a sentence on those left out, if any.

    Two good answers have scores of 1, but a comparison calls them a tie, 1/2. So only the kind
    stays that graded several answers to a request more often; scores where neither did.
    """
    found = list(grades)
    models: dict[tuple[bool, str], set[str]] = {}
    for one in found:
        models.setdefault((one.compares, one.request_id), set()).add(one.model)
    several = Counter(compares for (compares, _), names in models.items() if len(names) > 1)
    compares = several[True] > several[False] or all(one.compares for one in found)
    kept = [one for one in found if one.compares == compares]
    if len(kept) == len(found):
        return kept, ""
    this, other = ("comparisons", "scores") if compares else ("scores", "comparisons")
    return kept, (
        f"{len(found) - len(kept):,} grades by {other} are left out: they are on another scale "
        f"than the {len(kept):,} by {this}, which grade more models' answers to the same request"
    )


def mean_grades(grades: Iterable[Grade]) -> Mapping[tuple[str, str], float]:
    """The grade of each (request, model): the mean of those that are believed most."""
    best: dict[tuple[str, str], tuple[int, float, int]] = {}
    for one in grades:
        key = one.request_id, one.model
        rank, total, count = best.get(key, (one.rank, 0.0, 0))
        if one.rank < rank:
            rank, total, count = one.rank, 0.0, 0
        if one.rank == rank:
            best[key] = rank, total + one.grade, count + 1
    return {key: total / count for key, (_, total, count) in best.items()}


def _of_winner(winner: str, model: str) -> float:
    return _TIE if winner.startswith("tie") else float(winner == model)
