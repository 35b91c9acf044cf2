"""``evaluate`` and ``calibrate`` from end to end, in processes of their own, on small data."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute, refused
from evaluation.evaluation_data import small_evals, write_json_lines
from fastroute.evaluation import apgr, curve, load_gsm8k
from fastroute.routers import LengthRouter
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER
from fastroute.routers.specification import parse_router

needs_default = pytest.mark.skipif(
    not (DEFAULT_FOLDER / "artifact.json").is_file(),
    reason="the default router has not been made in this checkout",
)
NAMED = ("mmlu", "gsm8k", "mt-bench")


@pytest.fixture(scope="module")
def evals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_evals(tmp_path_factory.mktemp("evals"))


def traffic(path: Path, n: int = 60, **more: Any) -> Path:
    rng = np.random.default_rng(4)
    rows: list[dict[str, object]] = [
        {
            "prompt": f"question {i} " + "and more " * int(rng.integers(0, 20)),
            "weak": float(rng.random() < 0.4),
            "strong": float(rng.random() < 0.9),
        }
        | more
        for i in range(n)
    ]
    write_json_lines(path, rows)
    return path


def test_three_benchmarks_in_one_command_with_all_outputs(evals: Path, tmp_path: Path) -> None:
    page, figure = tmp_path / "r.html", tmp_path / "r.svg"
    ran = fastroute(
        "evaluate", "--benchmark", *NAMED, "--data", evals, "--router", "length", "random",
        "--resamples", "50", "--no-cache", "--json", "--html", page, "--plot", figure,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert ran.err == ""  # not a terminal: no progress bars
    assert [b["name"] for b in ran.json["benchmarks"]] == list(NAMED)
    gsm8k = load_gsm8k(evals)
    rates = LengthRouter().win_rates(gsm8k.prompts)
    rows = {row["name"]: row for row in ran.json["benchmarks"][1]["routers"]}
    assert rows["length"]["apgr"]["value"] == pytest.approx(
        apgr(curve(rates, gsm8k.weak, gsm8k.strong))
    )
    assert set(rows) == {"length", "random", "oracle"}
    assert "Martian" in page.read_text()
    assert "--benchmark mmlu gsm8k mt-bench" in page.read_text()
    assert figure.read_text().startswith("<?xml")


def test_tables_for_terminal_and_markdown(evals: Path) -> None:
    base = ["evaluate", "--benchmark", "gsm8k", "--data", str(evals), "--router", "length"]
    text = fastroute(*base, "--resamples", "20", "--no-cache", "--timings").out
    assert "CPT(95%)" in text
    assert "39 prompts scored" in text
    markdown = fastroute(*base, "--resamples", "0", "--no-cache", "--markdown").out
    assert "| `length` |" in markdown
    published = fastroute(*base, "--resamples", "0", "--no-cache", "--method", "routellm").out
    assert "method routellm" in published


def test_own_traffic_stops_at_malformed_rows_unless_they_are_skipped(tmp_path: Path) -> None:
    path = traffic(tmp_path / "mine.jsonl")
    with path.open("a") as file:
        file.write('{"prompt": "x", "weak": "good", "strong": 1}\n')
        file.write('{"prompt": "x", "weak": 1}\n')
    base = ["evaluate", "--benchmark", path, "--router", "length", "--resamples", "0"]
    assert "line 61: 'weak' is 'good', not a number" in refused(*base)
    ran = fastroute(*base, "--no-cache", "--skip-bad", "--json")
    assert ran.err.splitlines() == [
        "mine.jsonl: left out 1 malformed rows",
        "mine.jsonl: left out 1 rows without scores of both models",
    ]
    assert ran.json["benchmarks"][0]["prompts"] == 60


def test_dollars_on_the_axis(tmp_path: Path) -> None:
    path = traffic(tmp_path / "mine.jsonl", cost_weak=0.001, cost_strong=0.01)
    base = ["evaluate", "--benchmark", path, "--router", "length", "--resamples", "0"]
    ran = fastroute(*base, "--no-cache", "--axis", "cost", "--json")
    (row,) = (r for r in ran.json["benchmarks"][0]["routers"] if r["name"] == "random")
    assert row["curve"]["cost"] == pytest.approx(np.linspace(0.001, 0.01, 101).tolist())
    # Half of the gap costs half of the extra dollars: 0.0055 of 0.01.
    assert row["bill_saved"]["0.5"]["value"] == pytest.approx(0.45)


def test_transfer_to_other_pairs(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    rng = np.random.default_rng(0)
    write_json_lines(
        path,
        [
            {
                "prompt": f"question {i}" + "?" * int(rng.integers(1, 40)),
                "scores": {"a": 1.0, "b": float(rng.random() < 0.6)}
                | ({"c": float(rng.random() < 0.3)} if i % 3 else {}),
            }
            for i in range(60)
        ],
    )
    ran = fastroute(
        "evaluate", "--benchmark", path, "--pair", "strong=a", "weak=b", "--pair", "weak=c",
        "strong=a", "--router", "length", "--resamples", "0", "--no-cache", "--json",
    )  # fmt: skip
    assert ran.err == "many.jsonl: a or c: left out 20 rows without scores of both models\n"
    assert [(b["name"], b["prompts"]) for b in ran.json["benchmarks"]] == [
        ("many.jsonl: a or b", 60),
        ("many.jsonl: a or c", 40),
    ]
    assert "strong=COLUMN weak=COLUMN" in refused(
        "evaluate", "--benchmark", path, "--pair", "a", "b", "--router", "length"
    )
    ran = fastroute(
        "evaluate", "--benchmark", path, "--strong", "a", "--weak", "c",
        "--router", "length", "--resamples", "0", "--no-cache", "--json",
    )  # fmt: skip
    assert [(b["name"], b["prompts"]) for b in ran.json["benchmarks"]] == [
        ("many.jsonl: a or c", 40)
    ]
    assert "give both --strong and --weak" in refused(
        "evaluate", "--benchmark", path, "--strong", "a", "--router", "length"
    )


def artifact(folder: Path, trained_on: list[str]) -> None:
    """An mf artifact over the bundled embedder that was trained on ``trained_on``."""
    from fastroute.artifacts import prompt_hash, save_artifact
    from fastroute.embedders import StaticEmbedder

    embedder = StaticEmbedder.load_default()
    rng = np.random.default_rng(0)
    hashes = np.unique(np.array([prompt_hash(p) for p in trained_on], dtype=np.uint64))
    save_artifact(
        folder,
        kind="mf",
        config={
            "models": ["strong", "weak"],
            "strong_model": "strong",
            "weak_model": "weak",
            "embedder": embedder.name,
            "dimensions": embedder.dimensions,
        },
        arrays={
            "P.weight": np.eye(2, dtype=np.float32),
            "text_proj.0.weight": rng.normal(size=(2, embedder.dimensions)).astype(np.float32),
            "classifier.0.weight": np.ones((1, 2), dtype=np.float32),
            "calibration_win_rates": np.linspace(0.2, 0.8, 1001, dtype=np.float32),
            "trained_on": hashes,
        },
    )


@needs_default
def test_an_artifact_is_not_scored_on_its_training_prompts_and_is_cached(
    evals: Path, tmp_path: Path
) -> None:
    gsm8k = load_gsm8k(evals)
    artifact(tmp_path / "leaky", list(gsm8k.prompts[:5]))
    leaky = f"mf,checkpoint_path={tmp_path / 'leaky'},label=leaky"
    base = ["evaluate", "--benchmark", "gsm8k", "--data", str(evals), "--resamples", "0", "--json"]
    assert "'leaky' was trained on 5 of the 39" in refused(*base, "--router", leaky, "--no-cache")
    ran = fastroute(*base, "--router", leaky, "--drop-trained", "--no-cache")
    assert (ran.json["benchmarks"][0]["prompts"], ran.json["benchmarks"][0]["dropped"]) == (34, 5)

    artifact(tmp_path / "clean", ["something else"])
    clean = f"mf,checkpoint_path={tmp_path / 'clean'}"
    cache = tmp_path / "cache"
    first, second = (fastroute(*base, "--router", clean, cache=cache) for _ in range(2))
    rows = [ran.json["benchmarks"][0]["routers"][0] for ran in (first, second)]
    assert [row["timings"]["prompts"] for row in rows] == [39, 0]
    assert rows[0]["apgr"] == rows[1]["apgr"]
    with sqlite3.connect(cache / "win_rates.sqlite3") as database:
        assert database.execute("select count(*) from win_rates").fetchone() == (39,)
    database.close()


@needs_default
def test_in_domain_trains_mf_and_sw_ranking_on_folds(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rng = np.random.default_rng(1)
    rows: list[dict[str, object]] = []
    for i in range(240):
        hard = bool(i % 2)
        topic = "prove the theorem about prime numbers" if hard else "tell me a story of a cat"
        p_weak = 0.15 if hard else 0.8
        rows.append(
            {
                "prompt": f"{topic}, please, version {i}",
                "weak": float(rng.random() < p_weak),
                "strong": float(rng.random() < 0.85),
            }
        )
    write_json_lines(path, rows)
    ran = fastroute(
        "evaluate", "--benchmark", path, "--router", "mf", "sw_ranking", "length", "--protocol",
        "in-domain", "--folds", "3", "--resamples", "100", "--json", "--no-cache",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    found = {row["name"]: row for row in ran.json["benchmarks"][0]["routers"]}
    for router in ("mf", "sw_ranking"):  # the topics are easy to tell apart
        assert found[router]["apgr"]["low"] > 0.6
        assert found[router]["p_random"] < 0.05
    assert ran.json["notes"] == [
        "3 folds: mf, sw_ranking trained on the other folds, the rest as it is."
    ]
    assert "battles has no effect" in refused(
        "evaluate", "--benchmark", path, "--router", "sw_ranking,battles=x", "--protocol",
        "in-domain",
    )  # fmt: skip


@needs_default
def test_sw_ranking_is_not_scored_on_its_battles_and_is_cached(tmp_path: Path) -> None:
    path = traffic(tmp_path / "mine.jsonl", 30)
    prompts = [json.loads(line)["prompt"] for line in path.read_text().splitlines()]
    battles = tmp_path / "battles.jsonl"
    specification = f"sw_ranking,battles={battles},strong_model=a,weak_model=b,num_tiers=2"
    base = ["evaluate", "--benchmark", path, "--router", specification, "--resamples", "0"]

    def fight(words: list[str]) -> None:
        outcomes = ("model_a", "model_b", "model_a")
        write_json_lines(
            battles,
            [
                {"prompt": text, "model_a": "a", "model_b": "b", "winner": outcomes[i % 3]}
                for i, text in enumerate(words)
            ],
        )

    fight([*prompts[:3], "a prompt of other people's"])
    assert "trained on 3 of the 30" in refused(*base, "--no-cache")
    cache = tmp_path / "cache"
    asked = []
    for changed in (0, 0, 1):
        fight([f"a prompt of other people's, number {i + changed}" for i in range(9)])
        ran = fastroute(*base, "--json", cache=cache)
        asked.append(ran.json["benchmarks"][0]["routers"][0]["timings"]["prompts"])
    assert asked == [30, 0, 30]  # other battles are another router


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "mmlu"], "github.com/lm-sys/RouteLLM"),
        (["--benchmark", "mmlu", "--data", "/nowhere"], "github.com/lm-sys/RouteLLM"),
        (["--benchmark", "hellaswag"], "neither one of mmlu, gsm8k, mt-bench"),
        (["--benchmark", "x.jsonl"], "x.jsonl can't be read"),
        (["--benchmark", "x.jsonl", "--html", "/nowhere/x.html"], "there is no folder /nowhere"),
        (["--benchmark", "x.jsonl", "--plot", "x.gif"], "must end in .png, .svg, .pdf"),
        (["--benchmark", "EVALS", "--protocol", "other"], "protocol must be one of"),
        (["--benchmark", "EVALS", "--method", "other"], "method must be"),
        (["--benchmark", "EVALS", "--axis", "cost"], "needs dollars"),
        (["--benchmark", "EVALS", "EVALS"], "two of them are named"),
        (["--benchmark", "EVALS", "--router", "length", "length"], "two routers are labelled"),
        (["--benchmark", "EVALS", "--router", "length,x"], "is not KEY=VALUE"),
        (
            ["--benchmark", "EVALS", "--router", "length,x=1"],
            "Its options: half_length",
        ),
        (["--benchmark", "EVALS", "--resamples", "many"], "invalid int value"),
        (["--benchmark", "EVALS", "--resamples", "9" * 22], "resamples must be in 0..1,000,000"),
        (["--benchmark", "EVALS", "--seed", "-1"], "seed must be 0 or more, got -1"),
        (["--benchmark", "EVALS", "--folds", "0"], "fold_count must be in 2..1,000,000"),
        (["--benchmark", ""], "argument --benchmark: is empty"),
        (["--benchmark", "EVALS", "--html", ""], "argument --html: is empty"),
        (["--benchmark", "EVALS", "--router", ""], "argument --router: is empty"),
        (["--benchmark", "EVALS", "--router", "mf,checkpoint_path="], "checkpoint_path is empty"),
        (["--benchmark", "EVALS", "--router", "length,label="], "label is empty"),
        (["--benchmark", "EVALS", "--router", "random,seed=1,seed=2"], "seed is given twice"),
        (["--benchmark", "EVALS", "--router", "mf,checkpoint_path=5"], "there is no folder 5"),
        ([], "--benchmark"),
    ],
)
def test_evaluate_refuses_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    path = traffic(tmp_path / "mine.jsonl", 20)
    words = [str(path) if word == "EVALS" else word for word in arguments]
    router = [] if "--router" in words else ["--router", "length"]
    assert message in refused("evaluate", *words, *router, "--no-cache")


def test_calibrate_by_share_from_prompts_and_from_quantiles(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("".join("x" * n + "\n" for n in range(1, 101)))
    base = ["calibrate", "--router", "length", "--prompts", path, "--strong-share", "0.25"]
    ran = fastroute(*base, "--no-cache", "--json")
    threshold = ran.json["threshold"]
    assert ran.json["share"]["value"] == pytest.approx(0.25)
    assert 75 / 375 < threshold["value"] <= 76 / 376  # the 25 longest of 1 to 100 characters
    assert threshold["low"] < threshold["value"] < threshold["high"]
    text = fastroute(*base, "--no-cache").out
    assert "from 100 prompts" in text
    assert f"model string: router-length-{threshold['value']!r}\n" in text
    quantiles = fastroute(
        "calibrate", "--router", "random", "--strong-share", "0.3", "--no-cache", "--json"
    )
    assert quantiles.json["threshold"]["value"] == pytest.approx(0.7, abs=0.002)
    assert "1,001 calibration quantiles" in quantiles.json["source"]
    routed = fastroute("route", "--router", "random,seed=1", "--strong-share", "0.3", "--json", "x")
    assert routed.json["threshold"] == pytest.approx(quantiles.json["threshold"]["value"], abs=2e-3)


def test_calibrate_by_quality_reports_the_half_it_did_not_choose_on(evals: Path) -> None:
    base = ["calibrate", "--router", "length", "--benchmark", "mmlu", "--data", str(evals)]
    found = fastroute(*base, "--target-quality", "0.9", "--no-cache", "--json").json
    assert found["chosen_on"]["reached"]["value"] >= 0.9
    assert found["chosen_on"]["prompts"] + found["held_out"]["prompts"] == 59
    text = fastroute(*base, "--target-pgr", "0.99", "--no-cache")
    assert "held out" in text.out
    assert "of the gap" in text.out
    short = fastroute(*base, "--target-pgr", "0.99", "--no-cache", "--json").json
    reached = short["held_out"]["reached"]["value"]
    assert (f"on the held-out half it reached {reached:.2%}, not 99.00%" in text.err) == (
        reached < 0.99
    )


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 rows; the longer a prompt, the more the strong model is needed."""
    rng = np.random.default_rng(8)
    rows: list[dict[str, object]] = []
    for i in range(160):
        words = int(rng.integers(0, 60))
        weak, strong = float(rng.random() > words / 60), float(rng.random() < 0.95)
        rows.append({"prompt": f"question {i} {'more ' * words}", "weak": weak, "strong": strong})
    path = tmp_path_factory.mktemp("graded") / "mine.jsonl"
    write_json_lines(path, rows)
    return path


def test_an_uncertain_threshold_says_so_and_how_many_rows_would_do(graded: Path) -> None:
    base = ["calibrate", "--router", "length", "--benchmark", graded, "--no-cache"]
    ran = fastroute(*base, "--target-quality", "0.9")
    assert ran.status == 0, ran.err  # it beats random routing, and is itself the other baseline
    found = fastroute(*base, "--target-quality", "0.9", "--json").json
    threshold, share = found["threshold"], found["share"]
    assert threshold["low"] < threshold["value"] < threshold["high"]
    assert f"({threshold['low']:.4f} to {threshold['high']:.4f}), for 90.00%" in ran.out
    low, high = found["splits"]
    assert f"{low!r} to {high!r}: the choice on 20 other splits" in ran.out
    assert share["high"] - share["low"] > 0.2
    (warning,) = [line for line in found["warnings"] if "uncertain" in line]
    assert f"spans {share['low']:.0%} to {share['high']:.0%} strong calls; about" in warning
    assert "rows would narrow that to 20 percentage points, and 160 were given" in warning
    assert f"warning: {warning}\n" in ran.err
    certain = fastroute(*base, "--target-quality", "0.9", "--resamples", "0")
    assert "uncertain" not in certain.err  # there is no interval


def test_calibrating_a_router_that_loses_fails(graded: Path, tmp_path: Path) -> None:
    goal = ("--target-quality", "0.9", "--no-cache")
    ran = fastroute("calibrate", "--router", "random", "--benchmark", graded, *goal)
    assert ran.status == 3
    assert "model string: router-random-" in ran.out
    assert "does not beat the baselines: its APGR" in ran.err.splitlines()[-1]
    assert "that of the length of the prompt" in ran.err
    found = fastroute("calibrate", "--router", "random", "--benchmark", graded, *goal, "--json")
    assert found.status == 3
    assert found.json["apgr"]["value"] < found.json["length_apgr"]
    assert any("that of the length of the prompt" in line for line in found.json["warnings"])
    cascade = (
        "calibrate", "--router", "random", "--slow", "random,seed=1", "--share-sent-on", "0.3",
        "--benchmark", graded, "--latency-ms", "0.1", "10", "--output", tmp_path / "cascade",
        "--resamples", "50", "--no-cache",
    )  # fmt: skip
    ran = fastroute(*cascade)
    assert ran.status == 3
    assert "that of the length of the prompt" in ran.err
    # What is there is kept, and that is said before the work.
    kept = (tmp_path / "cascade" / "artifact.json").read_bytes()
    assert "is not empty; name another folder, or pass overwrite (--overwrite)" in refused(*cascade)
    assert (tmp_path / "cascade" / "artifact.json").read_bytes() == kept
    assert fastroute(*cascade, "--overwrite").status == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --strong-share --target-quality --target-pgr --tolerance"),
        (["--strong-share", "0.5", "--target-quality", "0.9"], "not allowed with"),
        (["--strong-share", "half"], "--strong-share must be a number"),
        (["--strong-share", "0.5"], "has no calibration quantiles"),
        (["--strong-share", "0.5", "--benchmark", "x.csv"], "need a target"),
        (["--target-quality", "0.9"], "need --benchmark"),
        (["--target-quality", "0.9", "--prompts", "x.txt"], "--prompts needs --strong-share"),
        (["--target-pgr", "2", "--benchmark", "EVALS"], "target must be above 0"),
        (["--target-pgr", "0.5", "--benchmark", "EVALS", "--seed", "-1"], "seed must be 0 or more"),
        (["--target-pgr", "0.5", "--benchmark", ""], "argument --benchmark: is empty"),
        (["--strong-share", "0.5", "--resamples", "9" * 22], "resamples must be in 0..1,000,000"),
    ],
)
def test_calibrate_refuses_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    path = traffic(tmp_path / "mine.jsonl", 20)
    words = [str(path) if word == "EVALS" else word for word in arguments]
    assert message in refused("calibrate", "--router", "length", *words, "--no-cache")


def test_names_and_paths_of_routers_stay_text() -> None:
    _, label, config = parse_router("sw_ranking,strong_model=1,weak_model=true,label=7,num_tiers=3")
    assert (label, config) == ("7", {"strong_model": "1", "weak_model": "true", "num_tiers": 3})
    assert parse_router("mf=5").config == {"checkpoint_path": "5"}


def test_intervals_from_too_little_are_called_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    write_json_lines(path, [{"prompt": "x", "weak": 0, "strong": 1}])
    base = ["--router", "length", "--no-cache"]
    note = (
        "Intervals and p-values are unreliable: they are from 1 prompt (fewer than 30) and 1 "
        "resample (fewer than 100)."
    )
    for out in ("--json", "--markdown", None):
        more = ["--resamples", "1", *([out] if out else [])]
        ran = fastroute("evaluate", "--benchmark", path, *base, *more)
        assert note in ran.out
        if out == "--json":
            assert ran.json["benchmarks"][0]["notes"] == [note]
    calm = fastroute("evaluate", "--benchmark", path, *base, "--resamples", "0").out
    assert "unreliable" not in calm  # nor are there any intervals

    share = ["calibrate", *base, "--strong-share", "0.5", "--prompts", path]
    alone = "Intervals and p-values are unreliable: they are from 1 prompt (fewer than 30)."
    assert alone in fastroute(*share).out
    assert fastroute(*share, "--json").json["notes"] == [alone]
    mine = traffic(tmp_path / "mine.jsonl", 200)
    quality = ["calibrate", *base, "--benchmark", mine, "--target-pgr", "0.5"]
    assert "99 resamples (fewer than 100)" in fastroute(*quality, "--resamples", "99").out
    assert fastroute(*quality, "--resamples", "100", "--json").json["notes"] == []


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal and a POSIX signal")
@pytest.mark.parametrize("goal", [["--strong-share", "0.5"], ["--target-pgr", "0.5"]])
def test_long_resampling_shows_progress_and_can_be_interrupted(
    tmp_path: Path, goal: list[str]
) -> None:
    path = traffic(tmp_path / "mine.jsonl", 4000)
    what = "--prompts" if goal[0] == "--strong-share" else "--benchmark"
    command = [sys.executable, "-m", "fastroute", "calibrate", "--router", "length", "--no-cache"]
    command += [*goal, what, str(path), "--resamples", "200000"]
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    terminal, other_end = os.openpty()
    # A new pseudo-terminal has no columns, and so no room for a bar.
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=other_end) as process:
        os.close(other_end)
        shown = b""
        while b"intervals" not in shown:
            part = os.read(terminal, 4096)
            assert part, shown
            shown += part
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    os.close(terminal)
    assert b"resample" in shown


def test_an_unusable_cache_says_what_to_do(tmp_path: Path) -> None:
    path = traffic(tmp_path / "mine.jsonl", 20)
    blocker = tmp_path / "file"
    blocker.write_text("")
    ran = fastroute(
        "evaluate", "--benchmark", path, "--router", "length", "--resamples", "0", cache=blocker
    )
    assert ran.status == 2
    assert "--no-cache" in ran.err
    assert json.loads(path.read_text().splitlines()[0])["prompt"]  # the data was not touched
