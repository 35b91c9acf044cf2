"""Measure the far field of sw_ranking: a table of ratios and errors, and a plot of latency.

``python bench/sw_ranking_figures.py`` prints the table and, with ``--plot FILE``, draws latency
against battles on logarithmic axes. Every figure is a ratio or an error of one run on one machine.
A size of 160000x1536 takes 4 GiB and some minutes, most of it exact answers to compare with.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from environment import machine, restart_in_fair_environment

#: Prompts on which errors are measured, and threads that must agree.
QUERIES = 1000
THREADS = 8


def main() -> int:
    options = _parse()
    restart_in_fair_environment()
    import numpy as np

    from data import Size, make_battles

    print(f"Measured on: {machine()}.", end="\n\n", flush=True)
    latencies: dict[str, dict[int, float]] = {}
    routers: list[tuple[Any, Any, Any]] = []
    for text in options.sizes.split(","):
        size = Size.parse(text)
        battles = make_battles(size, queries=QUERIES)
        print(f"## {size}\n\n| figure | measured |\n|---|---|", flush=True)
        measured = _measure(
            battles, options, np, lambda r, s=size, Q=battles.queries: routers.append((s, r, Q))
        )
        for name, value in measured:
            print(f"| {name} | {value} |", flush=True)
        for name, microseconds in _MEDIANS.items():
            key = f"{name}, {size.dimensions} dimensions"
            latencies.setdefault(key, {})[size.battles] = microseconds
        _MEDIANS.clear()
        print(flush=True)
    _growth(routers)
    if options.plot:
        _plot(latencies, options.plot)
    return 0


_MEDIANS: dict[str, float] = {}


def _measure(
    battles: Any, options: argparse.Namespace, np: Any, keep: Callable[[Any], None]
) -> Any:
    from fastroute.routers import SimilarityWeightedRouter

    pair = {"strong_model": battles.strong_model, "weak_model": battles.weak_model}
    columns = battles.embeddings, battles.model_a, battles.model_b, battles.winner
    Q = battles.queries

    begin = time.perf_counter()
    far = SimilarityWeightedRouter(
        **pair, mode="far_field", index=options.index, index_parameters=options.index_parameters
    ).fit(*columns)
    keep(far)
    yield "fit of the far field, with its index, s", f"{time.perf_counter() - begin:.1f}"
    exact = SimilarityWeightedRouter(**pair, mode="exact").fit(*columns)

    def one(router: Any) -> Callable[[Any], float]:
        score: Callable[[Any], float] = router.win_rate_from_embedding
        return score

    exact_queries = Q[: options.exact_queries]
    took = _medians({"far": one(far), "exact": one(exact)}, exact_queries[:40])
    took["far"] = _medians({"far": one(far)}, Q)["far"]
    _MEDIANS.update({"far field": took["far"], "exact": took["exact"]})
    yield "far field, median", f"{took['far']:.0f} us"
    yield "exact / far field, medians", f"{took['exact'] / took['far']:.0f} x"

    wanted = exact.win_rates_from_embeddings(exact_queries)
    found = far.win_rates_from_embeddings(exact_queries)
    error = np.abs(found - wanted)
    deciles = np.quantile(wanted, np.linspace(0, 1, 10, endpoint=False))
    same = np.mean([(found >= t) == (wanted >= t) for t in deciles])
    yield (
        f"win rates, 1 % to 99 % of {len(wanted)}",
        "{:.3f} to {:.3f}".format(*np.quantile(wanted, [0.01, 0.99])),
    )
    yield "error: mean, largest", f"{error.mean():.1e}, {error.max():.1e}"
    yield "decisions equal to exact mode's at the deciles", f"{100 * same:.2f} %"

    answers: list[Any] = [None] * THREADS
    wanted_far = far.win_rates_from_embeddings(Q)

    def ask(i: int) -> None:
        answers[i] = far.win_rates_from_embeddings(Q)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agree = all(np.array_equal(answer, wanted_far) for answer in answers)
    yield f"{THREADS} threads give one thread's answers", "yes" if agree else "NO"

    if options.tail:
        for name, function in (("far field", one(far)), ("empty call", lambda _: 0.0)):
            times = _times(function, Q, options.tail)
            cuts = np.quantile(times, [0.5, 0.99, 0.999])
            yield (
                f"{options.tail} calls of the {name}: p50, p99, p99.9 us",
                (f"{cuts[0]:.1f}, {cuts[1]:.1f}, {cuts[2]:.1f}"),
            )
    yield from _bandwidth(exact, battles, pair, columns, options.storages)
    if options.rival:
        yield from _numpy(battles, exact, took["far"])
        yield from _rival(battles, far, took["far"])


def _bandwidth(exact: Any, battles: Any, pair: Any, columns: Any, storages: str) -> Any:
    """Bytes of embeddings that exact mode reads a second, against a copy on as many threads."""
    from fastroute.routers import SimilarityWeightedRouter

    Q = battles.queries[:15]
    size = battles.embeddings.nbytes
    copy = _Copy()

    def exact_on_two(x: Any) -> Any:
        return exact.win_rates_from_embeddings(x[None], num_threads=2)

    one = {"copy": copy.on_one, "exact": exact.win_rate_from_embedding}
    for name, functions in (
        ("one thread", one),
        ("two threads", {"copy": copy.on_two, "exact": exact_on_two}),
    ):
        took = _medians(functions, Q)
        share = size / took["exact"] / (copy.bytes / took["copy"])
        yield f"exact float32, share of a copy's bytes a second, {name}", f"{100 * share:.0f} %"
    for storage in storages.split(",") if storages else ():
        router = SimilarityWeightedRouter(**pair, mode="exact", storage=storage).fit(*columns)
        took = _medians(
            {"float32": exact.win_rate_from_embedding, "other": router.win_rate_from_embedding}, Q
        )
        moved = abs(router.win_rates_from_embeddings(Q) - exact.win_rates_from_embeddings(Q)).max()
        yield (
            f"exact {storage}: times as fast as float32, win rates moved by at most",
            (f"{took['float32'] / took['other']:.2f} x, {moved:.0e}"),
        )


class _Copy:
    """As STREAM's copy: 256 MiB to another place; bytes read and bytes written count."""

    def __init__(self) -> None:
        import numpy as np

        self._source = np.ones(1 << 26, np.float32)
        self._target = np.empty_like(self._source)
        self.bytes = 2 * self._source.nbytes
        half = len(self._source) // 2
        self._halves = [slice(0, half), slice(half, None)]

    def on_one(self, _: Any) -> None:
        self._target[:] = self._source

    def on_two(self, _: Any) -> None:
        threads = [threading.Thread(target=self._copy, args=(half,)) for half in self._halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _copy(self, half: slice) -> None:
        self._target[half] = self._source[half]


def _numpy(battles: Any, exact: Any, far_us: float) -> Any:
    """Plain NumPy on one thread, which must give exact mode's answers; it copies the embeddings."""
    from contenders import SW_TOLERANCE
    from rivals import sw_numpy

    router = sw_numpy.fit(battles, strict=False)
    Q = battles.queries[:10]
    error = abs(sw_numpy.route_embeddings(router, Q) - exact.win_rates_from_embeddings(Q)).max()
    if error > SW_TOLERANCE:
        raise SystemExit(f"plain NumPy's win rates are {error:.1e} from exact mode's")
    took = _medians(
        {"numpy": lambda x: sw_numpy.route_embedding(router, x),
         "exact": exact.win_rate_from_embedding}, Q,
    )  # fmt: skip
    _MEDIANS["NumPy"] = took["numpy"]
    yield "plain NumPy / far field, medians", f"{took['numpy'] / far_us:.0f} x"
    yield "plain NumPy / exact, medians in turns", f"{took['numpy'] / took['exact']:.2f} x"


def _rival(battles: Any, far: Any, far_us: float) -> Any:
    from rivals import sw_routellm

    if why := sw_routellm.missing():
        yield "RouteLLM", why
        return
    router = sw_routellm.fit(battles, strict=True)
    same_tiers = sw_routellm.with_tiers(router, battles, far.model_tiers_)
    took = _medians({"routellm": lambda x: sw_routellm.route_embedding(same_tiers, x)},
                    battles.queries[:5])["routellm"]  # fmt: skip
    _MEDIANS["RouteLLM"] = took
    yield "RouteLLM's function / far field, medians", f"{took / far_us:.0f} x"


def _medians(functions: dict[str, Callable[[Any], object]], items: Any) -> dict[str, float]:
    """Median microseconds a call, the functions in turns on each item."""
    import numpy as np

    from timing import interleaved_us

    return {name: float(np.median(us)) for name, us in interleaved_us(functions, items).items()}


def _times(function: Callable[[Any], object], items: Any, count: int) -> Any:
    import numpy as np

    from timing import no_garbage_collection

    rows = list(items)
    times = np.empty(count)
    clock = time.perf_counter_ns
    with no_garbage_collection():
        for i in range(count):
            x = rows[i % len(rows)]
            begin = clock()
            function(x)
            times[i] = clock() - begin
    return times / 1e3


def _growth(routers: list[tuple[Any, Any, Any]]) -> None:
    """Medians of all far-field routers of one dimension, in turns, against the smallest's."""
    for dimensions in sorted({size.dimensions for size, _, _ in routers}):
        group = [entry for entry in routers if entry[0].dimensions == dimensions]
        least = min(size.battles for size, _, _ in group)
        functions = {
            str(size.battles): (lambda i, r=router, Q=Q: r.win_rate_from_embedding(Q[i]))
            for size, router, Q in group
        }
        took = _medians(functions, range(QUERIES))
        for count in sorted(took, key=int):
            ratio = took[count] / took[str(least)]
            print(f"far field, {dimensions} dimensions, {count} battles: {ratio:.2f} x {least}'s")


def _plot(latencies: dict[str, dict[int, float]], path: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    colours = {
        "RouteLLM": "#666666",
        "NumPy": "#009e73",
        "exact": "#d55e00",
        "far field": "#0072b2",
    }
    styles = {"256": ":^", "384": "-o", "1536": "--s"}
    ends: dict[str, list[tuple[int, float]]] = {}
    shown: dict[str, str] = {}
    for name, by_count in sorted(latencies.items()):
        who, dimensions = name.removesuffix(" dimensions").split(", ")
        counts = sorted(by_count)
        values = [by_count[count] for count in counts]
        shown[dimensions] = styles.get(dimensions, "-.D")
        axes.loglog(
            counts, values, shown[dimensions], color=colours[who], markersize=5, linewidth=1.8
        )
        ends.setdefault(who, []).append((counts[-1], values[-1]))
    for who, at in ends.items():  # named once, where its longest line ends
        x = max(count for count, _ in at)
        values = [value for count, value in at if count == x]
        y = (min(values) * max(values)) ** 0.5
        axes.annotate(
            who, (x, y), xytext=(9, 0), textcoords="offset points", va="center", color=colours[who]
        )
    for dimensions in sorted(shown, key=int):
        axes.plot([], [], shown[dimensions], color="#444444", label=f"{dimensions} dimensions")
    figure.legend(loc="outside lower center", ncols=len(shown), frameon=False, fontsize=9)
    axes.set_xlabel("Battles")
    axes.set_ylabel("Median time a prompt (microseconds)")
    axes.set_title("Similarity-weighted ranking: embedding to win rate", loc="left", fontsize=11)
    axes.margins(x=0.22)
    axes.grid(which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sizes", default="10000x384,55000x384,160000x384", metavar="NxD,...")
    parser.add_argument("--index", help="a faiss.index_factory string (default: the router's)")
    parser.add_argument("--index-parameters", help="such as nprobe=16")
    parser.add_argument("--exact-queries", type=int, default=QUERIES, help="compared with exact")
    parser.add_argument("--tail", type=int, default=0, metavar="CALLS", help="calls for p99.9")
    parser.add_argument("--storages", default="", help="such as float16,int8, for exact mode")
    parser.add_argument("--rival", action="store_true", help="time plain NumPy and RouteLLM too")
    parser.add_argument("--plot", metavar="FILE", help="write the log-log plot to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
