"""``fastroute simulate``: what a second request to a slow provider costs and gains."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from fastroute.cli.options import add_flag, add_option, values_of
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.resilience.simulation import Bill, Latency


def configure(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    add_option(source, "--exponential MEAN", "mean seconds", float)
    add_option(source, "--pareto LEAST SHAPE", "least seconds, tail", float)
    add_option(source, "--latencies FILE", "recorded: seconds, one a line, or a gateway's log", str)
    add_option(parser, "--tasks K", "tasks a job (default: 1)", int, default=1)
    add_option(parser, "--copies C", "further copies (default: 1)", int, default=1)
    add_option(parser, "--runs N", "simulated jobs", int, default=100_000)
    add_option(parser, "--seed N", "seed", int, default=0)
    add_option(parser, "--most-extra P", type=float, default=0.05,
        help="most further requests a request that the advice may cost (default: 0.05)",
    )  # fmt: skip
    add_option(parser, "--tokens IN OUT", type=float,
        help="mean input and output tokens of a request: the cost is what an API bills, tokens",
    )  # fmt: skip
    add_option(parser, "--prices IN OUT", type=float,
        help="dollars per million input and output tokens; with --tokens the cost is in dollars",
    )  # fmt: skip
    add_option(parser, "--plot FILE", "draw the trade-off: .png, .svg or .pdf", str)
    add_option(parser, "--write FILE", "write the advice into a gateway's TOML config", str)
    add_flag(parser, "--json", "print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Simulate, print, advise."""
    from fastroute.resilience.advice import (
        advise,
        compare,
        settings_of,
        write_settings,
    )
    from fastroute.resilience.simulation import expected
    from fastroute.resilience.tradeoff_plot import plot

    if options.copies < 1:
        raise InvalidInputError("--copies must be 1 or more")
    if not 0 <= options.most_extra <= 10:
        raise InvalidInputError(f"--most-extra must be in 0..10, got {options.most_extra}")
    latency = _latency(options)
    bill, unit = _bill(options)
    rows = compare(latency, bill=bill, **values_of(options, "tasks", "runs", "seed", "copies"))
    chosen = advise(rows, most_extra=options.most_extra)
    settings = settings_of(chosen, options.most_extra)
    exact = [expected(latency, row.policy, tasks=options.tasks) for row in rows]
    if options.json:
        table = [
            row.policy._asdict() | row.outcome._asdict() | {"expected": e._asdict()}
            for row, e in zip(rows, exact, strict=True)
        ]
        print(json.dumps({"policies": table, "advice": settings, "billed_in": unit}))
    else:
        print(
            f"{'policy':<10}{'at':>9}{'quantile':>10}{'latency':>10}{'(exact)':>10}{'p95':>9}"
            f"{'p99':>9}{'cost, s':>9}{'(exact)':>10}{'requests':>10}{'completions':>13}"
            + ("" if unit is None else f"  billed, {unit}")
        )
        for row, e in zip(rows, exact, strict=True):
            o = row.outcome
            quantile = "" if row.quantile is None else f"{row.quantile:g}"
            print(
                f"{row.policy.mode:<10}{row.policy.delay_s:>9.3g}{quantile:>10}"
                f"{o.latency_s:>10.4g}{e.latency_s:>10.4g}{o.p95_s:>9.4g}{o.p99_s:>9.4g}"
                f"{o.cost_s:>9.4g}{e.cost_s:>10.4g}{o.requests:>10.3f}{o.completions:>13.3f}"
                + ("" if o.billed is None else f"{o.billed:>15.5g}")
                + ("  <- advice" if row is chosen else "")
            )
        print("\n[resilience]")
        for name, value in settings.items():
            print(f"{name} = {json.dumps(value)}")
    if options.plot is not None:
        plot(rows, chosen, options.plot, unit=unit)
    if options.write is not None:
        write_settings(options.write, settings)
    return 0


def _bill(options: argparse.Namespace) -> tuple[Bill | None, str | None]:
    """What a request costs, and in which unit per job; None without ``--tokens``."""
    from fastroute.resilience.simulation import Bill

    for flag in ("tokens", "prices"):
        values = getattr(options, flag)
        if values is not None and not all(math.isfinite(v) and v >= 0 for v in values):
            raise InvalidInputError(f"--{flag} must be two numbers of 0 or more, got {values}")
    if options.tokens is None:
        if options.prices is not None:
            raise InvalidInputError("--prices needs --tokens, the mean tokens of a request")
        return None, None
    if options.prices is None:
        return Bill(*options.tokens), "tokens per job"
    amounts = (t * p / 1000 for t, p in zip(options.tokens, options.prices, strict=True))
    return Bill(*amounts), "dollars per 1,000 jobs"


def _latency(options: argparse.Namespace) -> Latency:
    from fastroute.resilience.advice import read_latencies
    from fastroute.resilience.simulation import Exponential, Pareto

    if options.exponential is not None:
        return Exponential(options.exponential)
    if options.pareto is not None:
        return Pareto(*options.pareto)
    return read_latencies(options.latencies)
