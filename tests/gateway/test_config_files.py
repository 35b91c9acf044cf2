"""Configuration files that are damaged, hostile or not files at all: clear errors, soon."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastroute.errors import ConfigError
from fastroute.gateway.config.file import MAX_FILE_BYTES, read_config_file
from fastroute.gateway.config.settings import load_config

MODELS = '[routing]\nstrong_model = "s"\nweak_model = "w"\n'
ALIASES = "\n".join(
    ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
)
MERGES = "\n".join(
    ["a0: &a0 {k: x}"]
    + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
)
KEY_ALIASES = "\n".join(ALIASES.splitlines()[:4]) + "\n? *a3\n: x\n"


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "socket"])
@pytest.mark.parametrize("suffix", ["toml", "yaml"])
def test_what_is_not_a_file_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"gateway.{suffix}"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    done = subprocess.run(
        [sys.executable, "-m", "fastroute", "serve", "--check", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", ALIASES, "more than 20000 values"),
        ("c.yaml", MERGES, "more than 20000 values"),
        ("c.yaml", KEY_ALIASES, "c.yaml:4: a key must be a string"),
        ("c.yaml", "? [a, b]\n: x\n", "c.yaml:1: a key must be a string"),
        ("c.yaml", "a: &a [*a]\n", "nested too deeply"),
        ("c.yaml", "a: " + "[" * 50_000, "nested too deeply"),
        ("c.yaml", "a:\n  b: 1\n  b: 2\n", "c.yaml:3: a.b: duplicate key"),
        ("c.yaml", "a: 2020-99-99\n", "c.yaml: month must be in 1..12"),
        ("c.yaml", "a: " + "9" * 5000, "c.yaml: Exceeds the limit"),
        ("c.toml", "a = " + "[" * 50_000, "nested too deeply"),
        ("c.toml", "a" + ".a" * 50_000 + " = 1\n", "c.toml:1: the file is nested too deeply"),
        ("c.toml", "[a" + ".a" * 50_000 + "]\n", "c.toml:1: the file is nested too deeply"),
        ("c.toml", "a = " + "9" * 5000, "c.toml:1: Exceeds the limit"),
        ("c.toml", "a = 1\na = 2\n", "c.toml:2: Cannot overwrite a value"),
        ("c.toml", "#" * (MAX_FILE_BYTES + 1), f"longer than {MAX_FILE_BYTES} bytes"),
        ("c.toml", "", "c.toml: routing.strong_model: missing key"),
    ],
)
def test_hostile_text_is_refused_soon(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    began_s = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / name))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 4000
    assert time.monotonic() - began_s < 10


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"[server]\nhost = '\xff'\n")
    with pytest.raises(ConfigError, match=r"c\.toml:2: the file is not UTF-8"):
        read_config_file(str(path))


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.toml", MODELS), ("c.yaml", "routing: {strong_model: s, weak_model: w}\n")],
)
def test_a_byte_order_mark_is_read_over(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8-sig")
    assert load_config(str(path)).routing.strong_model == "s"


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "etc", tmp_path / "elsewhere"
    for made in (folder / "hub" / "model", elsewhere / "here"):
        made.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    path = folder / "c.toml"
    path.write_text(
        f"{MODELS}routers = ['mf', 'sw_ranking', 'bert', 'cascade']\n"
        "[routers.mf]\ncheckpoint_path = 'here'\nembedder_path = '/absolute'\n"
        "[routers.sw_ranking]\nbattles = '../battles.jsonl'\nstrong_model = 'a/b'\n"
        "[routers.bert]\ncheckpoint_path = 'owner/model'\n"
        "[routers.cascade.fast]\nrouter = 'mf'\ncheckpoint_path = 'fast'\n"
        "[routers.cascade.slow]\nrouter = 'bert'\ncheckpoint_path = 'hub/model'\n"
    )
    for given in (str(path), "../etc/c.toml"):
        config = load_config(given).router_config
        assert [str(Path(value).resolve()) for value in config["mf"].values()] == [
            str(folder / "here"),
            "/absolute",
        ]
        assert Path(config["sw_ranking"]["battles"]).resolve() == tmp_path / "battles.jsonl"
        assert config["sw_ranking"]["strong_model"] == "a/b"
        assert config["bert"]["checkpoint_path"] == "owner/model"
        members = config["cascade"]
        assert Path(members["fast"]["checkpoint_path"]).resolve() == folder / "fast"
        assert Path(members["slow"]["checkpoint_path"]).resolve() == folder / "hub" / "model"
