"""Fixtures of the gateway's tests: one upstream, one gateway with two models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import gateway as gateways
from fakes import openai_any, openai_billed
from fakes.gateway import Gateway
from fakes.planned import Server, View

PROVIDER_KEY = "sk-provider-0123456789abcdef"

CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length", "random"]
threshold = 0.5

[routers.length]
half_length = 100.0

[routing.session_affinity]
by = "none"

[endpoint]
base_url = "{base_url}"
api_key_env = "PROVIDER_KEY"

[models.strong]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 30.0

[models.weak]
model = "weak-at-its-provider"
input_usd_per_mtok = 1.0
output_usd_per_mtok = 2.0
"""


@pytest.fixture(scope="session")
def upstream_server() -> Iterator[Server]:
    with openai_any.start() as server:
        yield server


@pytest.fixture(scope="session")
def gateway(upstream_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = CONFIG.format(base_url=upstream_server.base_url)
    path = gateways.write_config(tmp_path_factory.mktemp("gateway"), text)
    with gateways.start("--config", path, environment={"PROVIDER_KEY": PROVIDER_KEY}) as running:
        yield running


@pytest.fixture
def upstream(upstream_server: Server) -> View:
    return View(upstream_server)


@pytest.fixture
def config_file(tmp_path: Path, upstream_server: Server) -> str:
    """The config of ``gateway`` in a file of the test's own."""
    return gateways.write_config(tmp_path, CONFIG.format(base_url=upstream_server.base_url))


@pytest.fixture(scope="session")
def billed_server() -> Iterator[Server]:
    """A provider with known prices."""
    with openai_billed.start() as server:
        yield server


@pytest.fixture
def provider(billed_server: Server) -> View:
    return View(billed_server)
