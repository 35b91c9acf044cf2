"""Public names that are imported at first use, so that ``import fastroute`` stays light."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def lazy_exports(
    package: str, names: Mapping[str, str]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` (PEP 562) of ``package``.

    ``names`` has the exported names by module, with blanks between; a name is imported from there
    when it is first asked for.
    """
    modules = {name: module for module, exported in names.items() for name in exported.split()}
    public = sorted(modules)

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)  # so that this is asked only once
        return value

    return public, get, lambda: sorted(public)
