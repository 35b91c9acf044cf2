"""The journal of a gateway in another process: its rows, what it leaves out, and grades."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from fakes import gateway as gateways
from fakes import postgresql
from fakes.gateway import Gateway
from fakes.planned import View
from fastroute.journal.database import open_journal
from fastroute.journal.schema import REQUESTS, SHADOWS

CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
[endpoint]
base_url = "{base_url}"
[models.strong]
input_usd_per_mtok = 10.0
cached_input_usd_per_mtok = 2.5
output_usd_per_mtok = 30.0
[models.weak]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 2.0
[journal]
{journal}
"""
SECRET = "my number is 555-1234"


HOOK = """
def hide(text):
    if "broken" in text:
        raise RuntimeError(text)
    return "".join("#" if c.isdigit() else c for c in text)
"""


@contextmanager
def start(folder: Path, provider: View, journal: str = "", more: str = "") -> Iterator[Gateway]:
    text = CONFIG.format(base_url=provider.base_url, journal=journal) + more
    path = gateways.write_config(folder, text)
    places = f"{folder}:{os.environ.get('PYTHONPATH', '')}"  # of the redaction hook
    with gateways.start("--config", path, environment={"PYTHONPATH": places}) as gateway:
        yield gateway


def ask(gateway: Gateway, prompt: str, key: str = "", **more: Any) -> str:
    """The id of a request that was answered."""
    body = {"model": "fastroute", "messages": [{"role": "user", "content": prompt}], **more}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = gateway.ask("POST", "/v1/chat/completions", body, headers)
    assert answer.status == 200, answer.body
    return answer.headers["x-fastroute-request-id"]


def rows(folder: Path, table: str = "requests") -> list[dict[str, Any]]:
    path = folder / "journal.db"
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY time")]
    except sqlite3.OperationalError:  # no tables yet
        return []
    finally:
        connection.close()


def wait_for_rows(gateway: Gateway, folder: Path, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.wait_for(
        lambda: len(made := rows(folder)) >= count and made
    )
    assert len(found) == count
    return found


def test_each_request_has_a_row(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider) as gateway:
        ids = [
            ask(gateway, "short"),
            ask(gateway, "long " * 400 + "CACHED"),
            ask(gateway, "x", model="strong", stream=True),
        ]
        gateway.ask("POST", "/v1/route", {"model": "fastroute", "messages": []})
        provider.plan({"kind": "status", "status": 418})
        body = {"model": "weak", "messages": [{"role": "user", "content": "x"}]}
        assert gateway.ask("POST", "/v1/chat/completions", body).status == 418
        short, long, named, failed = wait_for_rows(gateway, tmp_path, 4)
        logged = gateway.events("request")
    assert [row["request_id"] for row in (short, long, named)] == ids
    assert (short["chosen"], long["chosen"], named["chosen"]) == ("weak", "strong", "strong")
    assert json.loads(short["candidates"]) == ["strong", "weak"]
    assert json.loads(short["probabilities"]) == {"strong": 0.0, "weak": 1.0}
    assert (short["propensity"], short["explored"], short["policy"]) == (
        1.0, 0, "length threshold=0.5",
    )  # fmt: skip
    assert named["router"] is named["propensity"] is named["scores"] is None
    assert long["cached_tokens"] == long["input_tokens"] - 10
    for row, line in zip((short, long, named), logged, strict=False):
        names = ("win_rate", "cost_usd", "input_tokens", "output_tokens", "caller", "first_byte_ms")
        for name in names:
            assert row[name] == pytest.approx(line.get(name), abs=1e-6), name
        assert row["latency_ms"] == line["duration_ms"]
    assert (named["stream"], named["tokens_are_estimates"]) == (1, 1)
    assert (failed["status"], failed["error"], failed["cost_usd"]) == (418, "provider_status", None)
    assert {row[name] for row in (short, long) for name in ("prompt", "answer")} == {None}
    assert short["prompt_characters"] == 5
    text = (tmp_path / "journal.db").read_bytes() + (tmp_path / "journal.db").read_bytes()
    assert b"long long" not in text
    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600


def test_texts_are_kept_as_the_hook_returns_them(tmp_path: Path, provider: View) -> None:
    text = 'prompts = true\nanswers = true\nmax_text_characters = 30\nredact = "hook:hide"'
    (tmp_path / "hook.py").write_text(HOOK)
    with start(tmp_path, provider, text) as gateway:
        ask(gateway, SECRET)
        ask(gateway, f"{SECRET} broken"[-30:], stream=True)
        first, second = wait_for_rows(gateway, tmp_path, 2)
    assert (first["prompt"], first["answer"]) == ("my number is ###-####", "abcd" * 7 + "ab")
    assert (second["prompt"], second["answer"]) == (None, "abcd" * 7 + "ab")
    assert not [line for line in gateway.lines if "1234" in line]


def test_a_conversation_is_known_by_its_digest(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider) as gateway:
        ask(gateway, "one")
        turns = [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "a"},
            {"role": "user", "content": "two"},
        ]
        ask(gateway, "", messages=turns)
        ask(gateway, "three")
        found = wait_for_rows(gateway, tmp_path, 3)
    names = [row["conversation"] for row in found]
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 32


def test_exploration_is_recorded_with_its_probability(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider, more="[explore]\nshare = 0.5\n") as gateway:
        ids = [ask(gateway, f"prompt {i}") for i in range(60)]
        found = wait_for_rows(gateway, tmp_path, 60)
    assert [row["request_id"] for row in found] == ids
    chosen = [row["chosen"] for row in found]
    assert 3 <= chosen.count("strong") <= 30  # 15 expected
    for row in found:
        assert json.loads(row["probabilities"]) == {"strong": 0.25, "weak": 0.75}
        assert row["propensity"] == (0.25 if row["chosen"] == "strong" else 0.75)
        assert row["explored"] or row["chosen"] == "weak"
    asked = [request["model"] for request in provider.requests()]
    assert asked == chosen


SHADOW = "[shadow]\nshare = {share}\ndaily_usd = {usd}\n{more}\n"


def wait_for_shadows(gateway: Gateway, folder: Path, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.wait_for(
        lambda: len(made := rows(folder, "shadows")) >= count and made
    )
    return found


def shadow_outcomes(gateway: Gateway) -> dict[str, float]:
    text = gateway.ask("GET", "/metrics").body.decode()
    pattern = r'^fastroute_shadows_total\{outcome="(\w+)"\} (\S+)$'
    return {name: float(n) for name, n in re.findall(pattern, text, re.MULTILINE)}


def wait_for_budget(gateway: Gateway, folder: Path) -> None:
    """Until the day's dollars were read from the database."""
    gateway.wait_for(lambda: rows(folder, "prices"))
    time.sleep(0.5)


def test_the_other_model_answers_too(tmp_path: Path, provider: View) -> None:
    more = SHADOW.format(share=1.0, usd=1.0, more="")
    with start(tmp_path, provider, "answers = true", more) as gateway:
        wait_for_budget(gateway, tmp_path)
        short = ask(gateway, "short")
        wait_for_shadows(gateway, tmp_path, 1)
        long = ask(gateway, "long " * 400, stream=True, stream_options={"include_usage": True})
        shadows = wait_for_shadows(gateway, tmp_path, 2)
        for exempt in ({"tools": []}, {"n": 2}, {"model": "weak"}, {"functions": []}):
            ask(gateway, "x", **exempt)
        time.sleep(0.5)
        requests = provider.requests()
        spent = gateway.ask("GET", "/ui/stats").json()["spent_usd"]
        assert shadow_outcomes(gateway) == {"answered": 2.0}
    assert [(s["request_id"], s["model"], s["weight"], s["error"]) for s in shadows] == [
        (short, "strong", 1.0, None),
        (long, "weak", 1.0, None),
    ]
    assert [request["model"] for request in requests[:4]] == ["weak", "strong", "strong", "weak"]
    assert len(requests) == 8
    assert requests[1]["messages"] == requests[0]["messages"]
    assert [s["answer"] for s in shadows] == ["abcd" * 100] * 2
    prices = {"strong": (10.0, 30.0), "weak": (1.0, 2.0)}
    billed = [
        (r["billed"]["prompt_tokens"], r["billed"]["completion_tokens"], *prices[r["model"]])
        for r in requests
    ]
    dollars = [(a * price_in + b * price_out) / 1e6 for a, b, price_in, price_out in billed]
    assert [s["cost_usd"] for s in shadows] == pytest.approx([dollars[1], dollars[3]])
    assert spent == pytest.approx(sum(dollars))
    assert sum(row["cost_usd"] for row in rows(tmp_path)) == pytest.approx(
        sum(dollars) - dollars[1] - dollars[3]
    )


def test_shadows_stop_at_the_day_s_dollars_even_after_a_restart(
    tmp_path: Path, provider: View
) -> None:
    more = SHADOW.format(share=1.0, usd=0.01, more="")  # three of about 0.0033
    for asked, expected in ((6, 3), (2, 3)):
        with start(tmp_path, provider, more=more) as gateway:
            wait_for_budget(gateway, tmp_path)
            for i in range(asked):
                ask(gateway, f"short {i}")
                gateway.wait_for(lambda i=i: sum(shadow_outcomes(gateway).values()) > i)
            outcomes = shadow_outcomes(gateway)
            wait_for_shadows(gateway, tmp_path, expected)
        found = rows(tmp_path, "shadows")
        assert len(found) == expected
        assert sum(s["cost_usd"] for s in found) <= 0.01
        assert outcomes["over_budget"] == asked - (3 if asked == 6 else 0)


def test_shadows_take_no_place_of_a_request(tmp_path: Path, provider: View) -> None:
    more = SHADOW.format(share=1.0, usd=1.0, more="max_concurrency = 1")
    with start(tmp_path, provider, more=more) as gateway:
        wait_for_budget(gateway, tmp_path)
        provider.plan({"kind": "usual"}, {"kind": "stall", "seconds": 2.0})
        for i in range(3):
            ask(gateway, f"short {i}")  # at once, though a shadow is late
        gateway.wait_for(lambda: shadow_outcomes(gateway).get("no_room") == 2.0)
        gateway.signal(signal.SIGTERM)
        gateway.process.wait(10)
    shadow = rows(tmp_path, "shadows")[0]
    assert shadow["error"] == "shutdown"  # it may be billed, and so is in the books
    assert shadow["cost_usd"] > 0


def test_a_shadow_that_fails_is_noted(tmp_path: Path, provider: View) -> None:
    more = SHADOW.format(share=1.0, usd=1.0, more="")
    with start(tmp_path, provider, more=more + "[resilience]\nretries = 0\n") as gateway:
        wait_for_budget(gateway, tmp_path)
        provider.plan({"kind": "usual"}, {"kind": "status", "status": 500})
        ask(gateway, "short")
        shadow = wait_for_shadows(gateway, tmp_path, 1)[0]
    assert (shadow["error"], shadow["cost_usd"]) == ("ProviderStatusError", 0.0)


def test_feedback(tmp_path: Path, provider: View) -> None:
    keys = "".join(
        f'[[keys]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
        for name in ("mine", "yours")
    )
    with start(tmp_path, provider, more=keys) as gateway:
        known = ask(gateway, "hello", key="mine")

        def grade(key: str = "mine", again: str = "", **body: Any) -> tuple[int, Any]:
            headers = {"authorization": f"Bearer {key}", "idempotency-key": again}
            answer = gateway.ask("POST", "/v1/feedback", body, headers)
            return answer.status, answer.json()

        status, said = grade(request_id=known, score=1, comment="good", again="a")
        assert (status, said) == (200, {"request_id": known, "joined": True})  # at once
        assert rows(tmp_path, "feedback")[0]["comment"] == "good"
        assert grade(request_id=known, score=1, comment="good", again="a")[0] == 200
        status, said = grade(request_id=known, score=0.5, again="a")
        assert (status, said["error"]["code"]) == (409, "other_grade")
        assert grade(request_id=known, winner="strong", source="user")[0] == 200
        assert grade(request_id="0" * 16, score=0.5)[0] == 202
        assert grade("yours", request_id=known, score=0.5)[0] == 404
        assert grade(request_id="nothing", score=0.5)[0] == 404
        assert grade("nobody", request_id=known, score=0.5)[0] == 401
        for wrong, said_of in (
            ({"score": 2}, "score"), ({"score": "1"}, "score"), ({"winner": "gpt"}, "winner"),
            ({}, "give"), ({"score": 1, "grade": 2}, "grade"), ({"score": True}, "score"),
            ({"score": 1, "source": "judge"}, "source"),
        ):  # fmt: skip
            status, said = grade(request_id=known, **wrong)
            assert (status, said["error"]["code"]) == (422, "invalid_feedback"), wrong
            assert said_of in said["error"]["message"]
        headers = {"authorization": "Bearer mine"}
        assert gateway.ask("POST", "/v1/feedback", b"{", headers).status == 400
        assert gateway.ask("GET", "/v1/feedback", None, headers).status == 405
    kept = rows(tmp_path, "feedback")
    assert [(g["request_id"], g["source"], g["score"], g["winner"]) for g in kept] == [
        (known, "application", 1.0, None),
        (known, "user", None, "strong"),
        ("0" * 16, "application", 0.5, None),
    ]


def test_without_a_journal_there_is_no_feedback(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/v1/feedback", {"request_id": "0" * 16, "score": 1})
    assert (answer.status, answer.json()["error"]["code"]) == (404, "no_journal")


def writer_of(gateway: Gateway) -> int:
    """The id of the journal's process."""
    return gateway.wait_for(
        lambda: next(
            (
                int(task.name)
                for task in Path("/proc").glob("[0-9]*")
                if f"PPid:\t{gateway.process.pid}\n" in (task / "status").read_text()
            ),
            None,
        )
    )


def test_a_full_disk_stops_the_journal_and_not_the_gateway(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider, "prompts = true") as gateway:
        ask(gateway, "before")
        wait_for_rows(gateway, tmp_path, 1)
        # No file may grow: what a full disk is to SQLite.
        pid = writer_of(gateway)
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, -1))
        for i in range(20):
            ask(gateway, f"{i} " + "x" * 10_000)
        gateway.wait_for(lambda: gateway.events("the journal can't be written"))
        body = {"request_id": "0" * 16, "score": 1}
        assert gateway.ask("POST", "/v1/feedback", body).status == 503
        ask(gateway, "during")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        found = wait_for_rows(gateway, tmp_path, 22)
        assert found[-1]["prompt"] == "during"
        assert gateway.ask("POST", "/v1/feedback", body).status == 202


def load(gateway: Gateway, count: int, clients: int = 8) -> threading.Thread:
    """Ask ``count`` requests by ``clients`` in the background, until the gateway is gone."""

    def client(number: int) -> None:
        with suppress(OSError, http.client.HTTPException):
            for i in range(count // clients):
                ask(gateway, f"{number} {i} " + "word " * (i % 7 * 40))

    def run() -> None:
        threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    running = threading.Thread(target=run)
    running.start()
    return running


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_books_are_the_bill_after_kill_9_and_restarts(
    tmp_path: Path, provider: View, kind: str
) -> None:
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/journal.db"
        if kind == "postgresql":
            url = stack.enter_context(postgresql.start()).database()
        more = SHADOW.format(share=0.2, usd=100.0, more="")
        for kills in (True, True, False):
            with start(tmp_path, provider, f'url = "{url}"', more) as gateway:
                before = len(provider.requests())
                running = load(gateway, 1200)
                if kills:
                    gateway.wait_for(lambda n=before: len(provider.requests()) > n + 700)
                    provider.plan(*[{"kind": "stall", "seconds": 1.0}] * 8)
                    before = len(provider.requests())
                    gateway.wait_for(lambda n=before: len(provider.requests()) > n + 2)
                    gateway.process.send_signal(signal.SIGKILL)
                    provider.plan()
                    gateway.process.wait()
                running.join()
        engine = open_journal(url)
        with engine.connect() as connection:
            of = REQUESTS.c
            requests = connection.execute(select(of.chosen, of.cost_usd, of.error)).all()
            shadows = connection.execute(select(SHADOWS.c.model, SHADOWS.c.cost_usd)).all()
        engine.dispose()
    prices = {"strong": (10.0, 30.0), "weak": (1.0, 2.0)}
    billed: dict[str, list[float]] = {"strong": [], "weak": []}
    for sent in provider.requests():
        full, output = prices[sent["model"]]
        tokens = sent["billed"]
        usd = tokens["prompt_tokens"] * full + tokens["completion_tokens"] * output
        billed[sent["model"]].append(usd / 1e6)
    bill = sum(map(sum, billed.values()))
    assert sum(map(len, billed.values())) > 2600
    killed = sum(row.error == "killed" for row in requests)
    assert 1 <= killed <= 16
    # A call that was sent when its gateway was killed, and reset before the provider read it, is in
    # the books and not on this bill.
    names = [row[0] for row in [*requests, *shadows]]
    for model, usd_of in billed.items():
        unread = names.count(model) - len(usd_of)
        assert 0 <= unread <= 24
        bill += unread * sum(usd_of) / len(usd_of)
    dollars = sum(row.cost_usd for row in [*requests, *shadows])
    assert dollars == pytest.approx(bill, rel=0.001)
    if kind == "sqlite":
        connection = sqlite3.connect(tmp_path / "journal.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


@contextmanager
def longest_turn(folder: Path) -> Iterator[Callable[[], float]]:
    """Seconds of the longest turn of a thread that writes to a database twice a second as the
    journal does, on the machine as it is: half a second and little more on a quiet one."""
    turns, ended = [0.5], threading.Event()

    def write() -> None:
        connection = sqlite3.connect(folder / "turns.db")
        connection.execute("CREATE TABLE turns (began)")
        began = time.monotonic()
        while not ended.wait(0.5):
            connection.execute("INSERT INTO turns VALUES (?)", (began,))
            connection.commit()
            turns.append(time.monotonic() - began)
            began = time.monotonic()
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: max(turns)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kill_9_loses_at_most_the_last_second(tmp_path: Path, provider: View, kind: str) -> None:
    """A second on a quiet machine, twice the time of a turn on another."""
    answered: dict[str, float] = {}
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/journal.db"
        if kind == "postgresql":
            url = stack.enter_context(postgresql.start()).database()
        engine = open_journal(url)
        stack.callback(engine.dispose)
        turn_s = stack.enter_context(longest_turn(tmp_path))

        def due() -> set[str]:
            until = time.monotonic() - max(1.0, 2.0 * turn_s())
            return {name for name, at in answered.items() if at < until}

        with start(tmp_path, provider, f'url = "{url}"') as gateway:
            while len(due()) < 50:
                answered[ask(gateway, "word")] = time.monotonic()
                time.sleep(0.01)
            kept_at_least = due()
            gateway.process.send_signal(signal.SIGKILL)
            gateway.process.wait()
        with engine.connect() as connection:
            assert kept_at_least <= set(connection.scalars(select(REQUESTS.c.request_id)))


def test_a_server_that_is_away_stops_the_journal_and_not_the_gateway(
    tmp_path: Path, provider: View
) -> None:
    with postgresql.start() as server:
        url = server.database()
        server.stop()
        with start(tmp_path, provider, f'url = "{url}"') as gateway:
            ids = [ask(gateway, f"{i}") for i in range(10)]
            gateway.wait_for(lambda: gateway.events("the journal can't be written"))
            body = {"request_id": ids[0], "score": 1}
            assert gateway.ask("POST", "/v1/feedback", body).status == 503
            server.start()
            gateway.wait_for(lambda: gateway.events("the journal is written again"))
            assert gateway.ask("POST", "/v1/feedback", body).json()["joined"] is True
        engine = open_journal(url)
        with engine.connect() as connection:
            found = connection.scalars(select(REQUESTS.c.request_id).order_by(REQUESTS.c.time))
            assert list(found) == ids
        engine.dispose()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('url = "mysql://h/d"', "journal.url: the journal's URL begins with 'mysql'"),
        ('password_env = "NOT_SET_18"', "the environment variable NOT_SET_18 is not set"),
        ('redact = "nowhere:x"', "journal.redact: 'nowhere:x' can't be imported"),
        ("retention_days = 0", "journal.retention_days"),
        ("[shadow]\nshare = 0.1", "shadow.daily_usd"),
        ("[explore]\nshare = 0", "explore.share"),
    ],
)
def test_a_wrong_section_is_refused(
    tmp_path: Path, provider: View, section: str, said: str
) -> None:
    with pytest.raises(AssertionError) as raised, start(tmp_path, provider, section):
        pass
    assert said in str(raised.value)


def test_shadow_and_explore_need_a_journal(tmp_path: Path, provider: View) -> None:
    text = CONFIG.replace("[journal]\n{journal}", "[explore]\nshare = 0.1")
    path = gateways.write_config(tmp_path, text.format(base_url=provider.base_url))
    with pytest.raises(AssertionError, match=r"explore: needs the section \[journal\]"):
        gateways.start("--config", path).__enter__()
