"""``fastroute route -`` on a line of tens of megabytes: bounded memory, and Ctrl-C ends it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")

LIMIT_BYTES = 500 << 20


def start(router: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastroute", "route", "--router", router, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES)),
    )


# A tokenizer takes 62 bytes a character of one word, and a few seconds for this many.
@pytest.mark.parametrize(
    ("router", "line"),
    [
        ("length", b"a proof, in words " * 1_700_000),
        ("mf", b"a" * 6_000_000),
        ("mf", "\u00e9".encode() * 1_500_000 + b" " + b"\xff" * 1_500_000),
    ],
    ids=["length", "one word", "not ASCII"],
)
def test_a_long_line_is_routed_within_its_memory(router: str, line: bytes) -> None:
    with start(router) as process:
        out, err = process.communicate(line + b"\nhi\n", timeout=120)
    assert process.returncode == 0, err.decode()[-500:]
    assert err == b""
    decisions = out.splitlines()[-2:]  # of a table
    assert [words.split()[0] in (b"strong", b"weak") for words in decisions] == [True] * 2


@pytest.mark.parametrize("text", [b"a", b"a proof, in words ", b"!"], ids=["a", "words", "!"])
def test_ctrl_c_ends_a_long_line(text: bytes) -> None:
    with start("mf") as process:
        assert process.stdin is not None
        process.stdin.write(text * (40_000_000 // len(text)) + b"\n")
        process.stdin.flush()
        time.sleep(0.5)  # the whole takes 10 s and more
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        seconds = time.monotonic() - begin
    assert process.returncode == 130, err.decode()[-500:]
    assert err == b""
    assert seconds < 1.5
