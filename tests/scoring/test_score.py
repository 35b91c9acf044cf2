"""``fastroute score``: files in, the same bytes out, however often it was stopped."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli_runner import fastroute, refused, wait_for
from fakes.s3 import fake_s3
from fastroute.decider import Decider
from fastroute.errors import InvalidInputError, OutputError, UnknownRouterError
from fastroute.scoring import BatchScorer, score_files

PROMPTS = [f"Prove theorem {i} about primes" if i % 3 else f"hi {i}" for i in range(1000)]


def _parquet(path: Path, prompts: Sequence[Any] = PROMPTS, group: int = 300) -> Path:
    table = pa.table({"id": [f"x{i}" for i in range(len(prompts))], "prompt": prompts})
    pq.write_table(table, path, row_group_size=group)
    return path


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("part-*.parquet")):
        rows += pq.ParquetFile(file).read().to_pylist()
    return rows


def test_scores_are_those_of_decide(tmp_path: Path) -> None:
    _parquet(tmp_path / "in.parquet")
    done = score_files([str(tmp_path / "in.parquet")], str(tmp_path / "out"), keep=["id"])
    decider = Decider(["mf"], "strong", "weak")
    batch = decider.decide_batch(PROMPTS)
    assert (done.rows, done.errors, done.parts, done.resumed) == (1000, 0, 4, 0)
    assert done.threshold == batch.threshold
    rows = _rows(tmp_path / "out")
    assert [row["row"] for row in rows] == list(range(1, 1001))
    assert [row["id"] for row in rows] == [f"x{i}" for i in range(1000)]
    assert [row["win_rate"] for row in rows] == batch.win_rates.tolist()
    assert batch.difficulties is not None
    assert [row["difficulty"] for row in rows] == batch.difficulties.tolist()
    assert [row["strong"] for row in rows] == batch.strong.tolist()
    assert 0 < batch.strong_share < 1


def test_a_share_chooses_the_threshold(tmp_path: Path) -> None:
    _parquet(tmp_path / "in.parquet")
    inputs = [str(tmp_path / "in.parquet")]
    done = score_files(inputs, str(tmp_path / "out"), strong_share=0.2)
    wanted = Decider(["mf"], "s", "w").threshold_for_strong_share("mf", 0.2)
    assert done.threshold == wanted
    assert all(row["strong"] == (row["win_rate"] >= wanted) for row in _rows(tmp_path / "out"))


def test_rows_that_cannot_be_scored_are_kept_aside(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "hello there", "n": 7}', "", "{", "[1]", '{"question": "?"}',
        '{"prompt": null}', '{"prompt": 3}', '{"prompt": "\\ud800"}', '{"prompt": "", "n": [1]}',
    ]  # fmt: skip
    content = "\n".join(lines).encode() + b'\n{"prompt": "\xff"}\n{"prompt": "the last"}'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
    (tmp_path / "b.csv").write_text('n,prompt\n1,"two\nlines"\n2\n3,three\n')
    raw = pa.StringArray.from_buffers(
        3, pa.py_buffer(np.array([0, 2, 3, 5], np.int32)), pa.py_buffer(b"ok\xffgo")
    )
    table = pa.table({"prompt": pa.concat_arrays([raw, pa.array([None, "end"])]), "n": range(5)})
    pq.write_table(table, tmp_path / "c.parquet")
    done = score_files([str(tmp_path)], str(tmp_path / "out"), keep=["n"])
    out = tmp_path / "out"
    said = [json.loads(x) for f in sorted(out.glob("*.jsonl")) for x in f.read_text().splitlines()]
    errors = {(Path(line["file"]).name, line["row"]): line["error"] for line in said}
    assert set(errors) == {
        *(("a.jsonl.gz", n) for n in (3, 4, 5, 6, 7, 8, 10)), ("b.csv", 4),
        ("c.parquet", 2), ("c.parquet", 4),
    }  # fmt: skip
    assert errors["a.jsonl.gz", 5] == "no 'prompt'"
    assert errors["a.jsonl.gz", 7] == "the prompt is int"
    assert errors["c.parquet", 2] == "not UTF-8 text"
    assert errors["c.parquet", 4] == "the prompt is null"
    kept = [(row["row"], row["n"]) for row in _rows(out)]
    assert kept == [(1, "7"), (9, "[1]"), (11, None), (2, "1"), (5, "3"), (1, 0), (3, 2), (5, 4)]
    assert (done.rows, done.errors) == (8, 10)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["rows"], summary["errors"]) == (8, 10)
    # What is aside is counted by a later run too.
    again = score_files([str(tmp_path)], str(out), keep=["n"])
    assert (again.rows, again.errors, again.resumed) == (8, 10, 3)


def test_one_prompt_that_a_router_refuses_costs_no_other() -> None:
    scorer = BatchScorer("length")
    decide = scorer._decider.decide_batch

    def refusing(prompts: list[str], *rest: Any, **named: Any) -> Any:
        if "bad" in prompts:
            raise InvalidInputError("prompts has 'bad'")
        return decide(prompts, *rest, **named)

    scorer._decider.decide_batch = refusing  # type: ignore[method-assign]
    found = scorer(pa.table({"prompt": ["one", "bad", None, "three"]})).to_pylist()
    assert [row["error"] for row in found] == [
        None,
        "prompts has 'bad'",
        "the prompt is null",
        None,
    ]
    assert [row["win_rate"] is None for row in found] == [False, True, True, False]


@pytest.mark.parametrize("kind", ["no rows", "only errors"])
def test_a_part_without_scores_has_a_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("" if kind == "no rows" else "{}\n")
    score_files([str(path)], str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out" / "part-00000-00000.parquet")
    assert table.column_names == ["row", "win_rate", "difficulty", "strong"]
    assert table.num_rows == 0


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    for i in range(3):
        _parquet(inputs / f"{i}.parquet", [*PROMPTS[i * 100 :], None])
    for workers in (1, 3):
        ran = fastroute(
            "score", "--input", inputs / "*.parquet", "--output", tmp_path / f"out{workers}",
            "--workers", workers, "--keep", "id",
        )  # fmt: skip
        assert ran.status == 0, ran
        assert "2,700 prompts in 11 parts" in ran.out
        assert "3 rows have no scores" in ran.err
    assert _bytes(tmp_path / "out1") == _bytes(tmp_path / "out3")


def _start(inputs: Path, output: Path, workers: int) -> subprocess.Popen[bytes]:
    words = ["score", "--input", inputs, "--output", output, "--workers", workers]
    return subprocess.Popen([sys.executable, "-m", "fastroute", *map(str, words)])


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_and_the_same_command_again(tmp_path: Path, workers: int) -> None:
    inputs, out = _parquet(tmp_path / "in.parquet", PROMPTS * 200, group=5000), tmp_path / "out"
    process = _start(inputs, out, workers)
    wait_for(lambda: len(list(out.glob("part-*.parquet"))) >= 2)
    children = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(_runs, children)))  # no worker outlives its parent
    there = {name for name in _bytes(out) if name.startswith("part-")}
    assert 2 <= len(there) < 40
    assert not (out / "summary.json").exists()
    left = _bytes(out)
    score_files([str(inputs)], str(out), workers=1)
    score_files([str(inputs)], str(tmp_path / "whole"))
    after = _bytes(out)
    assert after == _bytes(tmp_path / "whole")
    assert all(after[name] == left[name] for name in there)


def _children(pid: int) -> list[int]:
    try:
        return [int(i) for i in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # another system than Linux
        return []


def _runs(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_killed_worker_is_an_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    inputs, out = _parquet(tmp_path / "in.parquet", PROMPTS * 200, group=5000), tmp_path / "out"
    words = ["score", "--input", inputs, "--output", out, "--workers", 2]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastroute", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(list(out.glob("part-*.parquet"))) >= 1)
    # The first child may be the resource tracker of multiprocessing, which is not a worker.
    children = _children(process.pid)
    if not children:
        pytest.skip("needs /proc")
    os.kill(children[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "run the same command again, with fewer workers" in said
    score_files([str(inputs)], str(out))
    assert (out / "summary.json").exists()


def test_interrupted_within_a_part(tmp_path: Path) -> None:
    inputs, out = _parquet(tmp_path / "in.parquet", PROMPTS * 2000, 2_000_000), tmp_path / "out"
    process = _start(inputs, out, 2)
    wait_for(lambda: bool(list(out.glob(".part-*"))))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert set(_bytes(out)) == {"manifest.json"}


def test_another_job_is_refused_in_its_folder(tmp_path: Path) -> None:
    inputs, out = [str(_parquet(tmp_path / "in.parquet"))], str(tmp_path / "out")
    score_files(inputs, out)
    with pytest.raises(
        InvalidInputError, match=r"its threshold was 0\.35.* now it is 0\.4; .*over"
    ):
        score_files(inputs, out, threshold=0.4)
    with pytest.raises(InvalidInputError, match="its router was 'mf', now it is 'length'"):
        score_files(inputs, out, router="length")
    before = _bytes(tmp_path / "out")
    _parquet(tmp_path / "in.parquet", PROMPTS[1:])
    with pytest.raises(InvalidInputError, match=r"its inputs differ in .*in\.parquet"):
        score_files(inputs, out)
    assert _bytes(tmp_path / "out") == before
    done = score_files(inputs, out, overwrite=True)
    assert (done.rows, done.resumed) == (999, 0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="files that are not of this command"):
        score_files(inputs, str(tmp_path / "other"), overwrite=True)


def test_what_cannot_be_read_is_said_before_anything_is_written(tmp_path: Path) -> None:
    inputs, out = _parquet(tmp_path / "in.parquet"), tmp_path / "out"
    for arguments, said in (
        (("--input", tmp_path / "no*.parquet"), "stands for no file"),
        (("--input", inputs, inputs), "given twice"),
        (("--input", inputs, "--column", "text"), "0 columns named 'text'; its columns are 'id'"),
        (("--input", inputs, "--keep", "error"), "has the name of a column of the output"),
        (("--input", inputs, "--workers", "0"), "workers must be at least 1"),
        (("--input", "nowhere://x"), "can't be opened"),
        (("--input", inputs, "--router", "mf=nowhere"), "nowhere"),
    ):
        assert said in refused("score", "--output", out, *arguments)
        assert not out.exists()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not")
    assert "can't be read as Parquet" in refused(
        "score", "--input", tmp_path / "bad.parquet", "--output", out
    )
    pq.write_table(pa.table({"prompt": [1, 2]}), tmp_path / "int.parquet")
    with pytest.raises(InvalidInputError, match="int64, where string is needed"):
        score_files([str(tmp_path / "int.parquet")], str(tmp_path / "out2"))
    with pytest.raises(UnknownRouterError):
        score_files([str(inputs)], str(out), router="mff")
    with pytest.raises(InvalidInputError, match="engine must be one of"):
        score_files([str(inputs)], str(out), engine="spark")  # type: ignore[arg-type]


def test_uris_and_an_object_store(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"prompt": "hello"}\n{}\n')
    here = score_files([str(path), str(tmp_path / "b.jsonl")], str(tmp_path / "here"))
    as_uri = score_files([f"file://{tmp_path}/*"], f"file://{tmp_path}/uri")
    with fake_s3() as store:
        for name in ("a.parquet", "b.jsonl"):
            store.objects[f"bucket/in/{name}"] = (tmp_path / name).read_bytes()
        given, out = [store.uri("bucket/i*/*")], store.uri("bucket/out")
        there = score_files(given, out)
        assert here == as_uri == there
        again = score_files(given, out)
        assert (again.rows, again.errors, again.resumed) == (here.rows, here.errors, 5)
        for name, content in _bytes(tmp_path / "here").items():
            if name.startswith("part-") and name.endswith(".parquet"):
                assert store.objects[f"bucket/out/{name}"] == content
        written = b"".join(store.objects.values())
        assert b"secret" not in written
        assert b"s3://bucket/in/a.parquet" in written
        with pytest.raises(InvalidInputError, match=r"^input s3://bucket/none stands"):
            score_files([store.uri("bucket/none")], out)


def test_a_write_that_fails_leaves_no_part(tmp_path: Path) -> None:
    with fake_s3() as store:
        store.objects["bucket/in.jsonl"] = b'{"prompt": "a"}\n'
        store.objects["bucket/in.csv"] = b"prompt,prompt\n1,2\n"  # refused when it is read
        with pytest.raises(InvalidInputError, match="2 columns are named 'prompt'"):
            score_files([store.uri("bucket/in.csv")], store.uri("bucket/out"))
        assert not [name for name in store.objects if "part-" in name]
    (tmp_path / "file").write_text("")
    (tmp_path / "in.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises((InvalidInputError, OutputError), match="file"):
        score_files([str(tmp_path / "in.jsonl")], str(tmp_path / "file"))
