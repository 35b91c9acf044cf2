"""The errors: one tree, drawn in its module, and each can be copied, pickled and sent by a Pool."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastroute
from fastroute import errors
from fastroute.errors import FastRouteError, ProviderResponseError, ProviderStatusError
from fastroute.gateway.protocol.replies import RefusalError

_ELSEWHERE = {RefusalError}

_PICKLES = [
    lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
]


def _classes() -> list[type[BaseException]]:
    """Every exception class that a module of the package defines, but for warnings."""
    found: dict[str, type[BaseException]] = {}
    for module in pkgutil.walk_packages(fastroute.__path__, "fastroute."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            is_error = isinstance(value, type) and issubclass(value, BaseException)
            if (
                is_error
                and not issubclass(value, Warning)
                and value.__module__.startswith("fastroute.")
            ):
                found[value.__name__] = value
    return [found[name] for name in sorted(found)]


CLASSES = _classes()


def _make(kind: type[BaseException]) -> BaseException:
    if kind is ProviderStatusError:
        headers = {"headers": {"a": "b"}, "raw_headers": [(b"A", b"b")]}
        return kind("failed", status_code=503, body=b"{}", **headers)
    if kind is ProviderResponseError:
        return kind("failed", body=b"{")
    if kind is RefusalError:
        return kind(429, "too_many", "failed", param="model", headers={"retry-after": "1"})
    return kind("failed")


def _drawn() -> Iterator[tuple[str, str | None, str | None]]:
    """(name, parent, builtin base) of each line of the tree in the module's docstring."""
    assert errors.__doc__ is not None
    parents: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ((?:[│ ]   )*(?:[├└]── )?)(\w+Error)\b(?: \((\w+)\))?", line)
        if found is not None:
            depth = len(found[1]) // 4
            del parents[depth:]
            yield found[2], parents[-1] if parents else None, found[3]
            parents.append(found[2])


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = {name: (parent, builtin) for name, parent, builtin in _drawn()}
    assert set(drawn) == {kind.__name__ for kind in CLASSES}
    for kind in CLASSES:
        parent, builtin = drawn[kind.__name__]
        bases = [base.__name__ for base in kind.__bases__ if base is not Exception]
        assert bases == [name for name in (parent, builtin) if name is not None]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_stands_in_the_tree_and_in_its_module(kind: type[BaseException]) -> None:
    assert issubclass(kind, FastRouteError)
    assert kind in _ELSEWHERE or kind.__module__ == "fastroute.errors"
    for base in kind.__mro__[1:]:
        if base.__module__ == "fastroute.errors":
            assert issubclass(base, FastRouteError)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, *_PICKLES])
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_survives_a_copy_and_a_pickle(
    kind: type[BaseException], again: Callable[[Any], Any]
) -> None:
    error = _make(kind)
    error.add_note("seen twice")
    twin = again(error)
    assert type(twin) is kind
    assert str(twin) == str(error) == "failed"
    assert twin.args == error.args
    assert vars(twin) == vars(error)
    assert twin.__notes__ == ["seen twice"]


def test_what_builtin_bases_hold_survives() -> None:
    missing = errors.MissingDependencyError("no faiss", name="faiss", path="/lib/faiss")
    twin = pickle.loads(pickle.dumps(missing))
    assert (twin.name, twin.path, str(twin)) == ("faiss", "/lib/faiss", "no faiss")
    absent = errors.ArtifactNotFoundError(2, "no such file", "artifact.json")
    twin = pickle.loads(pickle.dumps(absent))
    assert (twin.errno, twin.strerror, twin.filename) == (2, "no such file", "artifact.json")
    assert str(twin) == str(absent)


def test_an_error_of_a_pool_reaches_its_caller(tmp_path: Path) -> None:
    # In a process of its own: the Pool's workers must find the functions by name.
    script = tmp_path / "pool.py"
    script.write_text(
        """
import multiprocessing
from fastroute.errors import InvalidInputError, ProviderResponseError, ProviderStatusError
from fastroute.gateway.protocol.replies import RefusalError

def fail(i):
    raise (
        InvalidInputError("0"),
        ProviderStatusError("1", status_code=500, body=b"x", headers={}),
        ProviderResponseError("2", body=b"x"),
        RefusalError(400, "code", "3"),
    )[i]

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for i in range(4):
            try:
                pool.apply_async(fail, (i,)).get(timeout=60)
            except Exception as error:
                print(type(error).__name__, error)
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines() == [
        "InvalidInputError 0",
        "ProviderStatusError 1",
        "ProviderResponseError 2",
        "RefusalError 3",
    ], done.stderr
