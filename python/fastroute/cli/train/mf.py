"""``fastroute train mf``: a matrix factorisation router between any number of models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import text
from fastroute.cli.train.options import (
    add_data,
    add_embedder,
    add_pair,
    check_output,
    data_facts,
    embed,
    read_data,
    say_next,
)
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.training.mf.factorization import Settings, State
    from fastroute.training.mf.held_out import Figures
    from fastroute.training.mf.models import TrainedModels

# Of the factors, which two models do not have.
_OF_FACTORS = ("dimensions", "epochs", "patience", "ridge")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument(
        "--output", type=text, required=True, metavar="FOLDER", help="where the router goes"
    )
    add_embedder(parser)
    add_pair(parser)
    parser.add_argument(
        "--centre-by", choices=("dataset",),
        help="learn only differences within a dataset, so that the router does not learn which "
        "source a prompt came from",
    )  # fmt: skip
    parser.add_argument(
        "--ties", choices=("use", "drop"), default="use",
        help="learn from ties as half a win each, or not at all (default: use)",
    )  # fmt: skip
    parser.add_argument(
        "--compare-ties", action="store_true", help="train the other way too, and report both"
    )
    for name, what in (
        ("dimensions", "length of a model's embedding (default: 32)"),
        ("epochs", "passes over the data at most (default: 100)"),
        ("patience", "epochs without a better held-out loss before it stops (default: 5)"),
    ):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=what)
    parser.add_argument(
        "--ridge", type=float, metavar="R", help="strength of the shrinkage (default: 300)"
    )
    parser.add_argument(
        "--held-out", type=float, metavar="P",
        help="share of prompts held out, half to stop and calibrate by, half for the figures; of "
        "two models all of it is for the figures (default: 0.1, more if there are few)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is random")
    parser.add_argument(
        "--resume", action="store_true", help="go on where an interrupted training stopped"
    )


def run(options: argparse.Namespace) -> int:
    """Train, save, and print the figures."""
    from fastroute.training.embedder_choice import choose_embedder
    from fastroute.training.heads import save_mf
    from fastroute.training.mf.checkpoint import remove_state
    from fastroute.training.mf.models import check_request, train_models
    from fastroute.training.pairs import pairs_of

    settings = _settings(options)
    check_output(options.output)
    data = read_data(options)
    pairs = pairs_of(data, seed=options.seed)
    two = len(data.models) == 2
    if two:
        given = [f"--{name}" for name in _OF_FACTORS if getattr(options, name) is not None]
        given += ["--resume"] if options.resume else []
        if given:
            raise InvalidInputError(
                f"{', '.join(given)}: the data is of two models, whose difference is fitted "
                "exactly, in one go; leave it out"
            )
    check_request(
        pairs, held_out=options.held_out, strong_model=options.strong_model,
        weak_model=options.weak_model,
    )  # fmt: skip
    output = Path(options.output)
    embedder = choose_embedder(options.embedder, output)
    X = embed(embedder, pairs.prompts)

    def train(ties: Any, journal: Path | None) -> TrainedModels:
        from fastroute.evaluation.progress import ProgressBar

        with ProgressBar(
            settings.epochs, "train", unit="epoch", shown=sys.stderr.isatty() and not two
        ) as bar:

            def after_epoch(_: State) -> None:
                bar()

            return train_models(
                pairs, X, embedder, settings=settings, centre=options.centre_by is not None,
                ties=ties, held_out=options.held_out, strong_model=options.strong_model,
                weak_model=options.weak_model, journal=journal,
                resume=options.resume and journal is not None, after_epoch=after_epoch,
            )  # fmt: skip

    try:
        trained = train(options.ties, None if two else output)
    except KeyboardInterrupt:
        if not two:
            print("interrupted; the same command with --resume goes on", file=sys.stderr)
        raise
    columns = {f"ties: {options.ties}": trained.figures, "strengths alone": trained.levels_alone}
    if options.compare_ties:
        other = "drop" if options.ties == "use" else "use"
        columns[f"ties: {other}"] = train(other, None).figures
    table = _table(columns)
    if trained.length_apgr is not None:
        table += f"\n\nAPGR of the prompt's length: {trained.length_apgr:.4f}, of chance: 0.5"
    router = trained.router
    facts = {
        "data": data_facts(data),
        "settings": _facts(options, settings, two, trained.held_out),
        "epochs": None if trained.state is None else trained.state.epoch,
        "best_epoch": None if trained.state is None else trained.state.best_epoch,
        "slope": trained.slope,
        "level": trained.level,
        "length_apgr": trained.length_apgr,
        "figures": {name: value.as_json() for name, value in columns.items()},
    }
    save_mf(output, router, training=facts, card=_card(trained, facts, table))
    remove_state(output)
    print(f"\n{table}")
    print(f"\nwrote {output}: {len(router.models)} models, {router.strong_model} or "
          f"{router.weak_model} by default")  # fmt: skip
    say_next("mf", options.output, router)
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    from fastroute.training.mf.factorization import Settings

    chosen: dict[str, Any] = {"seed": options.seed}
    for name in _OF_FACTORS:
        value = getattr(options, name)
        if value is not None:
            if not 0 < value < 1e9:
                raise InvalidInputError(f"--{name} must be above 0 and below 1e9, got {value}")
            chosen[name] = value
    if options.seed < 0:
        raise InvalidInputError(f"--seed must be 0 or more, got {options.seed}")
    return Settings(**chosen)


def _facts(
    options: argparse.Namespace, settings: Settings, two: bool, held_out: float
) -> dict[str, Any]:
    from dataclasses import asdict

    chosen = {
        "kind": "linear head" if two else "factors",
        "centre_by": options.centre_by,
        "ties": options.ties,
        "held_out": held_out,
        "turns": options.turns,
        "conflicts": options.conflicts,
        "seed": options.seed,
    }
    return chosen if two else chosen | asdict(settings)


def _table(columns: dict[str, Figures]) -> str:
    rows = [
        ("log-loss", "log_loss", ".4f"),
        ("log-loss without ties", "log_loss_decided", ".4f"),
        ("accuracy", "accuracy", ".4f"),
        ("calibration error", "calibration_error", ".4f"),
        ("APGR, mean over pairs", "apgr", ".4f"),
    ]
    first = next(iter(columns.values()))
    said = f"held out: {first.prompts:,} prompts, {first.pairs:,} comparisons of two models; APGR "
    said += f"of {first.apgr_pairs} pairs"
    head = f"| held out | {' | '.join(columns)} |"
    lines = [said, "", head, "|---|" + "---:|" * len(columns)]
    for title, name, form in rows:
        cells = [
            "" if (value := getattr(f, name)) is None else format(value, form)
            for f in columns.values()
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _card(trained: TrainedModels, facts: dict[str, Any], table: str) -> str:
    router, data = trained.router, facts["data"]
    assert router.embedder is not None
    files = ", ".join(f["file"] for f in data["files"])
    return f"""# An mf router of {len(router.models)} models

Trained by `fastroute train mf` on {data["battles"]:,} battles and {data["graded"]:,} graded
results, {data["prompts"]:,} prompts in all, from {files}. Embedder: `{router.embedder.name}`.
Default pair: {router.strong_model} (strong), {router.weak_model} (weak).

{table}

The held-out prompts that these figures are on were used for nothing else. "Strengths alone" is how
good each model is whatever the prompt. What was removed from the data and all settings are in
`artifact.json` under `training`.
"""
