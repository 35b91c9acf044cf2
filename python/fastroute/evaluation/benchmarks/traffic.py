"""The user's own prompts, graded: JSONL, CSV or Parquet with ``prompt``, ``weak``, ``strong``.

Optional columns are ``cost_weak`` and ``cost_strong`` (dollars) and ``id``. A *multi-model* file
has one score a model instead: in columns of their names, or in an object ``scores``; then a pair of
models picks two of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastroute._checks import check_path
from fastroute.data.row_files import Row, file_kind, read_lines, read_rows
from fastroute.data.row_values import number_of, prompt_of, refuse_bad
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.types import ModelPair

_COSTS = ("cost_weak", "cost_strong")
_NO_MODELS = frozenset({"prompt", "id", *_COSTS})


@dataclass(frozen=True, slots=True)
class Traffic:
    """Graded prompts, and what was left out.

    Attributes:
        benchmark: the rows that could be used.
        bad: what is wrong with each malformed row, as "line 3: ..."; empty unless they were
            skipped on request.
        unscored: rows of a multi-model file that lack a score of one of the pair's models.
    """

    benchmark: Benchmark
    bad: tuple[str, ...]
    unscored: int


def load_traffic(
    path: str | os.PathLike[str],
    *,
    pair: ModelPair | None = None,
    skip_bad: bool = False,
    name: str | None = None,
) -> Traffic:
    """Read graded prompts from ``.jsonl``, ``.csv`` or ``.parquet`` (the first two also ``.gz``).

    Args:
        path: the file.
        pair: two models of a multi-model file; by default the columns ``strong`` and ``weak``.
        skip_bad: leave malformed rows out instead of raising.
        name: of the benchmark; by default the file's name, and the pair if one is given.

    Raises:
        InvalidInputError: malformed rows, each by line number (row number in Parquet); a model
            that no row has; no usable row; a file that can't be read.
        MissingDependencyError: Parquet without pyarrow.
    """
    file = check_path("path", path)
    if pair is not None and not isinstance(pair, ModelPair):
        raise InvalidTypeError(f"pair must be a ModelPair, got {type(pair).__name__}")
    reader = _Reader(pair)
    for where, row in read_rows(file):
        reader.add(where, row)
    bad = reader.finish()
    refuse_bad(file, bad, skip_bad)
    if not reader.rows:
        if pair is not None and reader.unscored:
            raise InvalidInputError(
                f"{file}: no row has scores of both {pair.strong!r} and {pair.weak!r}; its "
                f"models are {', '.join(sorted(reader.models)) or 'none'}"
            )
        raise InvalidInputError(f"{file} has no usable rows")
    rows = reader.rows
    # The file's whole name, so that a file called mmlu.jsonl does not pass for the benchmark.
    label = file.name if pair is None else f"{file.name}: {pair.strong} or {pair.weak}"
    has_costs = rows[0].costs is not None
    benchmark = Benchmark(
        name=name or label,
        prompts=tuple(row.prompt for row in rows),
        weak=np.array([row.weak for row in rows], dtype=np.float64),
        strong=np.array([row.strong for row in rows], dtype=np.float64),
        pair=pair or ModelPair(strong="strong", weak="weak"),
        ids=tuple(row.id for row in rows),
        cost_weak=np.array([row.costs[0] for row in rows if row.costs]) if has_costs else None,
        cost_strong=np.array([row.costs[1] for row in rows if row.costs]) if has_costs else None,
        unit="score",
    )
    return Traffic(benchmark, bad, reader.unscored)


def load_prompts(path: str | os.PathLike[str], *, skip_bad: bool = False) -> tuple[str, ...]:
    """Read prompts only: the ``prompt`` of each row, or each line of a ``.txt`` file.

    Errors as ``load_traffic``; blank lines of a ``.txt`` file are no prompts.
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


class _GradedRow(NamedTuple):
    number: int  # of the row in the file
    where: str
    prompt: str
    id: str
    weak: float
    strong: float
    costs: tuple[float, float] | None


class _Reader:
    """Collects rows, and what is wrong with the others."""

    def __init__(self, pair: ModelPair | None) -> None:
        self.pair = pair
        self.rows: list[_GradedRow] = []
        self.unscored = 0
        self.models: set[str] = set()
        self._bad: list[tuple[int, str]] = []
        self._count = 0

    def add(self, where: str, row: Row) -> None:
        self._count += 1
        try:
            self._add(where, row)
        except ValueError as error:
            self._bad.append((self._count, f"{where}: {error}"))

    def finish(self) -> tuple[str, ...]:
        """What is wrong, in the file's order; if any row has costs, one without is malformed."""
        without = [row for row in self.rows if row.costs is None]
        if len(without) < len(self.rows):
            self.rows = [row for row in self.rows if row.costs is not None]
            self._bad += [
                (row.number, f"{row.where}: no {' and '.join(_COSTS)}, which other rows have")
                for row in without
            ]
        return tuple(text for _, text in sorted(self._bad))

    def _add(self, where: str, row: Row) -> None:
        prompt = prompt_of(row)
        assert isinstance(row, dict)
        if self.pair is None:
            if "weak" not in row and isinstance(row.get("scores"), dict):
                raise ValueError("has 'scores' of many models; choose two (--pair)")
            weak, strong = number_of(row, "weak"), number_of(row, "strong")
        else:
            scores = row.get("scores", row)
            if not isinstance(scores, dict):
                raise ValueError("'scores' is not an object of scores by model")
            self.models.update(str(key) for key in scores if key not in _NO_MODELS)
            if any(scores.get(model) in (None, "") for model in self.pair):
                self.unscored += 1
                return
            weak, strong = number_of(scores, self.pair.weak), number_of(scores, self.pair.strong)
        given = [key for key in _COSTS if row.get(key) not in (None, "")]
        if len(given) == 1:
            raise ValueError(f"has {given[0]!r} only; give both costs or none")
        costs = (number_of(row, _COSTS[0]), number_of(row, _COSTS[1])) if given else None
        if costs is not None and min(costs) < 0:
            raise ValueError(f"a cost is below 0: {costs}")
        name = row.get("id")
        self.rows.append(
            _GradedRow(
                self._count,
                where,
                prompt,
                where if name in (None, "") else str(name),
                weak,
                strong,
                costs,
            )
        )
