"""``fastroute serve``: the gateway, from a config file, RouteLLM's flags, or both."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import add_flag, add_option
from fastroute.cli.streams import occupy_descriptors
from fastroute.errors import FastRouteError, InvalidInputError

if TYPE_CHECKING:
    from fastroute.gateway.config.settings import Config


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--config FILE", "TOML or YAML; RouteLLM's YAML, keyed by router, too", str)
    add_option(parser, "--routers R ...", type=str,
        help="routers to load, as NAME, NAME=FOLDER or NAME,KEY=VALUE (default: mf); the first "
        "decides")  # fmt: skip
    threshold = parser.add_mutually_exclusive_group()
    add_option(threshold, "--threshold T", type=float,
        help="win rate, 0 to 1, from which the strong model answers (default: the router's "
        "operating point, or 0.5)")  # fmt: skip
    add_option(threshold, "--strong-share P", type=float,
        help="instead: the share, 0 to 1, of usual prompts for the strong model")  # fmt: skip
    add_option(parser, "--strong-model NAME", "its name at its provider", str)
    add_option(parser, "--weak-model NAME", "its name at its provider", str)
    add_option(parser, "--base-url URL", "OpenAI-compatible API of models without their own", str)
    add_option(parser, "--api-key KEY", type=str,
        help="key for --base-url; every user of the machine can see it, so prefer --api-key-env",
    )  # fmt: skip
    add_option(parser, "--api-key-env NAME", type=str,
        help="environment variable with the key for --base-url")  # fmt: skip
    add_option(parser, "--host ADDRESS", "where to listen (default: 127.0.0.1)", str)
    add_option(parser, "--port N", "port (default: 6060; 0: a free one)", int)
    add_option(parser, "--workers N", "processes (default: 1)", int)
    add_flag(parser, "--no-page", "no page at /")
    add_flag(parser, "--log-prompts", "log the text of prompts")
    add_flag(parser, "--check", "check the config and stop")
    add_flag(parser, "--hash-key",
        help="read a key from standard input, print its lines for a TOML configuration, and stop",
    )  # fmt: skip
    # For the workers that the command starts itself.
    parser.add_argument("--inherited-socket", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ready-pipe", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--supervisor-pipe", type=int, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    if options.hash_key:
        return _hash_key()
    occupy_descriptors()
    if options.inherited_socket is not None:
        return _work(options)
    config = _load(options)
    if options.check:
        _check(config)
        return 0
    from fastroute.gateway.operations.logs import log
    from fastroute.gateway.operations.run import bind, serve
    from fastroute.gateway.operations.workers import Supervisor

    if hasattr(signal, "SIGHUP"):  # until something listens to it, it must not end the process
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listener = bind(config.server)
    port = listener.getsockname()[1]
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host

    def ready() -> None:
        log(f"listening on http://{host}:{port}")

    if config.server.workers == 1:
        serve(config, lambda: _load(options), listener, ready)
        return 0
    # Safe path: no module of the current directory goes before those of libraries.
    command = [sys.executable, "-P", "-m", "fastroute", *sys.argv[1:]]
    patience_s = config.server.shutdown_timeout_s
    supervisor = Supervisor(command, config.server.workers, listener, patience_s)
    return supervisor.run(config.server.log_level, ready)


def _work(options: argparse.Namespace) -> int:
    """Be one of several workers. One that is started again while the configuration can't be used
    takes the last that could."""
    from fastroute.gateway.config.file import read_config_text
    from fastroute.gateway.operations.space import FOLDER, has_room

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    folder = os.environ[FOLDER]
    shares_counts = has_room(folder)
    if not shares_counts:
        del os.environ[FOLDER]  # before prometheus_client looks at it
    from fastroute.gateway.operations.logs import configure_logs, log
    from fastroute.gateway.operations.run import serve
    from fastroute.gateway.operations.workers import tell_ready

    configure_logs("info")
    if not shares_counts:
        log(
            "not enough disk space for shared counts: /metrics has those of one worker",
            logging.WARNING,
        )
    good = Path(folder) / "last-good-config"
    texts: list[str | None] = [None]

    def load() -> Config:
        texts[0] = None if options.config is None else read_config_text(options.config)
        return _load(options, texts[0])

    def accepted() -> None:
        if texts[0] is not None:
            with contextlib.suppress(OSError):
                fresh = good.with_name(f"{good.name}-{os.getpid()}")
                fresh.write_text(texts[0], "utf-8")
                fresh.replace(good)

    listener = socket.socket(fileno=options.inherited_socket)
    ready = partial(tell_ready, options.ready_pipe)
    try:
        serve(load(), load, listener, ready, accepted, options.supervisor_pipe)
    except FastRouteError as error:
        log("configuration refused", logging.ERROR, reason=str(error))
        if not good.exists():
            return 2
        log("the last good configuration is used", logging.WARNING)
        config = _load(options, good.read_text("utf-8"))
        serve(config, load, listener, ready, supervisor=options.supervisor_pipe)
    return 0


def _load(options: argparse.Namespace, text: str | None = None) -> Config:
    from fastroute.gateway.config.settings import load_config
    from fastroute.http.request import Endpoint

    given: dict[str, Any] = {
        "strong_model": options.strong_model,
        "weak_model": options.weak_model,
        "routers": options.routers,
        "threshold": options.threshold,
        "strong_share": options.strong_share,
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
    return load_config(options.config, overrides, endpoint, text)


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
