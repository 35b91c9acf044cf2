"""``fastroute train sw_ranking --engine``: from files of battles, a part at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli_runner import fastroute, patient_ray, refused
from fastroute._files import lock
from fastroute.artifacts import prompt_hash
from fastroute.embedders import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.routers import SimilarityWeightedRouter, create_router
from fastroute.scoring import score_files
from fastroute.training import train_sw_ranking_in_parts

WORDS = ["prove", "explain", "write", "compute", "review", "plan", "compare", "draft", "list"]
THINGS = ["primes", "tables", "poems", "taxes", "engines", "cells", "rivers", "laws", "songs"]
MODELS = [f"model-{i}" for i in range(6)]
COUNT = 21_000


def _battles(count: int = COUNT) -> dict[str, list[str]]:
    """Better models win more often, and more so on prompts that ask to prove."""
    rng = np.random.default_rng(5)
    word, thing = rng.integers(0, len(WORDS), count), rng.integers(0, len(THINGS), count)
    a = rng.integers(0, 6, count)
    b = (a + rng.integers(1, 6, count)) % 6
    gap = 0.5 * (b - a) * np.where(word == 0, 2.0, 0.4)
    won = rng.random(count) < 1.0 / (1.0 + np.exp(-gap))
    tie = rng.random(count) < 0.2
    return {
        "prompt": [f"{WORDS[w]} the {THINGS[t]} of case {i}" for i, (w, t) in
                   enumerate(zip(word, thing, strict=True))],
        "model_a": [MODELS[i] for i in a],
        "model_b": [MODELS[i] for i in b],
        "winner": np.where(tie, "tie", np.where(won, "model_a", "model_b")).tolist(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("battles")
    table = pa.table(_battles())
    pq.write_table(table.slice(0, 13_000), place / "a.parquet", row_group_size=6000)
    rows = table.slice(13_000).to_pylist()
    (place / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "router"
    done = train_sw_ranking_in_parts([str(folder)], output, held_out=0.02, workers=2)
    assert done.figures.prompts > 200
    assert done.router.mode_ == "far_field"
    return output


def test_parts_give_the_ratings_of_one_fit(trained: Path) -> None:
    """And the same moments, from the battles that were not held out."""
    router = SimilarityWeightedRouter.load(trained, embedder=StaticEmbedder.load_default())
    held = router.provenance.trained_on
    assert held is not None
    columns = _battles()
    known = set(held.tolist())
    inside = [i for i, p in enumerate(columns["prompt"]) if prompt_hash(p) in known]
    assert 0.96 * COUNT < len(inside) < COUNT
    X = StaticEmbedder.load_default().embed_batch([columns["prompt"][i] for i in inside])
    fitted = SimilarityWeightedRouter(
        strong_model=router.strong_model, weak_model=router.weak_model, num_tiers=6,
        storage="int8", mode="far_field",
    )  # fmt: skip
    fitted.fit(X, *([columns[n][i] for i in inside] for n in ("model_a", "model_b", "winner")))
    assert router.model_ratings_ == pytest.approx(fitted.model_ratings_, abs=1e-9)
    assert list(router.model_ratings_) == MODELS
    ours, theirs = router._state(), fitted._state()
    assert np.array_equal(np.bincount(ours.table.cells()), np.bincount(theirs.table.cells()))
    Q = np.ascontiguousarray(X[::500])
    found = router.win_rates_from_embeddings(Q)
    assert np.abs(found - fitted.win_rates_from_embeddings(Q)).max() < 2e-3
    assert router.provenance.calibration is not None
    point = router.provenance.operating_point
    assert point is not None
    assert router.win_rate("prove the primes of case 1") > router.win_rate("list the songs of it")


def test_it_is_a_router_for_the_other_commands(trained: Path) -> None:
    assert create_router("sw_ranking", checkpoint_path=trained).provenance.calibration is not None
    ran = fastroute("route", "--router", f"sw_ranking={trained}", "prove the taxes of case 3")
    assert ran.status == 0, ran


def test_models_that_cannot_be_compared_are_left_out(folder: Path, tmp_path: Path) -> None:
    extra = {"prompt": ["explain the rivers of nowhere"] * 50, "model_a": ["stranger"] * 50,
             "model_b": ["model-0"] * 50, "winner": ["model_a"] * 50}  # fmt: skip
    pq.write_table(pa.table(extra), tmp_path / "z.parquet")
    with (tmp_path / "y.jsonl").open("w") as file:
        for row in pa.table(_battles(100)).to_pylist():
            file.write(json.dumps(row | {"model_a": "stranger", "winner": "model_a"}) + "\n")
        file.write('{"prompt": "short", "model_a": "x", "model_b": "y", "winner": "tie"}\n')
        file.write('{"prompt": "a prompt of nothing known", "model_a": "x", "winner": "tie"}\n')
    files = [str(folder), str(tmp_path / "y.jsonl"), str(tmp_path / "z.parquet")]
    out = tmp_path / "out"
    with pytest.raises(InvalidInputError, match=r"y\.jsonl, row 102: model_b is None"):
        train_sw_ranking_in_parts(files, out, held_out=0.0)
    with pytest.raises(InvalidInputError, match=r"out is of something else: its held_out was 0\.0"):
        train_sw_ranking_in_parts(files, out, skip_bad=True)
    with lock(out / ".parts"), pytest.raises(InvalidInputError, match="another training writes"):
        train_sw_ranking_in_parts(files, out, held_out=0.0, skip_bad=True)
    assert len(list(out.glob(".parts/*/read.json"))) == 4
    done = train_sw_ranking_in_parts(files, out, held_out=0.0, skip_bad=True)
    assert done.left_out == ("stranger",)
    assert done.battles == COUNT
    assert done.dropped == {"malformed": 1, "shorter than 16 characters": 1}
    assert set(done.router.model_ratings_) == set(MODELS)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    with pytest.raises(InvalidInputError, match="out is not empty"):
        train_sw_ranking_in_parts(files, out, held_out=0.0, skip_bad=True)


def test_overwrite_starts_again_with_other_arguments(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".parts" / "part-00000-00000").mkdir(parents=True)
    (out / ".parts" / "manifest.json").write_text("{}")
    (out / ".parts" / "part-00000-00000" / "read.json").write_text("[1, 0, 0, 0, 0]")
    with pytest.raises(InvalidInputError, match="its format was None, now it is 1"):
        train_sw_ranking_in_parts([str(folder)], out, held_out=0.0)
    done = train_sw_ranking_in_parts([str(folder)], out, held_out=0.0, overwrite=True)
    assert done.battles == COUNT


def test_what_cannot_be_done_in_parts_is_refused(folder: Path, tmp_path: Path) -> None:
    words = (
        "train",
        "sw_ranking",
        "--data",
        folder,
        "--output",
        tmp_path / "o",
        "--engine",
        "local",
    )
    assert "--storage has no effect with --engine" in refused(*words, "--storage", "float16")
    few = tmp_path / "few.parquet"
    pq.write_table(pa.table(_battles(500)), few)
    with pytest.raises(InvalidInputError, match=r"500 battles are fitted in memory"):
        train_sw_ranking_in_parts([str(few)], tmp_path / "o", held_out=0.0)
    assert not list((tmp_path / "o").iterdir())  # so that it can be fitted there without an engine


_ON_RAY = """
import sys, warnings
from fastroute.scoring import BatchScorer, score_files
from fastroute.training import train_sw_ranking_in_parts
folder, output = sys.argv[1:]
score_files([folder + "/*.parquet"], output + "/scores", engine="ray", workers=2)
for engine in ("local", "ray"):
    to = output + "/" + engine
    train_sw_ranking_in_parts([folder], to, held_out=0.02, engine=engine, workers=2)
"""


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_makes_the_same_scores_and_router(folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _ON_RAY, str(folder), str(tmp_path)]
    # The last bits of NumPy's products depend on its threads, of which Ray gives each worker one.
    one = {"OMP_NUM_THREADS": "1", **patient_ray()}
    ran = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env=os.environ | one, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""
    here, on_ray = ({p.name for p in (tmp_path / e).iterdir()} for e in ("local", "ray"))
    assert here == on_ray  # large files are named by their content
    score_files([f"{folder}/*.parquet"], str(tmp_path / "here"))
    for file in (tmp_path / "here").iterdir():
        assert (tmp_path / "scores" / file.name).read_bytes() == file.read_bytes()


_KILLED = r"""
import json, os, re, signal, sys
from fastroute.training import train_sw_ranking_in_parts
folder, to, points = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
done = os.open(to + "/done", os.O_CREAT | os.O_WRONLY)


def train(output, event="", name="", count=0):
    left = [count]

    def look(what, arguments):
        if what not in ("os.rename", "os.remove"):
            return
        path = str(arguments[what == "os.rename"])
        ends = path[-9:] in ("read.json", "/sums.npz")
        if ends and what == "os.rename" and output.endswith("killed"):
            os.write(done, path[-9:].encode() + b"\n")
        if what == event and re.search(name, path):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        sys.addaudithook(look)
        train_sw_ranking_in_parts([folder], output, held_out=0.02)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


killed = [train(to + "/killed", *point) for point in points]
print([train(to + "/whole"), *killed, train(to + "/killed")])
"""
#: The event before which a training is killed, the file of it, and which one of several.
_POINTS = [
    ("os.rename", r"read\.json$", 2),
    ("os.rename", r"counts\.npz$", 1),
    ("os.rename", r"empty\.faiss$", 1),
    ("os.rename", r"sums\.npz$", 2),
    ("os.remove", r"rows\.raw$", 2),
    ("os.rename", r"lists\.ivfdata$", 1),
    ("os.rename", r"/rows\.npy$", 1),
    ("os.remove", r"rows\.listed$", 2),
    ("os.rename", r"/rows-\w+\.npy$", 1),
    ("os.rename", r"artifact\.json$", 1),
    ("os.rename", r"assembled$", 1),
    ("os.rename", r"artifact\.json$", 1),  # with the thresholds
    ("os.remove", r"manifest\.json$", 1),
]


def test_killed_at_each_step_and_the_same_call_again(folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _KILLED, str(folder), str(tmp_path), json.dumps(_POINTS)]
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(words, capture_output=True, text=True, timeout=300, env=one)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [0, *[-signal.SIGKILL] * len(_POINTS), 0], ran.stderr
    whole, killed = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("whole", "killed")
    )
    assert killed == whole
    # Of four parts, one is read again and one fitted again: what was killed at its end.
    done = (tmp_path / "done").read_text().split()
    assert [sum(name in path for path in done) for name in ("read", "sums")] == [5, 5]
