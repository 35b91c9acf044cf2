"""Learning from a journal: which rows count, how fast they are forgotten, what is proposed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, insert

from cli_runner import fastroute, refused
from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, REQUESTS, SHADOWS
from fastroute.learning.from_journal.export import export_journal
from fastroute.learning.from_journal.forgetting import choose_memory, draw_by_weight
from fastroute.learning.from_journal.run import learn_router
from fastroute.learning.tune.guarantee import Goal
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from graded_traffic import make_traffic
from loop_journal import write_prices

DAY_S = 86400.0


def write(engine: Engine, rows: list[dict[str, Any]], *, judged: bool = True) -> None:
    """A request an hour; the weak model answered, and a judge graded a shadow of the strong one."""
    requests, shadows, judgements, feedback = [], [], [], []
    for i, row in enumerate(rows):
        name, time = f"r{i}", i * 3600.0
        requests.append(
            {"request_id": name, "time": time, "path": "/", "prompt": row["prompt"],
             "chosen": "weak", "answered_by": "weak", "propensity": 1.0, "cost_usd": 1e-4,
             "input_tokens": 100, "output_tokens": 100}
        )  # fmt: skip
        feedback.append(
            {"request_id": name, "source": "user", "idempotency_key": "", "time": time,
             "score": float(row["score_weak"])}
        )  # fmt: skip
        shadows.append(
            {"request_id": name, "model": "strong", "time": time, "weight": 10.0, "cost_usd": 2e-3}
        )
        judgements.append(
            {"request_id": name, "judge": "j", "model_a": "weak", "model_b": "strong", "time": time,
             "score_a": float(row["score_weak"]), "score_b": float(row["score_strong"])}
        )  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(REQUESTS), requests)
        connection.execute(insert(FEEDBACK), feedback)
        if judged:
            connection.execute(insert(SHADOWS), shadows)
            connection.execute(insert(JUDGEMENTS), judgements)


def journal(folder: Path, rows: list[dict[str, Any]], **more: bool) -> str:
    url = f"sqlite:///{folder}/journal.db"
    engine = open_journal(url)
    write_prices(engine)
    write(engine, rows, **more)
    engine.dispose()
    return url


def test_a_router_is_proposed_where_its_guarantee_holds(tmp_path: Path) -> None:
    url = journal(tmp_path, make_traffic(700))
    folder = tmp_path / "router"
    ran = fastroute(
        "learn", "--journal", url, "--output", folder, "--target-quality", "0.9", "--json"
    )
    assert ran.status == 0, ran.err
    assert ran.json["verdict"] == "use"
    assert ran.json["goal"]["certified"]
    assert ran.json["journal"] == {"memory_days": None, "rows": 700, "kept": 700}
    assert ran.json["saved_usd_per_1000"] > 0.0
    routed = fastroute(
        "route", "--router", f"mf={folder}", "--json", "recipe garden funny warm puppy"
    )
    assert routed.status == 0, routed.err


def test_the_weak_model_is_proposed_where_it_keeps_the_promise(tmp_path: Path) -> None:
    url = journal(tmp_path, make_traffic(900, hard_gap=0.0))
    folder = tmp_path / "router"
    ran = fastroute("learn", "--journal", url, "--output", folder, "--target-quality", "0.85")
    assert ran.status == 0, ran.err
    assert "proposed (it asks the weak model for everything)" in ran.out
    point = MatrixFactorizationRouter.load(folder).provenance.operating_point
    assert point is not None
    assert point.threshold == 1.0


def test_no_router_is_proposed_where_grades_say_nothing_of_prompts(tmp_path: Path) -> None:
    rows = make_traffic(400)
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = [row | {"prompt": rows[i]["prompt"]} for row, i in zip(rows, order, strict=True)]
    url = journal(tmp_path, shuffled)
    folder = tmp_path / "router"
    ran = fastroute("learn", "--journal", url, "--output", folder)
    assert ran.status == 3
    assert "no router is proposed" in ran.out
    assert not (folder / "artifact.json").exists()


def test_what_a_journal_lacks_is_said(tmp_path: Path) -> None:
    url = journal(tmp_path, make_traffic(60), judged=False)
    said = refused("learn", "--journal", url, "--output", tmp_path / "router")
    assert "none of 60 requests with a prompt has grades of both weak and strong" in said
    assert "fastroute journal judge" in said
    assert "there is no journal" in fastroute(
        "learn", "--journal", f"sqlite:///{tmp_path}/other.db", "--output", tmp_path / "x"
    ).err  # fmt: skip
    engine = open_journal(f"sqlite:///{tmp_path}/empty.db")
    write_prices(engine)
    engine.dispose()
    said = refused(
        "learn", "--journal", f"sqlite:///{tmp_path}/empty.db", "--output", tmp_path / "x"
    )
    assert "prompts = true" in said


def test_rows_have_the_weight_of_their_sample(tmp_path: Path) -> None:
    engine = open_journal(journal(tmp_path, make_traffic(50)))
    with writing(engine) as connection:
        connection.execute(REQUESTS.update().values(propensity=0.25))
        connection.execute(SHADOWS.delete().where(SHADOWS.c.request_id == "r3"))
        connection.execute(JUDGEMENTS.delete().where(JUDGEMENTS.c.request_id == "r3"))
    export, weights, prices = export_journal(engine)
    engine.dispose()
    one = export.where.index("r3")
    assert weights[one] == 4.0
    assert set(np.delete(weights, one)) == {10.0}
    assert math.isnan(export.strong[one])
    assert export.has_all.sum() == 49
    assert prices["strong"].output_usd_per_mtok == pytest.approx(10.0)


def test_a_draw_by_weight_has_the_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    # Uncertain prompts were preferred by the sample, five to one, and are the bad ones.
    preferred = rng.random(20_000) < 0.5
    sampled = rng.random(20_000) < np.where(preferred, 0.5, 0.1)
    value = np.where(preferred, 0.2, 0.8)[sampled]
    weights = np.where(preferred, 2.0, 10.0)[sampled]
    kept = draw_by_weight(weights, 0)
    assert value.mean() < 0.35
    assert value[kept].mean() == pytest.approx(0.5, abs=0.03)
    assert draw_by_weight(np.full(50, 3.0), 0).all()


@pytest.mark.parametrize("changes", [False, True])
def test_old_rows_are_forgotten_only_where_something_changed(changes: bool) -> None:
    rng = np.random.default_rng(0)
    n, times = 1500, np.arange(1500) * DAY_S
    X = rng.normal(size=(n, 8)).astype(np.float32)
    slope = np.where((np.arange(n) > 900) & changes, -1.0, 1.0)
    y = slope * X[:, 0] + rng.normal(size=n)
    since = choose_memory(X, y, times, np.ones(n))
    # All that came since the change is kept, but for a window's step.
    assert (800 * DAY_S < since < 1100 * DAY_S) if changes else since == -math.inf


def test_a_change_of_yesterday_is_forgotten_too() -> None:
    rng = np.random.default_rng(0)
    n, days = 1800, np.arange(1800) / 300
    X = rng.normal(size=(n, 8)).astype(np.float32)
    y = np.where(days > 5.0, -1.0, 1.0) * X[:, 0] + rng.normal(size=n)
    assert 4.5 < choose_memory(X, y, days, np.ones(n)) < 5.7


def test_the_traffic_before_other_prompts_came_is_forgotten() -> None:
    rng = np.random.default_rng(0)
    n = 1500
    is_hard = rng.random(n) < np.where(np.arange(n) > 900, 0.8, 0.2)  # no prompt got harder
    X = np.c_[is_hard, ~is_hard].astype(np.float32)
    y = is_hard + 0.5 * rng.normal(size=n)
    assert 800 < choose_memory(X, y, np.arange(n, dtype=np.float64), np.ones(n)) < 1100


def test_little_is_forgotten_without_a_change() -> None:
    forgotten = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(1000, 8)).astype(np.float32)
        y = X[:, 0] + rng.normal(size=1000)
        forgotten += choose_memory(X, y, np.arange(1000.0), np.ones(1000)) > -math.inf
    assert forgotten <= 10


def test_a_change_is_forgotten_in_the_router(tmp_path: Path) -> None:
    # The weak model was bad at mathematics, and is bad at small talk now.
    before = make_traffic(900, seed=1)
    after = make_traffic(600, seed=2, hard_gap=0.0, easy_gap=0.7)
    engine = open_journal(journal(tmp_path, before + after))
    found = learn_router(engine, Goal("quality", 0.9, 0.9))
    engine.dispose()
    assert found.memory_s < 40 * DAY_S
    assert found.kept < found.rows
    easy, hard = found.tuned.router.win_rates(
        ["recipe garden kitchen funny warm", "integral matrix theorem converges prime"]
    )
    assert easy > hard
