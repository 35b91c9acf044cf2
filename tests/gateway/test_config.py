"""Configs: what they say, and on which line they are wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.gateway import write_config
from fastroute.errors import ConfigError
from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.gateway.config.file import read_config_file
from fastroute.gateway.config.settings import load_config
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER

FULL = """
[server]
host = "0.0.0.0"
port = 8080
workers = 2
max_body_bytes = 1000

[routing]
strong_model = "big"
weak_model = "small"
routers = ["mf", "length"]
router = "length"
strong_share = 0.25
window = 3

[routing.session_affinity]
by = "header"
header = "X-Session"
margin = 0.2

[routers.length]
half_length = 10

[endpoint]
base_url = "http://127.0.0.1:1/v1"
api_key_env = "A_KEY"
timeout_s = 12

[models.big]
input_usd_per_mtok = 2.5
output_usd_per_mtok = 10

[[models.big.endpoints]]
base_url = "http://127.0.0.1:2/v1"
api_key_env = "B_KEY"
model = "big-eu"
weight = 3

[[models.big.endpoints]]
base_url = "http://127.0.0.1:3/v1"
first_byte_timeout_s = 1.5

[models."small"]
model = "small-2025"

[resilience]
fallback = "weak_to_strong"
redundancy = "hedge"

[[keys]]
name = "team"
sha256 = "{digest}"
"""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "sk-a")
    monkeypatch.setenv("B_KEY", "sk-b")


def load(folder: Path, text: str, name: str = "c.toml", **overrides: Any) -> Any:
    return load_config(write_config(folder, text, name), overrides)


def test_every_section_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, FULL.format(digest="ab" * 32))
    assert (config.server.host, config.server.port, config.server.workers) == ("0.0.0.0", 8080, 2)
    assert config.routing.router == "length"
    assert config.routing.session_affinity.header == "x-session"
    assert config.router_config == {"length": {"half_length": 10}}
    assert (config.endpoint.api_key, config.endpoint.timeout_s) == ("sk-a", 12.0)
    first, second = config.models["big"].targets
    assert (first.model, first.weight, first.endpoint.api_key) == ("big-eu", 3.0, "sk-b")
    # The key of the default endpoint does not wander to another address.
    assert (second.model, second.endpoint.api_key) == ("big", None)
    assert second.endpoint.first_byte_timeout_s == 1.5
    assert second.endpoint.timeout_s == 12.0
    (small,) = config.models["small"].targets
    assert (small.model, small.endpoint.base_url) == ("small-2025", "http://127.0.0.1:1/v1")
    assert small.endpoint.api_key == "sk-a"
    assert config.keys[0].sha256 == bytes.fromhex("ab" * 32)
    assert "sk-a" not in repr(config)


def test_yaml_says_the_same(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = FULL.format(digest="ab" * 32)
    same = yaml.safe_dump(tomllib.loads(text))
    assert load(tmp_path, same, "c.yaml") == load(tmp_path, text)


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    text = FULL.format(digest="ab" * 32)
    config = load(tmp_path, text, port=1, strong_model="other", routers=["random"])
    assert (config.server.port, config.routing.strong_model) == (1, "other")
    assert (config.routing.router_names, config.routing.router) == (("random",), "random")


def test_a_routellm_config_is_taken(tmp_path: Path) -> None:
    text = "sw_ranking:\n  battles: x.jsonl\nmf:\n  checkpoint_path: folder\nbert: {a: b}\n"
    config = load(tmp_path, text, "r.yaml", strong_model="s", weak_model="w", routers=["mf"])
    assert config.router_config == {"mf": {"checkpoint_path": str(tmp_path / "folder")}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[routing]\nstrong_model = 1\nweak_model = 'w'",
            "c.toml:2: routing.strong_model: must be a valid string; found 1",
        ),
        (
            "[routing]\nstrong_model = 's'",
            "c.toml:1: routing.weak_model: missing key; give it here or as",
        ),
        ("[server]\n\nprot = 1", "c.toml:3: server.prot: unknown key; did you mean port?"),
        (
            "[server]\nport = 70000",
            "c.toml:2: server.port: must be less than or equal to 65535; found 70000",
        ),
        ("[server]\nport = true", "c.toml:2: server.port: must be a valid integer; found true"),
        ("server = 3", "c.toml:1: server: must be a table; found 3"),
        (
            "[resilience]\nfallback = 'up'",
            "c.toml:2: resilience.fallback: must be 'none', 'strong_to_weak'",
        ),
        ("[resilience]\nredundancy = 'relaunch'", "needs redundancy_delay_s"),
        ("[endpoint]\nbase_url = 'ftp://x'", "c.toml:2: endpoint.base_url: base_url must start"),
        (
            "[endpoint]\napi_key = 'sk-secret'",
            "c.toml:2: endpoint.api_key: secrets do not belong in a file",
        ),
        ("[endpoint]\napi_key_env = 'NOT_SET'", "c.toml:2: endpoint.api_key_env: the environment"),
        (
            "[models.'a.b']\nweight = 0",
            "c.toml:2: models.a.b.weight: must be greater than 0; found 0",
        ),
        (
            "[[models.m.endpoints]]\n[[models.m.endpoints]]\ntimeout_s = -1",
            "c.toml:3: models.m.endpoints.1.timeout_s: must be greater than 0; found -1",
        ),
        ("[[keys]]\nsha256 = 'ab'", "c.toml:2: keys.0.sha256: must be 64"),
        ("[routing]\nrouters = ['mff']", "c.toml:2: routing.routers.0: unknown router 'mff'"),
        ("[routing]\nrouters = ['mf', 'mf=x']", "c.toml:2: routing.routers: router mf is given tw"),
        (
            "[routing]\nrouters = ['mf,x=1']",
            "routers.0: router 'mf,x=1': mf has no option x",
        ),
        ("[routing]\nrouters = [1]", "c.toml:2: routing.routers.0: must be a string: NAME, NAME="),
        ("[routing]\nrouters = ['mf']\nrouter = 'length'", "c.toml:3: routing.router: 'length' is"),
        ("[routers.xx]\na = 1", "c.toml:1: routers.xx: unknown router 'xx'"),
        ("[routing]\nthreshold = 0.1\nstrong_share = 0.5", "c.toml:3: routing.strong_share: give"),
        (
            "[server]\npage = 'sk-secret'",
            "c.toml:2: server.page: must be a valid boolean; found a string",
        ),
        (
            "[server]\nlog_level = 'sk-secret'",
            "c.toml:2: server.log_level: must be 'debug', 'info'",
        ),
        (
            "[routing.session_affinity]\nheader = ''",
            "c.toml:2: routing.session_affinity.header: must have at least 1 character; found ''",
        ),
        ("[endpoint]\napi_key_env = 'sk-secret'", "must be the name of an environment variable"),
        ("[models.m]\napi_key = 'sk-secret'", "c.toml:2: models.m.api_key: secrets do not belong"),
        ("[[models.m.endpoints]]\nwieght = 1", "models.m.endpoints.0.wieght: unknown key; did you"),
        ("[[keys]]\nsha265 = 'sk-secret'", "c.toml:2: keys.0.sha265: unknown key; did you mean sh"),
        ("[routing.session_affinity]\ntll_s = 1", "tll_s: unknown key; did you mean ttl_s?"),
        ("[serverr]", "c.toml:1: serverr: unknown key; did you mean server?"),
        (
            "[server]\nxyz = 1",
            "c.toml:2: server.xyz: unknown key; known keys: body_timeout_s, host",
        ),
        (
            "[models.m]\nbase_url = 'http://x'\n[[models.m.endpoints]]",
            "c.toml:3: models.m.endpoints: give base_",
        ),
        ("[server]\nretry_after_s = inf", "c.toml:2: server.retry_after_s: must be a finite numb"),
        ("routers.mf = 3", "c.toml:1: routers.mf: must be a table; found 3"),
        ("keys = 'sk-secret'", "c.toml:1: keys: must be a list; found a string"),
        ("[server]\n\nport = sk-secret", "c.toml:3: Invalid value"),
        ("[server]\n[other", "c.toml:2: Expected"),
    ],
)
def test_an_error_names_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "sk-secret" not in "".join(traceback.format_exception(caught.value))


CASCADE = """
[routing]
strong_model = "s"
weak_model = "w"
[cascade]
"""


def test_a_cascade_is_read(tmp_path: Path) -> None:
    text = CASCADE + 'helpers = ["h", "w"]\nacceptance = "folder"\nquorum = 3\npointer = "/a"\n'
    config = load(tmp_path, text)
    assert config.cascade.helpers == ("h", "w")
    assert config.cascade.acceptance == str(tmp_path / "folder")
    assert config.cascade.expectation.kind == "json"
    assert config.cascade.expectation.extract('{"a": 5}') == 5
    assert config.model_names == ["s", "w", "h"]
    config = load(tmp_path, CASCADE + "helpers = ['h']\npattern = 'x=(.)'")
    assert config.cascade.expectation.extract("x=1 x=2") == "2"
    assert load(tmp_path, CASCADE + "helpers = ['h']").cascade.expectation is None
    assert load(tmp_path, CASCADE + "helpers = ['h']\nkind = 'code'").cascade.kind == "code"
    assert load(tmp_path, CASCADE.replace("[cascade]", "")).cascade is None
    # Alone in a file it is the section too, and not the router of that name.
    alone = load(tmp_path, "[cascade]\nhelpers = ['h']", strong_model="s", weak_model="w")
    assert alone.cascade.helpers == ("h",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quorum = 2", "c.toml:5: cascade.helpers: missing key"),
        ("helpers = []", "c.toml:6: cascade.helpers: must have at least 1 item"),
        ("helpers = 'h'", "c.toml:6: cascade.helpers: must be a list; found 'h'"),
        ("helpers = ['h', 's']", "c.toml:6: cascade.helpers.1: is the strong model; name cheaper"),
        ("helpers = ['h']\nhelper = 1", "c.toml:7: cascade.helper: unknown key; did you mean help"),
        ("helpers = ['h']\nquorum = 3", "c.toml:7: cascade.quorum: must be at most 2, the num"),
        ("helpers = ['h']\ndeadline_s = 0", "c.toml:7: cascade.deadline_s: must be greater than 0"),
        ("helpers = ['h']\nearly_strong_s = -1", "c.toml:7: cascade.early_strong_s: must be grea"),
        ("helpers = ['h']\nstreams = 'no'", "c.toml:7: cascade.streams: must be 'cascade' or 'pr"),
        ("helpers = ['h']\nthreshold = 0.5", "c.toml:7: cascade.threshold: needs acceptance"),
        ("helpers = ['h']\nkind = 'x'", "c.toml:7: cascade.kind: must be 'number', 'choice'"),
        ("helpers = ['h']\npattern = '('", "c.toml:7: cascade.pattern: pattern is not a regular"),
        ("helpers = ['h']\npointer = 'a'", "c.toml:7: cascade.pointer: pointer must be"),
        (
            "helpers = ['h']\nkind = 'json'\npointer = '/a'",
            "c.toml:8: cascade.pointer: give kind or pointer, not both",
        ),
        ("helpers = ['h']\nlogprobs = ['w', 'x']", "c.toml:7: cascade.logprobs.1: is not a cheap"),
        (
            "helpers = ['h']\n[endpoint]\nother_models = false",
            "c.toml:6: cascade.helpers.0: has no section in [models], and other_models is false",
        ),
        ("helpers = ['h']\n[models.cascade]", "c.toml:5: cascade: a model has the name 'cascade'"),
    ],
)
def test_an_error_in_a_cascade_names_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, CASCADE + text)
    assert said in str(caught.value)


def test_the_check_loads_the_acceptance_model(tmp_path: Path) -> None:
    path = write_config(tmp_path, CASCADE + "helpers = ['h']\nacceptance = 'nowhere'", "c.toml")
    command = [sys.executable, "-m", "fastroute", "serve", "--check", "--config", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert str(tmp_path / "nowhere") in done.stderr
    names = ("agreeing", "unmarked")
    model = AcceptanceModel(names, np.ones(2), 0.0, np.zeros(2), np.ones(2), 3.0)
    replace(model, cheap_models=3).save(tmp_path / "nowhere")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "was trained with 3 cheap models, and there are 2" in done.stderr
    shutil.rmtree(tmp_path / "nowhere")
    replace(model, cheap_models=2).save(tmp_path / "nowhere")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_errors_are_said_at_once(tmp_path: Path) -> None:
    text = "server:\n  port: x\n  host: ''\nrouting:\n  window: 0\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, "c.yaml")
    lines = str(caught.value).splitlines()
    places = [line[line.index("c.yaml") :].split(" ")[0] for line in lines]
    assert places == ["c.yaml:2:", "c.yaml:3:", "c.yaml:4:", "c.yaml:4:", "c.yaml:5:"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2", "c.yaml:2: "),
        ("a: sk-secret\nb: [sk-secret: sk-secret: 1", "c.yaml:2: "),
        ("- 1", "must be a table"),
        ("a: !!python/object:os.system x", "c.yaml:1: could not determine a constructor"),
        ("1: 2", "must be a table of named sections"),
    ],
)
def test_yaml_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config_file(write_config(tmp_path, text, "c.yaml"))
    assert said in str(caught.value)
    assert "sk-secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["missing.toml", "c.json"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "c.json":
        path.write_text("{}")
    with pytest.raises(ConfigError, match=name):
        read_config_file(str(path))


def test_lines_of_a_toml_file(tmp_path: Path) -> None:
    text = "a.b = 1\n[t.'x y']  # c\nk = '''\nfake = 1\n'''\nm = { n = 1 }\n"
    text += "[[l]]\nz = 1\n[[l]]\nz = 2\n"
    lines = read_config_file(write_config(tmp_path, text)).lines
    assert lines[("a", "b")] == 1
    assert lines[("t", "x y", "k")] == 3
    assert ("t", "x y", "fake") not in lines
    assert lines[("t", "x y", "m")] == 6
    assert (lines[("l", 0, "z")], lines[("l", 1, "z")]) == (8, 10)


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("port", 70000, "--port: must be less than or equal to 65535; found 70000"),
        ("workers", 0, "--workers: must be greater than or equal to 1; found 0"),
        ("host", "", "--host: must have at least 1 character; found ''"),
        ("routers", ["mff"], "--routers: unknown router 'mff'"),
        ("strong_model", "", "--strong-model: must have at least 1 character"),
    ],
)
def test_an_error_names_the_flag(tmp_path: Path, flag: str, value: Any, said: str) -> None:
    text = "[server]\nport = 1\n[routing]\nstrong_model = 's'\nweak_model = 'w'\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **{flag: value})
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_without_a_file_the_flags_are_asked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"weak_model": "w"})
    assert str(caught.value) == (
        "command line: routing.strong_model: missing key; give it here or as --strong-model"
    )


def test_routers_are_written_as_in_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc").mkdir()
    text = (
        "[routing]\nstrong_model = 's'\nweak_model = 'w'\n"
        "routers = ['mf=mine', 'length,half_length=7', 'random', 'cascade']\nrouter = 'length'\n"
        "[routers.mf]\ncheckpoint_path = 'other'\nstrong_model = 'a'\n"
        "[routers.length]\nhalf_length = 3\n[routers.random]\nseed = 1\n[routers.bert]\nx = 1\n"
    )
    config = load(tmp_path / "etc", text)
    assert config.routing.router_names == ("mf", "length", "random", "cascade")
    assert config.router_config == {
        "mf": {"checkpoint_path": str(tmp_path / "etc" / "mine")},
        "length": {"half_length": 7},
        "random": {"seed": 1},
    }
    # Those of the command line replace them, and are relative to the working directory.
    config = load(tmp_path / "etc", text, routers=["mf=mine", "length"])
    assert (config.routing.router_names, config.routing.router) == (("mf", "length"), "length")
    assert config.router_config == {"mf": {"checkpoint_path": "mine"}, "length": {"half_length": 3}}
    assert load(tmp_path / "etc", text, routers=["random,seed=2"]).routing.router == "random"


def test_serve_loads_a_router_from_a_folder(tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_FOLDER, tmp_path / "my-router")
    models = ("--strong-model", "s", "--weak-model", "w")
    for router, status in (("mf=my-router", 0), ("mf=nowhere", 2)):
        done = subprocess.run(
            [sys.executable, "-m", "fastroute", "serve", "--check", "--routers", router, *models],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
    assert "nowhere" in done.stderr


def test_an_option_that_a_loaded_router_does_not_have_is_an_error(tmp_path: Path) -> None:
    text = (
        "[routing]\nstrong_model = 's'\nweak_model = 'w'\nrouters = ['mf', 'random']\n"
        "[routers.mf]\nchekpoint_path = 'x'\n[routers.random]\nzzz = 1\n[routers.bert]\nx = 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    first, second = str(caught.value).splitlines()
    assert first.endswith(
        "c.toml:6: routers.mf.chekpoint_path: unknown key; did you mean checkpoint_path?"
    )
    assert second.endswith("c.toml:8: routers.random.zzz: unknown key; known keys: seed")


def test_the_command_prints_a_line_for_each_error(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[server]\nprot = 1\nport = 70000\n", "c.toml")
    models = ("--strong-model", "s", "--weak-model", "w")
    done = subprocess.run(
        [sys.executable, "-m", "fastroute", "serve", "--check", "--config", path, *models],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"fastroute: {path}:2: server.prot: unknown key; did you mean port?",
        f"fastroute: {path}:3: server.port: must be less than or equal to 65535; found 70000",
    ]


@pytest.mark.parametrize(
    ("flag", "value", "other"),
    [("threshold", 0.3, "strong_share"), ("strong_share", 0.3, "threshold")],
)
def test_a_flag_for_the_threshold_replaces_what_the_file_says(
    flag: str, value: float, other: str, tmp_path: Path
) -> None:
    for line in ("threshold = 0.5", "strong_share = 0.5", ""):
        text = f"[routing]\nstrong_model = 's'\nweak_model = 'w'\n{line}\n"
        routing = load_config(write_config(tmp_path, text), {flag: value}).routing
        assert getattr(routing, flag) == value
        assert getattr(routing, other) is None
    with pytest.raises(ConfigError, match=f"--{flag.replace('_', '-')}.*less than or equal to 1"):
        load_config(write_config(tmp_path, text), {flag: 2.0})


def test_the_command_takes_a_threshold_or_a_share() -> None:
    command = [sys.executable, "-m", "fastroute", "serve", "--check"]
    command += ["--strong-model", "s", "--weak-model", "w"]
    for arguments, status, said in (
        (["--strong-share", "0.3"], 0, ""),
        (["--threshold", "0.5"], 0, ""),
        (["--strong-share", "0.3", "--routers", "length"], 2, "'length' is not calibrated"),
        (["--threshold", "0.5", "--strong-share", "0.3"], 2, "not allowed with argument"),
        (["--strong-share", "x"], 2, "--strong-share"),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        assert said in done.stderr
