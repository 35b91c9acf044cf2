"""One Redis server for the tests that do not end it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes import redis as servers


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Redis]:
    with servers.start(tmp_path_factory.mktemp("redis")) as server:
        yield server
