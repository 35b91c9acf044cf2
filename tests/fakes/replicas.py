"""Several gateways with one configuration, which share a Redis server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fakes import gateway as gateways
from fakes.gateway import Answer, Gateway

ROUTING = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
threshold = 0.5

[routers.length]
half_length = 100.0

[routing.session_affinity]
by = "header"
margin = 0.1

[endpoint]
base_url = "{base_url}"

[models.strong]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 30.0

[models.weak]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 2.0

[state]
url = "{url}"
wait_s = 5.0  # this machine may be busy
"""
#: For a server that fails: nobody waits long for it.
FAILING = ROUTING.replace("wait_s = 5.0", "wait_s = 0.2")


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


def ask(
    gateway: Gateway, text: str, session: str = "", before: Sequence[str] = (), **more: Any
) -> Answer:
    """A chat request to the model fastroute, of a conversation named by a header, in which the
    user has said ``before``."""
    messages = [{"role": "user", "content": text}]
    for earlier in reversed(before):
        said = [{"role": "user", "content": earlier}, {"role": "assistant", "content": "Fine."}]
        messages = said + messages
    body = {"model": "fastroute", "messages": messages, **more}
    headers = {"x-session-id": session} if session else {}
    return gateway.ask("POST", "/v1/chat/completions", body, headers)
