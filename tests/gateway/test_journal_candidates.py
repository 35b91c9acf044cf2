"""Samples of requests beside many candidates: exploration, shadows, and grades of their answers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli_runner import fastroute as command
from fakes import gateway as gateways
from fakes import openai_billed
from fakes.gateway import Gateway
from fakes.planned import Server, View
from gateway import test_candidates as candidates
from gateway.test_journal import rows, wait_for_rows

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with openai_billed.start() as running:
        yield running


@pytest.fixture
def provider(server: Server) -> View:
    return View(server)


@contextmanager
def start(folder: Path, provider: View, sections: str) -> Iterator[Gateway]:
    """A gateway with three candidates of one provider: dear and best, cheap, and claude."""
    text = candidates.config(dict.fromkeys(candidates.NAMES, provider))
    path = gateways.write_config(folder, sections + text.replace('api = "anthropic"\n', ""))
    with gateways.start("--config", path, environment={"CLAUDE_KEY": "sk"}) as found:
        yield found


def ask(gateway: Gateway, text: str, *more: dict[str, Any], **fields: Any) -> str:
    """The id of a request that was answered."""
    answer = candidates.ask(gateway, [{"role": "user", "content": text}, *more], **fields)
    assert answer.status == 200, answer.body
    return str(answer.headers["x-fastroute-request-id"])


def journal(folder: Path, count: int, gateway: Gateway) -> list[dict[str, Any]]:
    found = wait_for_rows(gateway, folder, count)
    for row in found:
        row |= {name: json.loads(row[name]) for name in ("candidates", "scores", "probabilities")}
    return found


def test_conversations_are_explored_among_what_may_answer(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider, "[journal]\n[explore]\nshare = 0.6\n") as gateway:
        for i in range(40):
            ask(gateway, f"Question {i} about the sky", max_tokens=10)
        with_tools = [ask(gateway, f"Use it {i}", tools=TOOLS) for i in range(5)]
        found = journal(tmp_path, 45, gateway)
        first = found[0]
        ask(gateway, "Question 0 about the sky", candidates.SAID, candidates.MORE, max_tokens=10)
        later = journal(tmp_path, 46, gateway)[-1]
    chosen = Counter(row["chosen"] for row in found[:40])
    assert set(chosen) == {"dear", "cheap", "claude"}
    assert chosen["dear"] >= 12  # 24 expected
    for row in found:
        eligible = row["candidates"]
        assert eligible == [n for n in row["scores"] if row["request_id"] not in with_tools
                            or n != "claude"]  # fmt: skip
        assert row["scores"] == {"dear": 0.9, "cheap": 0.6, "claude": 0.3}
        each = 0.6 / len(eligible)
        wanted = {name: each + 0.4 * (name == "dear") for name in eligible}
        assert row["probabilities"] == pytest.approx(wanted)
        assert row["propensity"] == pytest.approx(wanted[row["chosen"]])
        assert row["explored"] or row["chosen"] == "dear"
    # A later turn is not drawn again.
    assert later["conversation"] == first["conversation"]
    assert max(later["probabilities"].values()) == later["propensity"] == 1.0
    assert not later["explored"]


@pytest.mark.parametrize("which", ["one", "all"])
def test_shadows_are_of_other_candidates_that_may_answer(
    tmp_path: Path, provider: View, which: str
) -> None:
    sections = (
        "[journal]\nprompts = true\nanswers = true\n"
        f"[shadow]\nshare = 0.5\ndaily_usd = 1.0\nmodels = '{which}'\n"
    )
    with start(tmp_path, provider, sections) as gateway:
        ids = []
        gateway.wait_for(lambda: rows(tmp_path, "prices"))  # the day's dollars are known by then
        while len({row["request_id"] for row in rows(tmp_path, "shadows")}) < 6:
            ids += [ask(gateway, f"Question {len(ids)} about the sea", max_tokens=9)]
            assert len(ids) < 500
        for i in range(10):
            ask(gateway, f"Use it {i}", tools=TOOLS, max_tokens=9)
        found = journal(tmp_path, len(ids) + 10, gateway)
        each = 2 if which == "all" else 1
        shadows = gateway.wait_for(
            lambda: (
                len(s := rows(tmp_path, "shadows")) == each * len({row["request_id"] for row in s})
                and s
            )
        )
        assert {row["chosen"] for row in found} == {"dear"}
        assert {row["request_id"] for row in shadows} <= set(ids)
        assert {row["model"] for row in shadows} <= {"cheap", "claude"}
        assert {row["weight"] for row in shadows} == {2.0 if which == "all" else 4.0}
        assert all(row["error"] is None and row["answer"] for row in shadows)
        assert any(row["cost_usd"] > 0 for row in shadows)
        if which == "all":
            assert {row["model"] for row in shadows} == {"cheap", "claude"}
        # Grades of any two of them.
        one = shadows[0]
        for winner, status in ((one["model"], 200), ("other", 422)):
            said = gateway.ask(
                "POST", "/v1/feedback", {"request_id": one["request_id"], "winner": winner}
            )
            assert said.status == status
    judged = command("journal", "judge", f"sqlite:///{tmp_path}/journal.db", "--by", "evidence")
    assert judged.status == 0, judged.err
    kept = rows(tmp_path, "judgements")
    assert {(row["request_id"], frozenset((row["model_a"], row["model_b"]))) for row in kept} == {
        (row["request_id"], frozenset(("dear", row["model"]))) for row in shadows
    }


def test_shadows_stay_within_the_day_s_dollars(tmp_path: Path, provider: View) -> None:
    sections = "[journal]\n[shadow]\nshare = 1.0\ndaily_usd = 1e-9\nmodels = 'all'\n"
    with start(tmp_path, provider, sections) as gateway:
        gateway.wait_for(lambda: ask(gateway, "Why?", max_tokens=9) and _count(gateway))
        assert rows(tmp_path, "shadows") == []


def _count(gateway: Gateway) -> bool:
    metrics = gateway.ask("GET", "/metrics").body.decode()
    return 'fastroute_shadows_total{outcome="over_budget"}' in metrics


CANARY = "[journal]\n[canary]\nstages = [0.5]\n"


def test_a_canary_may_be_another_policy(tmp_path: Path, provider: View) -> None:
    sections = f"{CANARY}policy = 'best_value=10000'\n"
    with start(tmp_path, provider, sections) as gateway:
        for i in range(30):
            ask(gateway, f"Question {i} about the sky", max_tokens=9)
        found = journal(tmp_path, 30, gateway)
        for i in range(30):
            asked = candidates.SAID, candidates.MORE
            ask(gateway, f"Question {i} about the sky", *asked, max_tokens=9)
        later = journal(tmp_path, 60, gateway)[30:]
        shown = gateway.ask("GET", "/ui/rollout").json()["canary"]
    by_arm = {(row["arm"], row["chosen"], row["policy"]) for row in found}
    assert by_arm == {
        ("canary", "cheap", "best_value=10000"), ("control", "dear", "max_quality")
    }  # fmt: skip
    arms = {row["conversation"]: row["arm"] for row in found}
    assert [arms[row["conversation"]] for row in later] == [row["arm"] for row in later]
    assert shown["router"] == "priors with best_value=10000"
    with start(tmp_path, provider, sections) as gateway:  # which goes on with the same canary
        ask(gateway, "Question 0 about the sky", max_tokens=9)
        again = journal(tmp_path, 61, gateway)[-1]
        assert again["arm"] == arms[again["conversation"]]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (CANARY, "needs router, or [learn]"),
        (f"{CANARY}policy = 'best'", "policy 'best' must be one of"),
        (f"{CANARY}policy = 'max_quality'\nthreshold = 0.5", "threshold is for a pair of models"),
        (f"{CANARY}router = 'nowhere'", "nowhere"),
        ("[journal]\nprompts = true\n[learn]\ntarget_share = 0.5", "target_share is for a pair"),
    ],
)
def test_sections_that_make_no_sense(
    tmp_path: Path, provider: View, section: str, said: str
) -> None:
    with (
        pytest.raises(AssertionError, match=re.escape(said)),
        start(tmp_path, provider, f"{section}\n"),
    ):
        pass
