"""Which HTTP client should the gateway call providers with? httpx2 against aiohttp.

``python bench/serve_clients.py`` prints requests a second and the median and 99th percentile of
latency at concurrency 1, 64 and 512, both clients in turn in one process against one mock upstream
in another. The rounds are interleaved, so that a noisy machine treats both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PAYLOAD = (
    b'{"model":"mock","messages":[{"role":"user","content":"What is the capital of France?"}]}'
)
HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-mock"}
Call = Callable[[str], Awaitable[bytes]]


@contextmanager
def upstream(*arguments: str) -> Iterator[str]:
    """The base URL of a mock upstream in another process."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("serve_upstream.py")), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


async def load(call: Call, url: str, concurrency: int, count: int) -> list[float]:
    """Seconds of each of ``count`` calls by ``concurrency`` tasks."""
    left = iter(range(count))
    taken: list[float] = []

    async def work() -> None:
        for _ in left:
            began = time.perf_counter()
            await call(url)
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return taken


async def measure(url: str, rounds: int, count: int) -> None:
    import aiohttp
    import httpx2

    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
    async with (
        httpx2.AsyncClient(limits=limits, timeout=60) as httpx_client,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000)) as aiohttp_session,
    ):

        async def by_httpx2(url: str) -> bytes:
            answer = await httpx_client.post(url, content=PAYLOAD, headers=HEADERS)
            return answer.content

        async def by_aiohttp(url: str) -> bytes:
            async with aiohttp_session.post(url, data=PAYLOAD, headers=HEADERS) as answer:
                return await answer.read()

        calls = {"httpx2": by_httpx2, "aiohttp": by_aiohttp}
        target = f"{url}/chat/completions"
        for concurrency in (1, 64, 512):
            found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
            for call in calls.values():  # connections are made here
                await load(call, target, concurrency, 2 * concurrency)
            for _ in range(rounds):
                for name, call in calls.items():
                    began = time.perf_counter()
                    taken = sorted(await load(call, target, concurrency, count))
                    rate = count / (time.perf_counter() - began)
                    found[name].append(
                        (rate, statistics.median(taken) * 1e3, taken[int(0.99 * len(taken))] * 1e3)
                    )
            for name, rows in found.items():
                rate, median, p99 = (
                    statistics.median(column) for column in zip(*rows, strict=True)
                )
                print(
                    f"concurrency {concurrency:>3}  {name:<8} {rate:>7.0f} requests/s  "
                    f"median {median:>7.2f} ms  p99 {p99:>7.2f} ms",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options = parser.parse_args()
    if options.loop == "uvloop":
        import uvloop

        uvloop.install()
    with upstream() as url:
        asyncio.run(measure(url, options.rounds, options.count))


if __name__ == "__main__":
    main()
