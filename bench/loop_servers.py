"""The loop of ``loop_simulation.py`` between real processes: provider, gateway and users.

``python bench/loop_servers.py --change NAME`` runs a provider, ``fastroute serve`` with a journal,
shadows, exploration, feedback, drift and canaries, and users who send prompts at a steady rate,
each in a process of its own, over loopback. Beside them it runs ``fastroute journal judge``,
``learn`` and ``replay`` again and again, and tries what they propose by a canary. A day is 2
minutes here: everything is the product's but its pace. ``--journal`` takes the URL of a database in
PostgreSQL. Printed are the regret a request of each day, as there, and what happened.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Engine

from fastroute.journal.database import open_journal
from fastroute.rollout.canary import Canary, Rules
from fastroute.rollout.drift import Drift
from fastroute.rollout.states import change, read
from loop_simulation import CHANGES, EXPLORED, GRADED, PRICE_OF_STRONG, STRONG, TOPICS, World
from loop_users import Provider
from serve_load import free_port, running

T = TypeVar("T")
SHADOWED = 0.25
CONFIG = """
[server]
port = {port}
log_level = "error"
[routing]
strong_model = "strong"
weak_model = "weak"
{routing}
[endpoint]
base_url = "http://127.0.0.1:{provider}/v1"
[models.strong]
input_usd_per_mtok = 2.5
output_usd_per_mtok = 10
[models.weak]
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.6
[journal]
url = "{journal}"
prompts = true
answers = true
[explore]
share = {explored}
[shadow]
share = {shadowed}
daily_usd = 1000
[drift]
settle_s = 10
{canary}
"""
CANARY = """
[canary]
{router}
stages = [0.2, 0.5]
settle_s = 10
min_conversations = 50
quality_margin = 0.1
errors_margin = 0.05
latency_margin = 5.0
dollars_margin = 20.0
"""


class WorldProvider(Provider):
    """Answers right, 42, with the probability of the world that is in the folder now."""

    folder = Path()

    def answer(self, model: str, prompt: str) -> tuple[str, int, int]:
        """The text, and the tokens of prompt and text."""
        weak = json.loads((self.folder / "world.json").read_text())["weak"]
        topic = next(i for i, words in enumerate(TOPICS.values()) if prompt.split()[0] in words)
        is_right = random.random() < (STRONG if model == "strong" else weak[topic])
        tokens = int(random.lognormvariate(4.6, 0.5)) + 1
        return f"The answer is {42 if is_right else 41}.", 60, tokens


def provide(folder: Path, port: int) -> None:
    """Serve until the process ends."""
    WorldProvider.folder = folder
    ThreadingHTTPServer(("127.0.0.1", port), WorldProvider).serve_forever()


def use(folder: Path, port: int, rate: float, clients: int = 8) -> None:
    """Send ``rate`` prompts a second until the process ends, grade a part of the answers, and note
    the topic and model of each."""
    lock = threading.Lock()

    def client(number: int) -> None:
        rng = random.Random(number)
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        due = time.monotonic() + number / rate
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + clients / rate, time.monotonic())
            shares = json.loads((folder / "world.json").read_text())["shares"]
            topic = rng.choices(range(3), shares)[0]
            words = list(TOPICS.values())[topic].split()
            prompt = " ".join([*rng.choices(words, k=5), f"{rng.getrandbits(40):x}"])
            name, answer = _post(connection, "/v1/chat/completions", {
                "model": "fastroute", "messages": [{"role": "user", "content": prompt}]
            })  # fmt: skip
            is_right = "42" in answer["choices"][0]["message"]["content"]
            if rng.random() < GRADED:
                _post(connection, "/v1/feedback",
                      {"request_id": name, "score": float(is_right), "source": "user"})  # fmt: skip
            with lock:
                with (folder / "key.jsonl").open("a") as file:
                    file.write(json.dumps({"prompt": prompt, "answer": 42}) + "\n")
                with (folder / "seen.jsonl").open("a") as file:
                    file.write(json.dumps([time.time(), topic, answer["model"]]) + "\n")

    for number in range(clients):
        threading.Thread(target=client, args=(number,)).start()


def _post(connection: HTTPConnection, path: str, body: Any) -> tuple[str, Any]:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in (200, 202):
        raise SystemExit(f"{path}: {answer.status} {text!r}")
    return answer.headers.get("x-fastroute-request-id", ""), json.loads(text)


class Operator:
    """Learns from the journal, tries what is proposed, and takes over what is promoted."""

    def __init__(self, folder: Path, journal: str, port: int, provider: int) -> None:
        self.folder, self.journal, self.ports = folder, journal, (port, provider)
        self.routing, self.canary, self.number = 'routers = ["mf"]', "", 0
        self.events: list[tuple[float, str]] = []
        self.pid = 0
        self.configure()

    @property
    def config(self) -> Path:
        return self.folder / "gateway.toml"

    def configure(self) -> None:
        """Write the configuration; a running gateway reads it again."""
        port, provider = self.ports
        text = CONFIG.format(port=port, provider=provider, journal=self.journal,
                             explored=EXPLORED, shadowed=SHADOWED, routing=self.routing,
                             canary=self.canary)  # fmt: skip
        self.config.write_text(text)
        if self.pid:
            os.kill(self.pid, signal.SIGHUP)

    def note(self, what: str) -> None:
        """Keep what happened."""
        self.events.append((time.time(), what))

    def step(self, since: float) -> None:
        """One round; replay looks at the requests since ``since``."""
        if self.canary:
            found = self.of_journal(lambda engine: read(engine, Canary))
            if found is None or found.status == "running":
                return
            self.note(f"canary {self.number} {found.status}: {found.events[-1].reason}")
            if found.status == "promoted":
                self.routing = self.proposal
            self.canary = ""
            self.configure()
            return
        url = ("--journal", self.journal)
        key = self.folder / "key-now.jsonl"  # one that nobody writes to
        key.write_text((self.folder / "key.jsonl").read_text().rpartition("\n")[0])
        self._run("journal", "judge", self.journal, "--by", "key", "--key", str(key))
        self.number += 1
        router = self.folder / f"router-{self.number}"
        goal = ("--target-quality", "0.9", "--seed", str(self.number), "--json")
        status, said = self._run("learn", *url, "--output", str(router), *goal)
        if status == 0:
            policy, self.proposal = str(router), f'routers = ["mf={router}"]'
            choice = f'router = "{router}"'
        elif status == 3:
            side = json.loads(said)["recommendation"].removeprefix("always_")
            threshold = f"threshold = {float(side == 'weak')}"
            policy, self.proposal = f"always:{side}", f'routers = ["length"]\n{threshold}'
            choice = f'router = "length"\n{threshold}'
        else:
            return
        compared = ("--policy", "logged", "--policy", policy, "--since", str(since), "--json")
        status, said = self._run("replay", *url, *compared)
        if status or not self._is_better(json.loads(said)):
            self.note(f"learn proposes {Path(policy).name}, replay does not agree")
            return
        self.note(f"learn proposes {Path(policy).name}, replay agrees")
        # Whatever came of a router before, it is tried again.
        fresh = Canary.start("", Rules(), time.time())
        self.of_journal(lambda engine: change(engine, Canary, lambda _: fresh))
        self.canary = CANARY.format(router=choice)
        self.configure()

    def of_journal(self, do: Callable[[Engine], T]) -> T:
        """What ``do`` gives with the journal."""
        engine = open_journal(self.journal)
        try:
            return do(engine)
        finally:
            engine.dispose()

    def _is_better(self, said: dict[str, Any]) -> bool:
        own, new = said["policies"]
        quality, cost = new["differences"]["quality"], new["differences"]["cost_usd"]
        spent = own["estimates"]["cost_usd"]["value"]
        keeps = quality["low"] > -0.1 and cost["high"] < -0.1 * spent
        return bool(keeps or quality["low"] > 0.0)

    def _run(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fastroute", *words], capture_output=True, text=True
        )
        if done.returncode not in (0, 3):
            self.note(f"{words[0]}: {done.stderr.strip()[-200:]}")
        return done.returncode, done.stdout


@contextmanager
def child(*words: str) -> Iterator[None]:
    """This file in another process until the block ends."""
    process = subprocess.Popen([sys.executable, __file__, *words])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def regrets(folder: Path, began: float, changed: float, world: World, day_s: float) -> list[float]:
    """Of each day, the mean value that a request lost to an oracle."""
    rows = [json.loads(line) for line in (folder / "seen.jsonl").read_text().splitlines()]
    lost: dict[int, list[float]] = {}
    for at, topic, model in rows:
        weak = (world if at >= changed else World()).weak[topic]
        values = {"weak": weak, "strong": STRONG - PRICE_OF_STRONG}
        lost.setdefault(int((at - began) // day_s), []).append(max(values.values()) - values[model])
    return [float(np.mean(lost[day])) for day in sorted(lost) if day >= 0]


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--change", choices=CHANGES, default="none")
    parser.add_argument("--journal", help="URL (default: a new file of SQLite)")
    parser.add_argument("--days", type=int, nargs=2, default=(3, 5), help="before, and after")
    parser.add_argument("--day-s", type=float, default=120.0, help="seconds of a day")
    parser.add_argument("--requests", type=int, default=2000, help="a day")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, folder, port, *more = options.child
        provide(Path(folder), int(port)) if kind == "provider" else use(
            Path(folder), int(port), float(more[0])
        )
        return
    (before, after), day_s, world = options.days, options.day_s, CHANGES[options.change]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _write(folder, World())
        ports = free_port(), free_port()
        url = options.journal or f"sqlite:///{folder}/journal.db"
        operator = Operator(folder, url, *ports)
        stack.enter_context(child("--child", "provider", str(folder), str(ports[1])))
        command = [sys.executable, "-m", "fastroute", "serve", "--config", str(operator.config)]
        operator.pid = stack.enter_context(running(command, ports[0], {}))
        rate = str(options.requests / day_s)
        stack.enter_context(child("--child", "users", str(folder), str(ports[0]), rate))
        while not (folder / "seen.jsonl").exists():
            time.sleep(0.1)
        began, changed = time.time(), float("inf")
        while (now := time.time()) < began + (before + after) * day_s:
            if changed > now >= began + before * day_s:
                changed = now
                _write(folder, world)
            if now >= began + day_s / 2:
                operator.step(max(began, now - day_s))
            time.sleep(1.0)
        drift = operator.of_journal(lambda engine: read(engine, Drift))
        of_days = regrets(folder, began, changed, world, day_s)
    kind, by_day = url.partition(":")[0], " ".join(f"{r:.3f}" for r in of_days)
    print(f"{options.change} after {before} days, {kind}: regret a request of each day: {by_day}")
    alarms = [] if drift is None else [(a.time, f"drift: {a.stream}") for a in drift.alarms]
    for at, what in sorted([*operator.events, *alarms]):
        requests = (at - changed) / day_s * options.requests
        print(f"  {(at - began) / day_s:5.2f} days, {requests:+7,.0f} requests: {what}")


def _write(folder: Path, world: World) -> None:
    made = folder / "world.new"
    made.write_text(json.dumps({"weak": world.weak, "shares": world.shares}))
    made.replace(folder / "world.json")


if __name__ == "__main__":
    main()
