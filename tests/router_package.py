"""A copy of the installed package with one router more, for tests of processes that load it."""

from __future__ import annotations

import shutil
from pathlib import Path

import fastroute

_LAST_LINE = '    "random": "fastroute.routers.random",\n'


def copy_with_router(root: Path, name: str, module: str) -> Path:
    """Copy the package into ``root``, which goes into PYTHONPATH, with ``module`` as a router."""
    copy = root / "fastroute"
    shutil.copytree(
        Path(fastroute.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    (copy / "routers" / f"{name}.py").write_text(module)
    registry = copy / "routers" / "registry.py"
    text = registry.read_text()
    assert _LAST_LINE in text
    added = f'    "{name}": "fastroute.routers.{name}",\n'
    registry.write_text(text.replace(_LAST_LINE, _LAST_LINE + added))
    return root
