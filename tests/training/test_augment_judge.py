"""The judge against a real server in another process: orders, failures, interruption, cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cli_runner import fastroute, refused, wait_for
from fakes import openai_judge, planned
from fastroute.data.battles import read_battles
from fastroute.errors import InvalidInputError
from fastroute.http import Endpoint
from fastroute.training.label.answers import AnsweredPrompt, read_answers
from fastroute.training.label.chat_model import ChatModel
from fastroute.training.label.journal import Journal
from fastroute.training.label.judge import JudgeReport, PairJudge

LONG, SHORT = "a long and careful answer", "short"


PROVIDER = openai_judge


def _row(prompt: str, a: str | None = LONG, b: str | None = SHORT) -> AnsweredPrompt:
    answers = {name: text for name, text in (("big", a), ("small", b)) if text is not None}
    return AnsweredPrompt(prompt, "mine", "", answers)


def _judge(
    server: planned.View,
    rows: list[AnsweredPrompt],
    journal: Path,
    *,
    generate: bool = False,
    concurrency: int = 4,
    retries: int = 0,
    timeout_s: float = 20.0,
    **changes: Any,
) -> JudgeReport:
    endpoint = Endpoint(
        server.base_url, max_retries=retries, timeout_s=timeout_s, retry_cut_answers=True
    )
    answerers = {m: ChatModel(m, endpoint) for m in ("big", "small")} if generate else None
    judge = ChatModel("judge", endpoint, **changes)
    with Journal(journal) as kept:
        pairs = PairJudge(judge, "big", "small", journal=kept, answerers=answerers)
        return pairs.run(rows, concurrency=concurrency)


def test_both_orders_decide(server: planned.View, tmp_path: Path) -> None:
    rows = [
        _row("which is longer, the first"),
        _row("which is longer, the second", SHORT, LONG),
        _row("which is longer, neither", "12345", "abcde"),
        _row("a judge that prefers the first shown", "BIASED", SHORT),
        _row("a judge without a verdict", "MUMBLE", SHORT),
        _row("equal answers need no judge", SHORT, SHORT),
        _row("nothing to judge", LONG, None),
    ]
    report = _judge(server, rows, tmp_path / "j")
    assert [(b.battle.prompt[-9:], b.battle.winner) for b in report.battles] == [
        ("the first", "model_a"),
        ("he second", "model_b"),
        (", neither", "tie"),
        ("rst shown", "tie"),
        (" no judge", "tie"),
    ]
    assert (report.agreed, report.disagreed, report.first_twice) == (3, 1, 1)
    assert (report.unparseable, report.equal_answers, report.without_answers) == (2, 1, 1)
    assert "hard to tell" in report.unparseable_examples[0]
    assert report.missing == 0
    # Five pairs in both orders, with each answer once in each place, and no other request.
    asked = [r["messages"][0]["content"] for r in server.requests()]
    assert len(asked) == 10
    places = Counter(text.index(LONG) < text.index(SHORT) for text in asked if LONG in text)
    assert places == {True: 2, False: 2}
    assert all(r["temperature"] == 0.0 and r["max_tokens"] == 512 for r in server.requests())
    assert (report.judged.prompt_tokens, report.judged.completion_tokens) == (1000, 100)


def test_a_second_run_asks_nothing(server: planned.View, tmp_path: Path) -> None:
    rows = [_row(f"prompt number {i}") for i in range(5)]
    first = _judge(server, rows, tmp_path / "j")
    again = _judge(server, [*rows, rows[0]], tmp_path / "j")
    assert len(server.requests()) == 10
    assert again.battles == [*first.battles, first.battles[0]]
    assert (again.judged.answered, again.judged.kept) == (0, 10)
    # Another judge, prompt, answer or option is another question.
    _judge(server, rows[:1], tmp_path / "j", temperature=0.5)
    assert len(server.requests()) == 12
    _judge(server, [_row("prompt number 0", LONG + "!")], tmp_path / "j")
    assert len(server.requests()) == 14


def test_missing_answers_are_generated_once(server: planned.View, tmp_path: Path) -> None:
    rows = [_row("tell me", None, None), _row("and me", "one that is here already and long", None)]
    report = _judge(server, rows, tmp_path / "j", generate=True)
    assert [b.battle.winner for b in report.battles] == ["model_b", "model_a"]
    models = Counter(r["model"] for r in server.requests())
    assert models == {"big": 1, "small": 2, "judge": 4}
    assert "<answer_a>\nbig says tell me\n</answer_a>" in "".join(
        r["messages"][0]["content"] for r in server.requests()
    )
    _judge(server, rows, tmp_path / "j", generate=True)
    assert len(server.requests()) == 7


def test_a_server_that_fails_stalls_and_cuts_off(server: planned.View, tmp_path: Path) -> None:
    rows = [_row(f"trouble {i}") for i in range(6)]
    server.plan(
        {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
        {"kind": "status", "status": 500},
        {"kind": "cut"},
        {"kind": "reset"},
        {"kind": "status", "status": 503},
    )
    began = time.monotonic()
    report = _judge(server, rows, tmp_path / "j", concurrency=1, retries=5)
    assert report.missing == 0
    assert len(report.battles) == 6
    assert len(server.requests()) == 12 + 5
    seen = server.requests()
    assert seen[1]["at"] - seen[0]["at"] >= 1.0, "Retry-After was not waited for"
    assert time.monotonic() - began < 60


def test_what_failed_is_reported_and_asked_again(server: planned.View, tmp_path: Path) -> None:
    rows = [_row(f"again {i}") for i in range(3)]
    server.plan(
        {"kind": "stall", "seconds": 3},  # late: it may be paid for, so it is not asked twice
        {"kind": "garbage", "raw": "no JSON"},
        {"kind": "reply", "body": {"choices": []}},
    )
    report = _judge(server, rows, tmp_path / "j", concurrency=1, timeout_s=1.0)
    assert len(report.judged.failures) == 3
    assert report.missing == 3
    assert len(report.battles) == 1
    said = " ".join(map(str, report.judged.failures))
    assert "no complete answer in 1 s" in said or "no answer in 1 s" in said
    assert "is not JSON" in said
    assert "not a chat completion" in said
    assert len(server.requests()) == 6
    assert len(_judge(server, rows, tmp_path / "j").battles) == 3
    assert len(server.requests()) == 9


def test_a_provider_that_is_down_is_not_hammered(server: planned.View, tmp_path: Path) -> None:
    rows = [_row(f"down {i}") for i in range(20)]
    server.plan(*[{"kind": "status", "status": 500}] * 40)
    report = _judge(server, rows, tmp_path / "j", concurrency=2)
    assert 5 <= len(server.requests()) <= 6
    assert report.judged.unasked == 40 - len(server.requests())
    server.plan({"kind": "status", "status": 401}, *[{"kind": "status", "status": 401}] * 5)
    report = _judge(server, rows, tmp_path / "j", concurrency=1)
    assert len(report.judged.failures) == 1, "a key that is refused once is refused always"
    assert report.missing == 40


def test_a_journal_that_can_not_be_written_stops_the_run(
    server: planned.View, tmp_path: Path
) -> None:
    endpoint = Endpoint(server.base_url, max_retries=0)
    with Journal(tmp_path / "j") as kept:
        os.close(kept._file)
        kept._file = os.open(os.devnull, os.O_RDONLY)
        pairs = PairJudge(ChatModel("judge", endpoint), "big", "small", journal=kept)
        with pytest.raises((InvalidInputError, OSError)):
            pairs.run([_row(f"full {i}") for i in range(20)], concurrency=2)
    assert len(server.requests()) <= 4


# The command


def _write(path: Path, count: int) -> Path:
    rows = [{"prompt": f"question number {i}", "answers": {"big": LONG, "small": SHORT}} for i in
            range(count)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _arguments(server: planned.View | planned.Server, data: Path, output: Path) -> list[str]:
    return [
        *("augment", "judge", "--data", str(data), "--output", str(output)),
        *("--model-a", "big", "--model-b", "small"),
        *("--judge-model", "judge", "--judge-base-url", server.base_url),
    ]


def test_the_command_shows_the_cost_and_writes_battles(
    server: planned.View, tmp_path: Path
) -> None:
    data, output = _write(tmp_path / "prompts.jsonl", 3), tmp_path / "battles.jsonl"
    arguments = _arguments(server, data, output)
    ran = fastroute(*arguments)
    assert ran.status == 2
    assert "6 questions" in ran.err
    assert "cost unknown: no prices given" in ran.err
    assert "--yes" in ran.err
    assert not server.requests(), "asked without consent"
    ran = fastroute(*arguments, "--judge-price", "2", "10", "--yes")
    assert ran.status == 0, ran.err
    # 6 questions of about 215 tokens at $2, and 6 answers of at most 512 at $10 a million.
    shown = float(ran.err.split("at most about $")[1].split()[0])
    assert 0.03 < shown < 0.04
    assert "600 tokens in, 60 out, $0.0018" in ran.out
    assert "usable token count" not in ran.out
    assert "orders agreed on 3 of 3 pairs" in ran.out
    assert [b.winner for b in read_battles(output)] == ["model_a"] * 3
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert rows[0] == {
        "dataset": "prompts",
        "prompt": "question number 0",
        "model_a": "big",
        "model_b": "small",
        "winner": "model_a",
    }
    ran = fastroute(*arguments, "--json")  # nothing is left to ask, so there is nothing to agree to
    assert ran.status == 0, ran.err
    assert ran.json["judge"]["in_journal"] == 6
    assert len(server.requests()) == 6


@pytest.mark.parametrize(
    ("usage", "said", "usd"),
    [
        ({"prompt_tokens": -100, "completion_tokens": -10}, "100 tokens in, 10 out, $0.0003", 3e-4),
        ({"prompt_tokens": -100, "completion_tokens": 10}, "100 tokens in, 20 out, $0.0004", 4e-4),
        ({"prompt_tokens": 7.5, "completion_tokens": "10"}, "100 tokens in, 10 out", 3e-4),
        ({"prompt_tokens": True, "completion_tokens": False}, "100 tokens in, 10 out", 3e-4),
        ({"prompt_tokens": 10**400, "completion_tokens": 0}, "100 tokens in, 10 out", 3e-4),
        ([1, 2], "100 tokens in, 10 out", 3e-4),
        (None, "100 tokens in, 10 out", 3e-4),
    ],
)
def test_tokens_that_cannot_be_are_counted_and_not_summed(
    server: planned.View, tmp_path: Path, usage: Any, said: str, usd: float
) -> None:
    data = _write(tmp_path / "prompts.jsonl", 1)
    for number, more in enumerate([[], ["--json"]]):
        server.plan({"kind": "usage", "usage": usage})  # of the first order alone
        arguments = _arguments(server, data, tmp_path / f"{number}.jsonl")
        ran = fastroute(*arguments, "--judge-price", "2", "10", "--yes", *more)
        assert ran.status == 0, ran.err
        if more:
            assert ran.json["judge"]["uncounted"] == 1
            assert ran.json["judge"]["usd"] == pytest.approx(usd)
        else:
            assert said in ran.out
            assert "1 answers have no usable token count" in ran.out


def test_a_key_comes_from_the_environment_only(
    server: planned.View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = _write(tmp_path / "p.jsonl", 1), tmp_path / "b.jsonl"
    arguments = [*_arguments(server, data, output), "--yes"]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("MY_KEY", "sk-mine")
    assert fastroute(*arguments).status == 0
    assert "authorization" not in server.requests()[0]["headers"], "OpenAI's key left its host"
    (tmp_path / "b.jsonl.journal").unlink()
    assert fastroute(*arguments, "--judge-key-variable", "MY_KEY").status == 0
    assert server.requests()[-1]["headers"]["authorization"] == "Bearer sk-mine"
    assert b"sk-mine" not in (tmp_path / "b.jsonl.journal").read_bytes()
    assert "has no 'NO_KEY'" in refused(*arguments, "--judge-key-variable", "NO_KEY")
    # Nor is it shown where a server repeats it in what is no answer.
    (tmp_path / "b.jsonl.journal").unlink()
    server.plan(
        {"kind": "garbage", "raw": "<html>Bearer sk-mine"},
        {"kind": "reply", "body": {"choices": [], "you": "sk-mine"}},
    )
    ran = fastroute(*arguments, "--judge-key-variable", "MY_KEY", "--retries", 0)
    assert ran.status == 1
    assert "***" in ran.err
    assert "sk-mine" not in ran.out + ran.err


def test_kill_9_in_the_middle_loses_nothing_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    data, output = _write(tmp_path / "prompts.jsonl", 40), tmp_path / "battles.jsonl"
    with openai_judge.start(seconds=0.05) as server:
        command = [*_arguments(server, data, output), "--yes", "--concurrency", "3"]
        process = subprocess.Popen(
            [sys.executable, "-m", "fastroute", *command], stderr=subprocess.DEVNULL
        )
        wait_for(lambda: len(server.requests()) >= 15)
        process.kill()
        assert process.wait(timeout=20) == -signal.SIGKILL
        asked_before = len(server.requests())
        with Journal(f"{output}.journal") as journal:
            kept = len(journal)
        assert asked_before - 3 <= kept <= asked_before < 80, "more than was under way is lost"
        assert not output.exists()
        ran = fastroute(*command)
        assert ran.status == 0, ran.err
        assert len(server.requests()) - asked_before == 80 - kept
        assert len(output.read_text().splitlines()) == 40


def test_ctrl_c_waits_for_what_is_under_way(tmp_path: Path) -> None:
    data, output = _write(tmp_path / "prompts.jsonl", 40), tmp_path / "battles.jsonl"
    with openai_judge.start(seconds=0.3) as server:
        command = [*_arguments(server, data, output), "--yes", "--concurrency", "3"]
        process = subprocess.Popen(
            [sys.executable, "-m", "fastroute", *command], stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(server.requests()) >= 4)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "to store their answers" in said
        with Journal(f"{output}.journal") as journal:
            assert len(journal) == len(server.requests())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--model-b", "big"], "model_a and model_b are both 'big'"),
        (["--model-b", "tiny"], "--model-b 'tiny' has no answer in --data, which has those of big"),
        (["--judge-options", "["], "--judge-options is not JSON"),
        (["--judge-options", "[]"], "--judge-options must be a JSON object"),
        (["--judge-base-url", "localhost"], "base_url must start with http"),
        (["--judge-price", "-1", "2"], "usd_per_mtok must be dollars"),
        (["--judge-prompt", "nowhere"], "--judge-prompt nowhere can't be read"),
        (["--judge-max-tokens", "0"], "max_tokens must be at least 1"),
        (["--concurrency", "0", "--yes"], "concurrency must be at least 1, got 0"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl can't be read"),
    ],
)
def test_bad_arguments(
    changes: list[str], message: str, server: planned.View, tmp_path: Path
) -> None:
    data = _write(tmp_path / "p.jsonl", 1)
    ran = fastroute(*_arguments(server, data, tmp_path / "b.jsonl"), *changes)
    assert ran.status == 2
    assert message in ran.err
    assert not server.requests()


def test_options_reach_the_request(server: planned.View, tmp_path: Path) -> None:
    options = {"max_tokens": None, "max_completion_tokens": 77}
    _judge(server, [_row("with options")], tmp_path / "j", options=options)
    assert "max_tokens" not in server.requests()[0]
    assert server.requests()[0]["max_completion_tokens"] == 77


def test_answers_from_every_layout(tmp_path: Path) -> None:
    wanted = {"big": "x", "small": "y"}
    for name, content in (
        ("a.jsonl", '{"prompt": "p", "answers": {"big": "x", "small": "y"}}\n'),
        ("b.csv", "prompt,big_response,small_response\np,x,y\n"),
        ("c.csv", "prompt,model_a,model_b,response_a,response_b\np,big,small,x,y\n"),
        ("d.csv", "question,model,response\np,big,x\np,small,y\n"),
    ):
        (tmp_path / name).write_text(content)
        (row,) = read_answers(tmp_path / name)
        assert (row.prompt, row.dataset, row.answers) == ("p", name[0], wanted)
    (tmp_path / "e.csv").write_text("prompt,model,response\np,big,x\np,big,other\n")
    with pytest.raises(InvalidInputError, match=r"line 3: 'big' has another answer to this prompt"):
        read_answers(tmp_path / "e.csv")
    (tmp_path / "f.jsonl").write_text('{"prompt": "p", "answers": {"big": 3}}\n')
    with pytest.raises(InvalidInputError, match=r"line 1: the answer of 'big' must be text"):
        read_answers(tmp_path / "f.jsonl")
    (tmp_path / "g.jsonl").write_text('{"text": "p"}\n')
    with pytest.raises(InvalidInputError, match=r"line 1: there is no 'prompt' or 'question'"):
        read_answers(tmp_path / "g.jsonl")
