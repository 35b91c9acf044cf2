"""From what pydantic says of a configuration to an error with lines and keys of its file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fastroute.errors import ConfigError
from fastroute.gateway.config.file import ConfigFile, Key
from fastroute.routers.registry import find_spec

_TABLES = ("model_type", "dict_type", "model_attributes_type")


def config_error(
    file: ConfigFile,
    flags: Mapping[Key, str],
    schema: type[BaseModel],
    error: ValidationError,
) -> ConfigError:
    """One error for all that ``error`` has, in the order of the file's lines. ``flags`` are the
    options of the command line that gave a value, by section and key."""
    found = []
    for detail in error.errors(include_url=False):
        key = tuple(part for part in detail["loc"] if part != "[key]")
        line = file.line_of(key)
        place = file.name if line is None else f"{file.name}:{line}"
        where = flags.get(key[:2]) or f"{place}: {'.'.join(map(str, key))}"
        found.append((line or 0, f"{where}: {_words(key, detail, schema)}"))
    return ConfigError("\n".join(said for _, said in sorted(found)))


def _words(key: Key, detail: ErrorDetails, schema: type[BaseModel]) -> str:
    kind, value = detail["type"], detail["input"]
    name = str(key[-1])
    if kind == "missing":
        option = f" here or as --{name.replace('_', '-')}" if name.endswith("_model") else ""
        return f"missing key; give it{option}"
    if kind == "extra_forbidden":
        known = _keys_of(schema, key[:-1])
        if f"{name}_env" in known:
            return f"secrets do not belong in a file; name an environment variable in {name}_env"
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key; {hint}"
    if kind == "value_error":
        return str(detail.get("ctx", {})["error"])
    if kind in _TABLES:
        said = "must be a table"
    elif kind == "tuple_type":
        said = "must be a list"
    else:
        said = re.sub(r"^\w+ should\b", "must", detail["msg"])
    return f"{said}; found {_shown(value)}"


def _shown(value: Any) -> str:
    """A number, or a short word; what else it may be is not shown, as it may be a secret."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)) and len(shown := repr(value)) <= 40:
        return shown
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]{0,20}", value):
        return repr(value)
    kinds = ((str, "a string"), ((int, float), "a number"), (Mapping, "a table"), (list, "a list"))
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)


def _keys_of(schema: type[BaseModel], key: Key) -> list[str]:
    """The keys that the table ``key`` of a file may have."""
    if key[:1] == ("routers",):
        return list(find_spec(str(key[1])).options())
    model: Any = schema
    for part in key:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:  # a table or a list of tables
            model = get_args(model)[0 if get_args(model)[-1] is Ellipsis else -1]
        if NoneType in get_args(model):  # a section that may be absent
            model = get_args(model)[0]
    return [field.alias or name for name, field in model.model_fields.items()]
