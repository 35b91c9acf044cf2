"""Takes duplicates and conflicting labels out of training data, and counts them.

Labels are compared where prompt (up to white space) and models are the same. Verdicts of one row
on the same two models, in whatever order, are one judge's and become one verdict, their mean. Of
labels that say the same in several rows the first is kept. Where they disagree nobody knows which
is right, so all are removed, or on request their mean takes the place of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from fastroute.data.records import DataReport, GradedResult, JudgedBattle

Conflicts = Literal["remove", "average"]
CONFLICTS: tuple[Conflicts, ...] = get_args(Conflicts)


def clean(
    battles: Sequence[JudgedBattle],
    graded: Sequence[GradedResult],
    report: DataReport,
    conflicts: Conflicts = "remove",
) -> tuple[list[JudgedBattle], list[GradedResult]]:
    """What is left, in its order; ``report`` counts what is not."""
    return (
        _clean_battles(_one_verdict_a_judge(battles, report), report, conflicts),
        _clean_graded(graded, report, conflicts),
    )


def prompt_key(prompt: str) -> str:
    """The prompt with every run of white space as one space."""
    return " ".join(prompt.split())


def _place(record: JudgedBattle | GradedResult) -> str:
    return f"{record.file}, {record.where}"


def _a_first(battle: JudgedBattle) -> float:
    """The preference for the later name of the two."""
    straight = battle.model_a < battle.model_b
    return battle.preference if straight else 1.0 - battle.preference


def _with_preference(battle: JudgedBattle, for_later: float) -> JudgedBattle:
    straight = battle.model_a < battle.model_b
    return replace(battle, preference=for_later if straight else 1.0 - for_later)


def _pair(battle: JudgedBattle) -> tuple[str, str]:
    a, b = battle.model_a, battle.model_b
    return (a, b) if a < b else (b, a)


def _one_verdict_a_judge(battles: Sequence[JudgedBattle], report: DataReport) -> list[JudgedBattle]:
    found: dict[tuple[str, ...], list[JudgedBattle]] = {}
    for number, battle in enumerate(battles):
        row = battle.where or str(number)
        found.setdefault((battle.file, row, battle.prompt, *_pair(battle)), []).append(battle)
    report.both_orders += len(battles) - len(found)
    return [
        same[0]
        if len(same) == 1
        else _with_preference(same[0], sum(map(_a_first, same)) / len(same))
        for same in found.values()
    ]


def _clean_battles(
    battles: Sequence[JudgedBattle], report: DataReport, conflicts: Conflicts
) -> list[JudgedBattle]:
    found: dict[tuple[str, ...], list[JudgedBattle]] = {}
    for battle in battles:
        found.setdefault((prompt_key(battle.prompt), *_pair(battle)), []).append(battle)
    kept = []
    for same in found.values():
        labels = {_a_first(battle) for battle in same}
        if len(labels) == 1:
            kept.append(same[0])
            for repeated in same[1:]:
                report.duplicates += 1
                report.note("duplicates", f"{_place(repeated)}: as {_place(same[0])}")
            continue
        _note_conflict(same, f"{same[0].model_a} and {same[0].model_b}", report)
        if conflicts == "average":
            kept.append(_with_preference(same[0], sum(map(_a_first, same)) / len(same)))
    return kept


def _clean_graded(
    graded: Sequence[GradedResult], report: DataReport, conflicts: Conflicts
) -> list[GradedResult]:
    found: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(graded):
        key = prompt_key(row.prompt)
        for model in row.scores:
            found.setdefault((key, model), []).append(i)
    changed: dict[int, dict[str, float]] = {}
    for (_, model), rows in found.items():
        if len(rows) == 1:
            continue
        labels = [graded[i].scores[model] for i in rows]
        for i in rows:
            changed.setdefault(i, dict(graded[i].scores))
        if len(set(labels)) == 1:
            for i in rows[1:]:
                del changed[i][model]
                report.duplicates += 1
                report.note(
                    "duplicates", f"{_place(graded[i])}: {model} as {_place(graded[rows[0]])}"
                )
            continue
        _note_conflict([graded[i] for i in rows], model, report)
        for i in rows:
            del changed[i][model]
        if conflicts == "average":
            changed[rows[0]][model] = sum(labels) / len(labels)
    kept = [
        row if i not in changed else replace(row, scores=changed[i]) for i, row in enumerate(graded)
    ]
    return [row for row in kept if row.scores]


def _note_conflict(
    same: Sequence[JudgedBattle | GradedResult], models: str, report: DataReport
) -> None:
    report.conflicts += len(same)
    report.note("conflicts", f"{models}: {'; '.join(map(_place, same[:3]))}")
