"""Runs the gateway: one process, or several that share a socket and are started again."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable

from fastroute.errors import InvalidInputError
from fastroute.gateway.config.settings import Config, ServerConfig
from fastroute.gateway.operations.logs import configure_logs, log
from fastroute.gateway.operations.memory import map_large_arrays
from fastroute.gateway.operations.metrics import Metrics
from fastroute.gateway.operations.state import State
from fastroute.gateway.protocol.app import Application
from fastroute.gateway.protocol.origin import is_loopback
from fastroute.gateway.protocol.server import Server


def bind(config: ServerConfig) -> socket.socket:
    """A socket bound to where ``config`` says. Raises InvalidInputError if it can't be.

    It listens only once the routers are loaded, so that a connection before that is refused and
    does not wait.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise _cannot_listen(config.host, config.port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"can't listen on {host}:{port}: {error.strerror}; give another --port"
    )


def serve(
    config: Config,
    load: Callable[[], Config],
    listener: socket.socket,
    ready: Callable[[], None],
    accepted: Callable[[], None] = lambda: None,
    supervisor: int | None = None,
) -> None:
    """Serve in this process until SIGTERM or SIGINT, or until the other end of the pipe
    ``supervisor`` is closed; SIGHUP reads the config again. ``accepted`` is called when a config
    that was read can be used.

    ``ready`` is called once, when requests are answered. At the end new connections are refused at
    once, and requests under way are finished, streams too, for at most ``shutdown_timeout_s``.
    """
    configure_logs(config.server.log_level)
    map_large_arrays()
    early: list[int] = []
    if hasattr(signal, "SIGHUP"):  # it may come when this config has been read already
        signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    # Before there is a loop: its runner would keep SIGINT waiting until all is loaded.
    state = State(config, load, Metrics(), accepted)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(state, config, listener, ready, early, supervisor))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(
    state: State,
    config: Config,
    listener: socket.socket,
    ready: Callable[[], None],
    early: list[int],
    supervisor: int | None,
) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    if supervisor is not None:
        loop.add_reader(supervisor, stopping.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = loop.create_task(state.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    if early:
        reload()
    # What is loaded now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    host, port = listener.getsockname()[:2]
    state.host = host
    try:
        server = await start(state, listener)
    except OSError as error:  # another took the port while the routers were loading
        raise _cannot_listen(host, port, error) from error
    log("serving", host=host, port=port, keys=len(config.keys))
    if not is_loopback(host) and not config.keys:
        log("no keys: everybody who can reach this address can use it", logging.WARNING)
    ready()
    await stopping.wait()
    if supervisor is not None:
        loop.remove_reader(supervisor)
    began = time.monotonic()
    await stop(state, server, config.server.shutdown_timeout_s)
    log("stopped", after_s=round(time.monotonic() - began, 1))


async def start(state: State, listener: socket.socket) -> Server:
    """Answer requests to ``listener``, a bound socket. Raises OSError if it can't listen."""
    await state.shared.start()
    server = Server(Application(state))
    await server.start(listener)
    return server


async def stop(state: State, server: Server, timeout_s: float) -> None:
    """Accept no more connections, finish requests for at most ``timeout_s``, and close all."""
    state.draining = True
    await server.stop(timeout_s)
    await state.aclose()
