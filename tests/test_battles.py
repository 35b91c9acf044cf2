"""Files of battles: what is read, and which line is at fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastroute.battles import read_battles
from fastroute.errors import InvalidInputError

GOOD = json.dumps(
    {"prompt": "why is the sky blue?", "model_a": "a", "model_b": "b", "winner": "tie"}
)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "battles.jsonl"
    file.write_text(f"{GOOD}\n\n{GOOD}\n")
    assert [tuple(battle) for battle in read_battles(file)] == [
        ("why is the sky blue?", "a", "b", "tie")
    ] * 2


@pytest.mark.parametrize("line", ["[" * 200_000, '{"prompt":' * 200_000, "{", "nope"])
def test_a_line_that_is_no_json(tmp_path: Path, line: str) -> None:
    file = tmp_path / "battles.jsonl"
    file.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(InvalidInputError, match=r"battles\.jsonl, line 2: not JSON: "):
        read_battles(file)
