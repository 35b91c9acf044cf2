"""What a user's first minute needs of an installed wheel: run outside the checkout.

``python smoke.py CHECKOUT [--journal]``: CHECKOUT is where fastroute must *not* come from;
``--journal`` opens a journal, whose migrations are files of the wheel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def check_origin(checkout: str) -> None:
    import fastroute

    location = Path(fastroute.__file__).resolve()
    assert not location.is_relative_to(Path(checkout).resolve()), location


def journal() -> None:
    from sqlalchemy import inspect

    from fastroute.journal.database import open_journal
    from fastroute.journal.schema import METADATA

    with tempfile.TemporaryDirectory() as folder:
        engine = open_journal(f"sqlite:///{folder}/journal.db")
        found = set(inspect(engine).get_table_names())
        engine.dispose()
    assert found >= {*METADATA.tables, "alembic_version"}, found


def main() -> None:
    import fastroute

    prompts = ["Prove that there are infinitely many primes.", "hi", ""]
    for command in (
        [sys.executable, "-m", "fastroute"],
        [str(Path(sys.executable).with_name("fastroute"))],
    ):
        done = subprocess.run(
            [*command, "route", "--json", "--strong-share", "0.5", *prompts],
            check=True,
            capture_output=True,
            text=True,
        )
        decisions = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(decisions) == len(prompts), done.stdout
        for decision in decisions:
            assert decision["model"] == ("strong" if decision["strong"] else "weak"), decision
            assert 0.0 <= decision["win_rate"] <= 1.0, decision
    info = subprocess.run(
        [sys.executable, "-m", "fastroute", "info", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    print(info.stdout)

    controller = fastroute.Controller(routers=["mf"], strong_model="big", weak_model="small")
    assert controller.route(prompts[0], router="mf", threshold=0.0) == "big"
    assert controller.route(prompts[0], router="mf", threshold=1.0) == "small"


if __name__ == "__main__":
    check_origin(sys.argv[1])
    journal() if "--journal" in sys.argv else main()
    print("1 passed, 0 failed")
