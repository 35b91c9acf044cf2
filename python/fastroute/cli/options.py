"""Options that several commands share, and how their values become objects of the Python API."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError
from fastroute.routers.registry import ROUTER_NAMES

if TYPE_CHECKING:
    from fastroute.evaluation.benchmarks.routellm import Benchmark
    from fastroute.evaluation.cache import WinRateCache
    from fastroute.evaluation.metrics.bootstrap import Estimate
    from fastroute.types import ModelPair

NAMED_BENCHMARKS = "mmlu, gsm8k, mt-bench"

ROUTER_HELP = (
    f"a router: NAME ({', '.join(ROUTER_NAMES)}), NAME=FOLDER of a saved one, and options after "
    "commas, such as bert=FOLDER,precision=int8"
)
DATA_HELP = "a checkout of github.com/lm-sys/RouteLLM, for the benchmarks that have a name"
PAIR_METAVAR = ("strong=COLUMN", "weak=COLUMN")


def text(value: str) -> str:
    """The type of options that are a name or a path: any text but an empty one."""
    if not value.strip():
        raise argparse.ArgumentTypeError("is empty; give a value, or leave the option out")
    return value


class _Options(Protocol):
    """A parser, or a group of its options."""

    def add_argument(self, *names: Any, **settings: Any) -> Any: ...


def add_option(
    parser: _Options,
    usage: str,
    help: str,  # noqa: A002 - as add_argument calls it
    type: Callable[[str], object] = text,  # noqa: A002 - as add_argument calls it
    **settings: Any,
) -> None:
    """Add an option with values. ``usage`` is what the help shows of it: "--data FILE", "--prices
    IN OUT", for one value or more "--router R ...", and for ``choices`` only the name; ``settings``
    are those of ``add_argument``."""
    name, *metavars = usage.split()
    if metavars[-1:] == ["..."]:
        settings |= {"nargs": "+", "metavar": metavars[0]}
    elif len(metavars) > 1:
        settings |= {"nargs": len(metavars), "metavar": tuple(metavars)}
    elif metavars:
        settings["metavar"] = metavars[0]
    parse = str if "choices" in settings else type
    parser.add_argument(name, help=help, type=parse, **settings)


def add_flag(parser: _Options, name: str, help: str) -> None:  # noqa: A002 - as above
    """Add an option without a value: it is False unless it is given."""
    parser.add_argument(name, action="store_true", help=help)


def values_of(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of the options ``names``, as the arguments of those names."""
    return {name: getattr(options, name) for name in names}


def add_router(parser: argparse.ArgumentParser) -> None:
    """Add ``--router``."""
    add_option(parser, "--router R", f"{ROUTER_HELP} (default: mf)", default="mf")


def add_intervals(parser: argparse.ArgumentParser) -> None:
    """Add ``--resamples``, ``--confidence`` and ``--seed``."""
    add_option(parser, "--resamples N", type=int, default=1000,
        help="bootstrap resamples; 0 for no intervals (default: 1000)")  # fmt: skip
    add_option(parser, "--confidence C", "of intervals (default: 0.95)", float, default=0.95)
    add_option(parser, "--seed N", "of resamples and splits", int, default=0)


def add_leniency(parser: argparse.ArgumentParser) -> None:
    """Add ``--skip-bad``, ``--drop-trained`` and ``--no-cache``."""
    add_flag(parser, "--skip-bad", "leave malformed rows out instead of stopping")
    add_flag(parser, "--drop-trained",
        help="leave out prompts that a router was trained on instead of stopping")  # fmt: skip
    add_flag(parser, "--no-cache", "neither read nor write the cache")


def common_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What ``add_intervals`` and ``add_leniency`` say, as arguments of calibrations."""
    named = values_of(options, "drop_trained", "resamples", "confidence", "seed")
    return named | {"progress": True}


def open_cache(without: bool) -> contextlib.AbstractContextManager[WinRateCache | None]:
    """The cache of win rates, or nothing."""
    from fastroute.evaluation.cache import WinRateCache

    return contextlib.nullcontext() if without else WinRateCache()


def load_benchmarks(
    names: Sequence[str], *, data: str | None, pairs: Sequence[Sequence[str]], skip_bad: bool
) -> list[Benchmark]:
    """The benchmarks of ``--benchmark``; says on standard error what was left out of files."""
    from fastroute.evaluation.benchmarks.routellm import LOADERS
    from fastroute.evaluation.benchmarks.traffic import parse_pair

    model_pairs = [parse_pair(words) for words in pairs]
    found: list[Benchmark] = []
    for name in names:
        if name in LOADERS:
            if data is None:
                raise InvalidInputError(f"--benchmark {name} needs --data: {DATA_HELP}")
            if len(model_pairs) > 1:
                raise InvalidInputError(f"--benchmark {name} takes one --pair")
            loader = LOADERS[name]
            found.append(loader(data, pair=model_pairs[0]) if model_pairs else loader(data))
        elif "." in Path(name).name:
            found += _load_file(name, model_pairs, skip_bad)
        else:
            raise InvalidInputError(
                f"--benchmark {name!r} is neither one of {NAMED_BENCHMARKS} nor a file that ends "
                "in .jsonl, .csv or .parquet"
            )
    named = [benchmark.name for benchmark in found]
    for name in named:
        if named.count(name) > 1:
            raise InvalidInputError(f"--benchmark: two of them are named {name!r}")
    return found


def load_benchmark(options: argparse.Namespace) -> Benchmark:
    """The one benchmark of ``--benchmark``, ``--data`` and ``--pair``."""
    pairs = [options.pair] if options.pair else ()
    return load_benchmarks(
        [options.benchmark], data=options.data, pairs=pairs, skip_bad=options.skip_bad
    )[0]


def _load_file(name: str, pairs: Sequence[ModelPair], skip_bad: bool) -> list[Benchmark]:
    from fastroute.evaluation.benchmarks.traffic import load_pairs

    loaded = load_pairs(name, pairs or [None], skip_bad=skip_bad)
    for line in loaded[0].report.column_lines():
        say(line)
    for traffic in loaded:
        for what, count in (
            ("malformed rows", traffic.report.malformed),
            ("rows without scores of both models", traffic.unscored),
            ("rows without costs of both models", traffic.without_costs),
        ):
            if count:
                say(f"{traffic.benchmark.name}: left out {count:,} {what}")
    return [traffic.benchmark for traffic in loaded]


def number(option: str, word: str) -> float:
    """The number that an option was given, or an error that names the option."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise InvalidInputError(f"{option} must be a number from 0 to 1, got {word!r}")
    return value


def interval_text(value: Estimate, form: str) -> str:
    """The interval as `` (low to high)``, or nothing."""
    if value.low is None or value.high is None:
        return ""
    return f" ({format(value.low, form)} to {format(value.high, form)})"


def show(
    options: argparse.Namespace,
    facts: dict[str, Any],
    lines: Sequence[str],
    notes: Sequence[str],
    last: str | None,
) -> None:
    """Print facts as one JSON object with ``--json``, or else lines, notes, and how to go on."""
    if options.json:
        print(json.dumps(facts | {"notes": list(notes)}, indent=2))
    else:
        print("\n".join([*lines, *notes, *([last] if last else [])]))


def check_new(output: str, *, overwrite: bool) -> None:
    """Raise InvalidInputError where ``output`` exists and may not be replaced."""
    if Path(output).exists() and not overwrite:
        raise InvalidInputError(f"--output {output} exists; pass --overwrite to replace it")


def check_reports(figures: Sequence[str], page: str | None = None) -> None:
    """Check that figures and a page can be made, before a long computation."""
    from fastroute.evaluation.report.plots import check_figure_file, load_matplotlib

    for file in figures:
        check_figure_file(file)
    for file in [*([page] if page else []), *figures]:
        if not Path(file).parent.is_dir():
            raise InvalidInputError(f"{file}: there is no folder {Path(file).parent}")
    if page or figures:
        load_matplotlib()


def say_warnings(warnings: Sequence[str], losses: Sequence[str]) -> int:
    """Print warnings and the baselines that a router does not beat; the exit status.

    It is 3 where there are any of the latter, so that a script does not go on with that router.
    """
    for warning in warnings:
        say(f"warning: {warning}")
    if not losses:
        return 0
    say(
        "warning: on held-out prompts this router does not beat the baselines: "
        f"{'; '.join(losses)}. Do not use it as it is: give more data, or take another router."
    )
    return 3


def price(given: str) -> tuple[str, tuple[float, float]]:
    """``--price`` as a model and dollars per million tokens: ("gpt-4", (10, 30)) for
    "gpt-4=10/30"."""
    model, _, dollars = given.rpartition("=")
    try:
        into, out = (float(part) for part in dollars.split("/"))
    except ValueError:
        into = out = math.nan
    if not model or not (0 <= into < math.inf and 0 <= out < math.inf):
        raise InvalidInputError(
            f"--price {given!r} must be MODEL=IN/OUT, dollars per million tokens, such as "
            "gpt-4.1=2/8"
        )
    return model, (into, out)
