"""RouterBench, LLMRouterBench and RouterArena: small files of the shapes in which they come."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from cli_runner import fastroute
from fastroute.data import read_training_data
from fastroute.data.grade_table import GradeTable
from fastroute.errors import InvalidInputError

MODELS = {"poet": (0.9, 0.2), "sums": (0.2, 0.9), "both": (0.7, 0.7)}
COSTS = {"poet": 0.001, "sums": 0.001, "both": 0.004}


def made(count: int = 50) -> list[tuple[str, str, dict[str, float]]]:
    """(dataset, prompt, scores) of poems and sums."""
    chance = random.Random(0)
    found = []
    for i in range(count):
        for kind, (dataset, prompt) in enumerate(
            {
                "poems": f"Write a poem of {i} lines about rain.",
                "sums": f"Compute {i} times {i + 7}.",
            }.items()
        ):
            scores = {m: float(chance.random() < p[kind]) for m, p in MODELS.items()}
            found.append((dataset, prompt, scores))
    return found


def router_bench(folder: Path, ending: str) -> Path:
    rows = [
        {
            "sample_id": f"{dataset}.val.{i}", "prompt": str([prompt]), "eval_name": dataset,
            **scores,
            **{f"{m}|model_response": f"an answer, {m}" for m in scores},
            **{f"{m}|total_cost": COSTS[m] for m in scores},
            "oracle_model_to_route_to": "poet",
        }
        for i, (dataset, prompt, scores) in enumerate(made())
    ]  # fmt: skip
    return write(folder / f"routerbench_0shot.{ending}", rows)


def router_bench_long(folder: Path) -> Path:
    rows = [
        {
            "sample_id": f"{dataset}.val.{i}", "prompt": str([prompt]), "eval_name": dataset,
            "model_name": model, "performance": score, "model_response": "text",
            "cost": COSTS[model],
        }
        for i, (dataset, prompt, scores) in enumerate(made())
        for model, score in scores.items()
    ]  # fmt: skip
    return write(folder / "routerbench_raw.parquet", rows)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def llm_router_bench(folder: Path) -> Path:
    root = folder / "results" / "bench"
    for dataset in ("poems", "sums"):
        for model in MODELS:
            records = [
                {
                    "index": i, "origin_query": prompt, "prompt": prompt, "prediction": "x",
                    "ground_truth": "y", "score": scores[model], "prompt_tokens": 9,
                    "completion_tokens": 3, "cost": COSTS[model], "raw_output": "x",
                }
                for i, (d, prompt, scores) in enumerate(made()) if d == dataset
            ]  # fmt: skip
            place = root / dataset / "test" / model
            place.mkdir(parents=True)
            document = {
                "model_name": model, "dataset_name": dataset, "split": "test", "demo": False,
                "performance": 0.5, "counts": len(records), "records": records,
            }  # fmt: skip
            (place / "20250102_120000.json").write_text(json.dumps(document))
            old = {**document, "records": [{**r, "score": 1.0 - r["score"]} for r in records]}
            (place / "20250101_120000.json").write_text(json.dumps(old))
    return root


def router_arena(folder: Path) -> Path:
    root = folder / "cached_results"
    root.mkdir()
    for model in MODELS:
        lines = [
            json.dumps({
                "global_index": f"{dataset}_{i}", "question": prompt, "llm_selected": model,
                "generated_answer": "x", "token_usage": {"input_tokens": 9, "output_tokens": 3},
                "success": True, "error": None,
                "evaluation_result": {
                    "extracted_answer": "x", "ground_truth": "y", "score": scores[model],
                    "metric": "mcq_accuracy", "inference_cost": COSTS[model],
                },
            })
            for i, (dataset, prompt, scores) in enumerate(made())
        ]  # fmt: skip
        (root / f"{model}.jsonl").write_text("\n".join(lines))
    return root


def benchmark(name: str, folder: Path) -> Path:
    if name == "RouterBench long":
        return router_bench_long(folder)
    if name.startswith("RouterBench"):
        return router_bench(folder, name.split()[1])
    return {"LLMRouterBench": llm_router_bench, "RouterArena": router_arena}[name](folder)


@pytest.mark.parametrize(
    "name",
    ["RouterBench csv", "RouterBench parquet", "RouterBench long", "LLMRouterBench", "RouterArena"],
)
def test_every_layout_gives_the_same_grades_and_costs(name: str, tmp_path: Path) -> None:
    table = GradeTable.of(read_training_data([benchmark(name, tmp_path)]).graded)
    assert table.models == ("both", "poet", "sums")
    by_prompt = {prompt: (d, scores) for d, prompt, scores in made()}
    assert sorted(table.prompts) == sorted(by_prompt)
    for prompt, group, grades, usd in zip(
        table.prompts, table.datasets, table.grades.tolist(), table.usd.tolist(), strict=True
    ):
        dataset, scores = by_prompt[prompt]
        assert group == f"{name.split()[0]}/{dataset}"
        assert dict(zip(table.models, grades, strict=True)) == scores
        assert dict(zip(table.models, usd, strict=True)) == pytest.approx(COSTS)


@pytest.mark.parametrize("name", ["RouterBench csv", "LLMRouterBench", "RouterArena"])
def test_the_commands_read_them(name: str, tmp_path: Path) -> None:
    path = benchmark(name, tmp_path)
    ran = fastroute("evaluate", "--models", path, "--json", "--resamples", "0", "--folds", "3")
    assert ran.status == 0, ran.err
    (report,) = ran.json
    assert report["prompts"] == 100
    assert report["best_single"] == "both"
    assert report["singles"]["both"]["usd"] == pytest.approx(0.004)
    ran = fastroute("train", "models", "--data", path, "--output", tmp_path / "router")
    assert ran.status == 0, ran.err
    assert "3 models" in ran.out


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    pickled = tmp_path / "routerbench_0shot.pkl"
    pickled.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InvalidInputError, match="is a pickle, and reading it would run its code"):
        read_training_data([pickled])
    other = tmp_path / "a.json"
    for content, said in (
        ("{", "can't be read as JSON"),
        ("[]", "has no list 'records'"),
        ('{"records": 3}', "has no list 'records'"),
        ('{"records": [3]}', "not a JSON object"),
        ('{"records": [{"prompt": "p", "score": "x"}]}', "not a number"),
    ):
        other.write_text(content)
        with pytest.raises(InvalidInputError, match=said):
            read_training_data([other])
    rows = tmp_path / "arena.jsonl"
    rows.write_text('{"global_index": "A_1", "question": "q", "evaluation_result": null}')
    with pytest.raises(InvalidInputError, match="only evaluated results have scores"):
        read_training_data([rows])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="has no file that ends in"):
        read_training_data([tmp_path / "empty"])


def test_demos_are_left_out_and_answers_without_a_score_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "poems" / "test" / "poet" / "1.json"
    file.parent.mkdir(parents=True)
    record = {"index": 1, "prompt": "p", "score": None}
    file.write_text(json.dumps({"records": [record, {"index": 2, "prompt": "q", "score": 1}]}))
    demo = tmp_path / "poems" / "test" / "sums" / "1.json"
    demo.parent.mkdir()
    demo.write_text(json.dumps({"demo": True, "records": [record]}))
    found = read_training_data([tmp_path]).graded
    # The model and the dataset are in the path where the file does not say them.
    assert [(row.dataset, row.prompt, row.scores) for row in found] == [
        ("poems", "p", {"poet": 0.0}), ("poems", "q", {"poet": 1.0}),
    ]  # fmt: skip


def test_turns_and_repeated_models_of_router_bench(tmp_path: Path) -> None:
    prompts = ["['first turn', 'second turn']", "[1, 2]", "['first turn', 'second turn']"]
    file = write(
        tmp_path / "raw.csv",
        [
            {"sample_id": "1", "eval_name": "mt", "prompt": p, "model_name": "m", "performance": s}
            for p, s in zip(prompts, (0.5, 1, 0.7), strict=True)
        ],
    )
    found = read_training_data([file], conflicts="average", turns="all").graded
    assert [(row.prompt, row.scores) for row in found] == [
        ("first turn\n\nsecond turn", {"m": pytest.approx(0.6)}), ("[1, 2]", {"m": 1.0}),
    ]  # fmt: skip
