"""Measure what the README claims, and print the table that stands there.

``python bench/figures.py --data FOLDER`` takes under five minutes on two quiet cores. Every
figure is a ratio or an error of one run. Rivals are measured in turns with fastroute, on one
thread each: the command starts itself again with one thread for BLAS and OpenMP, and without
``OPENBLAS_CORETYPE`` and ``OPENBLAS_L2_SIZE``, which would slow NumPy and with it the rivals.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from environment import machine, restart_in_fair_environment

BENCH = Path(__file__).resolve().parent


def main() -> int:
    options = _parse()
    restart_in_fair_environment()
    sys.path.append(str(BENCH.parent / "tests"))  # the float64 reference

    # Imported here: NumPy reads the environment when it is loaded, and tokenizers this.
    os.environ.setdefault("RAYON_NUM_THREADS", "2")
    from measures import bert, mf, startup, sw_ranking
    from measures.figure import HEADER, Figure, Settings, missed, row

    settings = Settings(data=options.data, quick=options.quick)
    print(f"Measured on: {machine()}.", end="\n\n")
    print(HEADER, flush=True)
    begin = time.monotonic()
    figures: list[Figure] = []
    for measures in (startup, mf, sw_ranking, bert):
        for figure in measures.measure(settings):
            print(row(figure), flush=True)
            figures.append(figure)
    _report(f"{time.monotonic() - begin:.0f} s; missed: {', '.join(missed(figures)) or 'none'}")
    if options.quick:
        _report("--quick: these sizes are not the ones that the targets are about")
    return 1 if options.check and missed(figures) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FASTROUTE_EVALS"),
        metavar="FOLDER",
        help="a checkout of RouteLLM (or its routellm/evals) to take MMLU prompts from; by "
        "default the variable FASTROUTE_EVALS, without either synthetic prompts",
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a first look")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    options = parser.parse_args()
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data: {options.data} is not a folder")
    return options


def _report(text: str) -> None:
    """For the reader at the terminal; the table alone goes to standard output."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
