"""``python python/recipes/make_default.py``: makes the router that ships with fastroute.

Exit status: 0 done, 2 bad arguments or input (one line on standard error), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute.errors import FastRouteError, InvalidInputError
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER

if TYPE_CHECKING:
    from fastroute.data import GradedResult


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python python/recipes/make_default.py",
        description="Distil the static embedder from a sentence encoder, train the mf head on "
        "preference data, and write both as artifacts: OUTPUT/embedder and OUTPUT/mf.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--encoder", required=True, metavar="FOLDER", help="ONNX sentence encoder, tokenizer.json"
    )
    parser.add_argument(
        "--preferences", metavar="FOLDER", help="the files of graded prompts to train on"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where artifacts go")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FILE",
        help="leave a file of the preferences out, by its name up to the first dot, so that the "
        "router can be evaluated on it; may be given several times",
    )
    parser.add_argument(
        "--gold",
        metavar="DATA",
        help="train on the hashed 10.7 %% of MMLU instead, from a checkout of RouteLLM; the "
        "figures are then of the other 89.3 %%",
    )
    parser.add_argument(
        "--data", metavar="DATA", help="print figures on the benchmarks of a RouteLLM checkout"
    )
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except FastRouteError as error:
        parser.exit(2, f"{parser.prog}: {' '.join(str(error).split())}\n")
    except ImportError as error:
        parser.exit(2, f'{parser.prog}: {error}; pip install "fastroute[train]"\n')
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    from default_router.gold import read_gold, train_gold
    from default_router.router import make_embedder, save_default, train_default

    output = Path(options.output)
    if bool(options.gold) == bool(options.preferences):
        raise InvalidInputError(
            "give --preferences, to train on graded prompts, or --gold, to train on MMLU's gold "
            f"labels; got {'both' if options.gold else 'neither'}"
        )
    if options.without and options.gold:
        raise InvalidInputError("--without leaves out a file of --preferences; --gold reads none")
    if options.gold and output.resolve() == DEFAULT_FOLDER.parent.resolve():
        raise InvalidInputError(
            f"--output is {str(output)!r}, where the bundled router is, and --gold trains on MMLU: "
            "give another folder"
        )
    if options.without and output.resolve() == DEFAULT_FOLDER.parent.resolve():
        raise InvalidInputError(
            f"--output is {str(output)!r}, where the bundled router is, and --without makes "
            "another: give another folder"
        )
    # What is cheap to read and can be wrong comes before what takes time.
    rows = _read(options) if options.preferences else []
    gold = read_gold(options.gold) if options.gold else None
    began = time.perf_counter()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"[{time.perf_counter() - began:5.1f} s] {text}", file=sys.stderr, flush=True)

    say(f"distilling {options.encoder}")
    embedder = make_embedder(options.encoder, output / "embedder")
    say(f"training on {len(rows if gold is None else gold)} prompts")
    router = train_default(rows, embedder) if gold is None else train_gold(gold, embedder)
    save_default(output, router)
    say("done")
    print(f"wrote {output / 'embedder'} and {output / 'mf'}")
    if options.data:
        from default_router.figures import print_figures

        print_figures(router, options.data, "gold" if gold else "zero-shot")


def _read(options: argparse.Namespace) -> list[GradedResult]:
    """The preferences, less the files that are to be left out."""
    from default_router.preferences import FILES, read_preferences

    names = {file.name.split(".")[0]: file for file in FILES}
    for name in options.without:
        if name not in names:
            raise InvalidInputError(
                f"--without {name!r} is not one of the files: {', '.join(names)}"
            )
    kept = [file for name, file in names.items() if name not in options.without]
    if not kept:
        raise InvalidInputError("--without leaves no file to train on; leave fewer out")
    return read_preferences(options.preferences, kept)


if __name__ == "__main__":
    raise SystemExit(main())
