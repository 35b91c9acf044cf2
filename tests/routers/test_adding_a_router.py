"""A router more, in the places that docs/contributing.md names, works in every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from router_package import copy_with_router

ROUTER = '''
"""Sends what is shouted to the strong model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastroute._validate import check_prompts
from fastroute.routers.base import Router
from fastroute.routers.spec import RouterSpec
from fastroute.types import Float64Array


class ShoutRouter(Router):
    """Win rate: the share of capitals, times a weight."""

    name = "shout"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def win_rate(self, prompt: str) -> float:
        """As the class says."""
        capitals = sum(c.isupper() for c in prompt)
        return min(1.0, self.weight * capitals / max(1, len(prompt)))

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        """The same of many."""
        return np.array([self.win_rate(prompt) for prompt in check_prompts(prompts)])


def _make_shout(weight: float = 1.0) -> ShoutRouter:
    return ShoutRouter(weight)


SPEC = RouterSpec("shout", "capitals", _make_shout)
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the router ``shout``: a module, and its line in the registry."""
    return copy_with_router(tmp_path_factory.mktemp("package"), "shout", ROUTER)


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package), "FASTROUTE_CACHE": os.devnull}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip


def test_commands_take_it_and_its_options(package: Path, tmp_path: Path) -> None:
    ran = run(package, "-m", "fastroute", "route", "--router", "shout,weight=0.5", "--json", "HI")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["win_rate"] == 0.5
    assert "shout" in run(package, "-m", "fastroute", "route", "--help").stdout
    ran = run(package, "-m", "fastroute", "route", "--router", "shout,wieght=1", "HI")
    assert "did you mean weight?" in ran.stderr
    rows = [
        {"prompt": "WHY?" if i % 2 else "why?", "weak": float(i % 2 == 0), "strong": 1.0}
        for i in range(40)
    ]
    traffic = tmp_path / "traffic.jsonl"
    traffic.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = run(
        package, "-m", "fastroute", "evaluate", "--benchmark", str(traffic), "--router", "shout",
        "--json", "--resamples", "0", "--no-cache",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)["benchmarks"][0]["routers"]
    assert next(row for row in rows if row["name"] == "shout")["apgr"]["value"] == pytest.approx(
        0.75
    )


def test_python_and_configs_take_it(package: Path, tmp_path: Path) -> None:
    script = (
        "from fastroute import Controller; c = Controller(['shout'], 'big', 'small', "
        "config={'shout': {'weight': 2.0}}); print(c.route('HI', router='shout', threshold=0.9))"
    )
    ran = run(package, "-c", script)
    assert ran.stdout == "big\n", ran.stderr
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[routing]\nstrong_model = "big"\nweak_model = "small"\nrouters = ["shout"]\n'
        "threshold = 0.5\n[routers.shout]\nweight = 2.0\n"
    )
    ran = run(package, "-m", "fastroute", "serve", "--config", str(config), "--check")
    assert ran.returncode == 0, ran.stderr
