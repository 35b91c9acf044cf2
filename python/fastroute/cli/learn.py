"""``fastroute learn``: a router from a journal, proposed only if its guarantee holds."""

from __future__ import annotations

import argparse
import json
import math
import os
import threading

from fastroute.cli.options import add_flag, add_option
from fastroute.cli.streams import say
from fastroute.cli.tune import DO_NOT_USE, add_goal, goal_of
from fastroute.errors import InvalidInputError

_DAY_S = 86400.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit status: 0 a router is proposed (where the weak model is enough, one that asks only "
        "that), 3 none is (no router is written), 2 the journal can't be used. A canary tries a "
        "proposed router: [canary] router = FOLDER. A gateway "
        "with a section [learn] runs this by itself."
    )
    add_option(parser, "--journal URL", required=True,
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE, with prompts and grades",
    )  # fmt: skip
    add_option(parser, "--output FOLDER", "where the router goes", required=True)
    add_flag(parser, "--overwrite", "replace what is in the folder")
    for side in ("strong", "weak"):
        add_option(parser, f"--{side} MODEL", "default: as the gateway had")
    add_goal(parser)
    add_option(parser, "--days N", "learn from the last N days only (default: all)", float)
    add_option(parser, "--seed N", "of draw and splits", int, default=0)
    add_flag(parser, "--json", "print the result as JSON")
    # As a gateway's worker: at low priority, until the other end of this pipe is closed.
    parser.add_argument("--gateway-pipe", type=int, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Learn, save, and print the verdict."""
    import time

    from fastroute.journal.database import open_journal
    from fastroute.learning import save_result
    from fastroute.learning.from_journal.run import learn_router
    from fastroute.learning.many_models.words import account_of
    from fastroute.learning.tune.words import lines
    from fastroute.training.outcome import check_output
    from fastroute.types import ModelPair

    if (options.strong is None) != (options.weak is None):
        raise InvalidInputError("give --strong and --weak, or neither")
    if options.gateway_pipe is not None:
        os.nice(19)
        threading.Thread(target=_end_with, args=(options.gateway_pipe,), daemon=True).start()
    check_output(options.output, overwrite=options.overwrite)
    engine = open_journal(options.journal, create=False)
    try:
        found = learn_router(
            engine,
            goal_of(options),
            pair=None if options.strong is None else ModelPair(options.strong, options.weak),
            since=0.0 if options.days is None else time.time() - options.days * _DAY_S,
            seed=options.seed,
            progress=True,
        )
    finally:
        engine.dispose()
    proposed = found.proposes
    saved = save_result(found.tuned, options.output, keep=proposed)
    if options.json:
        memory = None if math.isinf(found.memory_s) else found.memory_s / _DAY_S
        learned = {"memory_days": memory, "rows": found.rows, "kept": found.kept}
        print(json.dumps(saved.to_dict() | {"journal": learned}, indent=2, allow_nan=False))
    else:
        for line in found.understood:
            say(line)
        print("\n".join(lines(account_of(saved))))
        said = f"no router is proposed; {options.output} has result.json"
        if proposed:
            what = "" if saved.verdict == "use" else " (it asks the weak model for everything)"
            said = f"proposed{what}: {options.output}; try it with [canary] router = "
            said += f'"{options.output}"'
        print(f"\n{said}")
    return 0 if proposed else DO_NOT_USE


def _end_with(pipe: int) -> None:
    """End this process when the one at the other end of ``pipe`` has ended, however it did."""
    os.read(pipe, 1)
    os._exit(1)
