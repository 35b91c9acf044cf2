"""``fastroute serve``: the gateway, from a config file, RouteLLM's flags, or both."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from fastroute.cli.streams import occupy_descriptors
from fastroute.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from fastroute.gateway.config.settings import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--config", metavar="FILE", help="TOML or YAML; RouteLLM's YAML, keyed by router, too"
    )
    parser.add_argument(
        "--routers",
        nargs="+",
        metavar="R",
        help="routers to load, as NAME, NAME=FOLDER or NAME,KEY=VALUE (default: mf); the first "
        "decides",
    )
    parser.add_argument("--strong-model", metavar="NAME", help="its name at its provider")
    parser.add_argument("--weak-model", metavar="NAME", help="its name at its provider")
    parser.add_argument(
        "--base-url", metavar="URL", help="OpenAI-compatible API of models without their own"
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="key for --base-url; every user of the machine can see it, so prefer --api-key-env",
    )
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable with the key for --base-url"
    )
    parser.add_argument("--host", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="N", help="port (default: 6060; 0: a free one)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: 1)")
    parser.add_argument("--no-page", action="store_true", help="no page at /")
    parser.add_argument("--log-prompts", action="store_true", help="log the text of prompts")
    parser.add_argument("--check", action="store_true", help="check the config and stop")
    parser.add_argument(
        "--hash-key",
        action="store_true",
        help="read a key from standard input, print its lines for a TOML configuration, and stop",
    )
    # For the workers that the command starts itself.
    parser.add_argument("--inherited-socket", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ready-pipe", type=int, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    if options.hash_key:
        return _hash_key()
    occupy_descriptors()
    config = _load(options)
    if options.check:
        _check(config)
        return 0
    try:
        from fastroute.gateway.operations.run import bind, serve
        from fastroute.gateway.operations.workers import Supervisor, tell_ready
    except ImportError as error:
        raise MissingDependencyError(
            f"fastroute serve needs {error.name}: pip install 'fastroute[serve]'"
        ) from error
    if hasattr(signal, "SIGHUP"):  # until something listens to it, it must not end the process
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if options.inherited_socket is not None:
        listener = socket.socket(fileno=options.inherited_socket)
        serve(config, lambda: _load(options), listener, partial(tell_ready, options.ready_pipe))
        return 0
    listener = bind(config.server)
    port = listener.getsockname()[1]
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host

    def ready() -> None:
        with contextlib.suppress(OSError):  # who read it has gone; others may still ask
            print(f"fastroute: listening on http://{host}:{port}", file=sys.stderr, flush=True)

    if config.server.workers == 1:
        serve(config, lambda: _load(options), listener, ready)
        return 0
    command = [sys.executable, "-m", "fastroute", *sys.argv[1:]]
    patience_s = config.server.shutdown_timeout_s
    supervisor = Supervisor(command, config.server.workers, listener, patience_s)
    return supervisor.run(config.server.log_level, ready)


def _load(options: argparse.Namespace) -> Config:
    from fastroute.gateway.config.settings import load_config
    from fastroute.http.request import Endpoint

    given: dict[str, Any] = {
        "strong_model": options.strong_model,
        "weak_model": options.weak_model,
        "routers": options.routers,
        "host": options.host,
        "port": options.port,
        "workers": options.workers,
        "page": False if options.no_page else None,
        "log_prompts": True if options.log_prompts else None,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    key = options.api_key
    if options.api_key_env is not None:
        if key is not None:
            raise InvalidInputError("give --api-key or --api-key-env, not both")
        key = os.environ.get(options.api_key_env)
        if not key:
            raise InvalidInputError(f"--api-key-env: {options.api_key_env} is not set")
    endpoint = None
    if options.base_url is not None or key is not None:
        endpoint = Endpoint(base_url=options.base_url, api_key=key, max_retries=0)
    return load_config(options.config, overrides, endpoint)


def _check(config: Config) -> None:
    """Make what the config asks for: a checkpoint that isn't there is an error before a restart."""
    from fastroute.gateway.gateway import Gateway
    from fastroute.http import MockTransport

    Gateway(config, MockTransport())
    print("the config is valid, and its routers load")


def _hash_key() -> int:
    from fastroute.gateway.protocol.auth import hash_key

    key = sys.stdin.readline().strip()
    if len(key) < 16:
        raise InvalidInputError("--hash-key: a key must have 16 characters or more")
    print(f'[[keys]]\nname = "caller"\nsha256 = "{hash_key(key)}"')
    return 0
