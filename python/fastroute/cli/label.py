"""``fastroute label``: compare two answers blind, in the terminal or on a page; or by a judge."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from fastroute.cli.augment.asking import add_judge, add_requests
from fastroute.cli.augment.judge import judge_rows, print_judged
from fastroute.cli.options import add_flag, add_option, text
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.labelling.comparison import Comparison
    from fastroute.learning import GradeFile

_HELP = "1 the first is better, 2 the second, 3 no difference; s skip, u undo, q quit"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=text, metavar="FILE",
        help="prompts with two answers: columns such as answer_mini, or an object 'answers'",
    )  # fmt: skip
    for side in ("weak", "strong"):
        add_option(parser, f"--{side} NAME", required=True,
            help=f"the {side} model, as in fastroute tune")  # fmt: skip
    add_option(parser, "--output FILE.jsonl", required=True,
        help="where verdicts are added, each at once; prompts that it has are not shown again",
    )  # fmt: skip
    parser.add_argument(
        "--page", type=int, nargs="?", const=0, metavar="PORT",
        help="show a page in the browser instead, on this machine only (default: a free port)",
    )  # fmt: skip
    add_option(parser, "--suggest N", type=int,
        help="only the N prompts whose grades would say the most, as fastroute tune --suggest",
    )  # fmt: skip
    parser.add_argument("--prompt-column", type=text, metavar="NAME")
    add_flag(parser, "--skip-bad", "leave malformed rows out")
    add_judge(parser, "{prompt}, {first} and {second}", tokens=512, required=False)
    add_requests(parser)


def run(options: argparse.Namespace) -> int:
    """Show one comparison after another until all are graded, or q; or have them judged."""
    from fastroute.data.jsonl import check_not_read
    from fastroute.learning import GradeFile, read_comparisons

    if options.page is not None and options.judge_model is not None:
        raise InvalidInputError("--page is for a person, --judge-model for a model; give one")
    check_not_read(options.output, file=options.file, journal=options.journal)
    comparisons = read_comparisons(
        options.file, weak=options.weak, strong=options.strong,
        prompt_column=options.prompt_column, skip_bad=options.skip_bad,
    )  # fmt: skip
    if options.suggest is not None:
        comparisons = _suggested(options, comparisons)
    with GradeFile(options.output, comparisons) as grades:
        status = 0
        if options.judge_model is not None:
            status = _judge(options, grades)
        elif options.page is not None:
            _serve(options.page, grades)
        else:
            _ask(grades)
        graded, total = grades.progress()
    print(f"{options.output}: {graded:,} of {total:,} pairs have a verdict")
    return status


def _suggested(options: argparse.Namespace, comparisons: list[Comparison]) -> list[Comparison]:
    """Those of them that are worth the most, the most informative first."""
    from fastroute.learning import read_export, suggest_prompts
    from fastroute.learning.grading import comparison_id

    export = read_export(
        options.file, weak=options.weak, strong=options.strong,
        prompt_column=options.prompt_column, skip_bad=options.skip_bad, need_grades=False,
    )  # fmt: skip
    by_id = {comparison.id: comparison for comparison in comparisons}
    ids = [comparison_id(export.prompts[i]) for i in suggest_prompts(export, options.suggest)]
    found = [by_id[i] for i in ids if i in by_id]
    if not found:
        raise InvalidInputError(f"{options.file}: no suggested prompt has both answers")
    return found


def _judge(options: argparse.Namespace, grades: GradeFile) -> int:
    """Have a model judge what has no verdict, in both orders; its verdicts are added."""
    from fastroute.training.label.answers import AnsweredPrompt

    left = {comparison.prompt: comparison for comparison in grades.left()}
    rows = [
        AnsweredPrompt(c.prompt, "", c.id, {c.model_a: c.answer_a, c.model_b: c.answer_b})
        for c in left.values()
    ]
    report, judge = judge_rows(options, (options.weak, options.strong), rows, {})
    for judged in report.battles:
        comparison, winner = left[judged.battle.prompt], judged.battle.winner
        if winner != "tie" and comparison.model_a != judged.battle.model_a:
            winner = "model_b" if winner == "model_a" else "model_a"
        grades.grade(comparison.id, winner, judge=judge.name)
    return print_judged(report, judge, {}, options.output)


def _serve(port: int, grades: GradeFile) -> None:
    """Serve the page until Ctrl-C."""
    import asyncio

    from fastroute.labelling.page import serve_page

    def ready(address: str) -> None:
        print(f"{address}\nopen it in a browser on this machine; Ctrl-C ends it", flush=True)

    asyncio.run(serve_page(grades, port, ready))


def _ask(grades: GradeFile) -> None:
    """Show pairs in the terminal until all have a verdict, or q."""
    from fastroute.labelling.comparison import KEYS

    skipped: list[str] = []
    skips = 0  # since the last verdict
    pair = grades.next(skipped)
    while pair is not None:
        graded, total = grades.progress()
        _show(pair, graded + len(skipped) + 1, total)
        key = ""
        while key not in (*KEYS, "s", "u", "q"):
            print(_HELP, flush=True)
            key = _read_key()
        if key == "q":
            break
        undone = None
        if key in KEYS:
            grades.grade(pair.id, KEYS[key])
            skips = 0
        elif key == "s":
            skipped.append(pair.id)
            skips += 1
        elif skips:
            skipped.pop()
            skips -= 1
        else:
            undone = grades.undo()
        pair = undone or grades.next(skipped)


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
