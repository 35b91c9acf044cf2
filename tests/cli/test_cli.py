"""The command as a whole, and ``route`` and ``info``, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import fastroute as package
from cli_runner import fastroute, refused
from fastroute.cli import main
from fastroute.routers import create_router
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER

needs_default = pytest.mark.skipif(
    not (DEFAULT_FOLDER / "artifact.json").is_file(),
    reason="the default router has not been made in this checkout",
)
LONG = "x" * 900  # length's win rate is 0.75


def test_version_help_and_entry_point() -> None:
    assert fastroute("--version").out == f"fastroute {package.__version__}\n"
    shown = fastroute("--help").out
    for command in ("route", "evaluate", "calibrate", "serve", "simulate", "info"):
        assert command in shown
        assert f"usage: fastroute {command}" in fastroute(command, "--help").out
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])  # what the entry point calls
    assert stopped.value.code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["rout", "x"], "invalid choice"),
        (["route"], "PROMPT"),
        (["route", "--thresh", "0.5", "x"], "unrecognized arguments"),
        (["route", "--router", "nope", "x"], "unknown router 'nope'"),
        (
            ["route", "--router", "length", "--threshold", "much", "x"],
            "--threshold must be a number",
        ),
        (
            ["route", "--router", "length", "--threshold", "nan", "x"],
            "--threshold must be a number",
        ),
        (["route", "--router", "length", "--threshold", "1.5", "x"], "1.5"),
        (["route", "--router", "length", "--strong-share", "0.5", "x"], "not calibrated"),
        (["route", "--router", "random", "--strong-share", "2", "x"], "2"),
        (["route", "--threshold", "0.5", "--strong-share", "0.5", "x"], "not allowed with"),
        (
            ["route", "--router", "length,seed=1", "x"],
            "length has no option seed.",
        ),
        (["route", "--router", "random,sed=1", "x"], "has no option sed, did you mean seed?"),
        (["route", "--router", "random,seed=one", "x"], "seed must be a number, true or false"),
        (["route", "--router", "random,seed", "x"], "'seed' is not KEY=VALUE"),
        (["route", "--router", "random,seed=1,seed=2", "x"], "seed is given twice"),
        (["route", "--router", "sw_ranking", "x"], "sw_ranking needs battles"),
        (["route", "--router", "length", "--threshold", "", "x"], "--threshold must be a number"),
        (["route", "--router", "mf=", "x"], "checkpoint_path is empty"),
        (["route", "--router", "sw_ranking,battles=", "x"], "battles is empty"),
        (["route", "--router", "length", "--strong-model", " ", "x"], "--strong-model: is empty"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_route_prints_a_json_object_a_prompt_and_length_decides() -> None:
    ran = fastroute(
        "route", "--router", "length", "--threshold", "0.5", "--json", "--strong-model", "big",
        "--weak-model", "small", "short", LONG,
    )  # fmt: skip
    assert ran.status == 0
    short, long = (json.loads(line) for line in ran.out.splitlines())
    assert (short["model"], short["strong"]) == ("small", False)
    assert (long["model"], long["strong"]) == ("big", True)
    assert long["win_rate"] == pytest.approx(0.75)
    assert (long["router"], long["threshold"]) == ("length", 0.5)
    assert long["latency_us"] > 0


def test_route_reads_lines_from_standard_input() -> None:
    ran = fastroute(
        "route", "--router", "length", "--json", "-", stdin=f"one\r\ntw\u00f6\n{LONG}\n"
    )
    assert [json.loads(line)["model"] for line in ran.out.splitlines()] == [
        "weak", "weak", "strong",
    ]  # fmt: skip
    text = fastroute("route", "--router", "length", "hello").out
    assert text.startswith("weak  win rate 0.0164 <  threshold 0.5000  (length, ")
    assert text.endswith(" us)  hello\n")


def test_several_prompts_are_a_table() -> None:
    prompts = ["short", "two\nlines\tand  spaces", "\u8bc1\u660e" * 100, "e\u0301" * 200]
    names = ("--strong-model", "the-big-one", "--weak-model", "\u5c0f")
    options = ("--router", "random,seed=3", "--strong-share", "0.25", *names)
    ran = fastroute("route", *options, *prompts)
    assert ran.status == 0, ran.err
    title, header, *rows = ran.out.splitlines()
    assert title.startswith("router random, threshold 0.75")
    assert title.endswith("for 25 % strong calls")
    assert header.split() == ["model", "harder", "than", "win", "rate", "prompt"]
    decisions = map(json.loads, fastroute("route", "--json", *options, *prompts).out.splitlines())
    wide = sum(unicodedata.east_asian_width(c) == "W" for c in rows[0])
    assert header.index("prompt") - wide == rows[0].index("short")
    for row, decision in zip(rows, decisions, strict=True):
        assert row.startswith(decision["model"] + " ")
        assert f"{decision['win_rate']:.4f}" in row
        assert f" {int(100 * decision['difficulty'])} % " in row
        assert row.count("\u2588") == round(10 * decision["difficulty"])
        assert row.count("\u2588") + row.count("\u2591") == 10
        columns = sum(
            0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
            for c in row
        )
        assert columns <= 100
    assert rows[1].endswith("  two lines and spaces")
    assert rows[2].endswith("\u8bc1\u2026") or rows[2].endswith("\u660e\u2026")


def test_a_prompt_is_shown_where_its_characters_can_not_be_printed() -> None:
    done = in_shell('route --router random "$P" x', PYTHONIOENCODING="ascii", P="\u8bc1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].endswith("  \\u8bc1")
    assert "#" in done.stdout
    assert done.stdout.isascii()


def test_a_threshold_that_no_prompt_crosses_is_a_line_on_standard_error() -> None:
    ran = fastroute("route", "--threshold", "0.0001", "x", "y", "z")
    assert ran.status == 0
    assert ran.err.startswith("fastroute: threshold 0.0001 sends nearly every prompt to the strong")
    assert ran.err.count("\n") == 1


def test_strong_share_takes_the_router_s_calibration() -> None:
    ran = fastroute("route", "--router", "random,seed=3", "--strong-share", "0.25", "--json", "x")
    decision = ran.json
    assert decision["threshold"] == pytest.approx(0.75, abs=0.01)
    assert decision["win_rate"] == create_router("random", seed=3).win_rate("x")


@needs_default
def test_the_default_router_routes_offline() -> None:
    ran = fastroute("route", "--json", "Prove that there are infinitely many primes.")
    assert ran.json["router"] == "mf"
    assert 0.0 < ran.json["win_rate"] < 1.0
    prompt = "Prove that there are infinitely many primes."
    assert ran.json["win_rate"] == create_router("mf").win_rate(prompt)


def test_sw_ranking_routes_by_battles(tmp_path: Path) -> None:
    path = tmp_path / "battles.jsonl"
    prompts = ["write a long proof of a theorem", "say hello to my little cat please"]
    battles = [
        {"prompt": p, "model_a": "big", "model_b": "small", "winner": w}
        for p in prompts
        for w in ("model_a", "model_a", "model_b")
    ]
    path.write_text("".join(json.dumps(battle) + "\n" for battle in battles))
    arguments = [
        "--router", f"sw_ranking,battles={path},num_tiers=2", "--strong-model", "big",
        "--weak-model", "small", "--json", prompts[0],
    ]  # fmt: skip
    if not (DEFAULT_FOLDER / "artifact.json").is_file():
        pytest.skip("sw_ranking embeds by the default embedder, which has not been made")
    decision = fastroute("route", *arguments).json
    assert decision["model"] == "big"
    assert decision["win_rate"] == pytest.approx(2 / 3, abs=0.01)


@needs_default
def test_info_tells_what_a_bug_report_needs() -> None:
    facts = fastroute("info", "--json").json
    assert facts["version"] == package.__version__
    assert facts["simd_level"] in facts["simd_levels"]
    assert facts["dependencies"]["numpy"]
    assert len(facts["default_artifact"]["checksum"]) == 64
    assert facts["default_artifact"]["bytes"] < 12 * 2**20
    text = fastroute("info").out
    assert facts["default_artifact"]["checksum"] in text


def test_a_reader_that_stops_is_no_error() -> None:
    command = [sys.executable, "-m", "fastroute", "route", "--router", "length", "-"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write("one\n")
    process.stdin.flush()
    assert process.stdout.readline() == "router length, threshold 0.5000\n"
    assert process.stdout.readline().split() == ["model", "win", "rate", "prompt"]
    assert process.stdout.readline().startswith("weak")  # each decision at once
    process.stdout.close()
    try:
        process.stdin.write("two\n" * 5000)
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_an_interrupt_ends_quietly() -> None:
    command = [sys.executable, "-m", "fastroute", "route", "--router", "length", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("one\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == ""


posix = pytest.mark.skipif(os.name != "posix", reason="closes streams in a POSIX shell")


def in_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``fastroute`` in a shell that may close or redirect its streams."""
    return subprocess.run(
        ["sh", "-c", f'"$PYTHON" -m fastroute {command}'],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        input="", capture_output=True, text=True, encoding="utf-8", timeout=60,
    )  # fmt: skip


@posix
@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("route --router length x >&-", 1, "standard output can't be written: it is closed"),
        ("--help >&-", 1, "standard output can't be written: it is closed"),
        ("route --router length - <&-", 2, "there is no standard input"),
        ("serve --hash-key <&-", 2, "there is no standard input"),
        ("route --router length - 0>/dev/null", 2, "standard input can't be read: Bad file"),
    ],
)
def test_a_closed_stream_is_one_line(command: str, status: int, message: str) -> None:
    done = in_shell(command)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("fastroute: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@posix
@pytest.mark.parametrize("command", ["route --router length x", "--version", "info --json"])
def test_a_full_disk_is_one_line(command: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = in_shell(f"{command} >/dev/full")
    assert done.returncode == 1
    assert done.stderr == ("fastroute: standard output can't be written: No space left on device\n")


@posix
def test_text_that_the_output_cannot_hold_is_one_line() -> None:
    command = "route --router length --weak-model \u00e9 x"
    done = in_shell(command, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "ascii, has no '\\xe9'; set PYTHONIOENCODING=utf-8" in done.stderr
    done = in_shell(command, PYTHONIOENCODING="utf-8", PYTHONUTF8="1")
    assert (done.returncode, done.stdout[:2]) == (0, "\u00e9 ")


@posix
def test_closed_standard_error_changes_no_answer() -> None:
    done = in_shell("route --router length x 2>&-")
    assert (done.returncode, done.stdout[:4]) == (0, "weak")
    done = in_shell("route --router nope x 2>&-")
    assert (done.returncode, done.stdout) == (2, "")  # the complaint is no output


def test_only_the_command_that_is_called_is_imported() -> None:
    code = (
        "import sys\nfrom fastroute.cli import main\n"
        "main(['route', '--router', 'length', 'x'])\n"
        "print(*sorted(m for m in sys.modules if m.startswith('fastroute.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1].split()
    assert "fastroute.cli.route" in modules
    assert not [m for m in modules if "evaluation" in m or "training" in m or m.endswith(".info")]
