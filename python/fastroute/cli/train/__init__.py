"""``fastroute train KIND``: make a router, or a part of one, from your own data."""

from __future__ import annotations

import argparse
import importlib

# Each kind is the module of its name here (`-` is written `_`), with ``configure(parser)`` and
# ``run(options)``, as the commands are. All are configured, but only one of them does any work:
# what is heavy is imported in ``run``.
_KINDS: dict[str, str] = {
    "mf": "Train a router between any number of models on battles and graded results.",
    "sw_ranking": "Fit the router that rates models on the battles nearest to a prompt.",
    "add-model": "Add a model to a trained mf router from a few hundred prompts.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand a kind."""
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    for name, summary in _KINDS.items():
        kind = kinds.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        module.configure(kind)
        kind.set_defaults(run_kind=module.run)


def run(options: argparse.Namespace) -> int:
    """Run the chosen kind and return its exit status."""
    return int(options.run_kind(options))
