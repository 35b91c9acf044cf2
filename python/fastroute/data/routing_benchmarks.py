"""Rows of published benchmarks of routing, in the layouts in which they are published.

RouterBench (Hu et al. 2024), CSV or Parquet
    Wide: ``sample_id``, ``prompt``, ``eval_name``, and for each model a score in ``MODEL``,
    ``MODEL|model_response`` and dollars in ``MODEL|total_cost``. Long: ``model_name``,
    ``performance`` and perhaps ``cost``. A prompt may be Python's text of a list of turns. The
    published pickles are not read, because reading a pickle runs its code.
LLMRouterBench (also OpenRouterBench), folders of JSON
    ``DATASET/SPLIT/MODEL/TIMESTAMP.json`` with ``records``, each of ``index``, ``prompt``,
    ``score`` and ``cost``. Of several files of a model the last is read, and no demo.
RouterArena (Lu et al. 2025), JSONL
    Cached results: ``global_index`` (DATASET_NUMBER), ``question``, ``llm_selected``, and
    ``evaluation_result`` with ``score`` and ``inference_cost``. A file for each model.

Where a row or a file is of one model, the rows of a prompt become one.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastroute.data.columns import is_blank
from fastroute.data.records import GradedResult
from fastroute.data.row_files import KINDS, Row, data_files, file_kind
from fastroute.errors import InvalidInputError

_COST, _RESPONSE = "|total_cost", "|model_response"
_MOST_JSON_BYTES = 1 << 30
_BENCHMARKS = ("RouterBench", "LLMRouterBench", "RouterArena")


class BenchmarkRow(dict[str, Any]):
    """A graded row in fastroute's layout, from the benchmark ``benchmark``."""

    def __init__(self, benchmark: str, row: dict[str, Any]) -> None:
        super().__init__(row)
        self.benchmark = benchmark


def standard_row(row: Row) -> Row:
    """``row`` in fastroute's layout, if it is of RouterBench or RouterArena; else as it is."""
    if isinstance(row, str):
        return row
    if "sample_id" in row and "eval_name" in row:
        return _router_bench(row)
    if "global_index" in row and "evaluation_result" in row:
        return _router_arena(row)
    return row


def merge_models(rows: Iterable[GradedResult]) -> list[GradedResult]:
    """Of benchmarks, the rows of a prompt of a dataset as one, unless they grade the same model."""
    found: dict[tuple[str, str, str], GradedResult] = {}
    kept: list[GradedResult] = []
    for row in rows:
        key = (row.file, row.dataset, row.prompt)
        first = found.get(key)
        if row.file in _BENCHMARKS and first and not first.scores.keys() & row.scores.keys():
            first.scores.update(row.scores)
            first.costs.update(row.costs)
            continue
        if row.file in _BENCHMARKS and first is None:
            row = replace(row, scores=dict(row.scores), costs=dict(row.costs))
            found[key] = row
        kept.append(row)
    return kept


def graded_files(place: Path) -> list[Path]:
    """``data_files`` of ``place``, or LLMRouterBench's JSON below it: the last file of a model."""
    if not place.is_dir() or any(file_kind(file) in KINDS for file in place.iterdir()):
        return data_files(place)
    last = {file.parent: file for file in sorted(place.rglob("*.json")) if file.is_file()}
    return list(last.values()) or data_files(place)


def read_results(file: Path) -> Iterator[tuple[str, Row]]:
    """The records of a JSON file of LLMRouterBench as rows, and where each is.

    Raises InvalidInputError for a file that can't be read or is not such a file.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_JSON_BYTES + 1)
        document = json.loads(content) if len(content) <= _MOST_JSON_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{file} can't be read as JSON: {error}") from error
    records = document.get("records") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(records, list):
        raise InvalidInputError(
            f"{file} has no list 'records', as LLMRouterBench's results have; other JSON must be "
            "written as .jsonl, a row a line"
        )
    if document.get("demo"):
        return
    *_, dataset, _, model, _ = ("", "", "", *file.parts)
    model, dataset = (
        str(document.get(key) or otherwise)
        for key, otherwise in (("model_name", model), ("dataset_name", dataset))
    )
    for i, record in enumerate(records):
        where = f"{dataset}, {model}, record {i + 1}"
        if not isinstance(record, dict):
            yield where, "not a JSON object"
            continue
        # The benchmark counts an answer without a score as wrong.
        score = 0.0 if is_blank(record.get("score")) else record["score"]
        prompt = record.get("prompt") or record.get("origin_query")
        yield (
            where,
            _row(
                "LLMRouterBench", prompt, dataset, record.get("index", i), {model: score},
                {model: record.get("cost")},
            ),
        )  # fmt: skip


def _router_bench(row: dict[str, Any]) -> Row:
    prompt = row.get("prompt")
    if isinstance(prompt, str) and prompt.startswith("[") and prompt.endswith("]"):
        try:
            turns = ast.literal_eval(prompt)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            turns = None
        if isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns):
            prompt = turns
    if "model_name" in row:
        model = str(row["model_name"])
        scores, costs = {model: row.get("performance")}, {model: row.get("cost")}
    else:
        models = {
            name.removesuffix(end) for name in row for end in (_COST, _RESPONSE)
            if name.endswith(end)
        }  # fmt: skip
        scores = {model: row[model] for model in sorted(models) if model in row}
        costs = {model: row.get(model + _COST) for model in scores}
    return _row("RouterBench", prompt, row["eval_name"], row["sample_id"], scores, costs)


def _router_arena(row: dict[str, Any]) -> Row:
    result, model = row["evaluation_result"], row.get("llm_selected")
    if not isinstance(result, dict):
        return "it has no evaluation_result; only evaluated results have scores"
    if not isinstance(model, str) or not model:
        return f"'llm_selected' is {model!r}, not a model's name"
    index = str(row["global_index"])
    return _row(
        "RouterArena", row.get("question"), index.rpartition("_")[0], index,
        {model: result.get("score")}, {model: result.get("inference_cost")},
    )  # fmt: skip


def _row(
    benchmark: str,
    prompt: Any,
    dataset: Any,
    name: Any,
    scores: dict[str, Any],
    costs: dict[str, Any],
) -> BenchmarkRow:
    return BenchmarkRow(
        benchmark,
        {
            "prompt": prompt,
            "dataset": str(dataset),
            "id": str(name),
            "scores": _known(scores),
            "costs": _known(costs),
        },
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """The values that are there; pandas writes NaN for what is not."""
    return {name: value for name, value in values.items() if not is_blank(value) and value == value}
