"""Learning and replay from the journal of a gateway that chooses among candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from cli_runner import fastroute, refused
from fakes import gateway as gateways
from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import JUDGEMENTS, PRICES, REQUESTS, SHADOWS
from fastroute.learning.replay.journal import read_log
from fastroute.learning.replay.policies import target_of
from graded_traffic import make_many

MODELS = ("small", "middle", "large")
DOLLARS = {"small": 0.1, "middle": 1.0, "large": 10.0}
COUNT, SHARE = 1500, 0.4
CONFIG = """
[journal]
[canary]
router = "router"
stages = [0.5]
[endpoint]
base_url = "http://127.0.0.1:9/v1"
"""


def write(folder: Path, rows: list[dict[str, Any]], shadows_of: tuple[str, ...]) -> str:
    """The large model answered; a key graded it and shadows of SHARE of the requests. Every tenth
    request the small one could not answer."""
    url = f"sqlite:///{folder}/journal.db"
    tables: dict[Any, list[dict[str, Any]]] = {t: [] for t in (REQUESTS, SHADOWS, JUDGEMENTS)}
    rng = np.random.default_rng(0)
    for i, row in enumerate(rows):
        name, time = f"r{i}", i * 3600.0
        able = MODELS[1:] if i % 10 == 0 else MODELS
        tables[REQUESTS].append(
            {"request_id": name, "time": time, "path": "/", "prompt": row["prompt"],
             "chosen": "large", "answered_by": "large", "propensity": 1.0, "status": 200,
             "candidates": list(able), "scores": dict.fromkeys(MODELS, 0.5),
             "probabilities": {model: float(model == "large") for model in able},
             "cost_usd": 2e-3, "input_tokens": 100, "output_tokens": 100, "latency_ms": 900.0,
             "prompt_characters": len(row["prompt"])}
        )  # fmt: skip
        if rng.random() >= SHARE:
            continue
        for model in set(shadows_of) & set(able):
            tables[SHADOWS].append(
                {"request_id": name, "model": model, "time": time, "weight": 1 / SHARE,
                 "cost_usd": 2e-4 * DOLLARS[model], "input_tokens": 100, "output_tokens": 100,
                 "latency_ms": 300.0}
            )  # fmt: skip
            tables[JUDGEMENTS].append(
                {"request_id": name, "judge": "key", "model_a": "large", "model_b": model,
                 "time": time, "score_a": float(row["large"]), "score_b": float(row[model])}
            )  # fmt: skip
    prices = [
        {"model": m, "time": 0.0, "input_usd_per_mtok": usd, "output_usd_per_mtok": usd}
        for m, usd in DOLLARS.items()
    ]
    engine = open_journal(url)
    with writing(engine) as connection:
        connection.execute(insert(PRICES), prices)
        for table, made in tables.items():
            connection.execute(insert(table), made)
    engine.dispose()
    return url


def test_from_a_journal_to_a_proposal_its_replay_and_its_canary(tmp_path: Path) -> None:
    rows = make_many(COUNT)
    url = write(tmp_path, rows, ("small", "middle"))
    folder = tmp_path / "router"
    ran = fastroute("learn", "--journal", url, "--output", folder, "--target-quality", "0.9",
                    "--json")  # fmt: skip
    assert ran.status == 0, ran.out + ran.err
    assert ran.json["router"] == "models"
    assert set(ran.json["models"]) == set(MODELS)
    assert ran.json["goal"]["certified"]
    assert (folder / "candidates.toml").is_file()
    # What it would have done, against what is known of all answers here.
    ran = fastroute("replay", "--journal", url, "--policy", "logged", "--policy", folder,
                    "--policy", "always:middle", "--json", "--no-affinity")  # fmt: skip
    assert ran.status == 0, ran.out + ran.err
    engine = open_journal(url)
    log = read_log(engine)
    engine.dispose()
    assert log.models == tuple(sorted(MODELS))
    grades = np.array([[row[model] for model in log.models] for row in rows], dtype=np.float64)
    target = target_of(str(folder), log, None, None)
    assert (target[::10, log.models.index("small")] == 0.0).all()
    assert target[1::10, log.models.index("small")].mean() > 0.2
    replayed = {one["name"]: one["estimates"]["quality"] for one in ran.json["policies"]}
    learnt = replayed[str(folder)]
    assert learnt["low"] < (target * grades).sum(axis=1).mean() < learnt["high"]
    middle = replayed["always:middle"]
    assert middle["low"] < grades[:, log.models.index("middle")].mean() < middle["high"]
    assert learnt["high"] - learnt["low"] < 0.15
    # A policy that would send some where they could not be answered has no support there.
    ran = fastroute("replay", "--journal", url, "--policy", "always:small")
    assert ran.status == 3
    assert "no support" in ran.out
    tables = "".join(
        f"[[candidates]]\nname = '{m}'\ninput_usd_per_mtok = {usd}\noutput_usd_per_mtok = {usd}\n"
        for m, usd in DOLLARS.items()
    )
    with gateways.start("--config", gateways.write_config(tmp_path, CONFIG + tables)) as gateway:
        chosen = set()
        for row in rows[:30]:
            body = {"model": "fastroute", "messages": [{"role": "user", "content": row["prompt"]}]}
            chosen.add(gateway.ask("POST", "/v1/route", body).json()["policy"].partition("=")[0])
    assert chosen == {"max_quality", "best_value"}


def test_grades_of_some_candidates_are_not_enough(tmp_path: Path) -> None:
    url = write(tmp_path, make_many(60), ("middle",))
    said = refused("learn", "--journal", url, "--output", tmp_path / "router")
    assert "grades of all small, middle and large" in said
    assert 'have [shadow] ask the other candidates (models = "all")' in said
    ran = fastroute("replay", "--journal", url, "--policy", "random:0.5")
    assert ran.status == 2
    assert "give --strong and --weak" in ran.err


@pytest.mark.parametrize("name", ["candidates.toml", "gateway.toml"])
def test_a_folder_without_its_policy(tmp_path: Path, name: str) -> None:
    url = write(tmp_path, make_many(60), ("middle",))
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / name).write_text("", "utf-8")
    ran = fastroute("replay", "--journal", url, "--policy", tmp_path / "router")
    assert ran.status == 2
    assert "has no policy" in ran.err or "artifact" in ran.err
