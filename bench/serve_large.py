"""What one long request costs everybody else: the longest stall of a worker, and its memory.

``python bench/serve_large.py`` sends bodies of 30 MB of five kinds through the gateway, one after
another, and asks for ``/health`` all the while. It prints for each the longest answer to that, and
how many times the body's size the memory of the gateway rose at most.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from serve_clients import upstream
from serve_load import free_port, running
from serve_soak import pid_of

SIZE = 30_000_000


def bodies() -> dict[str, bytes]:
    """Five ways to 30 MB."""
    user = {"role": "user", "content": "What is this?"}
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * SIZE}}
    image = [user, {"role": "user", "content": [{"type": "text", "text": "And this?"}, url]}]
    turn = [{"role": "assistant", "content": "word " * 20}, {"role": "user", "content": "go on"}]
    turns = [user, *turn * (SIZE // len(json.dumps(turn)))]
    head = json.dumps({"model": "router-length-0.5", "messages": [user]})[:-1]
    lists = (head + ', "x": [' + "[]," * (SIZE // 3) + "0]}").encode()
    text = [{"role": "user", "content": "word " * (SIZE // 5)}]
    nested = [{"role": "user", "content": "What is this?", "x": [[]] * (SIZE // 4)}]
    named = {"one image": image, "many turns": turns, "a long first message": text}
    named["lists in the first message"] = nested
    model = "router-length-0.5"
    whole = {k: json.dumps({"model": model, "messages": m}).encode() for k, m in named.items()}
    return whole | {"empty lists in an unknown field": lists}


def peak_kib(pid: int, name: str = "VmHWM") -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def post(port: int, body: bytes, statuses: list[int], done: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", body)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    statuses.append(answer.status)
    done.set()


async def longest(port: int, done: threading.Event) -> float:
    """Seconds of the slowest ``/health`` until ``done``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    most = 0.0
    while not done.is_set():
        began = time.perf_counter()
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
        most = max(most, time.perf_counter() - began)
        await asyncio.sleep(0.002)
    writer.close()
    return most


def main() -> None:
    for kind, body in bodies().items():
        with tempfile.TemporaryDirectory() as folder, upstream() as url, ExitStack() as stack:
            port = free_port()
            config = Path(folder) / f"soak-{port}.toml"
            config.write_text(
                f'[server]\nport = {port}\nlog_level = "error"\n[routing]\nstrong_model = "s"\n'
                f'weak_model = "w"\nrouters = ["length"]\n[endpoint]\nbase_url = "{url}"\n'
            )
            command = [sys.executable, "-m", "fastroute", "serve", "--config", str(config)]
            stack.enter_context(running(command, port, {}))
            pid = pid_of(port)
            before, done, statuses = peak_kib(pid, "VmRSS"), threading.Event(), list[int]()

            threading.Thread(target=post, args=(port, body, statuses, done)).start()
            stall_s = asyncio.run(longest(port, done))
            times = (peak_kib(pid) - before) * 1024 / len(body)
        print(f"{kind:<32} {statuses[0]}  stall {stall_s * 1e3:>7.1f} ms  memory {times:>5.1f} x")


if __name__ == "__main__":
    main()
