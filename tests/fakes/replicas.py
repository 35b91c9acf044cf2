"""Several gateways with one configuration, which share a Redis server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fakes import gateway as gateways
from fakes.gateway import Gateway


@contextmanager
def start(
    folder: Path, text: str, count: int, environment: Mapping[str, str] | None = None
) -> Iterator[list[Gateway]]:
    """Run ``count`` gateways with the configuration ``text`` until the block ends."""
    path = gateways.write_config(folder, text)
    with ExitStack() as stack:
        found = [
            stack.enter_context(gateways.start("--config", path, environment=environment))
            for _ in range(count)
        ]
        for gateway in found:
            gateway.wait_for(lambda gateway=gateway: state_of(gateway) == "ready")
        yield found


def state_of(gateway: Gateway) -> str:
    """What ``/ready`` says; it is 200 with and without a server."""
    answer = gateway.ask("GET", "/ready")
    assert answer.status == 200
    said: str = answer.json()["status"]
    return said
