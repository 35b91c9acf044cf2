"""``fastroute score``: files of prompts in, files of win rates out."""

from __future__ import annotations

import argparse

from fastroute.cli.options import ROUTER_HELP, add_flag, add_option, number
from fastroute.cli.streams import say


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--input FILE ...", action="extend", required=True,
        help=".parquet, .jsonl or .csv, each perhaps .gz, a folder of them, or a pattern with *; "
        "a path, or a URI such as s3://BUCKET/FOLDER")  # fmt: skip
    add_option(parser, "--output FOLDER", required=True,
        help="where the scores go; if a run of the same command was stopped, this one goes on",
    )  # fmt: skip
    add_option(parser, "--router R", f"{ROUTER_HELP} (default: mf)", default="mf")
    add_option(parser, "--column NAME", default="prompt",
        help="the column of the prompts (default: prompt)")  # fmt: skip
    add_option(parser, "--keep NAME ...", action="extend", default=[],
        help="columns to copy to the output, such as an id")  # fmt: skip
    threshold = parser.add_mutually_exclusive_group()
    add_option(threshold, "--threshold T", type=str,
        help="win rate, 0 to 1, from which a prompt is strong (default: the router's operating "
        "point, or 0.5)")  # fmt: skip
    add_option(threshold, "--strong-share P", "choose the threshold for this share, 0 to 1", str)
    add_option(parser, "--workers N", type=int, default=1,
        help="processes, or actors of Ray (default: 1, on all processors)")  # fmt: skip
    add_option(parser, "--engine", choices=("local", "ray"), default="local",
        help="what runs the workers: this machine, or Ray Data (default: local)")  # fmt: skip
    add_flag(parser, "--overwrite", "remove the scores that the output folder has")


def run(options: argparse.Namespace) -> int:
    """Score, and print how many rows."""
    from fastroute.scoring import score_files
    from fastroute.scoring.files import Place

    threshold, share = (
        None if word is None else number(option, word)
        for option, word in (
            ("--threshold", options.threshold),
            ("--strong-share", options.strong_share),
        )
    )
    done = score_files(
        options.input, options.output, router=options.router, column=options.column,
        keep=options.keep, threshold=threshold, strong_share=share, workers=options.workers,
        engine=options.engine, overwrite=options.overwrite, progress=True,
    )  # fmt: skip
    output = Place(options.output).label
    resumed = f", {done.resumed:,} of them by earlier runs" if done.resumed else ""
    print(
        f"wrote {output}: {done.rows:,} prompts in {done.parts:,} parts{resumed}, "
        f"threshold {done.threshold:.4f}"
    )
    if done.errors:
        say(f"{done.errors:,} rows have no scores; see {output}/*.errors.jsonl")
    return 0
