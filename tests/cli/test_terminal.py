"""What files and arguments hold can't steer the terminal that it is shown on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runner import fastroute, refused
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
