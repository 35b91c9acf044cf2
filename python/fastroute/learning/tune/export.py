"""Reads an export of traffic: prompts, grades of models, what the answers cost, and when.

One of these layouts, in CSV, JSONL, Parquet or a table of a database:

- A row a prompt and a column a model: ``prompt``, ``score_mini``, ``score_4o``.
- A row an answer: ``prompt``, ``model`` and a grade (``score``, ``rating``, ``thumb``, ...). Rows
  of the same prompt are put together.
- The battles and graded results of ``fastroute.data.layouts``. A battle's winner has grade 1, its
  loser 0; a tie is 1/2 for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute.data.records import listed
from fastroute.data.row_files import Row
from fastroute.data.row_values import refuse_bad
from fastroute.errors import InvalidInputError
from fastroute.learning.tune.costs import Costs, Price
from fastroute.learning.tune.grades import Scale, read_scale, tell_scale
from fastroute.learning.tune.judged import Judged
from fastroute.learning.tune.records import Parsed, Record, joined, parse_rows
from fastroute.learning.tune.sources import Sources, read_sources
from fastroute.types import Float64Array, ModelPair


@dataclass(frozen=True, eq=False)
class Export:
    """Graded traffic of models, by rising time where times are known.

    Attributes:
        file: its name; several are joined by commas.
        models: m names in the file: of a pair the weak and the strong model, and the helpers of a
            cascade; otherwise all that are chosen among.
        is_pair: whether the first two are a pair of a weak and a strong model.
        prompts: n texts.
        grades: float64[n, m], on 0..1; NaN where missing.
        usd: float64[n, m], dollars of each answer; None where nothing is known.
        times: float64[n], seconds since 1970; None where not known.
        where: line or row of each in the file.
        scale: the scale of the file's grades.
        understood: what was made of the file, a line each.
        answer_tokens: mean tokens of an answer, by model.
        answers: n times the texts of answers, by model.
        judged: labels of how hard prompts are, these or others.
    """

    file: str
    models: tuple[str, ...]
    is_pair: bool
    prompts: tuple[str, ...]
    grades: Float64Array
    usd: Float64Array | None
    times: Float64Array | None
    where: tuple[str, ...]
    scale: Scale
    understood: tuple[str, ...]
    answer_tokens: Mapping[str, float]
    answers: tuple[Mapping[str, str], ...]
    judged: tuple[Judged, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def pair(self) -> ModelPair:
        """The weak and the strong model. Raises InvalidInputError where there is no pair."""
        if not self.is_pair:
            raise InvalidInputError(
                f"{self.file} has {len(self.models)} models; name two: weak=..., strong=..."
            )
        return ModelPair(strong=self.models[1], weak=self.models[0])

    @property
    def weak(self) -> Float64Array:
        """Grades of the weak model, float64[n]."""
        return self.grades[:, 0]

    @property
    def strong(self) -> Float64Array:
        """Grades of the strong model, float64[n]."""
        return self.grades[:, 1]

    @property
    def cost_weak(self) -> Float64Array | None:
        """Dollars of the weak model's answers, float64[n], or None."""
        return None if self.usd is None else self.usd[:, 0]

    @property
    def cost_strong(self) -> Float64Array | None:
        """Dollars of the strong model's answers, float64[n], or None."""
        return None if self.usd is None else self.usd[:, 1]

    @property
    def has_all(self) -> npt.NDArray[np.bool_]:
        """Which rows have grades of the pair, or of all models where there is no pair, bool[n]."""
        return np.asarray((~np.isnan(self._chosen_among)).all(axis=1))

    @property
    def has_any(self) -> npt.NDArray[np.bool_]:
        """Which rows have at least one of these grades, bool[n]."""
        return np.asarray((~np.isnan(self._chosen_among)).any(axis=1))

    @property
    def _chosen_among(self) -> Float64Array:
        return self.grades[:, :2] if self.is_pair else self.grades

    def select(self, rows: npt.NDArray[Any]) -> Export:
        """The export with these rows only: indices, or bool[n]."""
        chosen = np.arange(len(self))[rows]
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in chosen),
            where=tuple(self.where[i] for i in chosen),
            answers=tuple(self.answers[i] for i in chosen),
            grades=self.grades[chosen],
            usd=None if self.usd is None else self.usd[chosen],
            times=None if self.times is None else self.times[chosen],
        )


def read_export(
    path: Sources,
    *,
    weak: str | None = None,
    strong: str | None = None,
    helpers: Sequence[str] = (),
    models: Sequence[str] = (),
    query: str | None = None,
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
        path: a ``.csv``, ``.jsonl`` or ``.parquet`` file, each perhaps ``.gz``; a database's URL as
            SQLAlchemy takes it, with ``?table=NAME``; or several of these, whose rows of one prompt
            are put together.
        weak, strong: a pair of models: names of columns, or of models in the rows. By default the
            two that the file has, by their mean grade.
        helpers: further cheap models of a cascade, in the order in which they will be asked.
        models: the models to choose among, without a pair; by default all of a file with more than
            two.
        query: a SELECT for the database, instead of a table.
        prices: dollars per million tokens in and out, by model.
        grades: the scale, such as "1-5"; by default told from the data.
        prompt_column, time_column: names of columns; by default told from their names.
        output_tokens: length of an answer where neither tokens nor answers are in the file.
        skip_bad: leave malformed rows out instead of raising.
        need_grades: raise where there is no grade; otherwise such an export has NaN only.

    Raises InvalidInputError for a file or arguments that can't be used, each malformed row by its
    line; MissingDependencyError for Parquet without pyarrow, or SQL without SQLAlchemy.
    """
    if models and (weak or strong or helpers):
        raise InvalidInputError("give models, or weak and strong with helpers; not both")
    named = tuple(dict.fromkeys(
        [*models, *(name for name in (weak, strong) if name is not None), *helpers]
    ))  # fmt: skip
    if len(named) - len(helpers) < 2:
        asked: tuple[str, ...] = ()  # the file says which models there are
    else:
        asked = named
    file, records, found, choices, said, time, judged = _records(
        read_sources(path, query), asked, prompt_column, time_column, skip_bad
    )
    if judged and not records:
        raise InvalidInputError(
            f"{file} has labels of difficulty only, and a promise takes grades of answers; give "
            "these too, or train without a promise: fastroute train mf --data FILE"
        )
    for name in named if need_grades else ():
        if name not in found:
            raise InvalidInputError(f"{file} has no model {name!r}; {choices}; name one of them")
    chosen, is_pair = _chosen(file, records, found, weak, strong, helpers, models, need_grades)
    unknown = [name for name in prices or {} if name not in chosen]
    if unknown:
        raise InvalidInputError(
            f"prices: {unknown[0]!r} is not one of the models, {listed(chosen)}; name them as in "
            "the export"
        )
    raw = np.array([[record.grades.get(m, math.nan) for m in chosen] for record in records],
                   dtype=np.float64).reshape(-1, len(chosen))  # fmt: skip
    known = raw[~np.isnan(raw)]
    if not len(known) and need_grades:
        raise InvalidInputError(f"{file}: no row has a grade of {listed(chosen)}")
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
    said += _grade_lines(chosen, is_pair, unit, scale)
    costs, tokens, lines = Costs(prices or {}, output_tokens).of(
        chosen, [r.prompt for r in records], [r.usage for r in records]
    )
    said += lines
    if by_time:
        first, last = (_day(float(times[order[i]])) for i in (0, -1))
        said.append(f"times: column {time!r}, {first} to {last}; the last fifth is a final check")
    elif time is not None:
        missing = int(np.isnan(times).sum())
        said.append(f"times: column {time!r} is not used, as {missing:,} rows have no valid time")
    return Export(
        file=file,
        models=chosen,
        is_pair=is_pair,
        prompts=tuple(record.prompt for record in records),
        grades=unit,
        usd=costs,
        times=times[order] if by_time else None,
        where=tuple(record.where for record in records),
        scale=scale,
        understood=tuple(said),
        answer_tokens=tokens,
        answers=tuple(record.answers for record in records),
        judged=judged,
    )


def _records(
    rows: Sequence[tuple[str, str, Row]],
    asked: Sequence[str],
    prompt_column: str | None,
    time_column: str | None,
    skip_bad: bool,
) -> tuple[str, list[Record], tuple[str, ...], str, list[str], str | None, tuple[Judged, ...]]:
    """The name of all sources, their records, models, what may be named as one, what was made of
    the sources, the column of times, and labels of difficulty."""
    sources = list(dict.fromkeys(name for name, _, _ in rows))
    parsed: list[Parsed] = []
    said: list[str] = []
    for source in sources:
        own = [(where, row) for name, where, row in rows if name == source]
        found = parse_rows(
            own, source, named=asked, prompt_column=prompt_column, time_column=time_column
        )
        refuse_bad(source, found.bad, skip_bad)
        said += [f"{source}: {len(own):,} rows", *found.said]
        if found.bad:
            said.append(f"left out: {len(found.bad):,} malformed rows")
        parsed.append(found)
    records = [record for found in parsed for record in found.records]
    if len(sources) > 1:
        records = joined(records)
        said.append(f"together: {len(records):,} rows; those of one prompt are put together where "
                    "their models differ")  # fmt: skip
    models = tuple(dict.fromkeys(model for found in parsed for model in found.models))
    names = dict.fromkeys(name for found in parsed for name in found.names)
    known = f"the columns are {', '.join(list(names)[:20])}" if names else (
        f"its models are {listed(models) or 'none'}"
    )  # fmt: skip
    time = next((found.time for found in parsed if found.time), None)
    judged = tuple(label for found in parsed for label in found.judged)
    return ", ".join(sources), records, models, known, said, time, judged


def _day(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:g}"


def _grade_lines(
    models: Sequence[str], is_pair: bool, unit: Float64Array, scale: Scale
) -> list[str]:
    how = "; --grades LOW-HIGH changes it" if scale.source != "as given" else ""
    lines = [f"grades: {scale}, {scale.source}{how}"]
    for i, (name, column) in enumerate(zip(models, unit.T, strict=True)):
        known = column[~np.isnan(column)]
        mean = known.mean() * (scale.high - scale.low) + scale.low if len(known) else math.nan
        role = (("weak ", "strong ")[i] if i < 2 else "helper ") if is_pair else ""
        what = "" if role == "helper " else "model"
        lines.append(f"{role}{what}: {name!r}, {len(known):,} grades, mean {mean:.4g}")
    chosen = unit[:, :2] if is_pair else unit
    count, wanted = (~np.isnan(chosen)).sum(axis=1), chosen.shape[1]
    some = "one" if wanted == 2 else "some"
    lines.append(
        f"rows with {'both' if wanted == 2 else 'all'} grades: {(count == wanted).sum():,}, with "
        f"{some}: {((count > 0) & (count < wanted)).sum():,} (used to learn, not to judge), with "
        f"none: {(count == 0).sum():,}"
    )
    return lines


def _chosen(
    file: str,
    records: Sequence[Record],
    found: Sequence[str],
    weak: str | None,
    strong: str | None,
    helpers: Sequence[str],
    models: Sequence[str],
    need_grades: bool,
) -> tuple[tuple[str, ...], bool]:
    """The models of the export, and whether the first two are a pair."""
    if len(set(models)) > 2 or (
        not models and weak is None and strong is None and not helpers and len(found) > 2
    ):
        return tuple(models or found), False
    if len(found) < 2 and not need_grades:
        return (weak or "weak", strong or "strong", *helpers), True
    candidates = [name for name in models or found if name not in helpers]
    pair = _pair(file, records, candidates, weak, strong)
    if len({*pair, *helpers}) < 2 + len(helpers):
        raise InvalidInputError(
            f"weak, strong and helpers must be different models, got {listed([*pair, *helpers])}"
        )
    return (pair.weak, pair.strong, *helpers), True


def _pair(
    file: str,
    records: Sequence[Record],
    models: Sequence[str],
    weak: str | None,
    strong: str | None,
) -> ModelPair:
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
            f"{file} has the models {listed(models) or '(none)'}; name two of them, "
            "--weak NAME --strong NAME, or more, --models NAME NAME NAME"
        )
    return ModelPair(strong=strong, weak=weak)
