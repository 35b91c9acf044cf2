"""APGR of a router on benchmarks that RouteLLM did not use, and of one trained on some of each.

``python bench/other_benchmarks.py --arena-hard FOLDER --alpaca-eval FOLDER --routerbench FOLDER``
prints the table in the README for those that are given:

arena-hard
    A checkout of lmarena/arena-hard-auto at commit ac4ad9a93a452cb256e83fe6d89957676c64f19b, whose
    ``arena-bench-v1`` has 300 prompts of Chatbot Arena, and a GPT-4 judge's 1 to 10 for each model.
alpaca-eval
    A checkout of tatsu-lab/alpaca_eval: two GPT-4 judges who prefer Mixtral's or GPT-4's answer.
routerbench
    A checkout of shuhao02/RouterDC, whose ``datasets/routerbench_zs`` has RouterBench's grades of
    ARC-Challenge, Winogrande and MBPP.

``--graded FILE --pair STRONG WEAK`` adds a file with scores of many models. ``--router FOLDER``
takes another ``mf`` router than the bundled one. Prompts of a benchmark that the router was
trained on are left out.

``--train 100 400`` also trains a router on so many prompts of the benchmark itself, drawn at
random, and scores it on the rest: the mean over 20 draws, and their standard deviation.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastroute.embedders import Embedder
from fastroute.evaluation import (
    Benchmark,
    Estimate,
    apgr,
    curve,
    evaluate,
    load_traffic,
)
from fastroute.routers import create_router
from fastroute.training.heads import train_mf
from fastroute.types import ModelPair

PAIR = ModelPair("gpt-4-1106-preview", "Mixtral-8x7B-Instruct")
DRAWS = 20
_MIXTRAL = "Mixtral-8x7B-Instruct-v0.1"
_ROUTERBENCH = {"arc_challenge": "ARC-Challenge", "winograde": "Winogrande", "mbpp": "MBPP"}


def arena_hard(folder: Path) -> Iterator[Benchmark]:
    """Ratings (r - 1) / 9 by prompt; a rating that the judge did not give is left out."""
    data = folder / "data" / "arena-bench-v1"
    prompts = {q["question_id"]: q["turns"][0] for q in _json_lines(data / "question.jsonl")}
    # The file is called gpt-4-turbo, and says inside whose answers it judges.
    files = [data / "model_judgment" / f"{name}.jsonl" for name in (_MIXTRAL, "gpt-4-turbo")]
    weak, strong = ({r["question_id"]: r["score"] for r in _json_lines(f)} for f in files)
    yield _benchmark("arena-bench", (
        (prompt, (weak[key] - 1) / 9, (strong[key] - 1) / 9)
        for key, prompt in prompts.items()
        if (weak.get(key) or -1) >= 1 and (strong.get(key) or -1) >= 1
    ))  # fmt: skip


def alpaca_eval(folder: Path) -> Iterator[Benchmark]:
    """How much each judge prefers either answer: preference 1 is GPT-4's, 2 Mixtral's, 1.5 none."""
    for judge in ("alpaca_eval_gpt4_turbo_fn", "alpaca_eval_cot_gpt4_turbo_fn"):
        file = folder / "results" / _MIXTRAL / judge / "annotations.json"
        verdicts = json.loads(file.read_text(encoding="utf-8"))
        # Of a tie the judge says 0 in some versions.
        preferences = [(v["instruction"], v["preference"] or 1.5) for v in verdicts]
        name = f"AlpacaEval, {'reasoning' if 'cot' in judge else 'plain'} judge"
        yield _benchmark(name, ((prompt, p - 1.0, 2.0 - p) for prompt, p in preferences))


def routerbench(folder: Path) -> Iterator[Benchmark]:
    """Grades 0..1. A file's prompts all begin with the same examples, which are left out."""
    csv.field_size_limit(2**31 - 1)
    for stem, name in _ROUTERBENCH.items():
        rows = []
        for part in ("train", "test"):
            file = folder / "datasets" / "routerbench_zs" / f"{stem}_{part}.csv"
            with file.open(encoding="utf-8", newline="") as text:
                rows += list(csv.DictReader(text))
        yield _benchmark(name, (
            (_question(row["prompt"]), float(row[weak]), float(row[PAIR.strong]))
            for row in rows
            if row[weak := "mistralai/mixtral-8x7b-chat"] and row[PAIR.strong]
        ))  # fmt: skip


def _question(prompt: str) -> str:
    """The last question of a prompt in Python's notation, without examples and instructions."""
    text = ast.literal_eval(prompt)
    text = text if isinstance(text, str) else "\n".join(text)
    # Each example that is answered ends in "Answer:", its letter on the next line, and a blank one.
    question = re.split(r"Answer:\s*\n[A-E1-5]\n\n", text)[-1]
    question = question.removeprefix("Please answer with the letter of the correct answer.\n\n")
    return re.split(r"\n?Print only a single choice", question)[0].strip()


def _benchmark(name: str, rows: Iterable[tuple[str, float, float]]) -> Benchmark:
    """Of (prompt, weak score, strong score); of prompts that come twice the first is taken."""
    unique: dict[str, tuple[float, float]] = {}
    for prompt, weak, strong in rows:
        unique.setdefault(prompt, (weak, strong))
    scores = np.array(list(unique.values()))
    ids = tuple(str(i) for i in range(len(unique)))
    return Benchmark(name, tuple(unique), scores[:, 0].copy(), scores[:, 1].copy(), PAIR, ids)


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as text:
        yield from map(json.loads, text)


def trained_on_some(
    benchmark: Benchmark, embedder: Embedder, count: int
) -> tuple[float, float] | None:
    """APGR on the other prompts, mean and standard deviation; None where few would be left."""
    if 2 * count > len(benchmark):
        return None
    texts = np.array(benchmark.prompts, dtype=object)
    won = (1.0 + benchmark.strong - benchmark.weak) / 2.0
    areas = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(texts))
        some, rest = order[:count], order[count:]
        router = train_mf(list(texts[some]), won[some], embedder=embedder, seed=seed)
        rates = router.win_rates(list(texts[rest]))
        areas.append(apgr(curve(rates, benchmark.weak[rest], benchmark.strong[rest])))
    return float(np.mean(areas)), float(np.std(areas))


def main() -> int:
    """Print the table, a row a benchmark."""
    options = _parse()
    config = {"checkpoint_path": options.router} if options.router else {}
    router = create_router("mf", **config)
    heads = ["benchmark", "prompts", "`mf`, APGR", "`length`"]
    heads += [f"trained on {count} of them" for count in options.train]
    print(f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", sep="\n", flush=True)
    for benchmark in _benchmarks(options):
        routers = {"mf": router, "length": create_router("length")}
        result = evaluate(routers, [benchmark], drop_trained=True).results[0]
        areas = {row.name: _cell(row.apgr) for row in result.rows}
        scored = f"{len(benchmark) - result.dropped:,}"
        cells = [benchmark.name, scored, areas["mf"], areas["length"]]
        for count in options.train:
            found = trained_on_some(benchmark, router.embedder, count)
            cells.append("" if found is None else "{:.3f} ± {:.3f}".format(*found))
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0


def _cell(area: Estimate) -> str:
    # Few prompts may have no interval: resamples without a gap have no APGR.
    interval = "" if area.low is None else f" ({area.low:.3f} to {area.high:.3f})"
    return f"{area.value:.3f}{interval}"


def _benchmarks(options: argparse.Namespace) -> Iterator[Benchmark]:
    for name, read in READERS.items():
        if folder := getattr(options, name):
            yield from read(folder)
    for strong, weak in options.pair:
        benchmark = load_traffic(options.graded, pair=ModelPair(strong, weak)).benchmark
        yield replace(benchmark, name=f"{strong}, {weak}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    for name in READERS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="FOLDER")
    parser.add_argument("--graded", type=Path, metavar="FILE", help="scores of many models")
    parser.add_argument(
        "--pair", nargs=2, action="append", default=[], metavar=("STRONG", "WEAK"),
        help="two models of the graded file; may be given several times",
    )  # fmt: skip
    parser.add_argument("--router", metavar="FOLDER", help="an mf artifact; by default the bundled")
    parser.add_argument("--train", nargs="+", type=int, default=[], metavar="COUNT")
    options = parser.parse_args()
    if not any(getattr(options, name) for name in READERS) and not options.graded:
        parser.error("give --arena-hard, --alpaca-eval, --routerbench or --graded")
    if bool(options.graded) != bool(options.pair):
        parser.error("--graded and --pair belong together")
    return options


READERS: dict[str, Callable[[Path], Iterator[Benchmark]]] = {
    "arena_hard": arena_hard,
    "alpaca_eval": alpaca_eval,
    "routerbench": routerbench,
}

if __name__ == "__main__":
    raise SystemExit(main())
