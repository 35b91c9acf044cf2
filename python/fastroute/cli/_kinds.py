"""Commands of several kinds, such as ``fastroute augment KIND``."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping

Configure = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]


def commands(package: str, kinds: Mapping[str, str]) -> tuple[Configure, Run]:
    """``configure`` and ``run`` of a command with one subcommand a kind, name to summary.

    Each is the module of its name in ``package`` (`-` is written `_`), with ``configure(parser)``
    and ``run(options)``, as the commands are. All are configured, but only one of them does any
    work: what is heavy is imported in its ``run``.
    """

    def configure(parser: argparse.ArgumentParser) -> None:
        choices = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
        for name, summary in kinds.items():
            kind = choices.add_parser(name, help=summary, description=summary, allow_abbrev=False)
            module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
            module.configure(kind)
            kind.set_defaults(run_kind=module.run)

    def run(options: argparse.Namespace) -> int:
        return int(options.run_kind(options))

    return configure, run
