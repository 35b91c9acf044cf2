"""The loop between real processes runs: users, gateway and provider, and what they came to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "loop_servers.py"
CHANGE = "the weak model gets worse at small talk"


def test_two_short_days() -> None:
    command = [sys.executable, str(BENCH), "--change", CHANGE, "--days", "1", "1"]
    done = subprocess.run(
        [*command, "--day-s", "3", "--requests", "120"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    first, *events = done.stdout.splitlines()
    begins, _, regrets = first.partition(": regret a request of each day: ")
    assert begins == f"{CHANGE} after 1 days, sqlite"
    # An oracle and a model are apart by the price of the strong one at most, or 0.88 - 0.7.
    assert all(0.0 <= float(regret) <= 0.4 for regret in regrets.split()), first
    assert len(regrets.split()) >= 2
    # Each night says what learning came to: too few grades of both models, as a rule.
    assert events
    assert all("learn" in event for event in events), done.stdout
