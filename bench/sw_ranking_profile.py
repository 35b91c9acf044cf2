"""Where the far field of sw_ranking spends its time, what its error costs, and how fast it loads.

``python bench/sw_ranking_profile.py stages`` gives the stages of a query by number of battles, with
warm caches and in turns; ``cold`` how a query that is new to the caches grows with the battles, the
sizes in turns and 64 MiB read before each; ``errors`` the error against the latency for more or
fewer directions, neighbours and vectors searched; ``load`` the time from a saved router to its
first win rate in a new process, and the memory that two processes share; ``real`` errors and equal
decisions on real battles and prompts (``--battles FILE ... --data ROUTELLM``, and ``--model
FOLDER`` for an ONNX embedder instead of the bundled one).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environment import machine, restart_in_fair_environment

if TYPE_CHECKING:  # the environment is set before NumPy is loaded
    from fastroute.routers.sw_ranking.router import Mode

QUERIES = 1000
#: Directions, neighbours, and how many times the default number of lists is opened.
CHOICES = [(64, 32, 1), (128, 32, 1), (256, 32, 1), (256, 64, 1), (256, 128, 1), (256, 128, 2),
           (256, 256, 2), (256, 512, 4)]  # fmt: skip
_LOAD = """
import json, sys, time
import numpy as np
from fastroute.routers import SimilarityWeightedRouter
import faiss
x = np.load(sys.argv[1] + "/x.npy")
begin = time.perf_counter()
router = SimilarityWeightedRouter.load(sys.argv[1] + "/router")
loaded = time.perf_counter()
router.win_rate_from_embedding(x)
first = time.perf_counter()
print(json.dumps([loaded - begin, first - loaded]), flush=True)
sys.stdin.readline()
kib = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/self/smaps_rollup")
       if line.endswith(" kB\\n")}
print(json.dumps(kib), flush=True)
sys.stdin.readline()
"""


def main() -> int:
    options = _parse()
    restart_in_fair_environment()
    print(f"Measured on: {machine()}.", end="\n\n", flush=True)
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "stages": _stages, "cold": _cold, "errors": _errors, "load": _load, "real": _real
    }  # fmt: skip
    commands[options.command](options)
    return 0


def _fitted(text: str, mode: Mode = "far_field") -> tuple[Any, Any]:
    from data import Size, make_battles
    from fastroute.routers import SimilarityWeightedRouter

    battles = make_battles(Size.parse(text), queries=QUERIES)
    router = SimilarityWeightedRouter(
        strong_model=battles.strong_model,
        weak_model=battles.weak_model,
        mode=mode,
    )
    return battles, router.fit(battles.embeddings, battles.model_a, battles.model_b, battles.winner)


def _stages(options: argparse.Namespace) -> None:
    import numpy as np

    routers = {text: _fitted(text) for text in options.sizes.split(",")}
    warm = {text: [] for text in routers}  # type: dict[str, list[dict[str, float]]]
    turns = {text: [] for text in routers}  # type: dict[str, list[dict[str, float]]]
    for text, (battles, router) in routers.items():
        for x in battles.queries:
            warm[text].append(_one(router, x))
    for i in range(QUERIES):
        for text, (battles, router) in routers.items():
            turns[text].append(_one(router, battles.queries[i]))
    for title, all_taken in (("one after another", warm), ("in turns with the others", turns)):
        names = list(next(iter(all_taken.values()))[0])
        print(f"| battles, {title} | us | " + " | ".join(names) + " |")
        print("|---" * (len(names) + 2) + "|")
        for text, taken in all_taken.items():
            median = {name: float(np.median([one[name] for one in taken])) for name in names}
            total = sum(median.values())
            shares = " | ".join(f"{100 * median[name] / total:.0f} %" for name in names)
            print(f"| {text} | {total:.0f} | {shares} |", flush=True)
        print()


def _cold(options: argparse.Namespace) -> None:
    import numpy as np

    routers = {text: _fitted(text) for text in options.sizes.split(",")}
    other = np.ones(1 << 24, np.float32)
    taken: dict[str, list[float]] = {text: [] for text in routers}
    for i in range(QUERIES):
        for text, (battles, router) in routers.items():
            other.sum()
            begin = time.perf_counter_ns()
            router.win_rate_from_embedding(battles.queries[i])
            taken[text].append((time.perf_counter_ns() - begin) / 1e3)
    least = next(iter(taken))
    print("| battles | least | a quarter below | median | p99 | median, of the first size |")
    print("|---" * 6 + "|")
    for text, us in taken.items():
        cuts = " | ".join(f"{cut:.0f} us" for cut in np.quantile(us, [0.0, 0.25, 0.5, 0.99]))
        print(f"| {text} | {cuts} | {np.median(us) / np.median(taken[least]):.2f} |", flush=True)


def _one(router: Any, x: Any) -> dict[str, float]:
    """Microseconds of each stage of one query; the kernel's are read inside it."""
    far = router._fitted.far
    clock = time.perf_counter_ns
    begin = clock()
    projected = far.field.project(x)
    middle = clock()
    near = far._search_axes(projected)
    end = clock()
    kernel = far.field._core.stages(x, projected, near)
    named = {"near": "near rows", "lines": "quadratic and lines", "cells": "moments",
             "ratings": "Newton"}  # fmt: skip
    return {"axes": (middle - begin) / 1e3, "search": (end - middle) / 1e3} | {
        named.get(name, name): spent / 1e3 for name, spent in kernel.items()
    }


def _errors(options: argparse.Namespace) -> None:
    for text in options.sizes.split(","):
        battles, exact = _fitted(text, "exact")
        queries = battles.queries[: options.queries]
        wanted = exact.win_rates_from_embeddings(queries, num_threads=2)
        _, router = _fitted(text)
        _table(text, router, queries, wanted)


def _table(title: str, router: Any, queries: Any, wanted: Any) -> None:
    import numpy as np

    now = router._fitted
    print(f"## {title}: exact win rates, 1 % to 99 %: "
          "{:.4f} to {:.4f}\n".format(*np.quantile(wanted, [0.01, 0.99])))  # fmt: skip
    print("| directions | neighbours | lists opened | median us | error: mean, largest | "
          "decisions equal at the deciles | looked at exactly |\n" + "|---" * 7 + "|")  # fmt: skip
    faiss_index = now.far.index._faiss.downcast_index(now.far.index._index)
    opened = getattr(faiss_index, "nprobe", None)
    for rank, neighbors, times in CHOICES:
        field = now.far.moments.field(
            now.battles, now.far.clusters, now.start, now.strong, now.weak,
            strict=router.strict, rank=rank, near_rows=now.far.near_rows,
        )  # fmt: skip
        far = replace(now.far, field=field, rank=rank, neighbors=neighbors)
        if opened is not None:
            faiss_index.nprobe = times * opened
        taken, found = [], []
        for x in queries:
            begin = time.perf_counter_ns()
            found.append(far.win_rate(x))
            taken.append((time.perf_counter_ns() - begin) / 1e3)
        rates = np.array([w if f is None else f for f, w in zip(found, wanted, strict=True)])
        error = np.abs(rates - wanted)
        deciles = np.quantile(wanted, np.linspace(0, 1, 10, endpoint=False))
        same = np.mean([(rates >= t) == (wanted >= t) for t in deciles])
        print(f"| {rank} | {neighbors} | {times * (opened or 0)} | {np.median(taken):.0f} | "
              f"{error.mean():.1e}, {error.max():.1e} | {100 * same:.2f} % | "
              f"{sum(f is None for f in found)} |", flush=True)  # fmt: skip
    if opened is not None:
        faiss_index.nprobe = opened
    print()


def _load(options: argparse.Namespace) -> None:
    import numpy as np

    print("| battles | files | load | first win rate | memory of a process | of it shared |")
    print("|---" * 6 + "|")
    for text in options.sizes.split(","):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            battles, router = _fitted(text)
            router.save(Path(folder) / "router")
            np.save(Path(folder) / "x.npy", battles.queries[0])
            del battles, router
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
            loaded, first, resident, shared = _load_twice(folder)
        print(f"| {text} | {size / 2**30:.2f} GiB | {loaded:.3f} s | {1e3 * first:.1f} ms | "
              f"{resident / 2**10:.0f} MiB | {shared / 2**10:.0f} MiB |", flush=True)  # fmt: skip


def _load_twice(folder: str) -> tuple[float, float, int, int]:
    """Seconds to load and to the first win rate; KiB resident, and of those held by both."""
    processes = [
        subprocess.Popen([sys.executable, "-c", _LOAD, folder], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    took = [json.loads(_line(process)) for process in processes]
    for process in processes:
        _say(process)
    kib = [json.loads(_line(process)) for process in processes]
    for process in processes:
        _say(process)
        process.wait()
    shared = [k["Shared_Clean"] + k["Shared_Dirty"] for k in kib]
    return min(t[0] for t in took), min(t[1] for t in took), kib[0]["Rss"], min(shared)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _real(options: argparse.Namespace) -> None:
    import numpy as np

    from fastroute.artifacts import prompt_hash
    from fastroute.data import read_training_data
    from fastroute.embedders import OnnxEmbedder, StaticEmbedder
    from fastroute.routers import SimilarityWeightedRouter
    from fastroute.training.sw_ranking import battles_of

    if options.battles is None or options.data is None:
        raise SystemExit("real needs --battles FILE and --data ROUTELLM")
    rows, _ = battles_of(read_training_data(options.battles, skip_bad=True))
    embedder = (
        StaticEmbedder.load_default() if options.model is None else OnnxEmbedder(options.model)
    )
    texts = list(dict.fromkeys(row.prompt for row in rows))
    place = {text: i for i, text in enumerate(texts)}
    if options.most_prompts is not None:  # those with the least hashes
        texts = sorted(texts, key=prompt_hash)[: options.most_prompts]
        place = {text: i for i, text in enumerate(texts)}
    distinct = np.concatenate(list(_embedded(embedder, texts)))
    rows = [row for row in rows if row.prompt in place and distinct[place[row.prompt]].any()]
    embeddings = distinct[[place[row.prompt] for row in rows]]
    columns = [[getattr(row, name) for row in rows] for name in ("model_a", "model_b", "winner")]
    queries = np.concatenate(list(_embedded(embedder, _prompts(options.data, options.queries))))
    tiers = min(10, len({name for column in columns[:2] for name in column}))
    pair = {"strong_model": options.strong_model, "weak_model": options.weak_model,
            "num_tiers": tiers}  # fmt: skip
    exact = SimilarityWeightedRouter(**pair, mode="exact").fit(embeddings, *columns)
    wanted = exact.win_rates_from_embeddings(queries, num_threads=2)
    router = SimilarityWeightedRouter(**pair, mode="far_field").fit(embeddings, *columns)
    title = f"{len(rows)} battles, {len(queries)} benchmark prompts, {embedder.name}"
    _table(title, router, queries, wanted)
    _misses(router, embeddings, queries, wanted)


def _misses(router: Any, embeddings: Any, queries: Any, wanted: Any) -> None:
    """What the default size misses, and the time of a query with and without the wide search."""
    import numpy as np

    far = router._fitted.far
    plain = replace(far, moments=replace(far.moments, floor=-1.0))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    print("| nearest that is far | error: mean, largest | above 1e-3 | most similar missed | "
          "median us | mean us |\n" + "|---" * 6 + "|")  # fmt: skip
    taken: dict[str, list[float]] = {"as found": [], "searched for": []}
    for i, x in enumerate(queries):
        ways = [("as found", plain), ("searched for", far)]
        for name, model in ways if i % 2 else ways[::-1]:
            begin = time.perf_counter_ns()
            model.win_rate(x)
            taken[name].append((time.perf_counter_ns() - begin) / 1e3)
    for name, model in (("as found", plain), ("searched for", far)):
        errors, missed = [], 0
        for x, exact in zip(queries, wanted, strict=True):
            found = model.win_rate(x)
            errors.append(0.0 if found is None else abs(found - exact))
            near = model.near(x)
            similar = unit @ (x / np.linalg.norm(x))
            missed += bool(similar.max() - similar[near[near >= 0]].max() > 1e-6)
        print(f"| {name} | {np.mean(errors):.1e}, {max(errors):.1e} | "
              f"{sum(e > 1e-3 for e in errors)} | {missed} of {len(queries)} | "
              f"{np.median(taken[name]):.0f} | {np.mean(taken[name]):.0f} |")  # fmt: skip


def _prompts(data: str, count: int) -> list[str]:
    """As many prompts, no labels, of MMLU, GSM8K and MT-Bench, spread over each."""
    from fastroute.evaluation.benchmarks.routellm import load_gsm8k, load_mmlu, load_mt_bench

    sets = [list(load(Path(data)).prompts) for load in (load_mt_bench, load_gsm8k, load_mmlu)]
    chosen: list[str] = []
    for share, prompts in zip((0.072, 0.328, 0.6), sets, strict=True):
        some = min(round(share * count), len(prompts))
        chosen += [prompts[i * len(prompts) // some] for i in range(some)]
    return chosen


def _embedded(embedder: Any, texts: list[str]) -> Iterator[Any]:
    for first in range(0, len(texts), 64):
        yield embedder.embed_batch(texts[first : first + 64])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=("stages", "cold", "errors", "load", "real"))
    parser.add_argument("--sizes", default="55000x384,1000000x384", metavar="NxD,...")
    parser.add_argument("--queries", type=int, default=QUERIES, help="compared with exact mode")
    parser.add_argument("--folder", help="where load saves a router (default: the system's)")
    parser.add_argument("--battles", nargs="+", help="battles or graded results, for real")
    parser.add_argument("--most-prompts", type=int, help="of the battles, for real (default: all)")
    parser.add_argument("--data", help="a checkout of RouteLLM, whose prompts real asks")
    parser.add_argument("--model", help="folder of an ONNX embedder, for real")
    parser.add_argument("--strong-model", default="gpt-4o-2024-05-13")
    parser.add_argument("--weak-model", default="Mixtral-8x7B-Instruct-v0.1")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
