"""Count the instructions of the three hot kernels by valgrind: a figure that noise can't touch.

``python bench/instructions.py`` builds the kernels without Python, runs each under callgrind with
two numbers of calls, and divides the difference. ``--check`` compares with
``instructions.json`` and fails where a kernel needs 5 % more; ``--update`` writes that file.
Valgrind knows no AVX-512, so the level counted is avx2.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = Path(__file__).with_suffix(".json")
#: Kernel, what a call does, and the two numbers of calls.
KERNELS = {
    "mf": ("win rate of a pair, 384 dimensions", 2000, 4000),
    "exact": ("sw_ranking, exact, 4,096 battles x 384", 4, 8),
    "far_field": ("sw_ranking, far field, 384 dimensions, 128 neighbours", 40, 80),
}
_ALLOWED = 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="fail if a kernel needs 5 % more")
    parser.add_argument("--update", action="store_true", help="write what was counted")
    options = parser.parse_args()
    for tool in ("cmake", "valgrind"):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        program = _build(Path(folder))
        counted = {kernel: _per_call(program, kernel, Path(folder)) for kernel in KERNELS}
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    print("| kernel | instructions a call | before |\n|---|---|---|")
    for kernel, count in counted.items():
        print(f"| {KERNELS[kernel][0]} | {count:,} | {expected.get(kernel, 0):,} |")
    if options.update:
        EXPECTED.write_text(json.dumps(counted, indent=2) + "\n")
    worse = [k for k, n in counted.items() if n > _ALLOWED * expected.get(k, float("inf"))]
    if options.check and worse:
        print(f"more instructions than before: {', '.join(worse)}", file=sys.stderr)
        return 1
    return 0


def _build(folder: Path) -> Path:
    build = folder / "build"
    options = ["-DFASTROUTE_PYTHON=OFF", "-DFASTROUTE_KERNEL_BENCH=ON"]
    for command in (["cmake", "-S", ROOT, "-B", build, *options], ["cmake", "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    return build / "hot_kernels"


def _per_call(program: Path, kernel: str, folder: Path) -> int:
    _, few, many = KERNELS[kernel]
    return round((_count(program, kernel, many, folder) - _count(program, kernel, few, folder))
                 / (many - few))  # fmt: skip


def _count(program: Path, kernel: str, calls: int, folder: Path) -> int:
    output = folder / "callgrind.out"
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", program, kernel,
         str(calls)],
        capture_output=True,
        text=True,
    )  # fmt: skip
    found = re.search(r"^(?:summary|totals): (\d+)", output.read_text(), re.MULTILINE)
    if done.returncode or found is None:
        raise SystemExit(done.stdout + done.stderr)
    return int(found.group(1))


if __name__ == "__main__":
    sys.exit(main())
