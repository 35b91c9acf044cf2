"""The examples are true: the config loads, the dashboard asks for metrics that there are."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import fastroute.gateway
from fakes.gateway import Gateway
from fastroute.gateway.config.settings import ConfigSections, load_config
from fastroute.gateway.operations.metrics import Metrics

FOLDER = Path(fastroute.gateway.__file__).parent / "examples"


def test_the_config_is_valid() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fastroute", "serve", "--check"),
            *("--config", str(FOLDER / "gateway.toml")),
        ],
        env=os.environ | {"OPENAI_API_KEY": "sk-example"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def _shown_keys(table: dict[str, Any], key: str = "") -> Iterator[str]:
    """Every key in a file, with its sections; "*" stands for names of models and numbers."""
    for name, value in table.items():
        here = f"{key}.{'*' if key in ('.models', '.budgets.callers') else name}"
        yield here
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                yield from _shown_keys(entry, here + ".*" if isinstance(value, list) else here)


def _allowed_keys(model: type[BaseModel], key: str = "") -> Iterator[str]:
    """Every key that a file may have."""
    for name, field in model.model_fields.items():
        here = f"{key}.{field.alias or name}"
        yield here
        arguments = get_args(field.annotation)
        is_one = not arguments or NoneType in arguments  # and not a list or a table of them
        for inner in (field.annotation, *arguments):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _allowed_keys(inner, here if is_one else here + ".*")


def test_the_config_shows_every_key() -> None:
    text = (FOLDER / "gateway.toml").read_text()
    uncommented = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
    shown = set(_shown_keys(tomllib.loads(uncommented)))
    allowed = set(_allowed_keys(ConfigSections))
    assert ".models.*.endpoints.*.weight" in allowed
    assert allowed - shown == set()


def test_what_the_config_shows_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-example")
    shown = load_config(str(FOLDER / "gateway.toml"))
    bare = tmp_path / "bare.toml"
    bare.write_text('[routing]\nstrong_model = "a"\nweak_model = "b"\n')
    default = load_config(str(bare))
    assert shown.server == default.server
    assert shown.resilience == default.resilience
    assert shown.routing.session_affinity == default.routing.session_affinity


def test_the_dashboard_asks_for_metrics_that_exist(gateway: Gateway) -> None:
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    there = {family.name for family in Metrics().registry.collect()}
    served = gateway.ask("GET", "/metrics").body.decode()
    asked = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            names = re.findall(r"\bfastroute_\w+", target["expr"])
            assert names, target
            asked |= {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names}
            labels = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            by = re.findall(r"by \(([^)]*)\)", target["expr"])
            assert set(labels) <= {name.strip() for group in by for name in group.split(",")}
    assert asked == there
    for name in there:
        assert f"# TYPE {name}" in served


def test_the_unit_runs_a_command_that_exists() -> None:
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str
    unit.read(FOLDER / "fastroute.service")
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command[1:3] == ["serve", "--config"]
    assert unit["Service"]["ExecReload"].startswith("/bin/kill -HUP")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd to ask")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = (FOLDER / "fastroute.service").read_text()
    path = tmp_path / "fastroute.service"
    path.write_text(text.replace("/opt/fastroute/bin/fastroute serve", f"{sys.executable} serve"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
