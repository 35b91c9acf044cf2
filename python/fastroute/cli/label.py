"""``fastroute label``: compare two answers without seeing whose they are, with keys 1, 2 and 3."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from fastroute.cli.options import text

if TYPE_CHECKING:
    from fastroute.learning import Comparison

_HELP = "1 the first is better, 2 the second, 3 no difference; s skip, q quit"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "file", type=text, metavar="FILE",
        help="prompts with two answers: columns such as answer_mini, or an object 'answers'; "
        "fastroute tune --suggest writes such a file from an export",
    )  # fmt: skip
    for side in ("weak", "strong"):
        parser.add_argument(
            f"--{side}", type=text, required=True, metavar="NAME",
            help=f"the {side} model, as in fastroute tune",
        )  # fmt: skip
    parser.add_argument(
        "--output", type=text, required=True, metavar="FILE.jsonl",
        help="where verdicts are added, each at once; prompts that it has are not shown again",
    )  # fmt: skip
    parser.add_argument("--prompt-column", type=text, metavar="NAME")
    parser.add_argument("--skip-bad", action="store_true", help="leave malformed rows out")


def run(options: argparse.Namespace) -> int:
    """Show one comparison after another until all are graded, or q."""
    from fastroute.data.jsonl import check_not_read
    from fastroute.learning import GradeFile, read_comparisons
    from fastroute.learning.grading import KEYS

    check_not_read(options.output, file=options.file)
    comparisons = read_comparisons(
        options.file, weak=options.weak, strong=options.strong,
        prompt_column=options.prompt_column, skip_bad=options.skip_bad,
    )  # fmt: skip
    grades = GradeFile(options.output)
    left = grades.left(comparisons)
    total = len(comparisons)
    for number, comparison in enumerate(left):
        _show(comparison, total - len(left) + number + 1, total)
        key = ""
        while key not in (*KEYS, "s", "q"):
            print(_HELP, flush=True)
            key = _read_key()
        if key == "q":
            break
        if key in KEYS:
            grades.add(comparison, KEYS[key])
    print(f"{options.output}: {len(grades):,} verdicts, {len(grades.left(comparisons)):,} left")
    return 0


def _show(comparison: Comparison, number: int, total: int) -> None:
    print(f"\n=== {number:,} of {total:,}\n\n{comparison.prompt}\n")
    for i, answer in enumerate((comparison.answer_a, comparison.answer_b), 1):
        print(f"--- answer {i}\n{answer}\n")


def _read_key() -> str:
    """A key that is pressed on a terminal, or the first letter of a line; "q" at the end."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.strip()[:1].lower() if line else "q"
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)  # its default loses keys pressed early
        pressed = sys.stdin.read(1)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    return pressed.lower() if pressed else "q"
