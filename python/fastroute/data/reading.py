"""Reads files of training data, one as it is or several cleaned."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from fastroute._checks import check_path
from fastroute.data.cleaning import CONFLICTS, Conflicts, clean
from fastroute.data.columns import Columns, scale_of
from fastroute.data.exclusion import EvaluationPrompts
from fastroute.data.language import is_english
from fastroute.data.layouts import TURNS, Turns, is_flat, parse_row
from fastroute.data.records import (
    DataReport,
    FileReport,
    GradedResult,
    JudgedBattle,
    TrainingData,
)
from fastroute.data.row_files import data_files, read_rows
from fastroute.data.row_values import refuse_bad
from fastroute.errors import InvalidInputError


def read_records(
    path: str | os.PathLike[str], *, turns: Turns = "first", skip_bad: bool = False
) -> tuple[list[JudgedBattle], list[GradedResult], FileReport]:
    """The battles and graded results of one file, as they stand in it.

    Args:
        path: ``.jsonl``, ``.csv`` or ``.parquet``, each perhaps ``.gz``, in one of the layouts of
            ``fastroute.data.layouts``; rows of a file may differ.
        turns: which of a conversation's turns is the prompt: "first", "last" or "all".
        skip_bad: leave malformed rows out instead of raising.

    Raises InvalidInputError for malformed rows, each by line (row in Parquet), or for a file that
    can't be read; MissingDependencyError for Parquet without pyarrow.
    """
    _check_choice("turns", turns, TURNS)
    file = check_path("path", path)
    report = FileReport(str(file))
    battles: list[JudgedBattle] = []
    graded: list[tuple[int, GradedResult]] = []
    bad: dict[int, str] = {}
    rows = list(read_rows(file))
    columns = Columns(row for _, row in rows if isinstance(row, dict) and is_flat(row))
    for number, (where, row) in enumerate(rows):
        try:
            parsed = parse_row(row, file.name, where, columns, turns)
        except ValueError as error:
            bad[number] = f"{where}: {error}"
            continue
        battles += parsed.battles
        if parsed.graded is not None:
            graded.append((number, parsed.graded))
        report.without_prompt += not parsed.battles and parsed.graded is None
        report.repaired += parsed.repaired
    low, high = report.scale = scale_of(s for _, row in graded for s in row.scores.values())
    for number, result in graded:
        for model, score in result.scores.items():
            if not low <= score <= high:
                bad[number] = (
                    f"{result.where}: score of {model!r} is {score}, outside 0..1, the scale "
                    "of the others"
                )
    kept = [result for number, result in graded if number not in bad]
    report.left_out = columns.others
    report.models = sorted({model for result in kept for model in result.scores})
    malformed = [bad[number] for number in sorted(bad)]
    refuse_bad(file, malformed, skip_bad)
    report.rows, report.malformed, report.examples = len(rows), len(bad), malformed[:5]
    report.battles, report.graded = len(battles), len(kept)
    return battles, kept, report


def _on_unit_scale(graded: GradedResult, scale: tuple[float, float]) -> GradedResult:
    low, high = scale
    if scale == (0.0, 1.0):
        return graded
    scores = {m: (score - low) / ((high - low) or 1.0) for m, score in graded.scores.items()}
    return replace(graded, scores=scores)


def read_training_data(
    paths: Sequence[str | os.PathLike[str]],
    *,
    exclude: EvaluationPrompts | None = None,
    turns: Turns = "first",
    conflicts: Conflicts = "remove",
    skip_bad: bool = False,
    english: bool = False,
) -> TrainingData:
    """All records of ``paths``, cleaned: see ``fastroute.data.cleaning``.

    Args:
        paths: files, as for ``read_records``, or folders: of one all such files that are in it,
            by name; other files and folders in it are not looked at.
        exclude: prompts of evaluation sets, which are removed.
        turns, skip_bad: as for ``read_records``.
        conflicts: "remove" labels that disagree on the same prompt and models, or "average" them.
        english: leave out what is not in English (``fastroute.data.language``).

    Raises InvalidInputError as ``read_records``, and where nothing is left.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    _check_choice("conflicts", conflicts, CONFLICTS)
    if not paths:
        raise InvalidInputError("paths is empty; give at least one file of training data")
    report = DataReport()
    battles: list[JudgedBattle] = []
    graded: list[GradedResult] = []
    for file in [file for path in paths for file in data_files(check_path("path", path))]:
        more_battles, more_graded, of_file = read_records(file, turns=turns, skip_bad=skip_bad)
        battles += more_battles
        graded += [_on_unit_scale(row, of_file.scale) for row in more_graded]
        report.files.append(of_file)
    if english:
        read = len(battles) + len(graded)
        battles, graded = list(filter(is_english, battles)), list(filter(is_english, graded))
        report.not_english = read - len(battles) - len(graded)
    if exclude is not None:
        battles, graded = exclude.remove_from(battles, graded, report)
    battles, graded = clean(battles, graded, report, conflicts)
    if not battles and not graded:
        raise InvalidInputError(
            f"{', '.join(map(str, paths))}: nothing is left to train on: "
            f"{'; '.join(report.lines())}"
        )
    data = TrainingData(tuple(battles), tuple(graded), report)
    report.battles, report.graded = len(battles), len(graded)
    report.prompts, report.models = len(data.prompts), len(data.models)
    return data


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
