"""``fastroute train causal_llm``: fine-tune a decoder that answers how well the weak model does."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.cli.label_options import add_template, template_of
from fastroute.cli.options import add_flag, add_option, say_warnings, values_of
from fastroute.cli.train.options import add_data, add_pairs, read_data

if TYPE_CHECKING:
    from fastroute.training.causal_llm.run import Result


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--base FOLDER", required=True,
        help="a Hugging Face decoder with tokenizer.json; no code of it runs")  # fmt: skip
    add_option(parser, "--output FOLDER", required=True,
        help="a new folder: checkpoint/ (Hugging Face) and onnx/ (what the router loads)",
    )  # fmt: skip
    add_data(parser, conflicts="average")
    add_pairs(parser)
    add_template(parser)
    add_option(parser, "--steps N", "(default: 2000)", int, default=2000)
    add_option(parser, "--batch-size N", "prompts a step (default: 8)", int, default=8)
    add_option(parser, "--micro-batch-size N", type=int, default=8,
        help="prompts at a time; gradients add up to a batch (default: 8)")  # fmt: skip
    add_option(parser, "--learning-rate R", type=float, default=1e-6,
        help="(default: 1e-6, the paper's for 8 B; small models want 1e-5 to 1e-3)")  # fmt: skip
    add_option(parser, "--weight-decay D", "(default: 0)", float, default=0.0)
    add_option(parser, "--seed N", "(default: 0)", int, default=0)
    add_option(parser, "--max-minutes M", "stop the training after this many minutes", float)
    add_option(parser, "--checkpoint-minutes M", type=float, default=10.0,
        help="minutes between checkpoints (default: 10)")  # fmt: skip
    add_flag(parser, "--resume", "resume an interrupted training in --output")
    add_option(parser, "--device D", "cpu, cuda, cuda:1 ...", str, default="cpu")
    add_flag(parser, "--bfloat16", "compute in bfloat16; weights stay in float32")
    add_flag(parser, "--gradient-checkpointing", "less memory, a third more time")
    add_flag(parser, "--no-onnx", "write the checkpoint only")
    add_flag(parser, "--json", "print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Train, and print what was measured."""
    from fastroute._progress import progress_bar
    from fastroute.training.causal_llm.fine_tune import Settings
    from fastroute.training.causal_llm.labels import labelled
    from fastroute.training.causal_llm.libraries import quieten
    from fastroute.training.causal_llm.run import train_causal_llm

    # What is cheap to read and can be wrong comes before what takes time.
    settings = Settings(**values_of(options, *(field.name for field in fields(Settings))))
    data = labelled(
        read_data(options, aside=options.json), options.strong_model, options.weak_model
    )
    template = template_of(options, Path(options.base).expanduser(), default=True)
    assert template is not None  # there is a default
    quieten()
    shown = sys.stderr.isatty()
    with progress_bar(options.steps, "training", unit="step", shown=shown) as bar:
        result = train_causal_llm(
            options.base,
            data,
            options.output,
            settings,
            template=template,
            max_tokens=options.max_tokens,
            device=options.device,
            with_onnx=not options.no_onnx,
            resume=options.resume,
            report=lambda _step, _loss: bar(),
        )
    facts = _facts(result)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            if name != "losses":
                shown_value = f"{value:.4g}" if isinstance(value, float) else value
                print(f"{name.replace('_', ' '):<28} {shown_value}")
    warnings = []
    if result.ranking is None:
        warnings.append(
            "whether this router beats the baselines was not measured: that needs held-out "
            "prompts with labels of both kinds, 1 to 3 and 4 to 5, and an export to ONNX"
        )
    return say_warnings(warnings, result.losses())


def _facts(result: Result) -> dict[str, Any]:
    trained, exported = asdict(result.trained), result.exported
    losses = trained.pop("losses")
    facts: dict[str, Any] = {"steps": len(losses)} | trained
    facts |= {
        "held_out_prompts": result.held_out,
        "loss_before": result.loss_before,
        "loss_after": result.loss_after,
        "ranking_accuracy": result.ranking,
        "length_ranking_accuracy": result.length_ranking,
        "checkpoint": str(result.checkpoint),
    }
    if exported is not None:
        facts |= {"onnx": str(exported.folder), "max_difference": exported.max_difference}
    return facts | {"losses": losses}
