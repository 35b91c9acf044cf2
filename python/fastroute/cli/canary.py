"""``fastroute canary``: what a canary has found, and commands to it."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from fastroute.cli.journal.options import add_url, opened
from fastroute.cli.options import add_flag
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.rollout.canary import Canary

#: The exit status of ``status`` where the canary was rolled back.
REVERTED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Running gateways follow within two seconds. Exit status of status: 3 where the canary "
        "was rolled back."
    )
    parser.add_argument(
        "action", choices=("status", "freeze", "revert", "start"),
        help="show it; keep its share (an alarm still rolls back); give every conversation back "
        "to the old router; begin again with the same router and rules",
    )  # fmt: skip
    add_url(parser, "--journal")
    add_flag(parser, "--json", "print the state as JSON")


def run(options: argparse.Namespace) -> int:
    """Change the state, and print it."""
    from fastroute.rollout.canary import Canary
    from fastroute.rollout.states import change

    def apply(canary: Canary | None) -> Canary | None:
        now = time.time()
        if canary is None or options.action == "status":
            return None
        if options.action == "start":
            return Canary.start(canary.router, canary.rules, now, canary.folder)
        if options.action == "freeze":
            canary.freeze(now)
        else:
            canary.revert(now)
        return canary

    with opened(options.journal) as engine:
        canary = change(engine, Canary, apply)
    if canary is None:
        raise InvalidInputError(
            "there is no canary in this journal; a gateway with a section [canary] begins one, or "
            "give another --journal URL"
        )
    found = canary.summary()
    print(json.dumps(found, indent=2, allow_nan=False) if options.json else "\n".join(lines(found)))
    return REVERTED if options.action == "status" and found["status"] == "reverted" else 0


def lines(found: dict[str, Any]) -> list[str]:
    """The state as lines for a terminal."""
    counts = found["conversations"]
    said = [
        f"{found['status']}, {found['share']:.0%} of the conversations",
        f"settled conversations: {counts['canary']:,} canary, {counts['control']:,} control",
        "",
        f"{'':10} {'control':>12} {'canary':>12}   evidence: worse, good enough, better",
    ]
    for name, one in found["outcomes"].items():
        means = " ".join(
            f"{'-' if one[arm] is None else format(one[arm], '.6g'):>12}"
            for arm in ("control", "canary")
        )
        parts = ", ".join(f"{one[test]:.0%}" for test in ("worse", "fit", "better"))
        said.append(f"{name:10} {means}   {parts}")
    said += ["", "(100 % decides; latency in seconds, dollars a request)"]
    for event in found["events"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event["time"]))
        said.append(f"{when} UTC  {event['what']}  {event['reason']}".rstrip())
    return said
