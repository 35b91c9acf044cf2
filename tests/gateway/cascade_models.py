"""Models of a cascade, each a server in another process, and the gateway before them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fakes import gateway as gateways
from fakes.gateway import Answer, Gateway
from fakes.planned import Server, View

NAMES = ("weak", "helper", "other", "strong")
ASKED = [{"role": "user", "content": "How many eggs are left?"}]
#: Dollars per million tokens, in and out.
PRICES = {"weak": (1.0, 2.0), "helper": (0.5, 1.5), "other": (0.8, 1.6), "strong": (10.0, 30.0)}
CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
threshold = 0.5
[routers.length]
half_length = 100.0
[routing.session_affinity]
by = "none"
[resilience]
{resilience}
[cascade]
{cascade}
"""


@contextmanager
def start_models(module: ModuleType) -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(module.start()) for name in NAMES}


def views(running: dict[str, Server]) -> dict[str, View]:
    return {name: View(server) for name, server in running.items()}


def config(
    models: dict[str, View] | dict[str, Server],
    cascade: str = 'helpers = ["helper", "other"]',
    resilience: str = "retries = 0\nbreaker_failures = 0",
) -> str:
    text = CONFIG.format(cascade=cascade, resilience=resilience)
    for name, (input_usd, output_usd) in PRICES.items():
        text += (
            f'[models.{name}]\nbase_url = "{models[name].base_url}"\n'
            f"input_usd_per_mtok = {input_usd}\noutput_usd_per_mtok = {output_usd}\n"
        )
    return text


@contextmanager
def start(
    folder: Path, models: dict[str, View] | dict[str, Server], *options: str, **more: str
) -> Iterator[Gateway]:
    text = config(models, *options, **more)
    with gateways.start("--config", gateways.write_config(folder, text)) as gateway:
        yield gateway


def says(text: str, **message: Any) -> dict[str, Any]:
    """The plan of an answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 5, "completion_tokens": len(text), "total_tokens": 5 + len(text)}
    return {"kind": "reply", "body": {"id": "c9", "choices": [choice], "usage": usage}}


def ask(gateway: Gateway, path: str = "/v1/chat/completions", **more: Any) -> Answer:
    return gateway.ask("POST", path, {"model": "cascade", "messages": ASKED} | more)


def content_of(answer: Answer) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])
