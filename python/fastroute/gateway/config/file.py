"""A TOML or YAML file as plain data, and on which line each key of it stands."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastroute._extras import needed_for
from fastroute.errors import ConfigError

Key = tuple[str | int, ...]
#: A configuration is a few kilobytes; a longer file is another one, or an attack on its parser.
MAX_FILE_BYTES = 256 * 1024
#: YAML aliases can stand for any number of values.
MAX_VALUES = 20_000
#: tomllib takes quadratic time for a dotted key.
_MAX_DOTS = 200


class ConfigFile(NamedTuple):
    """What a file says."""

    name: str  #: the file's name, for messages
    data: Mapping[str, Any]  #: tables, lists and scalars
    #: line numbers, from 1, by path of keys: ("models", "gpt-4", "base_url").
    lines: Mapping[Key, int]

    def line_of(self, key: Key) -> int | None:
        """The line of ``key``, or of the nearest table around it that has one."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key[:-1]
        return None


def read_config_file(path: str, text: str | None = None) -> ConfigFile:
    """Read a file whose name ends in .toml, .yaml or .yml, or ``text`` in its place. Raises
    ConfigError."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".toml", ".yaml", ".yml"):
        raise ConfigError(f"{path}: the name of a configuration must end in .toml, .yaml or .yml")
    text = read_config_text(path) if text is None else text
    try:
        return (_read_toml if suffix == ".toml" else _read_yaml)(path, text)
    except RecursionError as error:
        raise ConfigError(f"{path}: the file is nested too deeply") from error


def read_config_text(path: str) -> str:
    """The text of a configuration. Raises ConfigError."""
    try:
        # A named pipe would otherwise wait for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: not a regular file; give a TOML or YAML file")
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: the file can't be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: the file is longer than {MAX_FILE_BYTES} bytes, the limit")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: the file is not UTF-8: {error.reason}") from error


def _read_toml(path: str, text: str) -> ConfigFile:
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _MAX_DOTS and not line.lstrip().startswith("#"):
            raise ConfigError(f"{path}:{number}: the file is nested too deeply")
    try:
        data = tomllib.loads(text)
    except ValueError as error:
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
                lines.setdefault(here, number)
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
    with needed_for("a YAML configuration"):
        import yaml
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = {} if node is None else _yaml_lines(path, node)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        mark = getattr(error, "problem_mark", None)
        place = path if mark is None else f"{path}:{mark.line + 1}"
        # The error itself quotes the file, which may hold a secret.
        raise ConfigError(f"{place}: {getattr(error, 'problem', None) or error}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{path}:1: a configuration must be a table of named sections")
    return ConfigFile(path, data, lines)


def _yaml_lines(path: str, root: Any) -> dict[Key, int]:
    """Lines of keys and items; the values of an alias are visited wherever it stands.

    Raises ConfigError for a key that stands twice in a table, and for more than MAX_VALUES values.
    """
    lines: dict[Key, int] = {}

    def visit(node: Any, key: Key) -> None:
        members: list[tuple[str | int, Any, Any]]
        if node.id == "mapping":
            wrong = next((name for name, _ in node.value if name.id != "scalar"), None)
            if wrong is not None:
                raise ConfigError(f"{path}:{wrong.start_mark.line + 1}: a key must be a string")
            members = [(name.value, name, value) for name, value in node.value]
        elif node.id == "sequence":
            members = [(i, value, value) for i, value in enumerate(node.value)]
        else:
            return
        for part, place, value in members:
            line = place.start_mark.line + 1
            here = (*key, part)
            if here in lines:
                raise ConfigError(f"{path}:{line}: {'.'.join(map(str, here))}: duplicate key")
            if len(lines) == MAX_VALUES:
                raise ConfigError(
                    f"{path}:{line}: the file has more than {MAX_VALUES} values, counting each use "
                    "of an alias"
                )
            lines[here] = line
            visit(value, here)

    visit(root, ())
    return lines
