"""Options and fixtures of the benches.

Timed (``pytest bench``) they run at sizes that matter; under ``--benchmark-disable`` each runs
once, at a small size, as a test of its answer. ``--sizes`` overrides both.
"""

from __future__ import annotations

import os

import pytest

import environment

# Read when NumPy is loaded: so before the modules below load it.
for _name in environment.UNSET:
    os.environ.pop(_name, None)
os.environ.update(dict.fromkeys(environment.ONE_THREAD, "1"))

import numpy as np  # noqa: E402 - after the environment is set

from data import Battles, Size, load_prompts, make_battles  # noqa: E402 - they load NumPy

SIZES_TIMED = "10000x384,55000x1536"
SIZES_AS_TESTS = "2000x64"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastroute benches")
    group.addoption(
        "--data",
        default=os.environ.get("FASTROUTE_EVALS"),
        metavar="FOLDER",
        help="take prompts from the MMLU results in this checkout of RouteLLM (by default the "
        "variable FASTROUTE_EVALS; without either: synthetic prompts)",
    )
    group.addoption(
        "--sizes",
        metavar="SIZES",
        help="battles x dimensions for sw_ranking, with commas between: 55000x1536,160000x384 "
        f"(default: {SIZES_TIMED}; with --benchmark-disable: {SIZES_AS_TESTS})",
    )


def pytest_report_header() -> str:
    return f"benches on: {environment.machine()}; one thread a library, but for tokenizers' batches"


def _as_tests(config: pytest.Config) -> bool:
    return bool(config.getoption("benchmark_disable")) and not config.getoption("benchmark_only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise what takes ``battles`` over the sizes."""
    if "battles" in metafunc.fixturenames:
        default = SIZES_AS_TESTS if _as_tests(metafunc.config) else SIZES_TIMED
        text = metafunc.config.getoption("--sizes") or default
        try:
            sizes = [Size.parse(size) for size in text.split(",")]
        except ValueError as error:
            raise pytest.UsageError(f"--sizes: {error}") from error
        metafunc.parametrize("battles", sizes, ids=str, indirect=True, scope="session")


@pytest.fixture(scope="session")
def battles(request: pytest.FixtureRequest) -> Battles:
    """Synthetic battles of one of the sizes, with 20 queries."""
    return make_battles(request.param)


@pytest.fixture(scope="session")
def prompts(request: pytest.FixtureRequest) -> list[str]:
    """Prompts to route one by one: 1,000, or 100 as a test."""
    count = 100 if _as_tests(request.config) else 1000
    return load_prompts(request.config.getoption("--data"), count)


@pytest.fixture(scope="session")
def many_prompts(request: pytest.FixtureRequest) -> list[str]:
    """Prompts to route at once: 10,000, or 1,000 as a test."""
    count = 1000 if _as_tests(request.config) else 10_000
    return load_prompts(request.config.getoption("--data"), count)


@pytest.fixture(scope="session")
def embeddings() -> np.ndarray:
    """Unit vectors of the default embedder's dimensions: float32[1000, d]."""
    from rivals import mf_fastroute

    X = np.random.default_rng(0).standard_normal((1000, mf_fastroute.load().dimensions))
    unit: np.ndarray = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return unit
