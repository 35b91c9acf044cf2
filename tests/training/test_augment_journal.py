"""The journal: what a crash, an alteration or a second process does to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError
from fastroute.training.label.journal import Journal
from fastroute.training.label.verdicts import (
    PROMPT,
    check_template,
    combine,
    fill,
    read_verdict,
)


def _fill(path: Path, count: int = 5) -> bytes:
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        for i in range(count):
            journal.add(f"key {i}", {"text": f"line one\nline two \u2028 {i} \ud800", "n": i})
    return path.read_bytes()


def test_records_come_back(tmp_path: Path) -> None:
    _fill(tmp_path / "deeper" / "j")
    with Journal(tmp_path / "deeper" / "j") as journal:
        assert len(journal) == 5
        assert journal.get("key 3") == {
            "key": "key 3",
            "text": "line one\nline two \u2028 3 \ud800",
            "n": 3,
        }
        assert "key 9" not in journal
        journal.add("key 9", {})
    with Journal(tmp_path / "deeper" / "j") as journal:
        assert "key 9" in journal


def test_cut_anywhere_it_keeps_every_whole_line(tmp_path: Path) -> None:
    content = _fill(tmp_path / "j")
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    for cut in sorted({*range(0, len(content), 9), *ends, *(end - 1 for end in ends)}):
        (tmp_path / "cut").write_bytes(content[:cut])
        with Journal(tmp_path / "cut") as journal:
            whole = sum(end <= cut for end in ends)
            assert len(journal) == whole
            assert len(journal.torn) == cut - (ends[whole - 1] if whole else 0)
            journal.add("new", {"n": 1})
        with Journal(tmp_path / "cut") as journal:
            assert len(journal) == whole + 1
            assert (journal.damaged, journal.torn) == (0, b"")


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_an_altered_line_is_passed_over_and_counted(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("j") / "j"
    content = bytearray(_fill(path))
    at %= len(content)
    if content[at] in (10, byte) or byte == 10:
        return
    content[at] = byte
    path.write_bytes(content)
    with Journal(path) as journal:
        assert len(journal) == 4
        assert journal.damaged == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j"),
        pytest.raises(InvalidInputError, match="in use by another process"),
    ):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


def test_another_kind_of_file_is_not_touched(tmp_path: Path) -> None:
    for content in (b"prompt,answer\nx,y\n", b"precious text without a line end"):
        (tmp_path / "j").write_bytes(content)
        with pytest.raises(InvalidInputError, match="give another"):
            Journal(tmp_path / "j")
        assert (tmp_path / "j").read_bytes() == content
    with pytest.raises(InvalidInputError, match="can't be opened"):
        Journal(tmp_path)


# Verdicts


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[[A]]", "first"),
        ("reasons\n[[B]]\n", "second"),
        ("reasons\n\n  **[[C]]**  \n\n", "tie"),
        ("Final verdict: [[a]].", "first"),
        ("**Final Verdict:** [[B]]", "second"),
        ("My verdict is [[C]]", "tie"),
        ("[[A]] could be said.\n[[B]]", "second"),
        ("I prefer [[A]]", "first"),
        ("My final verdict is: [[A]]", "first"),
        ("My final verdict is: [[A]], as the first answer is correct.", "first"),
        ("So **my final verdict is: [[B]]**.\n\nLet me know if you need more.", "second"),
        ("Verdict: [[A]]\n\nBoth were good, but [[A]] was right.", "first"),
        ("[[A]] has an error. Therefore, my verdict: [[B]]", "second"),
        ("After all of this, the better answer is [[B]].", "second"),
        ("Verdict: [[A]] or [[B]]", None),
        ("Verdict: [[A]]\nOn second thoughts, [[B]]", None),
        ("The verdict [[A]] would be wrong.\nFinal verdict: [[B]]", "second"),
        ("[[A]] is better in tone than the other one", None),
        ("[[A]] or [[B]]", None),
        ("[[A]]\nOn second thoughts, no.", None),
        ("[[D]]", None),
        ("[A]", None),
        ("A", None),
        ("", None),
        ("\n \n", None),
        ("x = [[1]]", None),
    ],
)
def test_a_verdict_is_read_where_it_is_clear(text: str, verdict: str | None) -> None:
    assert read_verdict(text) == verdict


def test_both_orders() -> None:
    wins = {("first", "second"): "model_a", ("second", "first"): "model_b"}
    for forward in ("first", "second", "tie"):
        for backward in ("first", "second", "tie"):
            assert combine(forward, backward) == wins.get((forward, backward), "tie")


def test_braces_in_what_is_judged_stay() -> None:
    made = fill(PROMPT, prompt="write {first}", first="{second} {x}", second="{prompt}")
    assert "<request>\nwrite {first}\n</request>" in made
    assert "<answer_a>\n{second} {x}\n</answer_a>" in made
    assert "<answer_b>\n{prompt}\n</answer_b>" in made
    with pytest.raises(InvalidInputError, match=r"has \{second\} 0 times"):
        check_template("{prompt} {first}")
