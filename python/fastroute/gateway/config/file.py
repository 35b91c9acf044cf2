"""A TOML or YAML file as plain data, and on which line each key of it stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastroute.errors import InvalidInputError, MissingDependencyError

Key = tuple[str | int, ...]


class ConfigError(InvalidInputError):
    """A config that can't be used; every line of the message names the file's line and the key."""


class ConfigFile(NamedTuple):
    """What a file says.

    Attributes:
        name: the file's name, for messages.
        data: tables, lists and scalars.
        lines: line numbers, from 1, by path of keys: ("models", "gpt-4", "base_url").
    """

    name: str
    data: Mapping[str, Any]
    lines: Mapping[Key, int]

    def line_of(self, key: Key) -> int | None:
        """The line of ``key``, or of the nearest table around it that has one."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key[:-1]
        return None


def read_config_file(path: str) -> ConfigFile:
    """Read a file whose name ends in .toml, .yaml or .yml. Raises ConfigError."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    suffix = Path(path).suffix.lower()
    if suffix == ".toml":
        return _read_toml(path, text)
    if suffix in (".yaml", ".yml"):
        return _read_yaml(path, text)
    raise ConfigError(f"{path}: a config's name must end in .toml, .yaml or .yml")


def _read_toml(path: str, text: str) -> ConfigFile:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, at, place = str(error).partition(" (at line ")
        line = place.split(",")[0] if at else str(text.count("\n") + 1)
        raise ConfigError(f"{path}:{line}: {said}") from error
    return ConfigFile(path, data, _toml_lines(text))


_PART = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(#.*)?")
_PAIR = re.compile(rf"\s*({_DOTTED})\s*=\s*(.*)")


def _toml_lines(text: str) -> dict[Key, int]:
    """Lines of tables and keys, for a text that tomllib has read."""
    lines: dict[Key, int] = {}
    counts: dict[Key, int] = {}  # of the tables in an array
    here: Key = ()
    quotes: str | None = None  # inside a text of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if quotes is not None:
            if quotes in line:
                quotes = None
            continue
        table = _TABLE.fullmatch(line)
        if table is not None:
            here = _resolve(_parts(table[2]), counts)
            if table[1] == "[[":
                counts[here] = counts.get(here, -1) + 1
                here = (*here, counts[here])
            lines.setdefault(here, number)
            continue
        pair = _PAIR.fullmatch(line)
        if pair is None:
            continue
        key = (*here, *_parts(pair[1]))
        for end in range(len(here) + 1, len(key) + 1):
            lines.setdefault(key[:end], number)
        for mark in ('"""', "'''"):
            if pair[2].count(mark) % 2:
                quotes = mark
    return lines


def _parts(dotted: str) -> list[str]:
    parts = []
    for part in re.findall(_PART, dotted):
        if part[0] == '"':
            parts.append(str(tomllib.loads(f"x = {part}")["x"]))
        else:
            parts.append(part.strip("'"))
    return parts


def _resolve(parts: list[str], counts: Mapping[Key, int]) -> Key:
    """The path of a table; one below an array belongs to the array's last table."""
    key: Key = ()
    for i, part in enumerate(parts):
        key = (*key, part)
        if i < len(parts) - 1 and key in counts:
            key = (*key, counts[key])
    return key


def _read_yaml(path: str, text: str) -> ConfigFile:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError("a YAML config needs PyYAML: pip install PyYAML") from error
    lines: dict[Key, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
        if node is not None:
            _yaml_lines(node, (), lines)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f"{mark.line + 1}: "
        said = getattr(error, "problem", None) or "it can't be read"
        raise ConfigError(f"{path}:{place or ' '}{said}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{path}:1: a config must be a table of named sections")
    return ConfigFile(path, data, lines)


def _yaml_lines(node: Any, path: Key, lines: dict[Key, int]) -> None:
    if path in lines:  # an alias
        return
    if node.id == "mapping":
        for key, value in node.value:
            here = (*path, str(key.value))
            _yaml_lines(value, here, lines)
            lines[here] = key.start_mark.line + 1
    elif node.id == "sequence":
        for i, value in enumerate(node.value):
            _yaml_lines(value, (*path, i), lines)
            lines[(*path, i)] = value.start_mark.line + 1
