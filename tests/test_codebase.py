"""Tests of the code base itself: its layers, its public names, the size of its files."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "fastroute"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module may import its own package and what stands further down here: imports go downwards.
# Functions' imports count, and so do those for type checking only.
LAYERS = [
    {"types", "errors", "_lazy"},
    {"_arrays", "_checks", "_extras", "_files", "_forking", "_progress", "_validate", "provenance"},
    {"_tasks", "http"},
    {"_native", "resilience", "state"},
    {"artifacts", "candidates", "onnx_models"},
    {"data", "embedders"},
    {"routers"},
    {"policy", "share_control"},
    {"decider"},
    {"chat", "labelling"},
    {"evidence", "journal", "many_models"},
    {"controller", "rollout", "scoring"},
    {"evaluation"},
    {"training"},
    {"learning"},
    {"gateway"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def _name(path: Path) -> str:
    """fastroute.routers.base for python/fastroute/routers/base.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _unit(module: str) -> str:
    """The part of the package that a module belongs to: routers for fastroute.routers.base."""
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, by its full name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            if node.module in {"fastroute", "fastroute.routers", "fastroute.training"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _edges() -> list[tuple[str, str]]:
    """(importer, imported) between parts of the package."""
    return [
        (_name(path), imported)
        for path in MODULES
        for imported in _imports(path)
        if imported.startswith("fastroute.") and imported != "fastroute.__version__"
    ]


def test_every_module_has_a_layer() -> None:
    units = {_unit(_name(path)) for path in MODULES} - {""}
    assert units <= set(RANK), f"say in LAYERS where {units - set(RANK)} belong"


def test_imports_go_downwards() -> None:
    # The package's own __init__ holds public names only, each imported at first use.
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _edges()
        if importer != "fastroute"
        and imported != "fastroute._core"
        and _unit(importer) != _unit(imported)
        and RANK[_unit(importer)] <= RANK[_unit(imported)]
    ]
    assert not wrong


def test_http_knows_nothing_of_routing() -> None:
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _edges()
        if _unit(importer) in {"http", "resilience"}
        and _unit(imported) not in LAYERS[0] | LAYERS[1] | {"http", "resilience"}
    ]
    assert not wrong


def test_only_the_command_line_imports_training_and_evaluation() -> None:
    beside = {"training", "evaluation", "learning"}
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _edges()
        if _unit(imported) in beside and _unit(importer) not in beside | {"cli"}
    ]
    assert not wrong


def test_a_router_knows_no_other() -> None:
    # Only the registry does, and the syntax by which routers are asked for.
    allowed = {("matrix_factorization", "routellm_checkpoint")}

    def room(module: str) -> str:
        """The router that a module belongs to: cascade for fastroute.routers.cascade.band."""
        return module.split(".")[2] if module.startswith("fastroute.routers.") else ""

    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _edges()
        if room(importer) not in {"", "registry", "specification"}
        and room(imported) not in {"", "base", "spec", room(importer)}
        and (room(importer), room(imported)) not in allowed
    ]
    assert not wrong


def test_the_rooms_of_training_are_in_no_circle() -> None:
    def room(module: str) -> str:
        """mf for fastroute.training.mf.models; "" for what is outside, and for names alone."""
        return module.split(".")[2] if module.startswith("fastroute.training.") else ""

    below: dict[str, set[str]] = {}
    for importer, imported in _edges():
        if room(importer) and room(imported) and room(importer) != room(imported):
            below.setdefault(room(importer), set()).add(room(imported))
    assert "heads" in below["mf"]
    TopologicalSorter(below).prepare()  # raises CycleError, which names the circle


def test_one_door_to_the_compiled_core() -> None:
    doors = {importer for importer, imported in _edges() if imported == "fastroute._core"}
    assert doors == {"fastroute._native"}


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        (
            "faiss",
            {
                "fastroute.routers.many_models.neighbors",
                "fastroute.routers.sw_ranking.disk_index",
                "fastroute.routers.sw_ranking.neighbors",
            },
        ),
        (
            "onnxruntime",
            {
                "fastroute.onnx_models.session",
                "fastroute.training.bert.export",
                "fastroute.training.static.encoder",
            },
        ),
        ("pickle", set()),
        (
            "torch",
            {
                f"fastroute.training.{name}"
                for name in (
                    "bert.batches",
                    "bert.calibrate",
                    "bert.export",
                    "bert.loop",
                    "bert.network",
                    "causal_llm.libraries",
                )
            },
        ),
        (
            "transformers",
            {
                "fastroute.training.bert.export",
                "fastroute.training.bert.network",
                "fastroute.training.causal_llm.libraries",
            },
        ),
        ("jinja2", {"fastroute.routers.causal_llm.template"}),
        ("openai", set()),
        ("ray", {"fastroute._tasks.on_ray"}),
        ("redis", {"fastroute.state.valkey"}),
        ("requests", set()),
    ],
)
def test_heavy_libraries_stay_in_their_module(library: str, allowed: set[str]) -> None:
    users = {
        _name(path)
        for path in MODULES
        if any(imported.split(".")[0] == library for imported in _imports(path))
    }
    assert users <= allowed


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=_name)
def test_all_is_true(path: Path) -> None:
    module = importlib.import_module(_name(path))
    names = getattr(module, "__all__", None)
    if names is None:
        # A package without public names is a docstring, perhaps with constants.
        assert not any(
            isinstance(n, ast.ImportFrom) and n.module != "__future__"
            for n in ast.parse(path.read_text("utf-8")).body
        ), "imports, but no __all__"
        return
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None
        assert name in dir(module)
    # What the type checker sees is what there is, and all of it.
    shown = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastroute.")
        for alias in node.names
        if not alias.name.startswith("_") and alias.name != "lazy_exports"
    }
    assert shown <= set(names)
    if "lazy_exports(" in path.read_text("utf-8"):
        assert shown == set(names) - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "a module without a docstring"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # What a command's configure and run do is said once, in cli/command.py.
            if path.stem.startswith("_") or node.name.startswith("_"):
                continue
            if node.name in ("configure", "main"):
                continue
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize(
    "path",
    [*MODULES, *sorted((ROOT / "csrc").rglob("*.?pp"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_files_are_small(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 520, f"{len(lines)} lines: split it by subject"


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "csrc" / "kernels").glob("*.?pp"), *(ROOT / "csrc" / "text").glob("*.?pp")],
    ids=lambda p: p.name,
)
def test_kernels_know_no_python_and_no_intrinsics(path: Path) -> None:
    includes = re.findall(r'#include [<"]([^>"]+)', path.read_text("utf-8"))
    assert not [
        i for i in includes if "ython" in i or "pybind" in i or "intrin" in i or "neon" in i
    ]


@pytest.mark.parametrize("name", ["avx2.cpp", "avx512.cpp", "neon.cpp"])
def test_a_file_for_one_instruction_set_shares_no_inline_code(name: str) -> None:
    # An inline function compiled twice is merged by the linker, and the wrong copy can win.
    includes = re.findall(
        r'#include [<"]([^>"]+)', (ROOT / "csrc" / "simd" / name).read_text("utf-8")
    )
    assert set(includes) <= {"immintrin.h", "arm_neon.h", "simd/functions.hpp"}


def test_numpy_random_is_imported_where_a_module_starts() -> None:
    """NumPy loads it at its first use, and a Ctrl-C during that import is lost in compiled code."""
    found = [str(path) for path in MODULES if "np.random" in path.read_text("utf-8")]
    assert found == []
