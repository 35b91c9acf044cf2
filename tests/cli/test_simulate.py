"""``fastroute simulate``: its table, its advice, its plot, and the config that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from fastroute.gateway.config.settings import load_config
from fastroute.resilience.advice import compare
from fastroute.resilience.simulation import Bill, Exponential
from fastroute.resilience.tradeoff_plot import draw

RUNS = ("--runs", "20000")


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastroute", "simulate", *arguments],
        capture_output=True,
        text=True,
    )


def test_a_heavy_tail_is_worth_a_second_request(tmp_path: Path) -> None:
    picture = tmp_path / "plot.svg"
    done = simulate("--pareto", "0.5", "1.5", *RUNS, "--json", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["advice"]["redundancy"] in ("delayed", "relaunch")
    plain = next(row for row in said["policies"] if row["mode"] == "none")
    best = min(row["p99_s"] for row in said["policies"] if row["requests"] <= 1.05)
    assert best < 0.8 * plain["p99_s"]
    assert "<svg" in picture.read_text()


def test_the_cost_is_what_an_api_bills(tmp_path: Path) -> None:
    file = tmp_path / "latencies.txt"
    file.write_text("1.0\n3.0\n")
    common = ("--latencies", str(file), *RUNS, "--tokens", "800", "400")
    done = simulate(*common, "--prices", "2.5", "10", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["billed_in"] == "dollars per 1,000 jobs"
    for row in said["policies"]:
        by_hand = 2.0 * row["requests"] + 4.0 * row["completions"]
        assert row["billed"] == pytest.approx(by_hand)
    plain, twice = said["policies"][:2]
    assert plain["billed"] == pytest.approx(6.0)
    # Two at once: 1 and 1, 1 and 3 twice, of which a third is generated, 3 and 3.
    assert twice["billed"] == pytest.approx(4 + 4 * 5 / 3, abs=4.5 * twice["billed_error"])
    assert "tokens per job" in (table := simulate(*common).stdout)
    assert "1200" in table.splitlines()[1].split()


@pytest.mark.parametrize("bill", [None, Bill(2.0, 4.0)])
def test_the_axes_begin_at_zero_and_show_the_noise(bill: Bill | None) -> None:
    # Exponential times: every policy costs the same seconds, and what differs is noise.
    rows = compare(Exponential(4.0), runs=2000, bill=bill)
    axes = Figure().subplots()
    draw(axes, rows, rows[2], "latency")
    assert axes.get_xlim()[0] == axes.get_ylim()[0] == 0
    costs = [row.outcome.cost_s if bill is None else row.outcome.billed or 0.0 for row in rows]
    assert axes.get_ylim()[1] > 1.1 * max(costs)
    bars = [bar for container in axes.containers for bar in container.lines[2]]
    assert len(bars) == 2 * 4  # of both coordinates, a policy


def test_no_advice_where_nothing_is_won(tmp_path: Path) -> None:
    file = tmp_path / "latencies.txt"
    file.write_text("1.0\n" * 50)
    done = simulate("--latencies", str(file), *RUNS)
    assert 'redundancy = "none"' in done.stdout
    assert "<- advice" in done.stdout


def test_the_advice_is_written_and_the_rest_stays(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    before = (
        "[routing] # here\nstrong_model = 's'\nweak_model = 'w'\n\n[resilience]\nretries = 1\n"
        'redundancy = "none"\n\n[server]\nport = 1\n'
    )
    config.write_text(before)
    log = tmp_path / "log"
    latencies = np.random.default_rng(1).pareto(1.3, 3000) * 100 + 50
    log.write_text(
        "fastroute: listening on x\n"
        + "\n".join(json.dumps({"event": "request", "first_byte_ms": v}) for v in latencies)
    )
    done = simulate("--latencies", str(log), *RUNS, "--write", str(config))
    assert done.returncode == 0, done.stderr
    resilience = load_config(str(config)).resilience
    assert resilience.redundancy in ("delayed", "relaunch")
    assert resilience.redundancy_delay_s is not None
    assert resilience.redundancy_delay_s > 0.05
    assert resilience.retries == 1
    assert "[routing] # here" in config.read_text()
    assert tomllib.loads(config.read_text())["server"] == {"port": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "required"),
        (("--exponential", "-1"), "mean_s"),
        (("--pareto", "1", "0.5"), "shape"),
        (("--latencies", "nowhere"), "nowhere: can't be read"),
        (("--exponential", "1", "--copies", "0"), "--copies"),
        (("--exponential", "1", "--runs", "2000", "--write", "x.yaml"), "only TOML"),
        (("--exponential", "1", "--prices", "1", "2"), "--prices needs --tokens"),
        (("--exponential", "1", "--tokens", "1", "nan"), "--tokens must be two numbers"),
        (("--exponential", "1", *RUNS, "--plot", "nowhere/x.png"), "can't be written"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], said: str) -> None:
    done = simulate(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
