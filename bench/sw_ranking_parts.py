"""sw_ranking fitted in parts against at once, and an index on disk against one in memory.

``python bench/sw_ranking_parts.py fit --size 5000000x256`` fits the same synthetic battles both
ways, each in a process of its own, and prints the difference and the peak memory: the largest
resident set without pages of mapped files, which the system takes back when it needs them.
``growth --size 20000000x384 --small 1000000x384`` times queries, each new to the caches, of a
router on disk in turns with one in memory: with the files on the disk alone (cold) and in the
system's page cache (warm). Routers are kept in ``--folder`` and used again, and the same command
goes on with a fit in parts that was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from environment import machine, restart_in_fair_environment

_ROWS_PER_SHARD = 250_000
_COLD = 200  # queries; after so many, what many of them need has been read
_EXACT = 20


def main() -> int:
    options = _parse()
    restart_in_fair_environment()
    if options.way:  # in a process of its own
        print(json.dumps(_make(options)))
        return 0
    print(f"Measured on: {machine()}.", end="\n\n", flush=True)
    {"fit": _fit, "growth": _growth}[options.command](options)
    return 0


def _fit(options: argparse.Namespace) -> None:
    import numpy as np

    from fastroute.routers import SimilarityWeightedRouter

    print("| way | peak memory | seconds |\n|---|---|---|", flush=True)
    facts = {way: _in_process(way, options.size, options) for way in ("once", "parts")}
    for way, fact in facts.items():
        print(f"| {way} | {fact['mib']:,.0f} MiB | {fact['seconds']:.0f} |", flush=True)
    routers = [SimilarityWeightedRouter.load(facts[way]["folder"]) for way in facts]
    once, parts = routers
    moved = max(abs(once.model_ratings_[m] - parts.model_ratings_[m]) for m in once.model_ratings_)
    cells = [np.bincount(r._state().table.cells(), minlength=210) for r in routers]
    queries = np.load(Path(facts["parts"]["folder"]).parent / "queries.npy")[:500]
    rates = [r.win_rates_from_embeddings(queries) for r in routers]
    print(f"\npeak memory in parts: {facts['parts']['mib'] / facts['once']['mib']:.2f} of at once")
    print(f"ratings differ by at most {moved:.1e}; cells are "
          f"{'equal' if np.array_equal(*cells) else 'NOT equal'}; win rates of {len(queries)} "
          f"prompts differ by at most {np.abs(rates[0] - rates[1]).max():.1e}")  # fmt: skip


def _growth(options: argparse.Namespace) -> None:
    import numpy as np

    from fastroute.routers import SimilarityWeightedRouter
    from timing import interleaved_us

    large = _in_process("parts", options.size, options)["folder"]
    queries = np.load(Path(large).parent / "queries.npy")  # the same world for any size
    in_memory = _in_memory(SimilarityWeightedRouter, options.small)
    for cache, asked in (("cold", range(_COLD)), ("warm", range(_COLD, len(queries)))):
        _cache(Path(large), cache == "warm")
        begin = time.perf_counter()
        on_disk = SimilarityWeightedRouter.load(large)
        print(f"\n{cache}: loaded in {time.perf_counter() - begin:.1f} s")
        functions = {"disk": partial(_ask, on_disk, queries),
                     "memory": partial(_ask, in_memory, queries)}  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_SELF)
        took = interleaved_us(functions, asked)
        after = resource.getrusage(resource.RUSAGE_SELF)
        for title, quantile in (("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
            disk, memory = (float(np.quantile(took[name], quantile)) for name in ("disk", "memory"))
            print(f"{title}: {options.size} on disk {disk:.0f} us, {options.small} in memory "
                  f"{memory:.0f} us, {disk / memory:.2f} times")  # fmt: skip
        print(f"page faults of a query: {(after.ru_minflt - before.ru_minflt) / len(asked):.1f}, "
              f"and {(after.ru_majflt - before.ru_majflt) / len(asked):.2f} with a read of the "
              "disk", flush=True)  # fmt: skip
    found, state = on_disk.win_rates_from_embeddings(queries[:_EXACT]), on_disk._state()
    wanted = [state.preference(state.battles.rate(x, state.start, 2)[0]) for x in queries[:_EXACT]]
    print(f"\nwin rates of {_EXACT} prompts on disk differ from those of all battles by at most "
          f"{np.abs(found - wanted).max():.1e}")  # fmt: skip


def _ask(router: Any, queries: Any, i: int) -> float:
    rate: float = router.win_rate_from_embedding(queries[i])
    return rate


def _cache(folder: Path, wanted: bool) -> None:
    """Read the files of a folder into the system's page cache, or have them dropped from it."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            if wanted:
                while file.read(1 << 24):
                    pass
            else:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _in_memory(router_class: Any, text: str) -> Any:
    import numpy as np

    from data import Size, make_shards

    size = Size.parse(text)
    X = np.empty((size.battles, size.dimensions), np.float32)
    columns: list[list[str]] = [[], [], []]
    pair: dict[str, str] = {}
    for shard in make_shards(size, _shards(size)):
        X[len(columns[0]) : len(columns[0]) + len(shard)] = shard.embeddings
        for column, name in zip(columns, ("model_a", "model_b", "winner"), strict=True):
            column += getattr(shard, name)
        pair = {"strong_model": shard.strong_model, "weak_model": shard.weak_model}
    router = router_class(**pair, storage="int8", mode="far_field")
    return router.fit(X, *columns)


def _shards(size: Any) -> int:
    return max(1, -(-size.battles // _ROWS_PER_SHARD))


def _in_process(way: str, size: str, options: argparse.Namespace) -> Any:
    folder = Path(options.folder) / f"{size}-{way}"
    facts = folder / "facts.json"
    if not facts.exists():
        words = [options.command, "--size", size, "--folder", str(folder), "--way", way]
        done = subprocess.run(
            [sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True
        )
        facts.write_bytes(done.stdout)
    return json.loads(facts.read_text())


class _Peak(threading.Thread):
    """The largest resident set of this process, pages of files aside, looked at ten times a
    second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.kib = 0

    def run(self) -> None:
        while True:
            words = Path("/proc/self/status").read_text().split()
            held = sum(int(words[words.index(name) + 1]) for name in ("RssAnon:", "RssShmem:"))
            self.kib = max(self.kib, held)
            time.sleep(0.1)


def _make(options: argparse.Namespace) -> dict[str, Any]:
    """Fit in this process, and save the router and the queries."""
    import numpy as np

    from data import Size, make_shards
    from fastroute.routers import SimilarityWeightedRouter

    size, folder = Size.parse(options.size), Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    peak = _Peak()
    peak.start()
    begin = time.perf_counter()
    if options.way == "once":
        _in_memory(SimilarityWeightedRouter, options.size).save(folder / "router")
    else:
        count = _shards(size)
        there = sum((folder / f"shard-{i}" / "shard.json").exists() for i in range(count))
        first = max(0, min(there, count - 1))  # the last one has the queries
        fit_in_parts(make_shards(size, count, first=first), first, folder, np)
    return {"folder": str(folder / "router"), "mib": peak.kib / 1024,
            "seconds": time.perf_counter() - begin}  # fmt: skip


def fit_in_parts(battles: Any, begin: int, folder: Path, np: Any) -> None:
    """Fit battles in shards, of which those before ``begin`` are written, to a router there."""
    from fastroute.provenance import Provenance
    from fastroute.routers import SimilarityWeightedRouter
    from fastroute.routers.sw_ranking import shards
    from fastroute.routers.sw_ranking.contents import OPTIONS

    written, pair = [shards.Shard(folder / f"shard-{i}") for i in range(begin)], {}
    for i, part in enumerate(battles, begin):
        columns = part.model_a, part.model_b, part.winner
        at = range(0, len(part), 50_000)
        blocks = (
            (part.embeddings[a : a + 50_000], *(c[a : a + 50_000] for c in columns)) for a in at
        )
        if not (folder / f"shard-{i}" / "shard.json").exists():
            shards.write_shard(folder / f"shard-{i}", blocks)
        written.append(shards.Shard(folder / f"shard-{i}"))
        pair = {"strong_model": part.strong_model, "weak_model": part.weak_model}
        if len(part.queries):
            np.save(folder / "queries.npy", part.queries)
        del part, columns, blocks
    plan = shards.count_shards(written, folder).plan(**pair)
    shards.train_shard_index(written, plan, folder)
    first = 0
    for shard in written:
        if not shard.is_fitted:
            shards.fit_shard(shard, plan, first, folder)
        first += shard.battles
    template = SimilarityWeightedRouter(**pair, storage="int8", mode="far_field")
    shards.assemble(
        folder / "router", written, plan, folder, embedder=None, provenance=Provenance(),
        options={name: getattr(template, name) for name in OPTIONS},
    )  # fmt: skip
    for shard in written:
        shutil.rmtree(shard.folder)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=("fit", "growth"))
    parser.add_argument("--size", default="1000000x256", metavar="NxD")
    parser.add_argument("--small", default="1000000x256", metavar="NxD", help="of growth")
    parser.add_argument("--folder", required=True, help="where routers are kept")
    parser.add_argument("--way", choices=("once", "parts"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
