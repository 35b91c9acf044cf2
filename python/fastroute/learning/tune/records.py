"""Rows of an export as records: a prompt with grades, and what its answers used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastroute.data.cleaning import prompt_key
from fastroute.data.columns import Columns, is_blank
from fastroute.data.layouts import is_flat, parse_row
from fastroute.data.row_files import Row
from fastroute.data.row_values import number_of
from fastroute.learning.tune import columns
from fastroute.learning.tune.costs import Usage
from fastroute.learning.tune.grades import grade_of
from fastroute.learning.tune.judged import Judged, has_label, read_label


@dataclass
class Record:
    """One prompt.

    Attributes:
        prompt: what was asked.
        where: line or row.
        grades: on the file's scale, by model.
        usage: what each answer used, by model.
        answers: texts by model.
        time: seconds since 1970; NaN where not known.
    """

    prompt: str
    where: str
    grades: dict[str, float]
    usage: dict[str, Usage]
    answers: dict[str, str] = field(default_factory=dict)
    time: float = math.nan


@dataclass
class Parsed:
    """The records of one source.

    Attributes:
        records, models: what there is.
        names: its columns, where these are the models; empty where rows name them.
        bad: what is wrong with malformed rows.
        time: the column of times.
        said: what was made of the source.
        judged: labels of difficulty.
    """

    records: list[Record]
    models: tuple[str, ...]
    names: tuple[str, ...]
    bad: list[str]
    time: str | None
    said: list[str]
    judged: list[Judged] = field(default_factory=list)


def parse_rows(
    rows: Sequence[tuple[str, Row]],
    name: str,
    *,
    named: Sequence[str],
    prompt_column: str | None,
    time_column: str | None,
) -> Parsed:
    """The records of one source's ``rows``; ``named`` are models that were asked for.

    Raises InvalidInputError where no column has prompts.
    """
    dicts = [row for _, row in rows if isinstance(row, dict)]
    names = list(dict.fromkeys(name for row in dicts for name in row))
    bad: list[str] = []
    if any(not is_flat(row) for row in dicts):
        records, models = _of_layouts(rows, name, bad)
        return Parsed(records, models, (), bad, None, [])
    if not dicts:
        return Parsed([], (), (), [f"{where}: {row}" for where, row in rows], None, [])
    prompt = columns.prompt_column(names, prompt_column)
    time = columns.time_column(names, time_column)
    said = [f"prompts: column {prompt!r}"]
    judged = _judged(rows, name, prompt, bad)
    if judged:
        said.append(f"labels of difficulty: {len(judged):,}")
        rows = [(where, row) for where, row in rows if not _is_pair(row)]
    grade = columns.grade_column(names)
    if columns.MODEL in names and grade is not None and not set(named) & set(names):
        said.append(f"an answer a row: models in column {columns.MODEL!r}, grades in {grade!r}")
        records, models = _of_answers(rows, names, prompt, grade, time, bad)
        return Parsed(records, models, (), bad, time, said, judged)
    models = tuple(named) or Columns(dicts).models
    models = tuple(m for m in models if m in names and m not in (prompt, time))
    if judged and not models:
        return Parsed([], (), (), bad, None, said, judged)
    records = _of_columns(rows, names, prompt, models, time, bad)
    return Parsed(records, models, tuple(names), bad, time, said, judged)


def _judged(
    rows: Sequence[tuple[str, Row]], name: str, prompt: str, bad: list[str]
) -> list[Judged]:
    found = []
    for where, row in rows:
        if has_label(row):
            try:
                found.append(read_label(row, name, where, prompt))
            except ValueError as error:
                bad.append(f"{where}: {error}")
    return found


def _is_pair(row: Row) -> bool:
    return isinstance(row, dict) and not is_blank(row.get("harder"))


def joined(records: Sequence[Record]) -> list[Record]:
    """The records of several sources: those of one prompt whose models differ are one."""
    found: list[Record] = []
    by_prompt: dict[str, Record] = {}
    for record in records:
        first = by_prompt.setdefault(prompt_key(record.prompt), record)
        if first is record:
            found.append(record)
        elif not first.grades.keys() & record.grades.keys():
            first.grades |= record.grades
            first.usage = record.usage | first.usage
            first.answers = record.answers | first.answers
        else:
            found.append(record)
    return found


def _time(row: Mapping[str, Any], column: str | None) -> float:
    if column is None or is_blank(row.get(column)):
        return math.nan
    try:
        return columns.moment(row[column])
    except ValueError:
        return math.nan


def _usage(row: dict[str, Any], found: Mapping[str, str | None]) -> tuple[Usage, str]:
    """What an answer used, from the columns of its roles, and its text. Raises ValueError."""
    values: dict[str, float] = {}
    for role in ("cost", "input", "output"):
        column = found[role]
        if column is None or is_blank(row.get(column)):
            continue
        number = values[role] = number_of(row, column)
        if number < 0:
            raise ValueError(f"{column!r} is {number:g}, below 0")
    answer = row.get(found["answer"] or "")
    if not isinstance(answer, str) or not answer.strip():
        return Usage(**values), ""
    return Usage(answer_chars=float(len(answer)), **values), answer


def _of_columns(
    rows: Sequence[tuple[str, Row]],
    names: Sequence[str],
    prompt: str,
    models: Sequence[str],
    time: str | None,
    bad: list[str],
) -> list[Record]:
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
            used = {model: _usage(row, found) for model, found in roles.items()}
        except ValueError as error:
            bad.append(f"{where}: {error}")
            continue
        usage = {model: facts for model, (facts, _) in used.items()}
        answers = {model: answer for model, (_, answer) in used.items() if answer}
        records.append(Record(text, where, grades, usage, answers, _time(row, time)))
    return records


def _of_answers(
    rows: Sequence[tuple[str, Row]],
    names: Sequence[str],
    prompt: str,
    grade: str,
    time: str | None,
    bad: list[str],
) -> tuple[list[Record], tuple[str, ...]]:
    """The records of a file with a row an answer: several grades of one model are averaged."""
    roles = {role: columns.of_answer(role, names) for role in ("cost", "input", "output", "answer")}
    records: dict[str, Record] = {}
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
            usage, answer = _usage(row, roles)
            given = None if is_blank(row.get(grade)) else grade_of(row, grade)
        except ValueError as error:
            bad.append(f"{where}: {error}")
            continue
        key, model = prompt_key(text), model.strip()
        record = records.setdefault(key, Record(text, where, {}, {}, {}, _time(row, time)))
        record.usage.setdefault(model, usage)
        if answer:
            record.answers.setdefault(model, answer)
        models.setdefault(model)
        if given is not None:
            every.setdefault((key, model), []).append(given)
    for (key, model), values in every.items():
        records[key].grades[model] = sum(values) / len(values)
    return list(records.values()), tuple(models)


def _of_layouts(
    rows: Sequence[tuple[str, Row]], name: str, bad: list[str]
) -> tuple[list[Record], tuple[str, ...]]:
    """The records of battles and graded results; a row of several battles is several records."""
    table = Columns(row for _, row in rows if isinstance(row, dict) and is_flat(row))
    records = []
    for where, row in rows:
        try:
            parsed = parse_row(row, name, where, table)
        except ValueError as error:
            bad.append(f"{where}: {error}")
            continue
        for battle in parsed.battles:
            won = {battle.model_a: 1.0 - battle.preference, battle.model_b: battle.preference}
            records.append(Record(battle.prompt, where, won, {}))
        if (graded := parsed.graded) is not None:
            usage = {model: Usage(cost=cost) for model, cost in graded.costs.items()}
            answers = _answers(row)
            for model, text in answers.items():
                cost = graded.costs.get(model, math.nan)
                usage[model] = Usage(cost=cost, answer_chars=float(len(text)))
            records.append(Record(graded.prompt, where, dict(graded.scores), usage, answers))
    return records, tuple(dict.fromkeys(model for record in records for model in record.grades))


def _answers(row: Row) -> dict[str, str]:
    given = row.get("answers") if isinstance(row, dict) else None
    if not isinstance(given, dict):
        return {}
    return {str(m): text for m, text in given.items() if isinstance(text, str) and text.strip()}
