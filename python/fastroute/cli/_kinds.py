"""Commands of several kinds, such as ``fastroute augment KIND``."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping


def configure_kinds(
    parser: argparse.ArgumentParser, package: str, kinds: Mapping[str, str]
) -> None:
    """Add one subcommand a kind of ``kinds``, name to summary.

    Each is the module of its name in ``package`` (`-` is written `_`), with ``configure(parser)``
    and ``run(options)``, as the commands are. All are configured, but only one of them does any
    work: what is heavy is imported in its ``run``.
    """
    choices = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    for name, summary in kinds.items():
        kind = choices.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
        module.configure(kind)
        kind.set_defaults(run_kind=module.run)


def run_kind(options: argparse.Namespace) -> int:
    """Run the chosen kind and return its exit status."""
    return int(options.run_kind(options))
