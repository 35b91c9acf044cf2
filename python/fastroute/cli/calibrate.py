"""``fastroute calibrate``: a threshold for a share or a quality; the band of a cascade."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute.cli.calibrate_band import add_band_options, is_band_goal, run_band
from fastroute.cli.options import (
    NAMED_BENCHMARKS,
    PAIR_METAVAR,
    add_flag,
    add_intervals,
    add_leniency,
    add_option,
    add_router,
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
    from fastroute.evaluation.thresholds.quality import Measure
    from fastroute.routers.specification import RouterChoice


def configure(parser: argparse.ArgumentParser) -> None:
    add_router(parser)
    goal = parser.add_mutually_exclusive_group(required=True)
    add_option(goal, "--strong-share P", "find the threshold for this share of strong calls", str)
    add_option(goal, "--target-quality Q", type=str,
        help="find the cheapest threshold with this part of the strong model's quality (0.95)",
    )  # fmt: skip
    add_option(goal, "--target-pgr Q", type=str,
        help="the same, as a part of the gap between weak and strong model")  # fmt: skip
    add_option(goal, "--tolerance A", type=str,
        help="with --slow: find the narrowest band whose APGR is at most this below that of the "
        "better router (0.005)")  # fmt: skip
    add_option(goal, "--share-sent-on P", type=str,
        help="with --slow: find the band that sends this share of prompts on to the slow router",
    )  # fmt: skip
    add_option(goal, "--mean-latency-ms MS", type=str,
        help="with --slow: find the band with this mean latency per prompt")  # fmt: skip
    add_band_options(parser)
    add_option(parser, "--prompts FILE",
        help="with --strong-share: your prompts, one per line (.txt) or .jsonl, .csv, .parquet "
        "with prompt; without it the router's own calibration quantiles")  # fmt: skip
    add_option(parser, "--benchmark B",
        help=f"with a target: {NAMED_BENCHMARKS} or a file, as in fastroute evaluate")  # fmt: skip
    add_option(parser, "--data FOLDER", "as in fastroute evaluate")
    parser.add_argument("--pair", nargs=2, metavar=PAIR_METAVAR, help="as in fastroute evaluate")
    add_intervals(parser)
    add_leniency(parser)
    add_flag(parser, "--save",
        help="make the threshold the default of the saved router --router NAME=FOLDER, and the "
        "win rates of --prompts its calibration")  # fmt: skip
    add_flag(parser, "--json", "print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the threshold or the band, with its figures."""
    if is_band_goal(options):
        if options.save:
            raise InvalidInputError("--save can't be used with --slow; --output writes a cascade")
        return run_band(options)
    if options.strong_share is not None:
        if options.benchmark or options.pair or options.data:
            raise InvalidInputError(
                "--benchmark, --data and --pair need a target; --strong-share uses --prompts"
            )
        return _share(options)
    if options.prompts:
        raise InvalidInputError("--prompts needs --strong-share; a target needs --benchmark")
    if not options.benchmark:
        raise InvalidInputError(
            "--target-quality and --target-pgr need --benchmark, with graded prompts"
        )
    return _quality(options)


def _folder(options: argparse.Namespace, choice: RouterChoice) -> Path | None:
    """The folder of the router that ``--save`` writes to; None without it."""
    from fastroute.evaluation.thresholds.saving import check_saved

    if not options.save:
        return None
    models = [key for key in ("strong_model", "weak_model") if key in choice.config]
    if models:
        raise InvalidInputError(
            f"--save: a saved router has the calibration of its own pair; leave {models[0]} out"
        )
    return check_saved(choice.config.get("checkpoint_path"))


def _saved(folder: Path | None) -> list[str]:
    return [] if folder is None else [f"saved in {folder}"]


def _share(options: argparse.Namespace) -> int:
    from fastroute.evaluation.benchmarks.traffic import load_prompts
    from fastroute.evaluation.metrics.bootstrap import cautions
    from fastroute.evaluation.thresholds.calibration import calibrate_share
    from fastroute.evaluation.thresholds.saving import save_calibration
    from fastroute.provenance import OperatingPoint
    from fastroute.routers.specification import parse_router

    share = number("--strong-share", options.strong_share)
    choice = parse_router(options.router)
    folder = _folder(options, choice)
    label, router = choice.label, choice.make()
    prompts = None
    if options.prompts:
        prompts = load_prompts(options.prompts, skip_bad=options.skip_bad)
    with open_cache(options.no_cache) as cache:
        found = calibrate_share(
            router, share, prompts=prompts, cache=cache, **common_settings(options)
        )
        if folder is not None:
            whose = "its own quantiles"
            if prompts is not None:
                whose = f"{found.prompts:,} prompts of {Path(options.prompts).name}"
            point = OperatingPoint(found.threshold.value, share, f"fastroute calibrate, on {whose}")
            save_calibration(
                folder, router, point, prompts, calibrated_on=whose,
                drop_trained=options.drop_trained, cache=cache,
            )  # fmt: skip
    if prompts is None:
        source = f"the router's {found.prompts:,} calibration quantiles, counted as prompts"
    else:
        source = f"{found.prompts:,} prompts of {options.prompts}"
    lines = [
        f"threshold {found.threshold.value!r}{interval_text(found.threshold, '.4f')}",
        f"strong calls {found.share.value:.2%}{interval_text(found.share, '.2%')}, from {source}",
        *_saved(folder),
    ]
    facts = {"router": label, "source": source, **asdict(found)}
    notes = cautions(found.prompts, options.resamples)
    model = f"router-{router.name}-{found.threshold.value!r}"
    show(options, facts, lines, notes, f"model string: {model}")
    return 0


def _quality(options: argparse.Namespace) -> int:
    from fastroute.evaluation.metrics.bootstrap import cautions
    from fastroute.evaluation.thresholds.calibration import calibrate_quality
    from fastroute.evaluation.thresholds.quality import SPLITS
    from fastroute.evaluation.thresholds.saving import save_calibration
    from fastroute.provenance import OperatingPoint
    from fastroute.routers.specification import parse_router

    measure: Measure = "quality" if options.target_pgr is None else "pgr"
    target = number(f"--target-{measure}", getattr(options, f"target_{measure}"))
    benchmark = load_benchmark(options)
    choice = parse_router(options.router)
    folder = _folder(options, choice)
    label, router = choice.label, choice.make()
    with open_cache(options.no_cache) as cache:
        found = calibrate_quality(
            router, benchmark, target, measure=measure, cache=cache, **common_settings(options)
        )
    what = "of the strong model's quality" if measure == "quality" else "of the gap"
    ends = interval_text(found.threshold, ".4f")
    lines = [f"threshold {found.threshold.value!r}{ends}, for {target:.2%} {what}"]
    if found.splits is not None:
        low, high = found.splits
        lines.append(f"splits     {low!r} to {high!r}: the choice on {SPLITS} other splits")
    share = f"{found.share.value:.1%}{interval_text(found.share, '.1%')}"
    lines.append(f"share      {share} strong calls on all prompts")
    for name, half in (("chosen on", found.chosen_on), ("held out", found.held_out)):
        cost = "" if half.cost is None else f", {half.cost.value:.4g} dollars per prompt"
        lines.append(
            f"{name:<10} {half.prompts:>6,} prompts: {half.reached.value:.2%}"
            f"{interval_text(half.reached, '.2%')} {what}, strong calls {half.share.value:.2%}"
            f"{interval_text(half.share, '.2%')}{cost}"
        )
    length = "" if found.length_apgr is None else f", length of the prompt {found.length_apgr:.4f}"
    ends = interval_text(found.apgr, ".3f")
    lines.append(f"APGR       {found.apgr.value:.4f}{ends}; random routing 0.5{length}")
    facts = {"router": label, "benchmark": benchmark.name, "unit": benchmark.unit, **asdict(found)}
    facts["warnings"] = [*found.warnings(), *found.losses()]
    if folder is not None and not found.losses():
        goal = f"fastroute calibrate, for {target:.2%} {what} on {benchmark.name}"
        save_calibration(folder, router, OperatingPoint(found.threshold.value, None, goal))
        lines += _saved(folder)
    notes = cautions(min(found.chosen_on.prompts, found.held_out.prompts), options.resamples)
    model = f"router-{router.name}-{found.threshold.value!r}"
    show(options, facts, lines, notes, f"model string: {model}")
    return say_warnings(found.warnings(), found.losses())
