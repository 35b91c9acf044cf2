"""The syntax for routers in commands and configs: ``NAME``, ``NAME=FOLDER``, ``NAME,key=value``.

``NAME=FOLDER`` is short for ``NAME,checkpoint_path=FOLDER``. Keys are those of the router's config;
``label`` names it in reports.
"""

from __future__ import annotations

import difflib
import json
from contextlib import suppress
from typing import Any, NamedTuple

from fastroute.errors import InvalidInputError
from fastroute.routers.base import Router
from fastroute.routers.registry import create_router, find_spec
from fastroute.routers.spec import RouterSpec, is_text


class RouterChoice(NamedTuple):
    """A router that was asked for."""

    name: str  #: of the router
    label: str  #: in reports; by default the name
    config: dict[str, Any]  #: the keys of its config

    def make(self) -> Router:
        """The router. Raises as ``create_router``."""
        return create_router(self.name, **self.config)


def parse_router(specification: str) -> RouterChoice:
    """Read ``NAME``, ``NAME=FOLDER`` or ``NAME,key=value,...``.

    Raises:
        UnknownRouterError: another name.
        InvalidInputError: a setting that is not KEY=VALUE, is empty or given twice, a key that the
            router does not have, or a value of another type.
    """
    first, *settings = specification.split(",")
    name, equals, folder = first.partition("=")
    spec = find_spec(name)
    config: dict[str, Any] = {}
    for setting in [f"checkpoint_path={folder}"] * bool(equals) + settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InvalidInputError(f"router {specification!r}: {setting!r} is not KEY=VALUE")
        if not value.strip():
            raise InvalidInputError(
                f"router {specification!r}: {key} is empty; give a value, or leave it out"
            )
        if key in config:
            raise InvalidInputError(f"router {specification!r}: {key} is given twice")
        config[key] = _read(specification, spec, key, value)
    label = config.pop("label", name)
    return RouterChoice(name, label, config)


def _read(specification: str, spec: RouterSpec, key: str, value: str) -> Any:
    options = spec.options()
    if key == "label":
        return value
    if key not in options:
        close = difflib.get_close_matches(key, [*options, "label"], n=1)
        meant = f", did you mean {close[0]}?" if close else "."
        known = ", ".join(sorted(options)) or "no options"
        raise InvalidInputError(
            f"router {specification!r}: {spec.name} has no option {key}{meant} Its options: {known}"
        )
    if is_text(options[key]):
        return value
    with suppress(ValueError, RecursionError):
        parsed = json.loads(value)
        if isinstance(parsed, (bool, int, float)):
            return parsed
    raise InvalidInputError(
        f"router {specification!r}: {key} must be a number, true or false, got {value!r}"
    )
