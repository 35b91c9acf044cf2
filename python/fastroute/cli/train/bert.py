"""``fastroute train bert``: fine-tune an encoder, and write the artifact of a bert router."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from fastroute.cli.options import add_flag, add_option, say_warnings
from fastroute.cli.streams import say
from fastroute.cli.train.options import (
    add_data,
    add_output,
    add_pairs,
    check_compared,
    check_output,
    read_data,
)

if TYPE_CHECKING:
    from fastroute.training.bert.examples import Examples
    from fastroute.training.bert.recipe import Report
    from fastroute.training.bert.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    add_data(parser, english=True)
    add_output(parser)
    add_pairs(parser)
    add_option(parser, "--label", default="difficulty", choices=("difficulty", "halves"),
        help="of graded results without --strong: a model that is always right against a "
        "graded one (default), or the stronger half of them against the weaker")  # fmt: skip
    add_option(parser, "--weighting", default="files", choices=("files", "rows"),
        help="each file counts the same (default), or each prompt")  # fmt: skip
    add_option(parser, "--encoder E",
        help="folder or hub id of a Hugging Face encoder with safetensors weights (default: "
        "sentence-transformers/all-MiniLM-L6-v2)")  # fmt: skip
    for flag, kind, letter, said in (
        (
            "--max-tokens",
            int,
            "N",
            "longer prompts are truncated, in training and in use (default: 192)",
        ),
        ("--batch-size", int, "N", "prompts a step (default: 32)"),
        ("--epochs", int, "N", "passes over the prompts at most (default: 2)"),
        ("--learning-rate", float, "R", "of the encoder (default: 5e-5)"),
        ("--head-learning-rate", float, "R", "of the classifier (default: 1e-3)"),
        ("--weight-decay", float, "D", "of AdamW (default: 0.01)"),
        ("--frozen-layers", int, "N", "number of first layers to freeze (default: 0)"),
        ("--warmup", float, "S", "share of the training in which the rate rises (default: 0.06)"),
        ("--evaluations-per-epoch", int, "N", "(default: 4)"),
        (
            "--patience",
            int,
            "N",
            "stop after this many evaluations without a better loss (default: 4)",
        ),
        ("--max-minutes", float, "M", "stop the training after this many minutes"),
        ("--seed", int, "N", "(default: 0)"),
    ):
        parser.add_argument(flag, type=kind, metavar=letter, help=said)
    add_option(parser, "--threads N", "of torch (default: 1)", type=int, dest="num_threads")
    add_option(parser, "--arithmetic", choices=("float32", "bfloat16"),
        help="of the layers; bfloat16 is quicker on processors that have it (default: float32)",
    )  # fmt: skip
    add_option(parser, "--device D", "cpu (default), cuda, cuda:1 ...")
    add_flag(parser, "--resume", "continue from the checkpoint in --output")
    add_flag(parser, "--json", "print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Train, write, and print what was measured."""
    from fastroute._progress import progress_bar
    from fastroute.training.bert.network import check_libraries
    from fastroute.training.bert.recipe import train_bert
    from fastroute.training.bert.settings import DEFAULT_ENCODER

    # What is cheap to find out and can be wrong comes before what takes time.
    settings = _settings(options)
    check_libraries()
    check_output(options)
    examples = _examples(options)
    shown = sys.stderr.isatty()
    done = 0
    with progress_bar(1000, "training", shown=shown, unit="‰") as advance:

        def progress(share: float, _: float) -> None:
            nonlocal done
            advance(int(1000 * share) - done)
            done = int(1000 * share)

        report = train_bert(
            examples,
            options.output,
            encoder=options.encoder or DEFAULT_ENCODER,
            settings=settings,
            resume=options.resume,
            overwrite=options.overwrite,
            progress=progress if shown else None,
            say=say if shown else lambda _: None,
        )
    print(json.dumps(report.as_json(), indent=2) if options.json else "\n".join(_lines(report)))
    return say_warnings(report.warnings(), report.losses())


def _settings(options: argparse.Namespace) -> Settings:
    from dataclasses import fields

    from fastroute.training.bert.settings import Settings

    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _examples(options: argparse.Namespace) -> Examples:
    from fastroute.training.bert.sources import examples_of, uses_pair

    strong, weak = options.strong_model, options.weak_model
    data = read_data(options, aside=options.json)
    if not uses_pair(data, strong, weak):
        if data.battles:
            say(f"{len(data.battles):,} battles left out: they need --strong and --weak")
        if options.label == "halves":
            check_compared(data.graded)
    return examples_of(
        data, label=options.label, strong=strong, weak=weak, weighting=options.weighting
    )


def _lines(report: Report) -> list[str]:
    history, quality = report.history, report.quality
    loss = min(loss for _, _, loss in history.losses)
    lines = []
    lines.append(
        f"trained on {report.training_prompts:,} prompts: {history.steps:,} steps, "
        f"{history.epochs:.2f} epochs, {history.minutes:.1f} minutes; stopped by "
        f"{history.stopped}, kept step {history.best_step} (held-out loss {loss:.4f})"
    )
    lines.append(
        f"calibrated: temperature {report.calibration.temperature:.3f}, loss "
        f"{report.calibration.loss_before:.4f} to {report.calibration.loss_after:.4f}"
    )
    for name, found in (("float32", report.float32), ("int8", report.int8)):
        lines.append(
            f"{name} ONNX against torch, {found.prompts:,} prompts: logits differ by "
            f"{found.max_logit:.2g} at most, win rates by {found.max_win_rate:.2g} (mean "
            f"{found.mean_win_rate:.2g})"
        )
    lines.append(f"router against torch, from text: {report.router_difference:.2g} at most")
    if quality.rank_correlation is not None and quality.length_rank_correlation is not None:
        lines.append(
            f"held out, within groups: rank correlation {quality.rank_correlation:.3f} (length: "
            f"{quality.length_rank_correlation:.3f})"
        )
    lines.append(f"held out: calibration error {quality.calibration_error:.3f}")
    lines.append(f"wrote {report.folder}")
    return lines
