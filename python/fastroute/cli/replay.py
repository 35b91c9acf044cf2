"""``fastroute replay``: what policies that did not run would have given, from a journal."""

from __future__ import annotations

import argparse
import json

from fastroute.cli.options import add_flag, add_option
from fastroute.errors import InvalidInputError

#: The exit status where the journal has no support for an estimate.
REFUSED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Policies: logged (the one that ran), always:MODEL, random:SHARE (of strong calls), "
        "threshold:X (on the journal's win rates), the folder of a router, or ROUTER=FOLDER. "
        "Exit status: 3 where the journal has no support for one of them, with the reason."
    )
    add_option(parser, "--journal URL", required=True,
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE")  # fmt: skip
    add_option(parser, "--policy POLICY", action="append", required=True,
        help="to estimate; the others are compared with the first")  # fmt: skip
    add_option(parser, "--strong MODEL", "default: as the gateway had")
    add_option(parser, "--weak MODEL", "default: as the gateway had")
    add_option(parser, "--since SECONDS", "since 1970, of the requests", float, default=0.0)
    add_option(parser, "--method", "(default: doubly_robust)", default="doubly_robust",
        choices=("doubly_robust", "self_normalised", "inverse_propensity"))  # fmt: skip
    add_option(parser, "--confidence C", "of intervals", float, default=0.95)
    add_flag(parser, "--no-affinity",
        help="decide each request by itself, as a gateway without session affinity")  # fmt: skip
    add_flag(parser, "--json", "print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Estimate and print."""
    from fastroute.journal.database import open_journal
    from fastroute.learning.replay.journal import read_log, read_pair, read_prices
    from fastroute.learning.replay.policies import MARGIN
    from fastroute.learning.replay.run import replay, table, to_dict
    from fastroute.types import ModelPair

    if not 0.5 <= options.confidence < 1.0:
        raise InvalidInputError(f"--confidence must be in 0.5..1, got {options.confidence}")
    if (options.strong is None) != (options.weak is None):
        raise InvalidInputError("give --strong and --weak, or neither")
    engine = open_journal(options.journal, create=False)
    try:
        log = read_log(engine, since=options.since)
        prices = read_prices(engine, log.models)
        pair = read_pair(engine)
    finally:
        engine.dispose()
    if options.strong is not None:
        pair = ModelPair(options.strong, options.weak)
    found = replay(
        log, options.policy, prices, pair=pair, method=options.method,
        confidence=options.confidence, margin=None if options.no_affinity else MARGIN,
    )  # fmt: skip
    if options.json:
        print(json.dumps(to_dict(found, log, options.method), indent=2, allow_nan=False))
    else:
        print("\n".join(table(found, log, options.method)))
    return REFUSED if any(one.refusals for one in found) else 0
