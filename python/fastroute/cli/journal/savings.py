"""``fastroute journal savings``: what was paid, and what one model alone would have cost."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from typing import Any

from fastroute.cli.journal.options import add_span, add_url, reading, span
from fastroute.cli.options import add_flag, add_option
from fastroute.errors import InvalidInputError

_ESTIMATES = ("always_strong_usd", "always_weak_usd", "saved_usd")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Estimates have 95 % intervals from shadows ([shadow] in the gateway's configuration); "
        "without shadows the other model is taken to use as many tokens, and there is no interval."
    )
    add_url(parser)
    add_span(parser)
    add_option(parser, "--by NAMES", type=str, default="month",
        help="a row for each month, caller and model, or some of these (default: month)",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    add_flag(form, "--json", "print JSON")
    add_flag(form, "--csv", "print CSV")


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    from fastroute.journal.savings import GROUPS, savings

    by = tuple(options.by.split(","))
    if not set(by) <= set(GROUPS) or len(set(by)) < len(by):
        raise InvalidInputError(f"--by {options.by!r}: write some of {','.join(GROUPS)}")
    since, until = span(options)
    with reading(options.url) as connection:
        rows = savings(connection, by, since=since, until=until)
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.csv:
        flat = [_flat(row) for row in rows]
        writer = csv.DictWriter(sys.stdout, list(flat[0]) if flat else list(by))
        writer.writeheader()
        writer.writerows(flat)
    else:
        for row in rows:
            print("\n".join(_lines(row, by)))
    return 0


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in _ESTIMATES:
            found[name] = value["usd"]
            found |= {f"{name}_{bound}": value[bound] for bound in ("low", "high")}
        else:
            found[name] = value
    return found


def _lines(row: dict[str, Any], by: tuple[str, ...]) -> list[str]:
    names = ", ".join(str(row[name]) or "-" for name in by) or "all"
    unpriced = f"; {row['unpriced']:,} without prices" if row["unpriced"] else ""
    spent = (("routed", "routed"), ("shadows", "shadow"), ("judges", "judge"))
    said = ", ".join(f"{word} ${row[f'{name}_usd']:,.4f}" for word, name in spent)
    strong, weak, saved = (_estimate(row[name]) for name in _ESTIMATES)
    return [
        f"{names}: {row['requests']:,} requests, ${row['paid_usd']:,.4f} paid{unpriced}",
        f"  {said}",
        f"  always strong {strong}, always weak {weak}",
        f"  saved {saved}",
    ]


def _estimate(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return f"{_dollars(found['usd'])} (with as many tokens)"
    low, high = (_dollars(found[bound]) for bound in ("low", "high"))
    return f"{_dollars(found['usd'])} ({low} to {high})"


def _dollars(usd: float) -> str:
    return f"{'-' if usd < 0 else ''}${abs(usd):,.4f}"
