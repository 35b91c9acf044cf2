"""What a user's first minute needs of an installed wheel: run outside the checkout.

``python smoke.py CHECKOUT``: CHECKOUT is where fastroute must *not* come from.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main(checkout: str) -> None:
    import fastroute

    location = Path(fastroute.__file__).resolve()
    assert not location.is_relative_to(Path(checkout).resolve()), location

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
    main(sys.argv[1])
    print("1 passed, 0 failed")
