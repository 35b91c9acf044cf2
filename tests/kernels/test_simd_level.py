"""FASTROUTE_SIMD and the choice of a SIMD level."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastroute import _native
from fastroute.errors import InvalidInputError, InvalidTypeError

LEVELS = _native.simd_levels()


def _python(code: str, level: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "FASTROUTE_SIMD"}
    if level is not None:
        environment["FASTROUTE_SIMD"] = level
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


SHOW = "from fastroute import _native as n; print(n.simd_level())"


def test_levels_of_this_machine() -> None:
    assert LEVELS[0] == "scalar"
    assert set(LEVELS) <= {"scalar", "avx2", "avx512", "neon"}
    assert _native.simd_level() in LEVELS


@pytest.mark.parametrize("level", LEVELS)
def test_the_variable_chooses_a_level(level: str) -> None:
    done = _python(SHOW, level)
    assert (done.stdout.strip(), done.stderr) == (level, "")


@pytest.mark.parametrize("level", [None, "auto", ""])
def test_by_default_it_is_the_best(level: str | None) -> None:
    assert _python(SHOW, level).stdout.strip() == LEVELS[-1]


@pytest.mark.parametrize("level", ["sse9", "AVX2", " scalar", "neon,avx2"])
def test_nonsense_is_an_import_error_that_says_what_to_do(level: str) -> None:
    code = (
        "import fastroute\n"
        "from fastroute.errors import MissingDependencyError\n"
        "try:\n    from fastroute import _native\n"
        "except MissingDependencyError as error:\n"
        "    assert isinstance(error, ImportError)\n    print(error)\n"
        "else:\n    print('imported')\n"
    )
    done = _python(code, level)
    assert done.stderr == ""
    message = done.stdout.strip()
    assert message.startswith(f"FASTROUTE_SIMD: '{level}' is not a SIMD level of this machine")
    for name in (*LEVELS, "auto", "unset the variable"):
        assert name in message


def test_a_level_can_be_changed_and_changed_back() -> None:
    before = _native.simd_level()
    try:
        for level in LEVELS:
            _native.use_simd_level(level)
            assert _native.simd_level() == level
        _native.use_simd_level("auto")
        assert _native.simd_level() == LEVELS[-1]
        for nonsense in ("sse9", "best", " auto"):
            with pytest.raises(InvalidInputError, match=r"name: .* is not a SIMD level .* or auto"):
                _native.use_simd_level(nonsense)
        for wrong in (None, 2, b"scalar"):
            with pytest.raises(InvalidTypeError, match="name must be a str"):
                _native.use_simd_level(wrong)  # type: ignore[arg-type]
        assert _native.simd_level() == LEVELS[-1]
    finally:
        _native.use_simd_level(before)
