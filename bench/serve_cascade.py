"""What a cascade adds to the latency of its models, and how soon it closes the calls it cancels.

``python bench/serve_cascade.py`` asks a gateway whose three cheap models answer after random times
(``--delays``, seconds), one request at a time, and prints

- the time of an accepted answer beyond that of the second-fastest of the cheap models, beside the
  same of a call to one model: by the gateway, and directly, which is what client and server of the
  bench take themselves;
- when the connection of the cancelled call was closed, after the client had its answer;
- the latency of a request that is not a cascade: at a gateway with ``[cascade]``, and at one
  without it, in turns.

It fails if the median of the first is above ``--most-added-ms``, or a call is closed after more
than ``--most-closing-ms``; on a machine with other work both measure that work too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from serve_clients import upstream
from serve_load import QUESTION, free_port, load, read_answer, request_bytes, running
from serve_soak import CASCADE, CONFIG
from serve_upstream import delay_s

CHEAP = ("weak", "helper", "other")
#: A call that would take so much longer is cancelled before its answer comes.
SURELY_S = 0.03


async def ask(port: int, model: str, number: str, stream: bool) -> tuple[float, float, bytes]:
    """Seconds until the answer, when it came by ``time.monotonic()``, and the answer."""
    body = json.dumps(
        {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": QUESTION}],
        },
        separators=(",", ":"),
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        began = time.monotonic()
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-request-number: {number}"
            f"\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        status, answer = await read_answer(reader)
        ended = time.monotonic()
        assert status == 200, answer
        return ended - began, ended, answer
    finally:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delays", type=float, nargs=2, default=(0.02, 0.12))
    parser.add_argument("--most-added-ms", type=float, default=2.0)
    parser.add_argument("--most-closing-ms", type=float, default=50.0)
    options = parser.parse_args()
    delays = (options.delays[0], options.delays[1])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        slow = stack.enter_context(upstream("--delays", *map(str, delays)))
        quick = stack.enter_context(upstream())
        ports = {}
        for name, url, more in (
            ("cascade", slow, CASCADE),
            ("with", quick, CASCADE),
            ("without", quick, ""),
        ):
            ports[name] = port = free_port()
            config = Path(folder) / f"{name}.toml"
            # No redundancy, and no early strong call: the cheap models alone.
            text = CONFIG.format(port=port, url=url).replace('redundancy = "delayed"\n', "")
            config.write_text(text + more.replace("early_strong_s = 0.5\n", ""))
            command = [sys.executable, "-m", "fastroute", "serve", "--config", str(config)]
            stack.enter_context(running(command, port, {}))
        direct_port = int(slow.rsplit(":", 1)[1].split("/")[0])
        added: list[float] = []
        alone: dict[str, list[float]] = {"one model": [], "direct call": []}
        answered_s: dict[str, float] = {}
        for i in range(options.count):
            number, stream = f"c{i}", i % 2 > 0
            waits = sorted((delay_s(model, number, delays), model) for model in CHEAP)
            seconds, ended, answer = asyncio.run(ask(ports["cascade"], "cascade", number, stream))
            assert b"Paris" in answer
            added.append(seconds - waits[1][0])
            if waits[2][0] - waits[1][0] > SURELY_S:
                answered_s[f"{waits[2][1]} {number}"] = ended
            for port, (name, row) in zip(
                (ports["cascade"], direct_port), alone.items(), strict=True
            ):
                seconds, _, _ = asyncio.run(ask(port, "weak", f"{name[0]}{i}", False))
                row.append(seconds - delay_s("weak", f"{name[0]}{i}", delays))
        time.sleep(0.3)
        with urllib.request.urlopen(slow.removesuffix("/v1") + "/seen", timeout=10) as found:
            closed_s = json.loads(found.read())["closed_s"]
        closing = [closed_s[call] - ended for call, ended in answered_s.items() if call in closed_s]
        for name, values in {"accepted answer": added, **alone}.items():
            ms = sorted(value * 1e3 for value in values)
            print(
                f"{name:<16} beyond its models' time: median {statistics.median(ms):.2f} ms, "
                f"p99 {ms[int(0.99 * len(ms))]:.2f} ms"
            )
        print(
            f"{len(closing)} of {len(answered_s)} calls that are more than {SURELY_S * 1e3:g} ms "
            "behind were cancelled; closed after the answer: "
            f"median {statistics.median(closing) * 1e3:.1f} ms, most {max(closing) * 1e3:.1f} ms"
        )
        rows: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(options.rounds):
            for name, row in rows.items():
                raw = request_bytes("router-mf-0.5", ports[name])
                row.append(statistics.median(asyncio.run(load(ports[name], raw, 1, 300))))
        for name, row in rows.items():
            print(
                f"no cascade, {name:<7} [cascade]: {min(row) * 1e3:.3f} ms (least median of rounds)"
            )
    problems = []
    if statistics.median(added) > options.most_added_ms / 1e3:
        problems.append(f"an accepted answer takes more than {options.most_added_ms:g} ms longer")
    if len(closing) < len(answered_s):
        problems.append("calls were not cancelled")
    if max(closing) > options.most_closing_ms / 1e3:
        problems.append(f"a call was closed after more than {options.most_closing_ms:g} ms")
    if problems:
        raise SystemExit("FAILED: " + "; ".join(problems))
    print("ok")


if __name__ == "__main__":
    main()
