"""RouteLLM's own server, from its package, with the router that needs no key.

``random`` uses neither torch nor transformers nor datasets, but RouteLLM imports them; where they
are not installed, empty modules stand in for them, which costs RouteLLM nothing while it serves.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


class _Anything(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # As a base class and as a decorator it must do nothing.
        return type(name, (), {"__call__": lambda _, function: function})


def stand_in(*names: str) -> None:
    """Put an empty module where ``names`` are not installed."""
    missing = [name for name in names if importlib.util.find_spec(name.partition(".")[0]) is None]
    for name in missing:
        sys.modules[name] = _Anything(name)
        sys.modules[name].__path__ = []  # a package, for imports from it
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])


if __name__ == "__main__":
    stand_in(
        *("torch", "torch.nn", "torch.nn.functional", "transformers", "datasets"),
        *("huggingface_hub", "huggingface_hub.hub_mixin"),
    )
    import runpy

    sys.argv[0] = "routellm.openai_server"
    runpy.run_module("routellm.openai_server", run_name="__main__")
