"""``fastroute journal stats``: what a journal holds, in numbers."""

from __future__ import annotations

import argparse
import json

from fastroute.cli.journal.options import add_url, date, reading
from fastroute.cli.options import add_flag


def configure(parser: argparse.ArgumentParser) -> None:
    add_url(parser)
    add_flag(parser, "--json", "print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the numbers."""
    from fastroute.journal.stats import journal_stats

    with reading(options.url) as connection:
        found = journal_stats(connection)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = found["rows"]
    print(
        f"{rows['requests']:,} requests, {date(found['first_time'])} to {date(found['last_time'])};"
        f" {found['prompts']:,} prompts and {found['answers']:,} answers are kept"
    )
    print(
        f"{rows['feedback']:,} grades by feedback, of {found['graded_requests']:,} requests; "
        f"{rows['shadows']:,} shadows for ${found['shadow_usd']:,.4f}; "
        f"{rows['judgements']:,} judgements for ${found['judge_usd']:,.4f}"
    )
    for model in found["models"]:
        cost = "-" if model["cost_usd"] is None else f"${model['cost_usd']:,.4f}"
        name = model["model"] or "(no answer)"
        share = model["requests"] / rows["requests"]
        print(
            f"  {name}: {model['requests']:,} requests ({share:.1%}), {cost}, "
            f"{model['mean_latency_ms']:,.0f} ms on average, {model['errors']:,} errors, "
            f"{model['explored']:,} explored"
        )
    return 0
