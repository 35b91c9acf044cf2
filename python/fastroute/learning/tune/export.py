"""Reads an export of traffic: prompts, grades of two models, what the answers cost, and when.

One of these layouts, in CSV, JSONL or Parquet:

- A row a prompt and a column a model: ``prompt``, ``score_mini``, ``score_4o``.
- A row an answer: ``prompt``, ``model`` and a grade (``score``, ``rating``, ``thumb``, ...). Rows
  of the same prompt are put together.
- The battles and graded results of ``fastroute.data.layouts``. A battle's winner has grade 1, its
  loser 0; a tie is 1/2 for both.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute._checks import check_path
from fastroute.data.cleaning import prompt_key
from fastroute.data.columns import Columns, is_blank
from fastroute.data.layouts import is_flat, parse_row
from fastroute.data.records import listed
from fastroute.data.row_files import Row, read_rows
from fastroute.data.row_values import number_of, refuse_bad
from fastroute.errors import InvalidInputError
from fastroute.learning.tune import columns
from fastroute.learning.tune.costs import Costs, Price, Usage
from fastroute.learning.tune.grades import Scale, grade_of, read_scale, tell_scale
from fastroute.types import Float64Array, ModelPair

_SIDES = ("weak", "strong")


@dataclass(frozen=True, eq=False)
class Export:
    """Graded traffic of two models, by rising time where times are known.

    Attributes:
        file: its path.
        pair: names of the two models in the file.
        prompts: n texts.
        weak, strong: float64[n], grades on 0..1; NaN where missing.
        cost_weak, cost_strong: float64[n], dollars of each answer; None where nothing is known.
        times: float64[n], seconds since 1970; None where not known.
        where: line or row of each in the file.
        scale: the scale of the file's grades.
        understood: what was made of the file, a line each.
    """

    file: str
    pair: ModelPair
    prompts: tuple[str, ...]
    weak: Float64Array
    strong: Float64Array
    cost_weak: Float64Array | None
    cost_strong: Float64Array | None
    times: Float64Array | None
    where: tuple[str, ...]
    scale: Scale
    understood: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def has_both(self) -> npt.NDArray[np.bool_]:
        """Which rows have grades of both models, bool[n]."""
        return ~np.isnan(self.weak) & ~np.isnan(self.strong)

    @property
    def has_any(self) -> npt.NDArray[np.bool_]:
        """Which rows have at least one grade, bool[n]."""
        return ~np.isnan(self.weak) | ~np.isnan(self.strong)

    def select(self, rows: npt.NDArray[Any]) -> Export:
        """The export with these rows only: indices, or bool[n]."""
        chosen = np.arange(len(self))[rows]
        part: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[chosen]
            for name in ("weak", "strong", "cost_weak", "cost_strong", "times")
        }
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in chosen),
            where=tuple(self.where[i] for i in chosen),
            **part,
        )


@dataclass
class _Record:
    """One prompt, while the file is read."""

    prompt: str
    where: str
    grades: dict[str, float]
    usage: dict[str, Usage]
    time: float = math.nan


def read_export(
    path: str | os.PathLike[str],
    *,
    weak: str | None = None,
    strong: str | None = None,
    prices: Mapping[str, Price] | None = None,
    grades: str | None = None,
    prompt_column: str | None = None,
    time_column: str | None = None,
    output_tokens: int = 300,
    skip_bad: bool = False,
    need_grades: bool = True,
) -> Export:
    """Read an export; see the module for its layouts.

    Args:
        path: ``.csv``, ``.jsonl`` or ``.parquet``, each perhaps ``.gz``.
        weak, strong: the two models: names of columns, or of models in the rows. By default the
            two that the file has, by their mean grade.
        prices: dollars per million tokens in and out, by model.
        grades: the scale, such as "1-5"; by default told from the data.
        prompt_column, time_column: names of columns; by default told from their names.
        output_tokens: length of an answer where neither tokens nor answers are in the file.
        skip_bad: leave malformed rows out instead of raising.
        need_grades: raise where there is no grade; otherwise such an export has NaN only.

    Raises InvalidInputError for a file or arguments that can't be used, each malformed row by its
    line; MissingDependencyError for Parquet without pyarrow.
    """
    file = check_path("path", path)
    rows = list(read_rows(file))
    if not rows:
        raise InvalidInputError(f"{file} has no rows")
    dicts = [row for _, row in rows if isinstance(row, dict)]
    names = list(dict.fromkeys(name for row in dicts for name in row))
    bad: list[str] = []
    said = [f"{file}: {len(rows):,} rows"]
    if any(not is_flat(row) for row in dicts):
        records, models = _of_layouts(rows, file.name, bad)
        time = None
    else:
        prompt = columns.prompt_column(names, prompt_column)
        time = columns.time_column(names, time_column)
        said.append(f"prompts: column {prompt!r}")
        grade = columns.grade_column(names)
        named = [name for name in (weak, strong) if name is not None]
        if columns.MODEL in names and grade is not None and not set(named) & set(names):
            said.append(f"an answer a row: models in column {columns.MODEL!r}, grades in {grade!r}")
            records, models = _of_answers(rows, names, prompt, grade, time, bad)
        else:
            found = Columns(dicts).models
            models = tuple(named) if len(named) == 2 else found
            for name in models if need_grades else ():
                columns.check_column("model", name, names)
            records = _of_columns(rows, names, prompt, models, time, bad)
    refuse_bad(file, bad, skip_bad)
    if bad:
        said.append(f"left out: {len(bad):,} malformed rows")
    if len(models) < 2 and not need_grades:
        pair = ModelPair(strong=strong or "strong", weak=weak or "weak")
    else:
        pair = _pair(file, records, models, weak, strong)
    unknown = [name for name in prices or {} if name not in pair]
    if unknown:
        raise InvalidInputError(
            f"prices: {unknown[0]!r} is neither {pair.weak!r} nor {pair.strong!r}, the models of "
            "this pair; name them as in the export"
        )
    raw = np.array([[record.grades.get(m, math.nan) for m in (pair.weak, pair.strong)]
                    for record in records], dtype=np.float64).reshape(-1, 2)  # fmt: skip
    known = raw[~np.isnan(raw)]
    if not len(known) and need_grades:
        raise InvalidInputError(f"{file}: no row has a grade of {pair.weak!r} or {pair.strong!r}")
    given = "0-1" if grades is None and not len(known) else grades
    scale = tell_scale(known.tolist()) if given is None else read_scale(given)
    outside: npt.NDArray[np.bool_] = np.any((raw < scale.low) | (raw > scale.high), axis=1)
    stray = [
        f"{record.where}: grades {record.grades} are not on the scale {scale}"
        for record, out in zip(records, outside, strict=True)
        if out
    ]
    refuse_bad(file, stray, skip_bad)
    records = [record for record, out in zip(records, outside, strict=True) if not out]
    raw = raw[~outside]
    times = np.array([record.time for record in records])
    by_time = time is not None and not np.isnan(times).any()
    order = np.argsort(times, kind="stable") if by_time else np.arange(len(records))
    records, unit = [records[i] for i in order], scale.unit(raw[order])
    said += _grade_lines(pair, unit, scale)
    costs, lines = Costs(prices or {}, output_tokens).of(
        pair, [r.prompt for r in records], [r.usage for r in records]
    )
    said += lines
    if by_time:
        first, last = (_day(float(times[order[i]])) for i in (0, -1))
        said.append(f"times: column {time!r}, {first} to {last}; the last fifth is a final check")
    elif time is not None:
        missing = int(np.isnan(times).sum())
        said.append(f"times: column {time!r} is not used, as {missing:,} rows have no valid time")
    return Export(
        file=str(file),
        pair=pair,
        prompts=tuple(record.prompt for record in records),
        weak=unit[:, 0].copy(),
        strong=unit[:, 1].copy(),
        cost_weak=None if costs is None else costs[:, 0].copy(),
        cost_strong=None if costs is None else costs[:, 1].copy(),
        times=times[order] if by_time else None,
        where=tuple(record.where for record in records),
        scale=scale,
        understood=tuple(said),
    )


def _day(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:g}"


def _grade_lines(pair: ModelPair, unit: Float64Array, scale: Scale) -> list[str]:
    how = "; --grades LOW-HIGH changes it" if scale.source != "as given" else ""
    lines = [f"grades: {scale}, {scale.source}{how}"]
    for side, name, column in zip(_SIDES, (pair.weak, pair.strong), unit.T, strict=True):
        known = column[~np.isnan(column)]
        mean = known.mean() * (scale.high - scale.low) + scale.low if len(known) else math.nan
        lines.append(f"{side} model: {name!r}, {len(known):,} grades, mean {mean:.4g}")
    count = (~np.isnan(unit)).sum(axis=1)
    lines.append(
        f"rows with both grades: {(count == 2).sum():,}, with one: {(count == 1).sum():,} (used to "
        f"learn, not to judge), with none: {(count == 0).sum():,}"
    )
    return lines


def _time(row: Mapping[str, Any], column: str | None) -> float:
    if column is None or is_blank(row.get(column)):
        return math.nan
    try:
        return columns.moment(row[column])
    except ValueError:
        return math.nan


def _usage(row: dict[str, Any], found: Mapping[str, str | None]) -> Usage:
    """What an answer used, from the columns of its roles. Raises ValueError."""
    values: dict[str, float] = {}
    for role in ("cost", "input", "output"):
        column = found[role]
        if column is None or is_blank(row.get(column)):
            continue
        number = values[role] = number_of(row, column)
        if number < 0:
            raise ValueError(f"{column!r} is {number:g}, below 0")
    answer = row.get(found["answer"] or "")
    if isinstance(answer, str) and answer.strip():
        values["answer_chars"] = float(len(answer))
    return Usage(**values)


def _of_columns(
    rows: Sequence[tuple[str, Row]],
    names: Sequence[str],
    prompt: str,
    models: Sequence[str],
    time: str | None,
    bad: list[str],
) -> list[_Record]:
    roles: dict[str, dict[str, str | None]] = {}
    for model in models:
        roles[model] = {
            role: columns.of_model(role, model, names) for role in ("cost", "output", "answer")
        }
        shared = columns.of_model("input", model, names) or columns.of_answer("input", names)
        roles[model]["input"] = shared
    records = []
    for where, row in rows:
        try:
            if isinstance(row, str):
                raise ValueError(row)
            text = columns.prompt_text(row, prompt)
            grades = {m: grade_of(row, m) for m in models if not is_blank(row.get(m))}
            usage = {model: _usage(row, found) for model, found in roles.items()}
        except ValueError as error:
            bad.append(f"{where}: {error}")
            continue
        records.append(_Record(text, where, grades, usage, _time(row, time)))
    return records


def _of_answers(
    rows: Sequence[tuple[str, Row]],
    names: Sequence[str],
    prompt: str,
    grade: str,
    time: str | None,
    bad: list[str],
) -> tuple[list[_Record], tuple[str, ...]]:
    """The records of a file with a row an answer: several grades of one model are averaged."""
    roles = {role: columns.of_answer(role, names) for role in ("cost", "input", "output", "answer")}
    records: dict[str, _Record] = {}
    every: dict[tuple[str, str], list[float]] = {}
    models: dict[str, None] = {}
    for where, row in rows:
        try:
            if isinstance(row, str):
                raise ValueError(row)
            text = columns.prompt_text(row, prompt)
            model = row.get(columns.MODEL)
            if not isinstance(model, str) or not model.strip():
                raise ValueError(f"{columns.MODEL!r} is {model!r:.80}, not a model's name")
            usage = _usage(row, roles)
            given = None if is_blank(row.get(grade)) else grade_of(row, grade)
        except ValueError as error:
            bad.append(f"{where}: {error}")
            continue
        key, model = prompt_key(text), model.strip()
        record = records.setdefault(key, _Record(text, where, {}, {}, _time(row, time)))
        record.usage.setdefault(model, usage)
        models.setdefault(model)
        if given is not None:
            every.setdefault((key, model), []).append(given)
    for (key, model), values in every.items():
        records[key].grades[model] = sum(values) / len(values)
    return list(records.values()), tuple(models)


def _of_layouts(
    rows: Sequence[tuple[str, Row]], file: str, bad: list[str]
) -> tuple[list[_Record], tuple[str, ...]]:
    """The records of battles and graded results; a row of several battles is several records."""
    table = Columns(row for _, row in rows if isinstance(row, dict) and is_flat(row))
    records = []
    for where, row in rows:
        try:
            parsed = parse_row(row, file, where, table)
        except ValueError as error:
            bad.append(f"{where}: {error}")
            continue
        for battle in parsed.battles:
            won = {battle.model_a: 1.0 - battle.preference, battle.model_b: battle.preference}
            records.append(_Record(battle.prompt, where, won, {}))
        if (graded := parsed.graded) is not None:
            usage = {model: Usage(cost=cost) for model, cost in graded.costs.items()}
            records.append(_Record(graded.prompt, where, dict(graded.scores), usage))
    return records, tuple(dict.fromkeys(model for record in records for model in record.grades))


def _pair(
    file: Path,
    records: Sequence[_Record],
    models: Sequence[str],
    weak: str | None,
    strong: str | None,
) -> ModelPair:
    for argument, name in (("weak", weak), ("strong", strong)):
        if name is not None and name not in models:
            raise InvalidInputError(
                f"{argument}: {file} has no model {name!r}; its models are "
                f"{listed(models) or 'none'}"
            )
    if weak is not None and weak == strong:
        raise InvalidInputError(f"weak and strong are both {weak!r}; name two different models")
    others = [model for model in models if model not in (weak, strong)]
    if weak is None and strong is None and len(others) == 2:
        means = {}
        for model in others:
            grades = [record.grades[model] for record in records if model in record.grades]
            means[model] = sum(grades) / len(grades) if grades else math.nan
        weak, strong = sorted(others, key=lambda model: means[model])
    elif len(others) == 1:
        weak, strong = weak or others[0], strong or others[0]
    if weak is None or strong is None:
        raise InvalidInputError(
            f"{file} has the models {listed(models) or '(none)'}; name two of them: "
            "--weak NAME --strong NAME"
        )
    return ModelPair(strong=strong, weak=weak)
