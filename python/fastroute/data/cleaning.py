"""Takes duplicates and conflicting labels out of training data, and counts them.

Labels are compared where prompt (up to white space) and models are the same. Verdicts of one row
on the same two models, in whatever order, are one judge's and become one verdict, their mean. Of
labels that say the same in several rows the first is kept. Where they disagree nobody knows which
is right, so all are removed, or on request their mean takes the place of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar, get_args

from fastroute.data.records import (
    DataReport,
    GradedResult,
    HarderPrompt,
    JudgedBattle,
    RatedPrompt,
)

Conflicts = Literal["remove", "average"]
CONFLICTS: tuple[Conflicts, ...] = get_args(Conflicts)
_Record = TypeVar("_Record", JudgedBattle, RatedPrompt, HarderPrompt)


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


def clean_difficulty(
    labels: Iterable[RatedPrompt | HarderPrompt],
    report: DataReport,
    conflicts: Conflicts = "remove",
) -> tuple[list[RatedPrompt], list[HarderPrompt]]:
    """What is left of labels of difficulty, by kind; ``report`` counts what is not.

    Ratings are compared within their file and dataset, whose scale they are on.
    """
    rated, harder = [], []
    for label in labels:
        if isinstance(label, RatedPrompt):
            rated.append(label)
        else:
            harder.append(label)

    def for_later(label: HarderPrompt) -> float:
        straight = prompt_key(label.prompt) < prompt_key(label.prompt_b)
        return label.harder if straight else 1.0 - label.harder

    def with_harder(label: HarderPrompt, later: float) -> HarderPrompt:
        straight = prompt_key(label.prompt) < prompt_key(label.prompt_b)
        return replace(label, harder=later if straight else 1.0 - later)

    return _one_label(
        rated,
        lambda label: (label.group, prompt_key(label.prompt)),
        lambda label: label.difficulty,
        lambda label, mean: replace(label, difficulty=mean),
        report,
        conflicts,
    ), _one_label(
        harder,
        lambda label: frozenset((prompt_key(label.prompt), prompt_key(label.prompt_b))),
        for_later,
        with_harder,
        report,
        conflicts,
    )


def prompt_key(prompt: str) -> str:
    """The prompt with every run of white space as one space."""
    return " ".join(prompt.split())


def _place(record: JudgedBattle | GradedResult | RatedPrompt | HarderPrompt) -> str:
    return f"{record.file}, {record.where}"


def _subject(record: JudgedBattle | RatedPrompt | HarderPrompt) -> str:
    if isinstance(record, JudgedBattle):
        return f"{record.model_a} and {record.model_b}"
    return "difficulty" if isinstance(record, RatedPrompt) else "which prompt is harder"


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
    return _one_label(
        battles,
        lambda battle: (prompt_key(battle.prompt), *_pair(battle)),
        _a_first,
        _with_preference,
        report,
        conflicts,
    )


def _one_label(
    records: Sequence[_Record],
    key: Callable[[_Record], Hashable],
    label: Callable[[_Record], float],
    with_label: Callable[[_Record, float], _Record],
    report: DataReport,
    conflicts: Conflicts,
) -> list[_Record]:
    """One record for each ``key``: the first, or none or the mean where labels disagree."""
    found: dict[Hashable, list[_Record]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    kept = []
    for same in found.values():
        labels = [label(record) for record in same]
        if len(set(labels)) == 1:
            kept.append(same[0])
            for repeated in same[1:]:
                report.duplicates += 1
                report.note("duplicates", f"{_place(repeated)}: as {_place(same[0])}")
            continue
        _note_conflict(same, _subject(same[0]), report)
        if conflicts == "average":
            kept.append(with_label(same[0], sum(labels) / len(labels)))
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
    same: Sequence[JudgedBattle | GradedResult | RatedPrompt | HarderPrompt],
    what: str,
    report: DataReport,
) -> None:
    report.conflicts += len(same)
    report.note("conflicts", f"{what}: {'; '.join(map(_place, same[:3]))}")
