"""The public face under mypy --strict and pyright: types that are revealed, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Imported in their modules only, and not part of the extras "test" and "dev".
_HEAVY = ("torch", "transformers", "onnxscript", "ray")


class Report(NamedTuple):
    """What a checker says: errors and revealed types, (line, text) each, by file name."""

    errors: dict[str, list[tuple[int, str]]]
    revealed: dict[str, list[tuple[int, str]]]


def _empty() -> Report:
    return Report({}, {})


@cache
def _mypy() -> Report:
    pytest.importorskip("mypy")
    files = [str(HERE / name) for name in ("face.py", "misspelt.py")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull,
         "--config-file", str(ROOT / "pyproject.toml"), "--follow-imports=silent", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    report = _empty()
    for line in done.stdout.splitlines():
        found = re.match(r".*?(\w+\.py):(\d+): (?:error|note): (?:(Revealed type is) )?(.*)", line)
        if found is None or (": note:" in line and found[3] is None):
            continue
        where = report.errors if found[3] is None else report.revealed
        where.setdefault(found[1], []).append((int(found[2]), found[4].strip('"')))
    assert report.revealed, done.stdout + done.stderr
    return report


def _run_pyright(arguments: list[str]) -> Any:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip('pyright is not installed (".[dev]")')
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable,
         *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    try:
        return json.loads(done.stdout)
    except ValueError:
        # Its first run downloads the checker, and a machine may have no network.
        pytest.skip(f"pyright can't run here: {(done.stderr or done.stdout)[-300:]}")


@cache
def _pyright() -> Report:
    report = _empty()
    files = [str(HERE / name) for name in ("face.py", "misspelt.py")]
    for item in _run_pyright(files)["generalDiagnostics"]:
        name, line = Path(item["file"]).name, item["range"]["start"]["line"] + 1
        revealed = re.match(r'Type of ".*" is "(.*)"$', item["message"], re.DOTALL)
        if revealed is not None:
            report.revealed.setdefault(name, []).append((line, revealed[1]))
        elif item["severity"] == "error":
            report.errors.setdefault(name, []).append((line, item["message"]))
    assert report.revealed
    return report


CHECKERS = pytest.mark.parametrize("check", [_mypy, _pyright], ids=["mypy", "pyright"])


def _plain(shown: str) -> str:
    """A revealed type without modules, and None at the end of a union."""
    shown = re.sub(r"[\w.]+\.(\w+)", r"\1", shown).replace("builtins.", "")
    shown = re.sub(r"\bUnion\[(.*)\]$", lambda u: u[1].replace(", ", " | "), shown)
    before = ""
    while before != shown:  # mypy spells out named tuples, also those inside others
        before = shown
        shown = re.sub(r"tuple\[(?:[^\[\]]|\[[^\[\]]*\])*, fallback=(\w+)\]", r"\1", shown)
    return shown


@CHECKERS
def test_revealed_types(check: Callable[[], Report]) -> None:
    report = check()
    assert report.errors.get("face.py", []) == []
    lines = (HERE / "face.py").read_text("utf-8").splitlines()
    wanted = {
        number: line.rpartition("  # ")[2]
        for number, line in enumerate(lines, 1)
        if "reveal_type(" in line
    }
    assert len(wanted) > 20
    assert {n: _plain(shown) for n, shown in report.revealed["face.py"]} == wanted


@CHECKERS
def test_what_is_misspelt_is_refused(check: Callable[[], Report]) -> None:
    lines = (HERE / "misspelt.py").read_text("utf-8").splitlines()
    wanted = {number + 1 for number, line in enumerate(lines, 1) if line.startswith("# refused")}
    assert len(wanted) > 10
    assert {number for number, _ in check().errors["misspelt.py"]} == wanted


def test_pyright_finds_no_error_in_the_package() -> None:
    missing = [name for name in _HEAVY if importlib.util.find_spec(name) is None]
    found = [
        f"{item['file']}:{item['range']['start']['line'] + 1}: {item['message']}"
        for item in _run_pyright([])["generalDiagnostics"]
        if item["severity"] == "error"
        if not any(f'Import "{name}' in item["message"] for name in missing)
    ]
    assert found == []


def test_arguments_are_those_of_openais_client() -> None:
    completions = pytest.importorskip("openai.resources.chat.completions")
    import inspect

    from fastroute.chat.arguments import CompletionArguments

    theirs = set(inspect.signature(completions.Completions.create).parameters)
    ours = {*CompletionArguments.__annotations__, "stream", "self"}
    assert theirs <= ours
    assert ours - theirs == {
        "router",
        "threshold",
        "strong_share",
        "previous_model",
        "cached_tokens",
    }
