"""A gateway under load, beside RouteLLM's server and LiteLLM's proxy, on one mock upstream.

``python bench/serve_load.py`` prints
- the latency that the gateway adds over calling the upstream directly, at concurrency 1;
- requests a second at concurrency 64, for everybody with one worker.

RouteLLM and LiteLLM are measured where ``--rival-python`` names an interpreter that has them (see
bench/README.md). Every process is started alone; rounds of everybody are interleaved, so that a
noisy machine treats all alike. The client speaks HTTP over plain sockets, and so takes little of
the two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from serve_clients import upstream

HERE = Path(__file__).parent
QUESTION = "What is the capital of France? Answer in one word."


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request_bytes(model: str, port: int, number: str = "") -> bytes:
    """A chat completion as HTTP/1.1."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": QUESTION}]})
    extra = f"x-request-number: {number}\r\n" if number else ""
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"content-type: application/json\r\nauthorization: Bearer sk-bench-0123456789abcdef\r\n"
        f"{extra}content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer of known length or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0])
        return status, await reader.readexactly(length)
    body = b""
    while True:
        size = int(await reader.readline(), 16)
        piece = await reader.readexactly(size + 2)
        if size == 0:
            return status, body
        body += piece[:-2]


async def load(port: int, raw: bytes, concurrency: int, count: int) -> list[float]:
    """Seconds of each of ``count`` requests on ``concurrency`` kept connections."""
    left = iter(range(count))
    taken: list[float] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in left:
                began = time.perf_counter()
                writer.write(raw)
                status, body = await read_answer(reader)
                taken.append(time.perf_counter() - began)
                assert status == 200, (status, body[:300])
                assert b"Paris" in body, body[:300]
        finally:
            writer.close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return taken


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    """The id of a server's process, from when it answers until the block ends."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=os.environ | environment, cwd=HERE
        )
        try:
            end = time.monotonic() + 120
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        said.seek(0)
                        raise SystemExit(said.read().decode()[-3000:]) from None
                    time.sleep(0.1)
            time.sleep(1.0)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process took so far; NaN where /proc does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def contenders(url: str, rival: str | None, folder: str) -> dict[str, tuple[list[str], int, str]]:
    """Command, port and model name of every server."""
    found = {}
    port = free_port()
    models = ["--strong-model", "openai/mock", "--weak-model", "openai/mock"]
    command = [sys.executable, "-m", "fastroute", "serve", "--routers", "mf", "random", *models]
    command += ["--base-url", url, "--api-key", "sk-mock", "--port", str(port)]
    found["fastroute, mf"] = (command, port, "router-mf-0.5")
    found["fastroute, random"] = (command, port, "router-random-0.5")
    if rival is None:
        return found
    port = free_port()
    command = [rival, str(HERE / "rivals" / "serve_routellm.py"), "--routers", "random", *models]
    command += ["--base-url", url, "--api-key", "sk-mock", "--port", str(port)]
    found["RouteLLM, random"] = (command, port, "router-random-0.5")
    port = free_port()
    config = Path(folder) / "litellm.yaml"
    entry = {
        "model_name": "mock",
        "litellm_params": {"model": "openai/mock", "api_base": url, "api_key": "sk-mock"},
    }
    config.write_text(
        json.dumps(
            {
                "model_list": [entry, entry],
                "router_settings": {"routing_strategy": "simple-shuffle"},
            }
        )
    )
    command = [str(Path(rival).with_name("litellm")), "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    found["LiteLLM, simple-shuffle"] = (command, port, "mock")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rival-python", metavar="PATH")
    parser.add_argument(
        "--other-source",
        metavar="FOLDER",
        help="the python folder of another checkout, whose gateway is measured in turns with ours",
    )
    options = parser.parse_args()
    environment = {"OPENAI_API_KEY": "sk-mock", "LITELLM_TELEMETRY": "False"}
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}  # no traffic outside
    with tempfile.TemporaryDirectory() as folder, upstream() as url, ExitStack() as stack:
        direct_port = int(url.rsplit(":", 1)[1].split("/")[0])
        found = contenders(url, options.rival_python, folder)
        if options.other_source:
            ours = [name for name in found if name.startswith("fastroute")]
            port = free_port()
            for name in ours:
                command, _, model = found[name]
                found[name.replace("fastroute", "other source")] = (
                    [*command[:-1], str(port)],
                    port,
                    model,
                )
        started: dict[int, int] = {}
        for name, (command, port, _) in found.items():
            if port not in started:
                other = {"PYTHONPATH": options.other_source} if name.startswith("other") else {}
                started[port] = stack.enter_context(running(command, port, environment | other))
        targets = {"direct": (direct_port, "mock")}
        targets |= {name: (port, model) for name, (_, port, model) in found.items()}
        print(f"{os.cpu_count()} cores")
        for concurrency, share in ((1, 0.5), (64, 1.0)):
            rows: dict[str, list[tuple[float, float, float, float]]] = {
                name: [] for name in targets
            }
            for number in range(options.rounds + 1):  # the first warms up
                for name, (port, model) in targets.items():
                    slow = "RouteLLM" in name or "LiteLLM" in name
                    count = max(64, int(options.count * share * (0.2 if slow else 1.0)))
                    raw = request_bytes(model, port)
                    pid = started.get(port, 0)
                    began, began_s = time.perf_counter(), processor_s(pid)
                    taken = sorted(asyncio.run(load(port, raw, concurrency, count)))
                    rate = count / (time.perf_counter() - began)
                    if number:
                        p99 = taken[int(0.99 * len(taken))]
                        used_s = (processor_s(pid) - began_s) / count
                        rows[name].append((rate, statistics.median(taken), p99, used_s))
            base = statistics.median(row[1] for row in rows["direct"])
            for name, measured in rows.items():
                rate, median, p99, used_s = (
                    statistics.median(column) for column in zip(*measured, strict=True)
                )
                more_ms = (median - base) * 1e3
                print(
                    f"concurrency {concurrency:>2}  {name:<24}{rate:>8.0f} requests/s  median "
                    f"{median * 1e3:>8.2f} ms ({more_ms:+.2f})  p99 {p99 * 1e3:>8.2f} ms  "
                    f"processor {used_s * 1e6:>5.0f} us"
                )


if __name__ == "__main__":
    main()
