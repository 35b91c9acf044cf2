"""What files and arguments hold can't steer the terminal that it is shown on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli_runner import fastroute, refused
from fastroute import cli
from fastroute.cli.streams import printable

HOSTILE = ["\x1b[2J", "\x9b31m", "\x1b]0;title\x07", "\u202eabc", "\u2066x", "\u2028", "\b", "\r"]


@pytest.mark.parametrize("text", HOSTILE)
def test_controls_become_escapes_of_json(text: str) -> None:
    shown = printable(f"a {text}\n\té")
    assert all(c in "\n\t" or c.isprintable() for c in shown)
    assert json.loads(f'"{printable(text)}"') == text


@pytest.mark.parametrize("text", HOSTILE[:5])
def test_names_are_shown_escaped(tmp_path: Path, text: str) -> None:
    ran = fastroute("route", "hi", "--router", "length", "--strong-model", text, "--threshold", 0)
    assert printable(text) in ran.out
    assert text not in ran.out
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"prompt": "p", "scores": {text: 1, "other": 0}}) + "\n")
    said = refused("evaluate", "--benchmark", path, "--router", "length")
    assert printable(text) in said
    assert text not in said


def test_one_function_prints_on_standard_error() -> None:
    folder = Path(cli.__file__).parent
    found = [
        f"{file.relative_to(folder)}:{line}"
        for file in sorted(folder.rglob("*.py"))
        for line in re.findall(r"print\(.*file=sys\.stderr.*", file.read_text(encoding="utf-8"))
    ]
    assert [line.partition(":")[0] for line in found] == ["augment/asking.py", "streams.py"], found


@pytest.mark.parametrize("text", HOSTILE[:5])
def test_names_on_standard_error_are_escaped(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.jsonl"
    rows = [{"prompt": f"p{i}", "scores": {text: 1, "other": i % 2}} for i in range(20)]
    rows.append({"prompt": "one", "scores": {"other": 1}})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = fastroute(
        "evaluate", "--benchmark", path, "--strong", text, "--weak", "other", "--router", "length",
        "--resamples", "0", "--no-cache",
    )  # fmt: skip
    assert "left out 1 rows without scores" in ran.err
    assert printable(text) in ran.err
    assert text not in ran.err + ran.out
