"""What fastroute costs before and around a decision: imports and memory, in new processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from measures.figure import Figure, Settings

PROMPT = "Prove that there are infinitely many primes."

#: What ``import fastroute`` must not pull in: other people's large libraries and HTTP clients.
HEAVY = frozenset(
    (
        "aiohttp",
        "datasets",
        "faiss",
        "httpx",
        "httpx2",
        "huggingface_hub",
        "litellm",
        "matplotlib",
        "onnxruntime",
        "openai",
        "pandas",
        "pyarrow",
        "requests",
        "scipy",
        "sklearn",
        "tokenizers",
        "torch",
        "transformers",
        "urllib3",
    )
)

_IMPORT = """
import json, sys, time
import numpy
begin = time.perf_counter_ns()
{statement}
taken_ms = (time.perf_counter_ns() - begin) / 1e6
print(json.dumps([taken_ms, sorted({{name.split(".")[0] for name in sys.modules}})]))
"""

# The kernel charges a process for the memory of the one that started it, up to the moment when
# it becomes another program; so a process with nothing in it starts the one that is measured.
_PEAK_MEMORY = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
assert status == 0, status
print(usage.ru_maxrss)
"""


def measure(settings: Settings) -> Iterator[Figure]:
    rounds = 5 if settings.quick else 15
    light, controller = "import fastroute", "from fastroute import Controller"
    taken: dict[str, list[float]] = {light: [], controller: []}
    modules: dict[str, set[str]] = {}
    for _ in range(rounds):
        for statement, times in taken.items():
            ms, names = _import(statement)
            times.append(ms)
            modules[statement] = set(names)
    pulled = {statement: sorted(HEAVY & names) for statement, names in modules.items()}
    yield Figure(
        "`import fastroute`, beyond `import numpy`",
        "at most",
        50.0,
        statistics.median(taken[light]),
        "ms",
        f"median of {rounds} new processes; with its names, `{controller}`: "
        f"{statistics.median(taken[controller]):.0f} ms",
    )
    yield Figure(
        "large libraries and HTTP clients that it pulls in",
        "at most",
        0,
        len(pulled[light]),
        "",
        f"`import fastroute`: {', '.join(pulled[light]) or 'none'}; `{controller}`: "
        f"{', '.join(pulled[controller]) or 'none'}; of {len(HEAVY)} looked for, such as torch, "
        "faiss, onnxruntime, tokenizers, httpx2 and matplotlib",
    )
    route = [sys.executable, "-m", "fastroute", "route", PROMPT]
    yield Figure(
        "peak memory of a process that routes one prompt",
        "at most",
        150.0,
        statistics.median(peak_memory_mb(route) for _ in range(3)),
        "MB",
        '`fastroute route "..."`, largest resident set that the system saw (getrusage)',
    )


def _import(statement: str) -> tuple[float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(statement=statement)],
        check=True,
        stdout=subprocess.PIPE,
    )
    ms, names = json.loads(done.stdout)
    return float(ms), names


def peak_memory_mb(command: Sequence[str]) -> float:
    """Largest resident set of the process that runs ``command``, in MB (10^6 bytes)."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", _PEAK_MEMORY, *command],
        check=True,
        stdout=subprocess.PIPE,
    )
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit_bytes / 1e6
