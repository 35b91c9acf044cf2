"""Replicas of the gateway that share a Redis server, which fails under them.

``python bench/serve_replicas.py`` runs small; ``--full`` has 10,000 conversations, 100 runs of
failure, and pauses of 30 s. It prints

- conversations that left their model, over 2 and 4 replicas, each turn at any of them, where
  requests have their history, and where the server is all that replicas know of one another;
- what the server adds to the latency of a request, from gateways with and without it in turns;
- for each kind of failure (kill -9 of a replica or of the server, a pause of the server, a network
  that drops everything): requests that failed, dollars spent beyond the budget, and whether
  everything was as before afterwards without a restart.

It fails if a conversation moved, if a request failed that no replica was killed under, if a budget
was passed by more than one lease for each replica, or if something did not recover.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import aiohttp

from serve_clients import upstream
from serve_load import QUESTION, free_port, load, running

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes import redis as servers
from fastroute.gateway.protocol.auth import hash_key

#: What a call of the mock costs: it has 20 tokens in and 8 out.
CALL_USD = 20 * 10e-6 + 8 * 100e-6
BUDGET_USD, LEASE_SHARE, REPLICAS = 0.25, 0.02, 3
ANSWER = {"role": "assistant", "content": "Here it is."}
HARD, EASY = "hard " * 200, "yes, do it"
CALLERS = ("free", "team")
KINDS = ("kill -9 of the server", "kill -9 of a replica", "pause of the server", "network cut")
CONFIG = """
[server]
port = {port}
log_level = "error"
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
threshold = 0.5
[routers.length]
half_length = 100.0
[routing.session_affinity]
by = "header"
[endpoint]
base_url = "{url}"
[models.strong]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 100.0
[models.weak]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 100.0
[resilience]
retries = 0
"""
STATE = """
[state]
url = "{state}"
prefix = "{prefix}"
wait_s = {wait_s}
"""
BUDGETS = f"""
[budgets]
lease_share = {LEASE_SHARE}
[budgets.callers.team]
usd_per_day = {BUDGET_USD}
"""


def key_of(caller: str) -> str:
    return f"key-of-{caller}-0123456789"


KEYS = "".join(f'[[keys]]\nname = "{n}"\nsha256 = "{hash_key(key_of(n))}"\n' for n in CALLERS)


class Replica:
    """A gateway, and a client of it."""

    def __init__(self, folder: str, text: str, **values: object) -> None:
        self.port = free_port()
        path = Path(folder) / f"{self.port}.toml"
        path.write_text(text.format(port=self.port, **values))
        self._command = [sys.executable, "-m", "fastroute", "serve", "--config", str(path)]
        self._stack = ExitStack()
        self.start()

    def start(self) -> None:
        self.pid = self._stack.enter_context(running(self._command, self.port, {}))
        self.alive = True

    def kill(self) -> None:
        """By SIGKILL."""
        self.alive = False
        os.kill(self.pid, 9)
        self._stack.close()

    def close(self) -> None:
        self._stack.close()

    async def ask(
        self,
        http: aiohttp.ClientSession,
        texts: Sequence[str],
        session: str,
        caller: str,
        number: str,
    ) -> tuple[int, str]:
        """The status, and the model that answered the last of the user's ``texts``. Raises OSError
        if the gateway is gone."""
        body = {"model": "fastroute", "max_tokens": 8}
        headers = {
            "authorization": f"Bearer {key_of(caller)}",
            "x-session-id": session,
            "x-request-number": number,
        }
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        turns = [[{"role": "user", "content": text}, ANSWER] for text in texts]
        messages = list(chain.from_iterable(turns))[:-1]
        async with http.post(url, json=body | {"messages": messages}, headers=headers) as answer:
            await answer.read()
            return answer.status, answer.headers.get("x-fastroute-model", "")

    async def late(self, http: aiohttp.ClientSession) -> float:
        """The share of waits for the server of [state] that it did not end."""
        headers = {"authorization": f"Bearer {key_of('free')}"}
        async with http.get(f"http://127.0.0.1:{self.port}/metrics", headers=headers) as answer:
            page = await answer.text()
        pattern = r'^fastroute_state_wait_seconds_count\{.*"(\w+)"\} (\S+)$'
        counts = {how: float(count) for how, count in re.findall(pattern, page, re.MULTILINE)}
        return 1.0 - counts.get("answered", 0.0) / max(1.0, sum(counts.values()))

    async def status(self, http: aiohttp.ClientSession) -> str:
        """What ``/ready`` says."""
        async with http.get(f"http://127.0.0.1:{self.port}/ready") as answer:
            said: str = (await answer.json())["status"]
            return said if answer.status == 200 else f"{answer.status} {said}"


@contextmanager
def replicas(folder: str, count: int, text: str, **values: object) -> Iterator[list[Replica]]:
    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(lambda _: Replica(folder, text, **values), range(count)))
    try:
        yield found
    finally:
        for replica in found:
            replica.close()


async def ready(http: aiohttp.ClientSession, found: list[Replica]) -> bool:
    """Whether all replicas have their server again, within 20 s."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if [await replica.status(http) for replica in found] == ["ready"] * len(found):
            return True
        await asyncio.sleep(0.05)
    return False


async def moved(
    http: aiohttp.ClientSession,
    found: list[Replica],
    conversations: int,
    name: str,
    *,
    history: bool = True,
) -> int:
    """Conversations of four turns that left their model; a half is hard at first, so that only who
    knows that sends the rest to the strong model too. Requests have the turns before, if they have
    a ``history``; else the server is all that replicas know of one another."""
    chance, left = random.Random(name), iter(range(conversations))
    count = 0

    async def work() -> None:
        nonlocal count
        for number in left:
            models, texts = set(), [HARD if number % 2 else EASY, EASY, EASY, EASY]
            for n in range(1, 5):
                at, said = chance.choice(found), texts[:n] if history else texts[n - 1 : n]
                status, model = await at.ask(http, said, f"{name}-{number}", "free", "moved")
                assert status == 200, status
                models.add(model)
            count += len(models) > 1

    await asyncio.gather(*(work() for _ in range(4)))
    return count


async def conversations(folder: str, url: str, state: str, count: int, wait_s: float) -> bool:
    """Print how many conversations moved."""
    passed = True
    for replicas_count in (2, 4):
        values = {"url": url, "state": state, "wait_s": wait_s, "prefix": f"c{replicas_count}"}
        with replicas(folder, replicas_count, CONFIG + STATE + KEYS, **values) as found:
            async with aiohttp.ClientSession() as http:
                assert await ready(http, found)
                wrong = await moved(http, found, count, f"moved-{replicas_count}")
                bare = await moved(http, found, count // 5, f"b{replicas_count}", history=False)
                late = [await replica.late(http) for replica in found]
        print(
            f"{replicas_count} replicas: {wrong} of {count} conversations moved, and {bare} of "
            f"{count // 5} whose requests had no history; {100 * sum(late) / len(late):.2f} % of "
            f"waits for the server were longer than {1e3 * wait_s:g} ms",
            flush=True,
        )
        passed = passed and wrong == 0
    return passed


def latency(folder: str, url: str, state: str, rounds: int, count: int) -> None:
    """Print what the server adds to a request, at concurrency 1: minima over rounds in turns."""
    values = {"url": url, "state": state, "wait_s": 0.002, "prefix": "latency"}
    taken: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    with (
        replicas(folder, 1, CONFIG, **values) as (without,),
        replicas(folder, 1, CONFIG + STATE, **values) as (shared,),
    ):
        for _ in range(rounds):
            for name, replica in (("without", without), ("with", shared)):
                body = json.dumps(
                    {"model": "fastroute", "messages": [{"role": "user", "content": QUESTION}]}
                )
                raw = (
                    f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-session-id: "
                    f"{random.random()}\r\ncontent-length: {len(body)}\r\n\r\n{body}"
                ).encode()
                seconds = sorted(asyncio.run(load(replica.port, raw, 1, count)))
                taken[name].append((statistics.median(seconds), seconds[int(0.99 * count)]))
    for i, what in enumerate(("median", "p99")):
        rows = [sorted(1e3 * row[i] for row in taken[name]) for name in ("without", "with")]
        (less, more), (low, high) = (row[0] for row in rows), map(statistics.median, rows)
        print(
            f"{what}: {less:.2f} ms without, {more:.2f} ms with the server, {more - less:+.2f} ms "
            f"(minima of {rounds} rounds of {count}; medians {high - low:+.2f} ms)",
            flush=True,
        )


class Run:
    """One failure under traffic."""

    def __init__(self, found: list[Replica], number: int) -> None:
        self.found = found
        self.number = number
        self.outcomes: Counter[str] = Counter()
        self._ends = asyncio.Event()

    async def traffic(self, http: aiohttp.ClientSession, caller: str, worker: int) -> None:
        """Ask one replica after the other, the next where one was killed."""
        turn = worker
        while not self._ends.is_set():
            turn += 1
            replica = self.found[turn % len(self.found)]
            if not replica.alive:
                continue
            session = f"{self.number}-{worker}-{turn}"
            try:
                status, _ = await replica.ask(
                    http, [EASY], session, caller, f"{caller}{self.number}"
                )
            except (OSError, aiohttp.ClientError):
                if replica.alive:
                    self.outcomes[f"{caller} lost"] += 1
                continue
            self.outcomes[f"{caller} {status}"] += 1
            if status != 200:
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        self._ends.set()


async def failures(
    folder: str, url: str, runs: int, pause_s: float, wait_s: float, kinds: list[str]
) -> bool:
    """Print what became of each kind of failure."""
    seen: dict[str, list[tuple[Counter[str], float, float, bool]]] = {kind: [] for kind in kinds}
    data = Path(folder) / "redis"
    data.mkdir()
    with servers.start(data) as server, servers.network(server.port) as network:
        values = {"url": url, "state": network.url, "wait_s": wait_s}
        text = CONFIG + STATE + BUDGETS + KEYS
        for number in range(runs):
            kind = kinds[number % len(kinds)]
            with replicas(folder, REPLICAS, text, prefix=f"run{number}", **values) as found:
                async with aiohttp.ClientSession() as http:
                    assert await ready(http, found)
                    run = Run(found, number)
                    work = [("free", 0), ("free", 1), ("team", 0), ("team", 1), ("team", 2)]
                    tasks = [asyncio.create_task(run.traffic(http, *w)) for w in work]
                    await asyncio.sleep(random.Random(number).uniform(0.2, 1.5))
                    if kind == KINDS[0]:
                        server.kill()
                        await asyncio.sleep(0.5)
                        await asyncio.to_thread(server.start)
                    elif kind == KINDS[1]:
                        await asyncio.to_thread(found[0].kill)
                    elif kind == KINDS[2]:
                        server.pause()
                        await asyncio.sleep(pause_s)
                        server.resume()
                    else:
                        network.cut()
                        await asyncio.sleep(1.0)
                        network.restore()
                    alive = [replica for replica in found if replica.alive]
                    began = time.monotonic()
                    recovered = await ready(http, alive)
                    recovery_s = time.monotonic() - began
                    end = time.monotonic() + 60
                    while time.monotonic() < end:  # until the budget is used up
                        before = run.outcomes["team 200"]
                        await asyncio.sleep(1.5)
                        if run.outcomes["team 200"] == before:
                            break
                    run.stop()
                    await asyncio.gather(*tasks)
                    tries = [await moved(http, alive, 20, f"{number}.{i}") for i in range(3)]
                    recovered = recovered and 0 in tries
            with urllib.request.urlopen(url.removesuffix("/v1") + "/count") as answer:
                billed = json.load(answer).get(f"team{number}", 0) * CALL_USD
            seen[kind].append((run.outcomes, billed, recovery_s, recovered))
            print(number, kind, *seen[kind][-1], file=sys.stderr, flush=True)
    passed = True
    for kind, rows in seen.items():
        total: Counter[str] = sum((row[0] for row in rows), Counter())
        failed = total["team lost"]
        failed += sum(n for name, n in total.items() if "free" in name and name != "free 200")
        most = max((row[1] for row in rows), default=0.0) - BUDGET_USD
        least = min((row[1] for row in rows), default=0.0)
        bound = REPLICAS * LEASE_SHARE * BUDGET_USD
        back = sum(row[3] for row in rows)
        slowest_s = max((row[2] for row in rows), default=0.0)
        print(
            f"{kind}: {len(rows)} runs, {sum(total.values())} requests, {failed} failed; spent "
            f"from ${least:.3f} to ${BUDGET_USD + most:.3f} of ${BUDGET_USD:g} (bound "
            f"${BUDGET_USD + bound:.3f}), {total['team 503']} refused at the end of a lease; "
            f"{back} recovered, within {slowest_s:.1f} s"
        )
        passed = passed and failed == 0 and most <= bound and back == len(rows)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--conversations", type=int)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pause-s", type=float)
    parser.add_argument("--kind", choices=KINDS, help="of failure; all in turns by default")
    parser.add_argument("--wait-s", type=float, default=0.002, help="of [state]")
    options = parser.parse_args()
    full = options.full
    count, runs, rounds, pause_s = (
        default if given is None else given
        for given, default in (
            (options.conversations, 10_000 if full else 200),
            (options.runs, 100 if full else 4),
            (options.rounds, 20 if full else 4),
            (options.pause_s, 30.0 if full else 1.5),
        )
    )
    with tempfile.TemporaryDirectory() as folder, upstream() as url:
        data = Path(folder) / "first"
        data.mkdir()
        passed = True
        with servers.start(data) as server:
            if rounds:
                latency(folder, url, server.url, rounds, 1000)
            if count:
                passed = asyncio.run(conversations(folder, url, server.url, count, options.wait_s))
        if runs:
            kinds = list(KINDS) if options.kind is None else [options.kind]
            job = failures(folder, url, runs, pause_s, options.wait_s, kinds)
            passed = asyncio.run(job) and passed
    print("passed" if passed else "FAILED")
    return not passed


if __name__ == "__main__":
    sys.exit(main())
