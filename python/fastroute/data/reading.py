"""Reads files of training data, one as it is or several cleaned."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from fastroute._checks import check_path
from fastroute.data.cleaning import CONFLICTS, Conflicts, clean, clean_difficulty
from fastroute.data.columns import NOT_MODELS, OF_DIFFICULTY, Columns, scale_of
from fastroute.data.exclusion import EvaluationPrompts, Match
from fastroute.data.language import is_english
from fastroute.data.layouts import TURNS, Turns, is_flat, is_rated, parse_row
from fastroute.data.records import (
    DataReport,
    FileReport,
    GradedResult,
    HarderPrompt,
    JudgedBattle,
    RatedPrompt,
    TrainingData,
)
from fastroute.data.routing_benchmarks import (
    BenchmarkRow,
    graded_files,
    merge_models,
    read_results,
    standard_row,
)
from fastroute.data.row_files import file_kind, read_rows
from fastroute.data.row_values import refuse_bad
from fastroute.errors import InvalidInputError


class FileRecords(NamedTuple):
    """What one file holds, as it stands in it."""

    battles: list[JudgedBattle]
    graded: list[GradedResult]
    difficulty: list[RatedPrompt | HarderPrompt]
    report: FileReport


def read_records(
    path: str | os.PathLike[str], *, turns: Turns = "first", skip_bad: bool = False
) -> tuple[list[JudgedBattle], list[GradedResult], FileReport]:
    """The battles and graded results of one file; as ``read_file`` without difficulty."""
    battles, graded, _, report = read_file(path, turns=turns, skip_bad=skip_bad)
    return battles, graded, report


def read_file(
    path: str | os.PathLike[str],
    *,
    turns: Turns = "first",
    skip_bad: bool = False,
    difficulty: bool = False,
) -> FileRecords:
    """The records of one file, as they stand in it.

    Args:
        path: ``.jsonl``, ``.csv`` or ``.parquet``, each perhaps ``.gz``, in one of the layouts of
            ``fastroute.data.layouts`` or ``fastroute.data.routing_benchmarks``; rows of a file may
            differ. Or a JSON file of LLMRouterBench.
        turns: which of a conversation's turns is the prompt: "first", "last" or "all".
        skip_bad: leave malformed rows out instead of raising.
        difficulty: take labels of difficulty too; a row with nothing else is malformed without.

    Raises InvalidInputError for malformed rows, each by line (row in Parquet), or for a file that
    can't be read; MissingDependencyError for Parquet without pyarrow.
    """
    _check_choice("turns", turns, TURNS)
    file = check_path("path", path)
    report = FileReport(str(file))
    battles: list[JudgedBattle] = []
    graded: list[tuple[int, GradedResult]] = []
    bad: dict[int, str] = {}
    labels: list[RatedPrompt | HarderPrompt] = []
    read = read_results if file_kind(file) == "json" else read_rows
    rows = [(where, standard_row(row)) for where, row in read(file)]
    columns = Columns(
        row
        for _, row in rows
        if isinstance(row, dict) and is_flat(row) and not (difficulty and is_rated(row))
    )
    for number, (where, row) in enumerate(rows):
        try:
            name = row.benchmark if isinstance(row, BenchmarkRow) else file.name
            parsed = parse_row(row, name, where, columns, turns, difficulty)
        except ValueError as error:
            bad[number] = f"{where}: {error}"
            continue
        battles += parsed.battles
        if parsed.graded is not None:
            graded.append((number, parsed.graded))
        if parsed.difficulty is not None:
            labels.append(parsed.difficulty)
            for name in row:
                if name not in NOT_MODELS | OF_DIFFICULTY:
                    report.left_out.setdefault(name, "its row is labelled by difficulty")
            continue
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
    report.left_out |= columns.others
    report.models = sorted({model for result in kept for model in result.scores})
    malformed = [bad[number] for number in sorted(bad)]
    refuse_bad(file, malformed, skip_bad)
    report.rows, report.malformed, report.examples = len(rows), len(bad), malformed[:5]
    report.battles, report.graded, report.difficulty = len(battles), len(kept), len(labels)
    return FileRecords(battles, kept, labels, report)


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
    difficulty: bool = False,
) -> TrainingData:
    """All records of ``paths``, cleaned: see ``fastroute.data.cleaning``.

    Args:
        paths: files, as for ``read_file``, or folders: of one all such files that are in it,
            by name; other files and folders in it are not looked at. Or the folder of
            LLMRouterBench's results.
        exclude: prompts of evaluation sets, which are removed.
        turns, skip_bad, difficulty: as for ``read_file``.
        conflicts: "remove" labels that disagree on the same prompt and models, or "average" them.
        english: leave out what is not in English (``fastroute.data.language``).

    Raises InvalidInputError as ``read_file``, and where nothing is left.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    _check_choice("conflicts", conflicts, CONFLICTS)
    if not paths:
        raise InvalidInputError("paths is empty; give at least one file of training data")
    report = DataReport()
    battles: list[JudgedBattle] = []
    graded: list[GradedResult] = []
    labels: list[RatedPrompt | HarderPrompt] = []
    for file in [file for path in paths for file in graded_files(check_path("path", path))]:
        found = read_file(file, turns=turns, skip_bad=skip_bad, difficulty=difficulty)
        battles += found.battles
        graded += [_on_unit_scale(row, found.report.scale) for row in found.graded]
        labels += found.difficulty
        report.files.append(found.report)
    graded = merge_models(graded)
    if english:
        read = len(battles) + len(graded) + len(labels)
        battles, graded = list(filter(is_english, battles)), list(filter(is_english, graded))
        labels = list(filter(is_english, labels))
        report.not_english = read - len(battles) - len(graded) - len(labels)
    if exclude is not None:
        matches: dict[str, Match] = {}
        battles = exclude.remove_from(battles, report, matches)
        graded = exclude.remove_from(graded, report, matches)
        labels = exclude.remove_from(labels, report, matches)
    battles, graded = clean(battles, graded, report, conflicts)
    rated, harder = clean_difficulty(labels, report, conflicts)
    if not (battles or graded or rated or harder):
        raise InvalidInputError(
            f"{', '.join(map(str, paths))}: nothing is left to train on: "
            f"{'; '.join(report.lines())}"
        )
    data = TrainingData(tuple(battles), tuple(graded), report, tuple(rated), tuple(harder))
    report.battles, report.graded = len(battles), len(graded)
    report.difficulty = len(rated) + len(harder)
    report.prompts, report.models = len(data.prompts), len(data.models)
    return data


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
