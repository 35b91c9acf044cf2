"""The cache of win rates: its keys, its place, damage, and two processes at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastroute
from fastroute.errors import InvalidInputError
from fastroute.evaluation.cache import WinRateCache, cache_folder, router_identity
from fastroute.evaluation.scoring import score
from fastroute.provenance import Provenance
from fastroute.routers.length import LengthRouter

from .toy_routers import Letters, Numbered


def test_what_was_stored_is_found_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite3"
    rates = np.array([0.1, 1 / 3, 0.0])
    with WinRateCache(path) as cache:
        assert np.isnan(cache.lookup("r", ["a", "b"])).all()
        cache.store("r", ["a", "b", "b "], rates)
    with WinRateCache(path) as cache:
        np.testing.assert_array_equal(cache.lookup("r", ["b ", "a", "b"]), rates[[2, 0, 1]])
        assert np.isnan(cache.lookup("other", ["a"])).all()  # another router
        cache.store("r", ["a"], np.array([0.9]))
        assert cache.lookup("r", ["a"])[0] == 0.9


def test_identity_has_all_that_win_rates_depend_on() -> None:
    router = Numbered(checksum="abc")
    identities = {router_identity(router)}
    router = router.with_provenance(Provenance(checksum="abd"))
    identities.add(router_identity(router))
    router.embedder = Letters()  # type: ignore[attr-defined]
    identities.add(router_identity(router))
    router.strong_model = "other"  # type: ignore[attr-defined]
    identities.add(router_identity(router))
    assert len(identities) == 4
    # A router without a checksum could be anything, so it has no identity and is not cached.
    assert router_identity(LengthRouter()) is None


def test_place_is_the_user_s_and_never_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = Path(fastroute.__file__).parent
    monkeypatch.delenv("FASTROUTE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", "linux")
    for xdg, expected in (
        (str(tmp_path / "x"), tmp_path / "x" / "fastroute"),
        ("relative", tmp_path / "home" / ".cache" / "fastroute"),
        ("", tmp_path / "home" / ".cache" / "fastroute"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert cache_folder() == expected
        assert not cache_folder().is_relative_to(package)
    monkeypatch.setenv("FASTROUTE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    with WinRateCache() as cache:
        assert cache.path == tmp_path / "mine" / "win_rates.sqlite3"
        assert cache.path.is_file()


def test_a_router_is_asked_once_a_prompt_and_the_cache_remembers(tmp_path: Path) -> None:
    prompts = ["0.5 a", "0.25 b", "0.5 a", "0.75 c"]
    with WinRateCache(tmp_path / "c") as cache:
        first = Numbered(checksum="abc")
        assert score(first, prompts, cache=cache).tolist() == [0.5, 0.25, 0.5, 0.75]
        assert first.asked == ["0.5 a", "0.25 b", "0.75 c"]
        second = Numbered(checksum="abc")
        assert score(second, [*prompts, "0.125 d"], cache=cache)[-1] == 0.125
        assert second.asked == ["0.125 d"]
        changed = Numbered(checksum="abd")
        score(changed, prompts, cache=cache)
        assert len(changed.asked) == 3


@pytest.mark.parametrize("content", [b"not a database at all, " * 50, b"SQLite format 3\0garbage"])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.sqlite3"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="delete it, set FASTROUTE_CACHE"):
        WinRateCache(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="can't be used"):
        WinRateCache(tmp_path / "file" / "c.sqlite3")


WRITER = """
import sys
import numpy as np
from fastroute.evaluation.cache import WinRateCache

path, start = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with WinRateCache(path) as cache:
    for i in range(start, start + 400, 20):
        prompts = [f"prompt {k}" for k in range(i, i + 20)]
        cache.store("r", prompts, np.arange(i, i + 20) / 10_000)
        found = cache.lookup("r", prompts)
        assert (found == np.arange(i, i + 20) / 10_000).all(), found
print("done")
"""


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"  # made by whichever is first
    starts = (0, 200, 300)  # ranges overlap: both store some of the same prompts
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(start)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for start in starts
    ]  # fmt: skip
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        outputs: list[tuple[str, str]] = []
        threads = [
            threading.Thread(target=lambda w=writer: outputs.append(w.communicate("go\n", 60)))
            for writer in writers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0, 0, 0], outputs
    with WinRateCache(path) as cache:
        found = cache.lookup("r", [f"prompt {k}" for k in range(700)])
    np.testing.assert_array_equal(found, np.arange(700) / 10_000)
