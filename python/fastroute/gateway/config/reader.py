"""Reads and checks one section of a config; what is wrong is gathered, and said all at once."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastroute.errors import FastRouteError
from fastroute.gateway.config.file import ConfigError, ConfigFile, Key
from fastroute.http.address import check_key

T = TypeVar("T")


class Problems:
    """The errors found in one file."""

    def __init__(self, file: ConfigFile) -> None:
        self.file = file
        self.found: list[tuple[int, str]] = []

    def add(self, key: Key, said: str) -> None:
        """Note that ``key`` is wrong."""
        line = self.file.line_of(key)
        place = self.file.name if line is None else f"{self.file.name}:{line}"
        dotted = ".".join(str(part) for part in key)
        self.found.append((line or 0, f"{place}: {dotted + ': ' if dotted else ''}{said}"))

    def raise_any(self) -> None:
        """Raise ConfigError if there is any."""
        if self.found:
            raise ConfigError("\n".join(said for _, said in sorted(self.found)))


class Section:
    """A table whose keys are taken one by one; ``finish`` complains about the others."""

    def __init__(self, problems: Problems, path: Key, data: Any) -> None:
        self.problems = problems
        self.path = path
        if not isinstance(data, Mapping):
            problems.add(path, f"must be a table, got {_kind(data)}")
            data = {}
        self._data: Mapping[str, Any] = data
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def names(self) -> list[str]:
        """Every key that is given."""
        return [str(name) for name in self._data]

    def bad(self, name: str, said: str) -> None:
        """Note that the value of ``name`` is wrong."""
        self.problems.add((*self.path, name), said)

    def take(self, name: str, default: Any = None) -> Any:
        """The value of ``name`` as it is."""
        self._known.add(name)
        return self._data.get(name, default)

    def text(self, name: str, default: T, choices: Sequence[str] = ()) -> str | T:
        """A text that is not empty, one of ``choices`` if there are any."""
        value = self.take(name)
        if value is None:
            return default
        if value == "":
            self.bad(name, "is empty; give a text, or leave the key out")
        elif not isinstance(value, str):
            self.bad(name, f"must be a text, got {_kind(value)}")
        elif choices and value not in choices:
            self.bad(name, f"must be one of {', '.join(choices)}, got another text")
        else:
            return value
        return default

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            self.bad(name, f"must be a list of texts, got {_kind(value)}")
            return default
        return tuple(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            self.bad(name, f"must be true or false, got {_kind(value)}")
            return default
        return value

    def number(
        self,
        name: str,
        default: T,
        least: float = 0.0,
        most: float = math.inf,
        above: bool = False,
    ) -> float | T:
        """A finite number from ``least`` to ``most``; ``above``: not ``least`` itself."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.bad(name, f"must be a number, got {_kind(value)}")
        elif not (least <= value <= most) or not math.isfinite(value) or (above and value == least):
            low = f"above {least:g}" if above else f"{least:g} or more"
            high = "" if most == math.inf else f" and at most {most:g}"
            self.bad(name, f"must be {low}{high}, got {value}")
        else:
            return float(value)
        return default

    def whole(self, name: str, default: int, least: int = 0, most: int = 2**63) -> int:
        """A whole number from ``least`` to ``most``."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.bad(name, f"must be a whole number, got {_kind(value)}")
        elif not least <= value <= most:
            high = "" if most == 2**63 else f" and at most {most}"
            self.bad(name, f"must be {least} or more{high}, got {value}")
        else:
            return value
        return default

    def secret(self, name: str) -> str | None:
        """The value of the environment variable that ``<name>_env`` names."""
        if name in self._data:
            self._known.add(name)
            self.bad(name, f"secrets don't belong in a file; give {name}_env, a variable's name")
        variable = self.text(f"{name}_env", None)
        if variable is None:
            return None
        value = os.environ.get(variable)
        if not value:
            # Whoever wrote the secret itself here must not find it in a log.
            shown = variable if re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable) else "named there"
            self.bad(f"{name}_env", f"the environment variable {shown} is not set")
            return None
        try:
            return check_key(value, variable)
        except FastRouteError as error:
            self.bad(f"{name}_env", str(error))
            return None

    def section(self, name: str) -> Section:
        """A table inside; empty where it is not given."""
        return Section(self.problems, (*self.path, name), self.take(name, {}))

    def tables(self, name: str) -> list[Section]:
        """A list of tables inside."""
        value = self.take(name, [])
        if not isinstance(value, list):
            self.bad(name, f"must be a list of tables, got {_kind(value)}")
            return []
        return [Section(self.problems, (*self.path, name, i), v) for i, v in enumerate(value)]

    def build(self, make: Callable[..., T], **values: Any) -> T | None:
        """``make(**values)``, its error noted here."""
        try:
            return make(**values)
        except FastRouteError as error:
            named = next((n for n in values if str(error).startswith(n)), None)
            self.problems.add(self.path if named is None else (*self.path, named), str(error))
            return None

    def finish(self) -> None:
        """Note every key that nobody took."""
        for name in self._data:
            if name in self._known:
                continue
            close = difflib.get_close_matches(str(name), self._known, n=1)
            hint = (
                f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(self._known))}"
            )
            self.bad(str(name), f"there is no such key; {hint}")


def _kind(value: Any) -> str:
    """What a value is, without showing it: it may be a secret in the wrong place."""
    if isinstance(value, bool):
        return "true or false"
    names = ((str, "a text"), ((int, float), "a number"), (Mapping, "a table"), (list, "a list"))
    return next((name for kind, name in names if isinstance(value, kind)), "nothing")
