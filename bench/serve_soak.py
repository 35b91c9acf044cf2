"""The gateway under load for long, with an upstream that errs, stalls and cuts streams.

``python bench/serve_soak.py`` runs 20 seconds, ``--seconds 600`` ten minutes: 64 clients, every
second request a stream, 5 % upstream errors, 2 % stalls of 3 s, 1 % answers that are cut off. With
``--cascade`` every second pair of requests is for the model "cascade", whose cheap models differ in
30 % of answers. It fails if

- a request has no answer or two (a stream that its provider cut must be seen to be cut);
- the upstream got a request more than once without a retry or a redundant request to show for it;
- with ``--cascade``, the upstream accepted a call that the gateway has not counted, or the gateway
  counted more than 2 % of calls that never arrived, or no cascade agreed, or none disagreed;
- the memory of the gateway at the end is more than 5 % above that after the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from serve_clients import upstream
from serve_load import QUESTION, free_port, read_answer, running

CONFIG = """
[server]
port = {port}
log_level = "error"
[routing]
strong_model = "strong"
weak_model = "weak"
router = "mf"
[resilience]
retries = 2
retry_budget = 0.2
redundancy = "delayed"
redundancy_delay_s = 1.0
redundancy_budget = 0.05
breaker_failures = 0
[endpoint]
base_url = "{url}"
[models.strong]
input_usd_per_mtok = 10
output_usd_per_mtok = 30
[models.weak]
input_usd_per_mtok = 1
output_usd_per_mtok = 2
"""


CASCADE = """
[cascade]
helpers = ["helper", "other"]
deadline_s = 1.5
early_strong_s = 0.5
[models.helper]
input_usd_per_mtok = 1
output_usd_per_mtok = 2
[models.other]
input_usd_per_mtok = 1
output_usd_per_mtok = 2
"""


def ask_bytes(number: int, stream: bool, cascade: bool) -> bytes:
    body = json.dumps(
        {
            "model": "cascade" if cascade else "fastroute",
            "stream": stream,
            "messages": [{"role": "user", "content": f"{QUESTION} ({number % 997})"}],
        },
        separators=(",", ":"),
    )
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-request-number: {number}\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def client(
    port: int,
    numbers: list[int],
    end_s: float,
    seen: Counter[str],
    taken: list[float],
    cascade: bool,
) -> None:
    """Ask until the time is up, on a kept connection that is made anew when it breaks."""
    reader = writer = None
    while time.monotonic() < end_s:
        numbers[0] += 1
        number = numbers[0]
        stream = number % 2 == 0
        if writer is None or reader is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        writer.write(ask_bytes(number, stream, cascade and number // 2 % 2 == 0))
        try:
            status, body = await asyncio.wait_for(read_answer(reader), 60)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            seen["cut" if stream else "broken"] += 1
            writer.close()
            reader = writer = None
            continue
        except TimeoutError:
            seen["no answer"] += 1
            writer.close()
            reader = writer = None
            continue
        taken.append(time.perf_counter() - began)
        complete = b"[DONE]" in body if stream else body.endswith(b"}")
        seen[str(status) if status != 200 or complete else "incomplete"] += 1
    if writer is not None:
        writer.close()


def resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def soak(
    port: int, pid: int, seconds: float, concurrency: int, cascade: bool
) -> tuple[Counter[str], list[float], list[int], int]:
    numbers, seen, taken, memory = [0], Counter[str](), list[float](), list[int]()
    end_s = time.monotonic() + seconds
    clients = [
        asyncio.create_task(client(port, numbers, end_s, seen, taken, cascade))
        for _ in range(concurrency)
    ]
    while time.monotonic() < end_s:
        await asyncio.sleep(min(1.0, seconds / 20))
        memory.append(resident_kib(pid))
    await asyncio.gather(*clients)
    return seen, taken, memory, numbers[0]


def pid_of(port: int) -> int:
    """The process that listens on ``port``: the one of ours whose command line names it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"fastroute" in words and any(f"soak-{port}.toml".encode() in word for word in words):
            return int(folder.name)
    raise SystemExit("the gateway is not running")


def totals(metrics: str, name: str, label: str) -> Counter[str]:
    """The sums of a counter of the gateway, by one of its labels."""
    found = Counter[str]()
    for labels, value in re.findall(
        rf"^fastroute_{name}_total{{(.*)}} (\S+)$", metrics, re.MULTILINE
    ):
        found[dict(re.findall(r'(\w+)="([^"]*)"', labels))[label]] += int(float(value))
    return found


def uncounted(metrics: str, accepted: dict[str, int]) -> list[str]:
    """What is wrong with the gateway's count of calls: ``accepted`` has the upstream's, by model
    and number. A call that is cancelled before it arrives is counted by the gateway alone."""
    there = Counter[str]()
    for call, count in accepted.items():
        there[call.split()[0]] += count
    counted = totals(metrics, "billed_calls", "model")
    reasons = totals(metrics, "cascades", "reason")
    outcomes = totals(metrics, "cascade_calls", "outcome")
    print(f"cascades {dict(reasons)}; calls {dict(outcomes)}")
    print(f"accepted by the upstream {dict(there)}; billed by the gateway {dict(counted)}")
    problems = [
        f"{there[model]} calls of {model} were accepted, and {counted[model]} counted"
        for model in there
        if not there[model] <= counted[model] <= 1.02 * there[model] + 10
    ]
    if not reasons["agree"] or not reasons["disagree"]:
        problems.append("no cascade agreed, or none disagreed")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--cascade", action="store_true", help="cascades among the requests")
    options = parser.parse_args()
    ills = ("--errors", "0.05", "--stalls", "0.02", "--cuts", "0.01", "--differ", "0.3")
    with tempfile.TemporaryDirectory() as folder, upstream(*ills) as url, ExitStack() as stack:
        port = free_port()
        config = Path(folder) / f"soak-{port}.toml"
        config.write_text(CONFIG.format(port=port, url=url) + CASCADE * options.cascade)
        command = [sys.executable, "-m", "fastroute", "serve", "--config", str(config)]
        stack.enter_context(running(command, port, {}))
        pid = pid_of(port)
        seen, taken, memory, asked = asyncio.run(
            soak(port, pid, options.seconds, options.concurrency, options.cascade)
        )
        metrics = fetch(f"http://127.0.0.1:{port}/metrics")
        counts: dict[str, int] = json.loads(fetch(url.removesuffix("/v1") + "/count"))
        at_upstream: dict[str, dict[str, int]] = json.loads(
            fetch(url.removesuffix("/v1") + "/seen")
        )
        alive = resident_kib(pid) > 0
    events = totals(metrics, "resilience_events", "event")
    calls = at_upstream["calls"]
    again = sum(count - 1 for count in calls.values())
    allowed = events["retry"] + events["delayed"]
    taken.sort()
    third = len(memory) // 3
    begin, end = statistics.median(memory[third : 2 * third]), statistics.median(memory[-third:])
    print(f"{os.cpu_count()} cores, {options.seconds:g} s, {options.concurrency} clients")
    print(f"requests {asked}, {asked / options.seconds:.0f} a second; clients saw {dict(seen)}")
    print(f"at the upstream {sum(calls.values())}, of them again {again}; gateway: {dict(events)}")
    print(
        f"latency median {statistics.median(taken) * 1e3:.1f} ms, "
        f"p99 {taken[int(0.99 * len(taken))] * 1e3:.1f} ms"
    )
    print(f"memory {begin / 1024:.1f} MiB, then {end / 1024:.1f} MiB ({end / begin - 1:+.1%})")
    problems = []
    if sum(seen.values()) != asked or seen["no answer"]:
        problems.append(f"{asked} requests, {sum(seen.values())} outcomes")
    if seen["incomplete"] or seen["broken"]:
        problems.append("answers were incomplete without being seen to be")
    if len(counts) != asked or again > allowed:
        problems.append(f"{len(counts)} of {asked} reached the upstream, {again} more than once")
    if options.cascade:
        problems += uncounted(metrics, at_upstream["accepted"])
    if options.seconds < 20:
        print("too short to judge memory")
    elif end > 1.05 * begin:
        problems.append("memory grew")
    if not alive:
        problems.append("the gateway died")
    if problems:
        raise SystemExit("FAILED: " + "; ".join(problems))
    print("ok")


if __name__ == "__main__":
    main()
