"""Ports for servers that can't choose one themselves."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port of the loopback that nothing listens on.

    The system gives ports from 32768 to connections and to whoever asks for any: this one is below
    them, and so is the port 10,000 above it, where a node of a Redis Cluster listens too. Another
    test may take it meanwhile: who starts a server tries again.
    """
    while True:
        port = random.randrange(10_000, 22_000)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
