"""The command ``fastroute``: it parses, calls the Python API, and prints.

Exit status: 0 done, 1 a provider or the machine failed, 2 bad arguments or input (one line on
standard error), 3 a router was trained, tuned or calibrated that does not beat random routing, the
length of the prompt or another baseline, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TextIO

from fastroute._extras import needed_for
from fastroute.cli.streams import checked_streams, say, silence_output
from fastroute.errors import (
    ConfigError,
    DispatchError,
    FastRouteError,
    JournalError,
    OutputError,
    ThresholdWarning,
    WorkerError,
)

# Each command is the module of its name here, with ``configure(parser)`` and ``run(options)``. It
# is imported only when it is called, because `fastroute route` should start fast.
_COMMANDS = {
    "route": "Route prompts and print the decisions; nothing is sent.",
    "score": "Score files of prompts, of any size, into files of win rates.",
    "evaluate": "Measure routers on benchmarks or on your own traffic.",
    "calibrate": "Find the threshold for a share of strong calls or a quality.",
    "tune": "Make a router from an export of your graded traffic, and say whether to use it.",
    "learn": "Make a router from a journal, and propose it only if its guarantee holds.",
    "replay": "Estimate policies that did not run from a journal, with intervals.",
    "journal": "Count, export or delete what a gateway has kept of its requests.",
    "canary": "Show, freeze, revert or start a canary of a new router.",
    "label": "Grade pairs of answers without seeing whose they are; saved at once.",
    "train": "Train a router, or a part of one, from your own data.",
    "augment": "Label prompts: by a language model that judges, or by an answer key.",
    "export": "Export a checkpoint to what a router loads.",
    "serve": "Serve a gateway that chooses the model and changes nothing else.",
    "simulate": "Simulate the cost and the gain of redundant and relaunched requests.",
    "info": "Print versions, SIMD level and the default router.",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with checked_streams(), _plain_warnings():
        try:
            return _run(words)
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # the reader of our output has closed it
            silence_output()
            return 1
        except FastRouteError as error:
            if isinstance(error, OutputError):
                silence_output()
            _complain(error)
            failed = (DispatchError, JournalError, OutputError, WorkerError)
            return 1 if isinstance(error, failed) else 2


def _run(words: Sequence[str]) -> int:
    try:
        options = _make_parser(words).parse_args(words)
    except SystemExit:  # after --help, too, what was printed must have arrived
        sys.stdout.flush()
        raise
    with needed_for(f"fastroute {words[0]}"):
        status = int(options.run(options))
    sys.stdout.flush()
    return status


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Inside, fastroute's own warnings are a line without the code that they come from."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, ThresholdWarning):
                say(f"fastroute: {message}")
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _complain(error: Exception) -> None:
    # A configuration has a line for each of its faults; other errors are one, whatever they quote.
    lines = str(error).splitlines() if isinstance(error, ConfigError) else [str(error)]
    for line in lines:
        say(f"fastroute: {' '.join(line.split())}")


def _make_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    from fastroute import __version__

    parser = _Parser(
        prog="fastroute",
        description="Decide which language model should answer a prompt: the strong, expensive "
        "one or the weak, cheap one.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastroute {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if words and words[0] == name:
            module = importlib.import_module(f"fastroute.cli.{name}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser
