"""The public modules: what they export, and that results can be copied and pickled."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastroute
from fastroute.chat import ChatCompletion, Record
from fastroute.provenance import OperatingPoint, Provenance
from fastroute.types import Decision

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "fastroute"
PAGE = (ROOT / "docs" / "public-modules.md").read_text("utf-8")
PUBLIC = re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)
PRIVATE = re.findall(r"^- `([\w.]+)`", PAGE, re.MULTILINE)


def test_the_page_names_every_module_of_the_first_level() -> None:
    parts = {
        f"fastroute.{path.stem}"
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        if not path.name.startswith("_")
    }
    assert parts | {"fastroute"} == set(PUBLIC) | set(PRIVATE)
    assert not set(PUBLIC) & set(PRIVATE)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_exports_what_it_says(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    for exported in module.__all__:
        assert getattr(module, exported) is not None
        assert exported == "__version__" or not exported.startswith("_")
    if hasattr(module, "__path__"):
        assert dir(module) == sorted(module.__all__)
    else:
        # Every public class and function that it defines is exported, or used by the package only.
        assert set(module.__all__) <= set(dir(module))


def test_dir_shows_public_names_only() -> None:
    assert dir(fastroute) == sorted(fastroute.__all__)
    assert [n for n in dir(fastroute) if n.startswith("_")] == ["__version__"]


def _results() -> list[type]:
    """Every exported class that holds values: named tuples, dataclasses, and answers."""
    found: set[type] = {ChatCompletion, Record}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for exported in module.__all__:
            value = getattr(module, exported)
            is_tuple = inspect.isclass(value) and hasattr(value, "_fields")
            if is_tuple or (inspect.isclass(value) and dataclasses.is_dataclass(value)):
                found.add(value)
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


RESULTS = _results()
#: One of each kind that a field may hold.
_VALUES = ("text", 0.5, np.arange(3.0), {"a": (1, None)}, Decision("m", "mf", 0.5, 0.5, True, 1.0))


def _make(kind: Any) -> Any:
    if kind is Provenance:
        hashes = np.arange(3, dtype=np.uint64)
        return Provenance(("a",), hashes, None, None, OperatingPoint(0.5, 0.3), "abc")
    if issubclass(kind, Record):
        record = kind({"id": "1", "choices": [Record({"message": Record(content="x")})]})
        if kind is ChatCompletion:
            record.fastroute, record.http_headers = _VALUES[-1], {"a": "b"}
        return record
    if hasattr(kind, "_fields"):
        return kind._make(_VALUES[i % len(_VALUES)] for i in range(len(kind._fields)))
    made = object.__new__(kind)  # what a field holds does not matter here, and __init__ would mind
    for i, field in enumerate(dataclasses.fields(kind)):
        value = None if field.name == "api_key" else _VALUES[i % len(_VALUES)]
        object.__setattr__(made, field.name, value)
    return made


def _same(one: Any, two: Any) -> bool:
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, two))
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(_same(one[k], two[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(_same, one, two))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(_same(getattr(one, n), getattr(two, n)) for n in names)
    return bool(one == two)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_a_result_survives_a_copy_and_a_pickle(kind: type, again: Callable[[Any], Any]) -> None:
    made = _make(kind)
    twin = again(made)
    assert _same(twin, made)
    if isinstance(made, ChatCompletion):
        assert twin.fastroute == made.fastroute
        assert twin.http_headers == {"a": "b"}


def test_the_results_of_calls_are_among_them() -> None:
    names = {kind.__name__ for kind in RESULTS}
    assert {"Decision", "DecisionBatch", "ChatCompletion", "Provenance", "Battle"} <= names
    assert {"BenchmarkResult", "ShareThreshold", "CascadeExplanation", "Artifact"} <= names
