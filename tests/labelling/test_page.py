"""The page of ``fastroute label --page``, in a real browser without a window."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import answered
from cli_runner import refused
from fakes import browser
from fakes.browser import look, needs_browser
from graded_traffic import write_csv

FITS = "document.documentElement.scrollWidth <= innerWidth"
PROMPT = "document.getElementById('prompt').textContent"
SAID = "document.getElementById('progress').textContent"
SHOWN = "!document.getElementById('pair').hidden"


@contextmanager
def page(
    file: Path, output: Path, *more: str, code: str = ""
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page's address, and its process, which is stopped as by Ctrl-C at the end."""
    program = ["-c", code] if code else ["-m", "fastroute"]
    command = [sys.executable, *program, "label", str(file), *answered.MODELS,
               "--output", str(output), "--page", *more]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def post(url: str, body: Any) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, raw), timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def long_pairs(folder: Path) -> Path:
    rows = [
        {"prompt": f"Question {i}: <b>what</b> is {'very ' * 40 * i}long?",
         "answer_mini": f"mini says\n\n  {'word ' * 120}", "answer_big": "big says " + "x" * 300}
        for i in range(4)
    ]  # fmt: skip
    return write_csv(folder / "export.csv", rows)


@needs_browser
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (360, False), (360, True)]
)
def test_grading_by_keys_at_every_width_and_shade(tmp_path: Path, width: int, dark: bool) -> None:
    output = tmp_path / "v.jsonl"

    async def run(url: str) -> None:
        async with browser.open_tab(url, width=width, height=800, dark=dark) as tab:
            await tab.wait_for(SHOWN)
            assert "Question 0: <b>what</b>" in await tab.js(PROMPT)
            assert "score_" not in await tab.js("document.documentElement.outerHTML")
            assert await tab.js(FITS)
            await look(tab, f"label-{width}-{'dark' if dark else 'light'}")
            for key, said in (
                ("1", "Saved. 1 of 4"),
                ("2", "Saved. 2 of 4"),
                ("s", "Skipped. 2 of 4 graded, 1 skipped"),
                ("u", "Not skipped. 2 of 4"),
                ("u", "Undone. 1 of 4"),
                ("3", "Saved. 2 of 4"),
            ):
                await tab.press(key, text=key)
                await tab.wait_for(f"{SAID}.startsWith('{said}')")
                assert len(answered.verdicts(output)) == int(said.split(" of ")[0].split()[-1])
            assert await tab.js("document.activeElement.id") == "question"
            assert [v["winner"] for v in answered.verdicts(output)] == ["model_a", "tie"]
            assert "Question 2" in await tab.js(PROMPT)
            ink, paper = await tab.js(
                "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
            )
            light = [sum(map(int, c[4:-1].split(","))) > 3 * 128 for c in (ink, paper)]
            assert light == [dark, not dark]
            assert tab.errors == []

    with page(long_pairs(tmp_path), output) as (url, _):
        assert url.startswith("http://127.0.0.1:")
        asyncio.run(run(url))


@needs_browser
def test_buttons_skipped_pairs_and_the_end(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"

    async def run(url: str) -> None:
        async with browser.open_tab(url, width=360, height=800, dark=True) as tab:
            await tab.wait_for(SHOWN)

            async def click(key: str, said: str) -> None:
                await tab.js(f"document.querySelector('[data-key=\"{key}\"]').click()")
                await tab.wait_for(f"{SAID}.startsWith('{said}')")

            await click("u", "There is nothing to undo.")
            await click("s", "Skipped.")
            await click("2", "Saved. 1 of 2")
            assert await tab.js("document.getElementById('done-title').textContent") == (
                "Only skipped pairs are left"
            )
            await tab.js("document.getElementById('again').click()")
            await tab.wait_for(SHOWN)
            assert await tab.js(PROMPT) == "question 0"
            # Keys do nothing where they are turned off, nor with Ctrl.
            await tab.js("document.getElementById('keys').click()")
            await tab.press("1", text="1")
            await tab.js("document.getElementById('keys').click()")
            await tab.press("1", modifiers=2)
            assert len(answered.verdicts(output)) == 1
            await click("1", "Saved. 2 of 2")
            title = await tab.js("document.getElementById('done-title').textContent")
            assert title == "All pairs are graded"
            await look(tab, "label-done-360-dark")
            assert tab.errors == []

    with page(answered.write(tmp_path, 2), output) as (url, _):
        asyncio.run(run(url))
    assert [v["prompt"] for v in answered.verdicts(output)] == ["question 1", "question 0"]


@needs_browser
def test_what_is_not_saved_is_said_and_stays(tmp_path: Path) -> None:
    async def run(url: str, process: subprocess.Popen[str]) -> None:
        async with browser.open_tab(url) as tab:
            await tab.wait_for(SHOWN)
            process.kill()
            process.wait()
            await tab.press("1", text="1")
            await tab.wait_for("!document.getElementById('problem').hidden")
            problem = await tab.js("document.getElementById('problem').textContent")
            assert problem.startswith("Not saved: fastroute does not answer")
            assert await tab.js(PROMPT) == "question 0"

    with page(answered.write(tmp_path), tmp_path / "v.jsonl") as (url, process):
        asyncio.run(run(url, process))


@needs_browser
def test_controls_have_names(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        async with browser.open_tab(url) as tab:
            await tab.wait_for(SHOWN)
            tree = await tab.do("Accessibility.getFullAXTree")
            found = [
                (node["role"]["value"], node.get("name", {}).get("value", ""))
                for node in tree["nodes"]
                if not node["ignored"]
            ]
            for role in ("button", "checkbox", "region", "progressbar", "group"):
                names = [name for one, name in found if one == role]
                assert names, role
                assert all(names), role
            regions = [name for role, name in found if role == "region"]
            assert regions == ["Prompt", "First answer", "Second answer"]

    with page(answered.write(tmp_path), tmp_path / "v.jsonl") as (url, _):
        asyncio.run(run(url))


def test_a_verdict_survives_kill_9_and_the_page_resumes(tmp_path: Path) -> None:
    file, output = answered.write(tmp_path, 3), tmp_path / "v.jsonl"
    with page(file, output) as (url, process):
        _, state = post(url + "next", {})
        assert sorted(a.split()[0] for a in state["pair"]["answers"]) == ["big", "mini"]
        assert set(state["pair"]) == {"id", "prompt", "answers"}
        assert post(url + "grade", {"id": state["pair"]["id"], "key": "2"})[0] == 200
        process.kill()
        process.wait()
    assert [v["winner"] for v in answered.verdicts(output)] == ["model_b"]
    with page(file, output) as (url, _):
        _, state = post(url + "next", {})
        assert (state["graded"], state["total"]) == (1, 3)
        assert state["pair"]["prompt"] == "question 1"
        _, state = post(url + "undo", {})
        assert (state["graded"], state["pair"]["prompt"]) == (0, "question 0")
    assert answered.verdicts(output) == []


def test_what_is_no_verdict_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    with page(answered.write(tmp_path), output) as (url, _):
        pair = post(url + "next", {})[1]["pair"]["id"]
        for body in (
            b"", b"\xff", b"[]", {}, {"id": pair}, {"id": pair, "key": "4"},
            {"id": pair, "key": []}, {"id": "none", "key": "1"}, {"id": 1, "key": "1"},
        ):  # fmt: skip
            status, said = post(url + "grade", body)
            assert status == 400, body
            assert said["error"]["message"]
        assert post(url + "grade", {"id": pair, "key": "1", "skipped": 3})[0] == 200
        assert post(url + "grade", {"id": pair, "key": "2"})[0] == 400  # from a second tab
        assert [v["winner"] for v in answered.verdicts(output)] == ["model_a"]


def test_without_the_token_there_is_nothing(tmp_path: Path) -> None:
    with page(answered.write(tmp_path), tmp_path / "v.jsonl") as (url, _):
        base, token = url.rstrip("/").rsplit("/", 1)
        assert len(token) >= 20
        for path in ("/", "/next", "/label.js", f"/{token[:-1]}/", f"/{'x' * len(token)}/next"):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(base + path, timeout=10)
            assert refusal.value.code == 404
            refusal.value.close()
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        # It listens on the loopback address only.
        port = int(base.rsplit(":", 1)[1])
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))


def test_a_port_of_ones_own_choice(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = refused("label", answered.write(tmp_path), *answered.MODELS,
                       "--output", tmp_path / "v.jsonl", "--page", port)  # fmt: skip
        assert f"127.0.0.1:{port}" in said
    with page(tmp_path / "export.csv", tmp_path / "v.jsonl", port) as (url, _):
        assert url.startswith(f"http://127.0.0.1:{port}/")


def test_a_verdict_that_can_not_be_stored_is_an_error(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150));"
        "from fastroute.cli.command import main; sys.exit(main(sys.argv[1:]))"
    )
    with page(answered.write(tmp_path), output, code=limited) as (url, _):
        for status in (200, 500):
            pair = post(url + "next", {})[1]["pair"]["id"]
            found, said = post(url + "grade", {"id": pair, "key": "1"})
            assert found == status
        assert "can't be written" in said["error"]["message"]
        assert post(url + "next", {})[1]["pair"]["id"] == pair
        assert len(answered.verdicts(output)) == 1
