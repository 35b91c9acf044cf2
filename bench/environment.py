"""The terms on which figures are taken: one BLAS thread for everybody, and no throttled BLAS."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: Every rival computes on one thread unless a bench says otherwise.
ONE_THREAD = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
#: Set, these hold OpenBLAS, and with it every rival that uses NumPy, to an older CPU's kernels.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

_PACKAGES = (
    "numpy",
    "tokenizers",
    "faiss-cpu",
    "routellm",
    "scikit-learn",
    "pandas",
    "onnxruntime",
    "torch",
    "transformers",
)


def fair_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """``base`` (by default this process's) with one thread a library and OpenBLAS unhindered."""
    environment = dict(os.environ if base is None else base)
    for name in UNSET:
        environment.pop(name, None)
    return environment | dict.fromkeys(ONE_THREAD, "1")


def is_fair() -> bool:
    """Whether this process was started in such an environment."""
    return fair_environment() == dict(os.environ)


def restart_in_fair_environment() -> None:
    """Start this very command again in a fair environment, unless it is in one.

    The libraries read these variables when they are loaded; setting them later does nothing.
    """
    if not is_fair():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], fair_environment())


def machine() -> str:
    """One line: CPU, cores that this process may use, and versions of what is measured."""
    from fastroute import _native

    versions = [f"Python {platform.python_version()}", f"fastroute {_native.version}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    return (
        f"{_cpu()}, {_cores()} cores, {platform.system()} {platform.machine()}, SIMD level "
        f"{_native.simd_level()}; {', '.join(versions)}"
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
