"""What a gateway takes for its requests: processor, network and memory, for ``scaling.py``."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import tempfile
from pathlib import Path

_CONFIG = """
[server]
max_concurrency = 100000

[routing]
strong_model = "strong"
weak_model = "weak"

[endpoint]
base_url = "http://127.0.0.1:{port}/v1"
api_key_env = "PROVIDER_KEY"
"""
_CONNECTIONS = 32


async def measure(count: int, request_bytes: int, answer_bytes: int) -> dict[str, float]:
    """The gateway with ``mf`` in one process: ``4 * count`` requests on kept connections, and then
    ``count`` that wait for the provider at once."""
    from fakes import gateway as gateways

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    provider = _Provider(answer_bytes)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = gateways.write_config(Path(folder), _CONFIG.format(port=port))
        with gateways.start(
            "--config", config, environment={"PROVIDER_KEY": "sk-0123456789abcdef"}
        ) as gateway:
            pid, raw = gateway.process.pid, _request(request_bytes)

            async def ask(times: int) -> int:
                """Bytes to and from the client, of so many requests on one connection."""
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                total = 0
                for _ in range(times):
                    writer.write(raw)
                    head, body = await _message(reader)
                    assert b" 200 " in head[:15], head
                    total += len(raw) + len(head) + len(body)
                writer.close()
                return total

            await asyncio.gather(*(ask(20) for _ in range(_CONNECTIONS)))
            requests = 4 * count // _CONNECTIONS * _CONNECTIONS
            provider.bytes, began = 0, _processor_s(pid)
            with_client = sum(
                await asyncio.gather(*(ask(requests // _CONNECTIONS) for _ in range(_CONNECTIONS)))
            )
            took, network = _processor_s(pid) - began, with_client + provider.bytes
            idle = _memory_kib(pid)
            provider.goes_on.clear()
            open_ones = [asyncio.create_task(ask(1)) for _ in range(count)]
            while provider.waiting < count:
                await asyncio.sleep(0.05)
            held = _memory_kib(pid)
            provider.goes_on.set()
            await asyncio.gather(*open_ones)
        while provider.connections:  # it sees their ends
            await asyncio.sleep(0.01)
    server.close()
    return {
        "us of processor of a request": 1e6 * took / requests,
        "bytes of network of a request, both sides": network / requests,
        "MiB of memory of a process, no request open": idle / 1024,
        "KiB of memory of an open request": (held - idle) / count,
    }


class _Provider:
    """Answers each request as soon as ``goes_on`` allows it, and counts bytes in and out."""

    def __init__(self, answer_bytes: int) -> None:
        message = {"role": "assistant", "content": "x" * (answer_bytes - 90)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"model": "m", "choices": [choice]}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._answer = head.encode() + b"\r\n\r\n" + body
        self.bytes = self.waiting = self.connections = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                head, body = await _message(reader)
                self.waiting += 1
                await self.goes_on.wait()
                self.waiting -= 1
                writer.write(self._answer)
                self.bytes += len(head) + len(body) + len(self._answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        self.connections -= 1


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found is not None
    return head, await reader.readexactly(int(found[1]))


def _request(size: int) -> bytes:
    message = {"role": "user", "content": "Explain the tides. " * (size // 19)}
    body = json.dumps({"model": "fastroute", "messages": [message]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode()


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_kib(pid: int) -> int:
    words = Path(f"/proc/{pid}/status").read_text().split()
    return int(words[words.index("VmRSS:") + 1])
