"""``fastroute train add-model``: one model more in a trained router, the others unchanged."""

from __future__ import annotations

import argparse

from fastroute.cli.options import add_option, say_warnings
from fastroute.cli.train.options import (
    add_data,
    add_output,
    read_data,
    read_files,
    say_next,
)
from fastroute.errors import InvalidInputError


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--router FOLDER", "a trained mf or models router", required=True)
    add_option(parser, "--model NAME", "the new model, as in the data", required=True)
    add_data(parser)
    add_output(parser)
    add_option(parser, "--retrain-data FILE ...", action="extend", default=[],
        help="what the router was trained on: trains all models again, to report how much better "
        "that would be")  # fmt: skip
    add_option(parser, "--held-out P", type=float,
        help="share of the prompts that the figures are on; the router is fitted to all "
        "(default: 0.2; a models router has 5 folds)")  # fmt: skip
    add_option(parser, "--seed N", "of what is held out", int, default=0)


def run(options: argparse.Namespace) -> int:
    """Fit the new model, save, and print the figures."""
    from fastroute.artifacts import load_artifact
    from fastroute.training import add_model_to_router
    from fastroute.training.mf.add import check_folders

    check_folders(options.router, options.output, overwrite=options.overwrite)
    if load_artifact(options.router, only=()).kind == "models":
        return _run_models(options)
    again = options.retrain_data
    added = add_model_to_router(
        options.router, options.model, read_data(options), options.output,
        retrain_data=read_files(options, [*again, *options.data]) if again else None,
        held_out=0.2 if options.held_out is None else options.held_out,
        seed=options.seed, overwrite=options.overwrite, progress=True,
    )  # fmt: skip
    router = added.router
    print(f"\nheld-out log-loss of {options.model}, {added.held_out_prompts:,} prompts (learnt "
          f"from {added.prompts:,})")  # fmt: skip
    for name, value in added.log_losses.items():
        print(f"  {value:.4f}  {name}")
    warnings = []
    if added.apgr is None:
        warnings.append(
            f"the APGR of {options.model} was not measured: no pair of it with a known model has "
            "30 held-out prompts; give more data, or a larger --held-out"
        )
    else:
        print(f"mean APGR between {options.model} and a known model {added.apgr:.4f}, of the "
              f"length of the prompt {added.length_apgr:.4f}, of random routing 0.5")  # fmt: skip
    pair = f"{router.strong_model} and {router.weak_model}"
    print(f"\nwrote {options.output}: {len(router.models)} models, default pair {pair}; "
          "the others' scores are unchanged")  # fmt: skip
    say_next("mf", options.output, router)
    return say_warnings(warnings, added.losses())


def _run_models(options: argparse.Namespace) -> int:
    from fastroute.training import add_model_to_models

    if options.retrain_data or options.held_out is not None:
        raise InvalidInputError(
            "--retrain-data and --held-out are for mf routers; the figures of a models router are "
            "of 5 folds"
        )
    added = add_model_to_models(
        options.router, options.model, read_data(options), options.output, seed=options.seed,
        overwrite=options.overwrite, progress=True,
    )  # fmt: skip
    print(f"\nheld-out log-loss of {options.model}, {added.prompts:,} prompts in 5 folds")
    print(f"  {added.log_loss:.4f}  the estimates")
    print(f"  {added.level_log_loss:.4f}  its level alone")
    print(f"\nwrote {options.output}: {len(added.router.models)} models; the others are unchanged")
    return say_warnings([], added.losses())
