"""Samples of requests beside many candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.planned import Server, View
from gateway import test_candidates as candidates

running = candidates.running


@pytest.fixture
def models(running: dict[str, Server]) -> dict[str, View]:
    return {name: View(server) for name, server in running.items()}


SECTIONS = "[explore]\nshare = 0.1\n", "[shadow]\nshare = 0.1\ndaily_usd = 1.0\n"


@pytest.mark.parametrize("section", SECTIONS)
def test_samples_are_for_a_pair(tmp_path: Path, models: dict[str, View], section: str) -> None:
    with (
        pytest.raises(AssertionError, match="is for a pair of models"),
        candidates.start(tmp_path, models, f"[journal]\n{section}"),
    ):
        pass
