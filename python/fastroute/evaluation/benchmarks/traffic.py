"""The user's own prompts, graded: the tables and battles that ``fastroute.data`` reads.

A pair of models picks two of them: by default the columns ``strong`` and ``weak``. A battle of the
pair scores 1 for the winner and 0 for the loser, a tie 0.5 for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastroute._checks import check_path
from fastroute.data import FileReport, GradedResult, JudgedBattle, read_records
from fastroute.data.records import listed
from fastroute.data.row_files import file_kind, read_lines, read_rows
from fastroute.data.row_values import prompt_of, refuse_bad
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.types import ModelPair

_DEFAULT_PAIR = ModelPair(strong="strong", weak="weak")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Graded prompts, and what was left out.

    Attributes:
        benchmark: the rows that could be used.
        report: what the file holds, with the malformed rows that were skipped on request.
        unscored: rows that lack a score of one of the pair's models, and battles of others.
        without_costs: rows that lack a cost of one of the pair's models where others have both.
    """

    benchmark: Benchmark
    report: FileReport
    unscored: int
    without_costs: int


def load_traffic(
    path: str | os.PathLike[str],
    *,
    pair: ModelPair | None = None,
    skip_bad: bool = False,
    name: str | None = None,
) -> Traffic:
    """Read graded prompts or battles, as ``fastroute.data.read_records`` does.

    Args:
        path: the file.
        pair: two models of the file; by default the columns ``strong`` and ``weak``.
        skip_bad: leave malformed rows out instead of raising.
        name: of the benchmark; by default the file's name, and the pair if one is given.

    Raises:
        InvalidInputError: malformed rows, each by line number (row number in Parquet); a model
            that no row has; no usable row; a file that can't be read.
        MissingDependencyError: Parquet without pyarrow.
    """
    return load_pairs(path, [pair], skip_bad=skip_bad, name=name)[0]


def load_pairs(
    path: str | os.PathLike[str],
    pairs: Sequence[ModelPair | None],
    *,
    skip_bad: bool = False,
    name: str | None = None,
) -> list[Traffic]:
    """One benchmark per pair from one file, which is read once; see ``load_traffic``."""
    file = check_path("path", path)
    for pair in pairs:
        if pair is not None and not isinstance(pair, ModelPair):
            raise InvalidTypeError(f"pair must be a ModelPair, got {type(pair).__name__}")
    battles, graded, report = read_records(file, skip_bad=skip_bad)
    if not battles and not graded:
        raise InvalidInputError(f"{file} has no usable rows")
    # The whole file name, so that mmlu.jsonl is not taken for the benchmark.
    return [
        _traffic(
            name or (file.name if pair is None else f"{file.name}: {pair.strong} or {pair.weak}"),
            pair or _DEFAULT_PAIR,
            battles,
            graded,
            report,
        )
        for pair in pairs
    ]


def load_prompts(path: str | os.PathLike[str], *, skip_bad: bool = False) -> tuple[str, ...]:
    """Read prompts only: the ``prompt`` of each row, or each line of a ``.txt`` file.

    Errors as ``load_traffic``; blank lines of a ``.txt`` file are skipped.
    """
    file = check_path("path", path)
    kind = file_kind(file)
    rows = read_lines(file) if kind == "txt" else read_rows(file)
    prompts, bad = [], []
    for where, row in rows:
        try:
            prompts.append(prompt_of(row))
        except ValueError as error:
            bad.append(f"{where}: {error}")
    refuse_bad(file, bad, skip_bad)
    if not prompts:
        raise InvalidInputError(f"{file} has no prompts")
    return tuple(prompts)


def parse_pair(words: Sequence[str]) -> ModelPair:
    """A pair from ``["strong=gpt-4o", "weak=gemma"]``, in either order."""
    parts = [word.partition("=") for word in words]
    named = {name: column for name, _, column in parts}
    if len(words) != 2 or set(named) != {"strong", "weak"} or not all(named.values()):
        raise InvalidInputError(f"a pair is strong=COLUMN weak=COLUMN, got {' '.join(words)!r}")
    if named["strong"] == named["weak"]:
        raise InvalidInputError(f"a pair needs two models, got {named['strong']!r} twice")
    return ModelPair(strong=named["strong"], weak=named["weak"])


class _Row(NamedTuple):
    prompt: str
    id: str
    weak: float
    strong: float
    costs: tuple[float, float] | None


def _rows(
    pair: ModelPair, battles: Sequence[JudgedBattle], graded: Sequence[GradedResult]
) -> Iterator[_Row]:
    """The rows on which both models of ``pair`` have a score."""
    for battle in battles:
        if {battle.model_a, battle.model_b} == set(pair):
            weak = battle.preference if battle.model_b == pair.weak else 1.0 - battle.preference
            yield _Row(battle.prompt, battle.where, weak, 1.0 - weak, None)
    for row in graded:
        if all(model in row.scores for model in pair):
            costs = None
            if all(model in row.costs for model in pair):
                costs = row.costs[pair.weak], row.costs[pair.strong]
            scores = row.scores[pair.weak], row.scores[pair.strong]
            yield _Row(row.prompt, row.id or row.where, *scores, costs)


def _traffic(
    name: str,
    pair: ModelPair,
    battles: Sequence[JudgedBattle],
    graded: Sequence[GradedResult],
    report: FileReport,
) -> Traffic:
    rows = list(_rows(pair, battles, graded))
    unscored = len(battles) + len(graded) - len(rows)
    if not rows:
        models = {model for battle in battles for model in (battle.model_a, battle.model_b)}
        others = listed(f"{column} ({why})" for column, why in report.left_out.items())
        raise InvalidInputError(
            f"{report.file}: no row has scores of both {pair.strong!r} and {pair.weak!r}; its "
            f"models are {listed(sorted(models | set(report.models))) or 'none'}; choose two "
            "(--pair strong=NAME weak=NAME)"
            + (f"; columns not read as scores: {others}" if others else "")
        )
    priced = [row for row in rows if row.costs is not None]
    without_costs = len(rows) - len(priced) if priced else 0
    rows = priced or rows
    costs = np.array([row.costs for row in priced], dtype=np.float64).reshape(-1, 2)
    benchmark = Benchmark(
        name=name,
        prompts=tuple(row.prompt for row in rows),
        weak=np.array([row.weak for row in rows], dtype=np.float64),
        strong=np.array([row.strong for row in rows], dtype=np.float64),
        pair=pair,
        ids=tuple(row.id for row in rows),
        cost_weak=costs[:, 0].copy() if priced else None,
        cost_strong=costs[:, 1].copy() if priced else None,
        unit="score",
    )
    return Traffic(benchmark, report, unscored, without_costs)
