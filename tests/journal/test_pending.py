"""Notes of calls: what a process that was killed leaves becomes rows, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from fastroute.journal.database import open_journal, writing
from fastroute.journal.pending import Call, Figures, Pending, recover
from fastroute.journal.schema import REQUESTS, SHADOWS

KILLED = """
import os, signal, sys
from pathlib import Path
from fastroute.journal.pending import Call, Figures, Pending, recover
pending = Pending(Path(sys.argv[1]))
names = iter(range(10))
def call(weight=None):
    return Call(f"{next(names):016x}", "/chat/completions", "me", 5.0, weight)
pending.begin(call(), Figures("w☃", 10, 0, 5, cost_usd=0.25))
slot = pending.begin(call(), Figures("w☃", 7))
pending.finish(slot, Figures("w☃", 7, 3, 0, False, 200, 0.5))
pending.release([pending.begin(call(), Figures("w☃"))])
pending.begin(call(4.0), Figures("w☃", cost_usd=0.125))
pending.finish(pending.begin(call(), Figures("w☃")), Figures("w☃"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_becomes_rows(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "pending"
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert len(list(folder.iterdir())) == 1
    engine = open_journal(url)
    here = Pending(folder)
    mine = here.begin(Call("f" * 16, "/x", None, 1.0), Figures("m"))
    there = {"request_id": f"{1:016x}", "time": 5.0, "path": "/x", "win_rate": 0.5, "cost_usd": 9.0}
    with writing(engine) as connection:  # its row was written before the end
        connection.execute(insert(REQUESTS), [there])
    assert (recover(folder, engine), recover(folder, engine)) == (4, 0)
    with engine.connect() as connection:
        rows = connection.execute(select(REQUESTS).order_by(REQUESTS.c.request_id)).all()
        shadow = connection.execute(select(SHADOWS)).one()
    engine.dispose()
    under_way, known, unknown = rows
    assert (under_way.error, under_way.cost_usd, under_way.tokens_are_estimates) == (
        "killed", 0.25, True,
    )  # fmt: skip
    assert (under_way.caller, under_way.answered_by) == ("me", "w☃")
    assert (known.cost_usd, known.win_rate) == (9.0, 0.5)
    assert (unknown.error, unknown.cost_usd) == (None, None)
    assert (shadow.model, shadow.weight, shadow.cost_usd, shadow.error) == (
        "w☃", 4.0, 0.125, "killed",
    )  # fmt: skip
    assert mine is not None
    assert len(list(folder.iterdir())) == 1
    here.close()
    assert list(folder.iterdir()) == []


def test_more_calls_than_there_are_slots(tmp_path: Path) -> None:
    pending = Pending(tmp_path)
    call = Call("1" * 16, "/x", None, 1.0)
    slots = [pending.begin(call, Figures("m")) for _ in range(5000)]
    assert slots.count(None) == 5000 - 4096
    first = slots[0]
    assert first is not None
    pending.release([first])
    assert pending.begin(call._replace(caller="c" * 300), Figures("m" * 300)) == first
    pending.close()


def test_a_disk_without_room_is_told_at_once(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from fastroute.journal.pending import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: Pending(Path(sys.argv[1]))\n"
        "except OSError as error: print(error.errno)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "27")
    assert list(tmp_path.iterdir()) == []


def test_another_user_s_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(PermissionError, match="another user's"):
        Pending(tmp_path)
