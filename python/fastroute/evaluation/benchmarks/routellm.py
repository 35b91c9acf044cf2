"""Benchmarks: prompts with the score that the weak and the strong model got on each.

``load_mmlu``, ``load_gsm8k`` and ``load_mt_bench`` read the published per-prompt results of
RouteLLM (Ong et al. 2024) in the layout of a checkout of github.com/lm-sys/RouteLLM, and drop
the prompts that RouteLLM's authors found in their training data.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._checks import GREATEST, check_path
from fastroute.data.row_files import check_header, raise_cell_limit
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.types import BoolArray, Float64Array, ModelPair

#: The pair of models that RouteLLM's published results are about.
ROUTELLM_PAIR = ModelPair(strong="gpt-4-1106-preview", weak="mistralai/Mixtral-8x7B-Instruct-v0.1")

_WHERE_TO_GET = (
    "clone github.com/lm-sys/RouteLLM and give the path of the checkout as data "
    "(--data on the command line)"
)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Prompts, and what each of two models scored on them.

    Attributes:
        name: short name, for example ``"mmlu"``.
        prompts: n prompts, as the router sees them.
        weak: float64[n], the weak model's score on each prompt.
        strong: float64[n], the strong model's score on each prompt.
        pair: the names of the two models.
        ids: one identifier per prompt.
        cost_weak: float64[n], dollars that the weak model's answer costs, or None.
        cost_strong: float64[n], dollars that the strong model's answer costs, or None.
        scale: scores are multiplied by it for display (100 for correctness in percent).
        unit: what a displayed score is.

    Raises:
        InvalidInputError: no prompts, different lengths, scores that are not finite, scores or
            costs beyond 1e100, negative costs, or only one of the two costs.
    """

    name: str
    prompts: tuple[str, ...]
    weak: Float64Array
    strong: Float64Array
    pair: ModelPair
    ids: tuple[str, ...]
    cost_weak: Float64Array | None = None
    cost_strong: Float64Array | None = None
    scale: float = 1.0
    unit: str = "score"

    def __post_init__(self) -> None:
        prompts: object = self.prompts
        if isinstance(prompts, str):
            raise InvalidTypeError(f"benchmark {self.name!r}: prompts must be a tuple, got one str")
        n = len(self.prompts)
        if n == 0:
            raise InvalidInputError(f"benchmark {self.name!r} has no prompts")
        if (self.cost_weak is None) != (self.cost_strong is None):
            raise InvalidInputError(
                f"benchmark {self.name!r} has one of cost_weak and cost_strong; give both or none"
            )
        if len(self.ids) != n:
            raise InvalidInputError(f"benchmark {self.name!r}: {len(self.ids)} ids, {n} prompts")
        for field in ("weak", "strong", "cost_weak", "cost_strong"):
            values = getattr(self, field)
            if values is None:
                continue
            if not isinstance(values, np.ndarray):
                raise InvalidTypeError(
                    f"benchmark {self.name!r}: {field} must be float64[{n}], got "
                    f"{type(values).__name__}; pass np.asarray({field}, dtype=np.float64)"
                )
            if values.shape != (n,) or values.dtype != np.float64:
                raise InvalidInputError(
                    f"benchmark {self.name!r}: {field} must be float64[{n}], "
                    f"got {values.dtype}{list(values.shape)}"
                )
            bad = ~(np.abs(values) <= GREATEST) | (
                (values < 0) if field.startswith("cost") else False
            )
            if bad.any():
                i = int(np.flatnonzero(bad)[0])
                raise InvalidInputError(
                    f"benchmark {self.name!r}: {field}[{i}] is {values[i]} (id {self.ids[i]!r}); "
                    f"it must be {'0' if field.startswith('cost') else f'-{GREATEST:g}'} to "
                    f"{GREATEST:g}"
                )

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def weak_quality(self) -> float:
        """Mean score of always the weak model, in ``unit``."""
        return float(self.weak.mean()) * self.scale

    @property
    def strong_quality(self) -> float:
        """Mean score of always the strong model, in ``unit``."""
        return float(self.strong.mean()) * self.scale

    def select(self, keep: BoolArray, name: str | None = None) -> Benchmark:
        """The prompts where ``keep`` (bool[n]) is true."""
        if keep.shape != (len(self),) or keep.dtype != np.bool_:
            raise InvalidInputError(f"keep must be bool[{len(self)}]")
        index = np.flatnonzero(keep)
        return replace(
            self,
            name=name or self.name,
            prompts=tuple(self.prompts[i] for i in index),
            ids=tuple(self.ids[i] for i in index),
            weak=self.weak[index],
            strong=self.strong[index],
            cost_weak=None if self.cost_weak is None else self.cost_weak[index],
            cost_strong=None if self.cost_strong is None else self.cost_strong[index],
        )


def load_mmlu(data: str | os.PathLike[str], *, pair: ModelPair = ROUTELLM_PAIR) -> Benchmark:
    """MMLU: 57 domains of multiple-choice questions, 0/1 correctness. See ``load_gsm8k``."""
    folder = _evals_folder(data) / "mmlu"
    files = sorted((folder / "responses").glob("mmlu_*.csv"))
    if not files:
        raise InvalidInputError(
            f"{folder / 'responses'} has no mmlu_<domain>.csv files; {_WHERE_TO_GET}"
        )
    rows = [row for file in files for row in _correctness_rows(file, pair)]
    return _graded("mmlu", rows, _contaminated(folder), pair)


def load_gsm8k(data: str | os.PathLike[str], *, pair: ModelPair = ROUTELLM_PAIR) -> Benchmark:
    """GSM8K: grade-school mathematics, 0/1 correctness, decontaminated.

    Args:
        data: a checkout of RouteLLM's repository, or its ``routellm/evals`` folder.
        pair: two columns of the results.

    Raises InvalidInputError if a file is missing (and says where to get it) or malformed (and
    says in which line).
    """
    folder = _evals_folder(data) / "gsm8k"
    rows = list(_correctness_rows(folder / "gsm8k_responses.csv", pair))
    return _graded("gsm8k", rows, _contaminated(folder), pair)


def load_mt_bench(data: str | os.PathLike[str], *, pair: ModelPair = ROUTELLM_PAIR) -> Benchmark:
    """MT-Bench: two-turn questions; a question's score is the mean over turns of a judge's 1 to 10.

    The router sees the first turn only, as in RouteLLM, so both turns go to one model. A
    question is dropped if either of its turns was found in training data. Arguments and errors
    as ``load_gsm8k``.
    """
    folder = _evals_folder(data) / "mt_bench"
    dropped = _contaminated(folder)
    judged: dict[tuple[Any, str], dict[Any, float]] = {}
    path = folder / "judgements.jsonl"
    for line, row in read_json_lines(path):
        try:
            key, turn, score = (row["question_id"], row["model"]), row["turn"], float(row["score"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _malformed(path, line, error) from error
        if not 1.0 <= score <= 10.0:
            raise InvalidInputError(f"{path}, line {line}: score {score} is outside 1..10")
        if turn in judged.setdefault(key, {}):
            raise InvalidInputError(f"{path}, line {line}: {key} turn {turn} is judged twice")
        judged[key][turn] = score

    prompts, ids, scores = [], [], []
    path = folder / "question.jsonl"
    for line, row in read_json_lines(path):
        try:
            question_id, turns = row["question_id"], list(row["turns"])
            first_turn = str(turns[0])
        except (KeyError, TypeError, IndexError) as error:
            raise _malformed(path, line, error) from error
        if any(turn in dropped for turn in turns):
            continue
        both = [judged.get((question_id, model), {}) for model in (pair.weak, pair.strong)]
        for model, turns_judged in zip((pair.weak, pair.strong), both, strict=True):
            if len(turns_judged) != len(turns):
                raise InvalidInputError(
                    f"{folder / 'judgements.jsonl'} has {len(turns_judged)} of {len(turns)} "
                    f"judgements of {model!r} on question {question_id}"
                )
        prompts.append(first_turn)
        ids.append(str(question_id))
        scores.append([float(np.mean(list(turns_judged.values()))) for turns_judged in both])
    columns = np.array(scores, dtype=np.float64).reshape(-1, 2)
    return Benchmark(
        name="mt-bench",
        prompts=tuple(prompts),
        weak=columns[:, 0].copy(),
        strong=columns[:, 1].copy(),
        pair=pair,
        ids=tuple(ids),
        unit="judge's score, 1 to 10",
    )


#: The benchmarks that have a name, and how to load each from a folder.
LOADERS: dict[str, Callable[..., Benchmark]] = {
    "mmlu": load_mmlu,
    "gsm8k": load_gsm8k,
    "mt-bench": load_mt_bench,
}


def _evals_folder(data: str | os.PathLike[str]) -> Path:
    root = check_path("data", data)
    for folder in (root / "routellm" / "evals", root):
        if any((folder / name).is_dir() for name in ("mmlu", "gsm8k", "mt_bench")):
            return folder
    found = "holds none of mmlu, gsm8k and mt_bench" if root.is_dir() else "is not a folder"
    raise InvalidInputError(f"data={str(data)!r} {found}; {_WHERE_TO_GET}")


def _contaminated(folder: Path) -> frozenset[str]:
    path = folder / "contaminated_prompts.jsonl"
    prompts = []
    for line, row in read_json_lines(path):
        if not isinstance(row.get("eval_prompt"), str):
            raise InvalidInputError(f"{path}, line {line}: no text in 'eval_prompt'")
        prompts.append(row["eval_prompt"])
    return frozenset(prompts)


_Row = tuple[str, str, float, float]  # id, prompt, weak, strong


def _correctness_rows(path: Path, pair: ModelPair) -> Iterator[_Row]:
    try:
        text = path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InvalidInputError(
            f"{path} can't be read ({error.strerror}); {_WHERE_TO_GET}"
        ) from error
    with text:
        raise_cell_limit()
        reader = csv.DictReader(text, strict=True)
        check_header(path, reader.fieldnames or ())
        missing = [c for c in ("prompt", *pair) if c not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInputError(
                f"{path} has no column {missing[0]!r}; its columns are {reader.fieldnames}"
            )
        try:
            for i, row in enumerate(reader):
                yield (
                    f"{path.stem}:{i}",
                    row["prompt"],
                    _BOOLEANS[row[pair.weak]],
                    _BOOLEANS[row[pair.strong]],
                )
        except (KeyError, csv.Error, UnicodeDecodeError) as error:
            raise InvalidInputError(
                f"{path}, line {reader.line_num}: {error}; a row needs a prompt, and True or False "
                "for each model"
            ) from error


_BOOLEANS = {"True": 1.0, "False": 0.0}


def _graded(name: str, rows: list[_Row], dropped: frozenset[str], pair: ModelPair) -> Benchmark:
    kept = [row for row in rows if row[1] not in dropped]
    return Benchmark(
        name=name,
        prompts=tuple(row[1] for row in kept),
        weak=np.array([row[2] for row in kept], dtype=np.float64),
        strong=np.array([row[3] for row in kept], dtype=np.float64),
        pair=pair,
        ids=tuple(row[0] for row in kept),
        scale=100.0,
        unit="% correct",
    )


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line of a JSONL file of RouteLLM's repository."""
    try:
        text = path.open(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(
            f"{path} can't be read ({error.strerror}); {_WHERE_TO_GET}"
        ) from error
    with text:
        for line, content in enumerate(text, 1):
            if not content.strip():
                continue
            try:
                row = json.loads(content)
            except ValueError as error:
                raise _malformed(path, line, error) from error
            if not isinstance(row, dict):
                raise InvalidInputError(f"{path}, line {line}: not a JSON object")
            yield line, row


def _malformed(path: Path, line: int, error: Exception) -> InvalidInputError:
    return InvalidInputError(f"{path}, line {line}: {type(error).__name__}: {error}")
