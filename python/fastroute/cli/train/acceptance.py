"""``fastroute train acceptance``: when a cascade may send a cheap answer."""

from __future__ import annotations

import argparse

from fastroute.cli.options import add_option, say_warnings, text
from fastroute.cli.train.options import add_output, check_output


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--answers FILE ...", required=True,
        help="files with answers and scores by model, joined by question")  # fmt: skip
    parser.add_argument("--weak", type=text, required=True, metavar="MODEL")
    parser.add_argument("--strong", type=text, required=True, metavar="MODEL")
    add_option(parser, "--helper MODEL", action="append", default=[],
        help="another cheap model, asked beside the weak one; may be given several times",
    )  # fmt: skip
    add_output(parser)
    add_option(parser, "--seed N", "of the folds", int, default=0)


def run(options: argparse.Namespace) -> int:
    """Fit, save, and print the figures."""
    from fastroute.evaluation.benchmarks.answers import read_answers
    from fastroute.training import train_acceptance

    check_output(options)
    trained = train_acceptance(
        read_answers(options.answers), options.output, weak=options.weak, strong=options.strong,
        helpers=options.helper, seed=options.seed, overwrite=options.overwrite,
    )  # fmt: skip
    print(f"{trained.prompts:,} prompts; figures are out of fold")
    print(f"  APGR {trained.apgr:.4f} (rule of agreement {trained.rule_apgr:.4f}, length of the "
          f"prompt {trained.length_apgr:.4f}, random 0.5)")  # fmt: skip
    print(f"  calibration error of P(accept) {trained.calibration_error:.4f}")
    print(
        f"  at P(accept) >= {trained.threshold:.4f}: quality {trained.quality:.4f} (strong model "
        f"alone {trained.strong_quality:.4f}, weak {trained.weak_quality:.4f}) with "
        f"{trained.strong_share:.1%} strong calls"
    )
    print(f"wrote {options.output}")
    return say_warnings([], trained.losses())
