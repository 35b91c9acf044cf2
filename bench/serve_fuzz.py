"""Malformed requests against the gateway: none may crash it, be a 5xx of ours, or leak a key.

``python bench/serve_fuzz.py --count 100000`` sends that many raw requests: valid ones with bytes
flipped, cut, repeated and swapped, hostile headers and lengths, JSON that is damaged or hostile.
The upstream always answers 200, so that every 5xx is the gateway's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from serve_clients import upstream
from serve_load import free_port

KEY = "fr-fuzz-0123456789abcdef0123456789abcdef"
PROVIDER_KEY = "sk-fuzz-provider-0123456789abcdef"
HOSTILE = [
    '{"model":"router-mf-0.5","messages":[{"role":"user","content":"\\ud800"}]}',
    '{"model":"router-mf-1e999","messages":[]}',
    '{"model":"router-mf-0.5","messages":' + "[" * 2000 + "]" * 2000 + "}",
    '{"model":"router-mf-0.5","messages":[{"role":"user","content":[{"type":"text"}]}]}',
    '{"model":"router-mf-0.5","messages":[{"role":"user","content":{"a":1}}]}',
    '{"model":"fastroute","messages":[{"role":null}],"stream":"yes"}',
    '{"model":null}', '{"model":{}}', "null", "[]", '""', "1e999", "{}",
    '{"model":"\\u0000\\r\\n"}',
    '{"model":"a","n":' + "9" * 6000 + "}",
    '{"model":"fastroute","messages":[{"role":"user","content":"' + "\\u0000" * 50 + '"}]}',
    '{"model":"fastroute","input":5,"prompt":[[1]],"messages":"x","user":{"a":[1]}}',
]  # fmt: skip
PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/route"),
    *(
        "/v1/models",
        "/metrics",
        "/health",
        "/",
        "/ui/stats",
        "/ui/neighbors",
        "/ui/curve?router=%ff",
    ),
    *("/%00", "//", "/../etc/passwd", "/v1/chat/completions?x=%zz", "*", "http://x/", "/\u00e9"),
)
HEADERS = (
    *("content-length: -1", "content-length: 99999999999999999999", "content-length: 5, 6"),
    *("transfer-encoding: chunked", "transfer-encoding: gzip", "expect: 100-continue"),
    *("upgrade: websocket\r\nconnection: upgrade", "connection: close", ": x", "x y: z", "a:\0b"),
    *("authorization: Bearer \u00ff", "content-type: text/plain", "host: a\r\nhost: b", "x" * 9000),
)


def usual(rng: random.Random) -> bytes:
    body = rng.choice(
        [
            *HOSTILE,
            '{"model":"fastroute","messages":[{"role":"user","content":"hello"}]}',
            '{"model":"router-mf-0.5","stream":true,"messages":[{"role":"user","content":"hi"}]}',
        ]
    )
    raw = body.encode()
    if rng.random() < 0.5:
        raw = mutated(raw, rng)
    method = rng.choice(["POST", "POST", "POST", "POST", "GET", "PUT", "HEAD", "BREW"])
    version = rng.choice(["1.1"] * 18 + ["1.0", "9"])
    path = rng.choice(PATHS[:5] if rng.random() < 0.6 else PATHS)
    lines = [f"{method} {path} HTTP/{version}"]
    lines += ["host: localhost"]
    if rng.random() < 0.8:
        lines.append(f"authorization: Bearer {KEY}")
    if rng.random() < 0.9:
        lines.append(f"content-length: {len(raw)}")
    lines += rng.sample(HEADERS, rng.choice([0, 0, 0, 0, 0, 1, 2]))
    return "\r\n".join(lines).encode(errors="replace") + b"\r\n\r\n" + raw


def mutated(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del data[at : at + rng.randint(1, 20)]
        elif kind == 3:
            data[at:at] = data[at : at + 30]
        else:
            del data[at:]
    return bytes(data)


async def attack(port: int, left: list[int], rng: random.Random, seen: Counter[str]) -> None:
    while left[0] > 0:
        left[0] -= 1
        raw = usual(rng)
        if rng.random() < 0.15:
            raw = mutated(raw, rng)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            if rng.random() < 0.5:
                writer.write_eof()
            answer = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    answer = await reader.read(2048)
            writer.close()
        except ConnectionError:
            seen["reset"] += 1
            continue
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "none"
        seen[status] += 1
        if status.startswith("5") and seen["kept"] < 5:
            seen["kept"] += 1
            print(raw[:300], answer[:400], sep="\n", flush=True)


async def run(port: int, count: int, seed: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    left = [count]
    await asyncio.gather(
        *(attack(port, left, random.Random(seed * 1000 + i), seen) for i in range(48))
    )
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, upstream() as url:
        port = free_port()
        config = Path(folder) / "fuzz.toml"
        keys = subprocess.run(
            [sys.executable, "-m", "fastroute", "serve", "--hash-key"],
            input=KEY, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        config.write_text(
            f'[server]\nport = {port}\n[routing]\nstrong_model = "s"\nweak_model = "w"\n'
            f'[endpoint]\nbase_url = "{url}"\napi_key_env = "FUZZ_KEY"\n'
            f"{keys}"
        )
        log = Path(folder) / "log"
        with log.open("wb") as file:
            gateway = subprocess.Popen(
                [sys.executable, "-m", "fastroute", "serve", "--config", str(config)],
                stderr=file,
                env=os.environ | {"FUZZ_KEY": PROVIDER_KEY},
            )
            end = time.monotonic() + 30
            while b"serving" not in log.read_bytes():
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            seen = asyncio.run(run(port, options.count, options.seed))
            alive = gateway.poll() is None
            gateway.terminate()
            gateway.wait(timeout=40)
        said = log.read_text(errors="replace")
    problems = [f"{n} answers with {s}" for s, n in seen.items() if s[0] == "5"]
    if not alive:
        problems.append("the gateway died")
    for what, secret in (("the gateway's key", KEY), ("the provider's key", PROVIDER_KEY)):
        if secret in said or secret[8:30] in said:
            problems.append(f"{what} is in the log")
    failures = [line for line in said.splitlines() if "Exception" in line or "Traceback" in line]
    problems += [f"logged: {line[:300]}" for line in failures[:3]]
    print(json.dumps(dict(sorted(seen.items()))))
    if problems:
        raise SystemExit("FAILED: " + "; ".join(problems))
    print("ok")


if __name__ == "__main__":
    main()
