"""``fastroute calibrate --slow``: the band of a cascade, and the folder that the router loads."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import (
    add_flag,
    add_option,
    common_settings,
    interval_text,
    load_benchmark,
    number,
    open_cache,
    say_warnings,
    show,
)
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.evaluation.thresholds.band_calibration import BandCalibration
    from fastroute.evaluation.thresholds.bands import BandResult, Goal

_GOALS: dict[str, Goal] = {
    "tolerance": "tolerance",
    "share_sent_on": "share",
    "mean_latency_ms": "mean_latency_ms",
}
_OWN = ("slow", "output", "latency_ms", "latency_prompts")


def add_band_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of cascades."""
    add_option(parser, "--slow R",
        help="calibrate a cascade: --router is called for every prompt, and this one, given like "
        "--router, for the uncertain prompts in a band")  # fmt: skip
    add_option(parser, "--output FOLDER",
        help="with --slow: write the cascade, for --router cascade,checkpoint_path=FOLDER",
    )  # fmt: skip
    add_flag(parser, "--overwrite", "replace what is in the folder of --output")
    add_option(parser, "--latency-ms FAST SLOW", type=float,
        help="with --slow: milliseconds per call of each; measured if not given")  # fmt: skip
    add_option(parser, "--latency-prompts N", type=int,
        help="with --slow: prompts to measure latencies on (default: 200)")  # fmt: skip


def is_band_goal(options: argparse.Namespace) -> bool:
    """Whether the options are of a cascade. Raises InvalidInputError where some are missing."""
    goal = next((name for name in _GOALS if getattr(options, name) is not None), None)
    if goal is None:
        given = [name for name in _OWN if getattr(options, name) is not None]
        if given:
            raise InvalidInputError(
                f"--{given[0].replace('_', '-')} needs a goal for the cascade: --tolerance, "
                "--share-sent-on or --mean-latency-ms"
            )
        return False
    if options.slow is None:
        raise InvalidInputError(
            f"--{goal.replace('_', '-')} needs --slow, the slow router of the cascade"
        )
    return True


def run_band(options: argparse.Namespace) -> int:
    """Find the band, write the cascade to ``--output``, and print its figures."""
    from fastroute.evaluation.benchmarks.traffic import load_prompts
    from fastroute.evaluation.metrics.bootstrap import cautions
    from fastroute.evaluation.thresholds.band_calibration import calibrate_band
    from fastroute.routers.cascade.artifact import make_member, save_cascade
    from fastroute.routers.registry import create_router
    from fastroute.routers.specification import parse_router
    from fastroute.training.outcome import check_output

    option = next(name for name in _GOALS if getattr(options, name) is not None)
    goal = _GOALS[option]
    target = number(f"--{option.replace('_', '-')}", getattr(options, option))
    if options.output:
        check_output(options.output, overwrite=options.overwrite)
    if bool(options.prompts) == bool(options.benchmark):
        raise InvalidInputError("a band needs either --benchmark (scored prompts) or --prompts")
    members = {}
    for which, words in (("fast", options.router), ("slow", options.slow)):
        name, _, config = parse_router(words)
        members[which] = {"router": name, **config}
    prompts, benchmark = None, None
    if options.prompts:
        prompts = load_prompts(options.prompts, skip_bad=options.skip_bad)
    else:
        benchmark = load_benchmark(options)
    settings: dict[str, Any] = common_settings(options)
    if options.latency_prompts is not None:
        settings["latency_prompts"] = options.latency_prompts
    with open_cache(options.no_cache) as cache:
        found = calibrate_band(
            make_member("fast", members["fast"], create_router),
            make_member("slow", members["slow"], create_router),
            goal,
            target,
            benchmark=benchmark,
            prompts=prompts,
            latency_ms=None if options.latency_ms is None else tuple(options.latency_ms),
            cache=cache,
            **settings,
        )
    facts = _facts(found)
    if options.output:
        save_cascade(options.output, found.router, **members, found=facts)
    halves = [found.chosen_on, *([found.held_out] if found.held_out else [])]
    notes = cautions(min(h.prompts for h in halves), options.resamples) if benchmark else []
    facts |= {"output": options.output, "warnings": [*found.warnings(), *found.losses()]}
    last = f"router: cascade,checkpoint_path={options.output}" if options.output else None
    show(options, facts, _lines(found), notes, last)
    return say_warnings(found.warnings(), found.losses())


def _facts(found: BandCalibration) -> dict[str, Any]:
    band = found.router.band
    return {
        "goal": found.goal,
        "target": found.target,
        "band": None if band is None else [band.low, band.high],
        "chosen_on": asdict(found.chosen_on),
        "held_out": None if found.held_out is None else asdict(found.held_out),
        "fast_ms": found.fast_ms,
        "slow_ms": found.slow_ms,
        "timed_prompts": found.timed_prompts,
        "length_apgr": found.length_apgr,
    }


def _lines(found: BandCalibration) -> list[str]:
    band, name = found.router.band, found.router.fast.name
    source = f"on {found.timed_prompts:,} prompts" if found.timed_prompts else "as given"
    lines = [
        "no band: the fast router alone"
        if band is None
        else f"band {band.low!r} to {band.high!r}, win rates of {name}",
        f"latency {source}: fast {found.fast_ms:.4g} ms, slow {found.slow_ms:.4g} ms per call",
        _half("chosen on" if found.held_out else "prompts", found.chosen_on),
    ]
    return lines + ([_half("held out", found.held_out)] if found.held_out else [])


def _half(name: str, half: BandResult) -> str:
    words = [f"{half.share_sent_on:.1%} sent on"]
    if half.mean_ms is not None and half.slow_ratio is not None:
        words.append(
            f"{half.mean_ms:.4g} ms per prompt, {half.slow_ratio:.2f} of the slow router's"
        )
    if half.apgr and half.fast_apgr and half.slow_apgr:
        words.append(
            f"APGR {half.apgr.value:.4f}{interval_text(half.apgr, '.3f')}, fast "
            f"{half.fast_apgr.value:.4f}, slow {half.slow_apgr.value:.4f}"
        )
    if half.difference:
        ends = interval_text(half.difference, "+.3f")
        words.append(f"{half.difference.value:+.4f}{ends} from the better")
    return f"{name:<10} {half.prompts:>6,} prompts: {'; '.join(words)}"
