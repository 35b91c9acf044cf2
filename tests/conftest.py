"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from battle_factory import SyntheticBattles, make_battles
from fakes import openai_chat
from fakes.planned import Server, View
from fastroute import _native
from fastroute._validate import available_threads

# A shell starts what it puts in the background without SIGINT, and the processes of tests inherit
# that: what waits for Ctrl-C would wait indefinitely.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Folders of tests run on every core, each file in one process; a lone file runs in this one.

    ``-n 0`` turns it off, and without pytest-xdist it is off.
    """
    undecided = getattr(config.option, "numprocesses", 0) is None and not config.option.usepdb
    folders = any(Path(argument).is_dir() for argument in config.args)
    if undecided and folders and not hasattr(config, "workerinput"):  # that is, in no process of it
        # As many threads again in each process would spend their time waiting for each other.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        config.option.numprocesses = min(available_threads() + 1, 8)
        config.option.dist = "loadfile"


settings.register_profile("fastroute", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("fastroute")


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A provider in another process: the tests' own ``PROVIDER``, or else OpenAI's chat."""
    with getattr(request.module, "PROVIDER", openai_chat).start() as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> View:
    """The same, as one test sees it; the environment has no key of OpenAI."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return View(running)


@pytest.fixture(params=_native.simd_levels())
def simd_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once at every SIMD level of this machine."""
    before = _native.simd_level()
    _native.use_simd_level(request.param)
    yield request.param
    _native.use_simd_level(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data, which is not part of the checkout."""
    folder = Path(os.environ.get("FASTROUTE_DATA", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}; set FASTROUTE_DATA to the folder that has it")
    return folder


@pytest.fixture(scope="session")
def battles() -> SyntheticBattles:
    """3,000 battles of 14 models over clustered embeddings: enough for the 10 default tiers."""
    return make_battles(seed=1, count=3000, dimensions=64, models=14)


@pytest.fixture(scope="session")
def small_battles() -> SyntheticBattles:
    """600 battles of 8 models, of 17 dimensions: no SIMD width divides that."""
    return make_battles(seed=2, count=600, dimensions=17, models=8)
