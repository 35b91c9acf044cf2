"""The three loaders: the published anchors, decontamination, and what a bad folder says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.routellm import (
    LOADERS,
    ROUTELLM_PAIR,
    Benchmark,
    load_gsm8k,
    load_mmlu,
    load_mt_bench,
)

from .evaluation_data import STRONG, WEAK, real_evals, small_evals, write_results


@pytest.mark.parametrize(
    ("name", "count", "strong", "weak", "digits"),
    [
        ("mmlu", 14_037, 80.587, 68.091, 3),
        ("gsm8k", 1_307, 85.769, 63.734, 3),
        ("mt-bench", 72, 9.2118, 8.2812, 4),
    ],
)
def test_published_anchors(name: str, count: int, strong: float, weak: float, digits: int) -> None:
    benchmark = LOADERS[name](real_evals())
    assert len(benchmark) == count
    # 8.28125 is published as 8.2812, so half a unit of the last digit is allowed.
    half_a_unit = 0.5000001 * 10.0**-digits
    assert abs(benchmark.strong_quality - strong) <= half_a_unit
    assert abs(benchmark.weak_quality - weak) <= half_a_unit


def test_small_folder_is_read_and_decontaminated(tmp_path: Path) -> None:
    small_evals(tmp_path)
    mmlu = load_mmlu(tmp_path)
    assert len(mmlu) == 60 - 1
    assert "botany question 3????" not in mmlu.prompts
    assert set(np.unique(mmlu.weak)) <= {0.0, 1.0}
    assert mmlu.ids[0] == "mmlu_algebra:0"
    assert mmlu.pair == ROUTELLM_PAIR
    gsm8k = load_gsm8k(tmp_path / "routellm" / "evals")  # the inner folder is taken too
    assert len(gsm8k) == 39
    assert gsm8k.strong_quality == pytest.approx(100 * gsm8k.strong.mean())


def test_mt_bench_averages_turns_and_drops_by_either_turn(tmp_path: Path) -> None:
    small_evals(tmp_path)
    mt_bench = load_mt_bench(tmp_path)
    assert mt_bench.ids == tuple(str(81 + i) for i in range(12) if i not in (0, 5))
    path = tmp_path / "routellm/evals/mt_bench/judgements.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for model, column in ((WEAK, mt_bench.weak), (STRONG, mt_bench.strong)):
        for question_id, score in zip(mt_bench.ids, column, strict=True):
            turns = [
                r["score"]
                for r in rows
                if str(r["question_id"]) == question_id and r["model"] == model
            ]
            assert len(turns) == 2
            assert score == np.mean(turns)
    assert mt_bench.prompts[0] == "Write, 1."


@pytest.mark.parametrize("loader", LOADERS.values())
def test_missing_folder_says_where_to_get_it(tmp_path: Path, loader) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match="lm-sys/RouteLLM"):
        loader(tmp_path / "nowhere")
    (tmp_path / "mmlu").mkdir()
    with pytest.raises(InvalidInputError, match="lm-sys/RouteLLM"):
        loader(tmp_path)


def test_malformed_results_name_file_and_line(tmp_path: Path) -> None:
    small_evals(tmp_path)
    path = tmp_path / "routellm/evals/gsm8k/gsm8k_responses.csv"
    write_results(path, [("one", True, True), ("two", "maybe", True)])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match=r"gsm8k_responses\.csv, line 3: 'maybe'"):
        load_gsm8k(tmp_path)
    path.write_text("question\nhello\n")
    with pytest.raises(InvalidInputError, match="no column 'prompt'"):
        load_gsm8k(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"turn": 1', '"turn": 2', "judged twice"),
        ('"score": ', '"score": -', "outside 1..10"),
        ('"model"', '"modell"', "line 1: KeyError: 'model'"),
        ("{", "", "line 1: JSONDecodeError"),
    ],
)
def test_malformed_judgements_name_the_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    small_evals(tmp_path)
    path = tmp_path / "routellm/evals/mt_bench/judgements.jsonl"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InvalidInputError, match=message):
        load_mt_bench(tmp_path)


def test_missing_judgement_is_an_error(tmp_path: Path) -> None:
    small_evals(tmp_path)
    path = tmp_path / "routellm/evals/mt_bench/judgements.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InvalidInputError, match="1 of 2 judgements"):
        load_mt_bench(tmp_path)


def _benchmark(**changes: object) -> Benchmark:
    fields: dict[str, object] = {
        "name": "mine",
        "prompts": ("a", "b"),
        "weak": np.array([0.0, 1.0]),
        "strong": np.array([1.0, 1.0]),
        "pair": ROUTELLM_PAIR,
        "ids": ("1", "2"),
    }
    return Benchmark(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": (), "ids": ()}, "no prompts"),
        ({"weak": np.array([0.0])}, r"weak must be float64\[2\]"),
        ({"weak": np.array([0, 1])}, "weak must be float64"),
        ({"strong": np.array([np.nan, 1.0])}, r"strong\[0\] is nan"),
        ({"cost_weak": np.zeros(2)}, "one of cost_weak and cost_strong"),
        ({"cost_weak": np.array([0.0, -1.0]), "cost_strong": np.ones(2)}, r"cost_weak\[1\] is -1"),
        ({"ids": ("1",)}, "1 ids"),
        (
            {"strong": np.array([0.0, 1e101])},
            r"strong\[1\] is 1e\+101 .*must be -1e\+100 to 1e\+100",
        ),
        (
            {"cost_weak": np.ones(2), "cost_strong": np.array([1e308, 1.0])},
            r"cost_strong\[0\] is 1e\+308 .*must be 0 to 1e\+100",
        ),
        ({"weak": [0.0, 1.0]}, r"weak must be float64\[2\], got list"),
        ({"prompts": "ab"}, "prompts must be a tuple, got one str"),
    ],
)
def test_benchmark_checks_its_columns(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _benchmark(**changes)


def test_select_keeps_columns_together() -> None:
    part = _benchmark(cost_weak=np.array([1.0, 2.0]), cost_strong=np.array([3.0, 4.0])).select(
        np.array([False, True]), name="part"
    )
    assert (part.name, part.prompts, part.ids) == ("part", ("b",), ("2",))
    assert part.cost_strong is not None
    assert part.cost_strong.tolist() == [4.0]
    with pytest.raises(InvalidInputError, match="keep"):
        part.select(np.array([True, False]))


def test_results_with_long_prompts_are_read_and_with_two_columns_of_one_name_refused(
    tmp_path: Path,
) -> None:
    small_evals(tmp_path)
    path = tmp_path / "routellm" / "evals" / "gsm8k" / "gsm8k_responses.csv"
    write_results(path, [("long " * 60_000, False, True)])
    assert load_gsm8k(tmp_path).prompts == ("long " * 60_000,)
    path.write_text(f"prompt,{WEAK},{STRONG},{WEAK}\nx,True,True,False\n")
    with pytest.raises(InvalidInputError, match=f"2 columns are named '{WEAK}'"):
        load_gsm8k(tmp_path)
