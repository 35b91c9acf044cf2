"""What a router declares of itself: its name, help, options, how it is made and trained."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fastroute.routers.base import Router


@dataclass(frozen=True)
class RouterSpec:
    """A router, as the registry, the command line and configs see it."""

    name: str  #: its name in configs and ``router-<name>-<threshold>`` strings
    summary: str  #: one line of help
    #: makes the router; its keyword parameters are the keys of its config, and their annotations
    #: the types of the values.
    make: Callable[..., Router]
    #: classes or functions, as "module:name", whose keyword parameters ``make`` takes too, by
    #: ``**options``.
    accepts: tuple[str, ...] = ()
    #: how it is trained on graded prompts, as "module:name" of a function (config, seed) ->
    #: (untrained router, Trainer); None where it is not trained.
    trainer: str | None = None
    #: whether a config lets the router know its models by name.
    takes_pair: Callable[[Mapping[str, Any]], bool] = field(default=lambda _: False)
    #: the key that sets the threads of a batch; None where there is none.
    batch_option: str | None = None
    composite: bool = False  #: whether ``make`` takes ``create``, which makes other routers

    def options(self) -> dict[str, Any]:
        """Annotations by key of the config."""
        found: dict[str, Any] = {}
        for source in (self.make, *map(load_name, self.accepts)):
            hints = get_type_hints(vars(source)["__init__"] if isinstance(source, type) else source)
            for name, parameter in inspect.signature(source).parameters.items():
                if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                    found.setdefault(name, hints.get(name, Any))
        hidden = {"self", "create", "folder", "folder_or_hub_id", "provenance"}
        return {name: hint for name, hint in found.items() if name not in hidden}


def is_text(annotation: Any) -> bool:
    """Whether a value of this type can be text as it stands: a name, a path, one of some words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return any(isinstance(word, str) for word in parts)
    if origin in (Union, UnionType):
        return any(map(is_text, parts))
    return annotation is str or origin is os.PathLike


def load_name(path: str) -> Any:
    """The object that "module:name" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
