"""A save over an artifact that fails, is killed or is concurrent: the old or the new one loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import crash_points
from fastroute.artifacts import save_artifact
from fastroute.errors import ArtifactError
from fastroute.routers import SimilarityWeightedRouter

SCRIPT = crash_points.__file__


@pytest.mark.parametrize("kind", list(crash_points.KINDS))
def test_an_interrupted_save_leaves_the_old_or_the_new_artifact(tmp_path: Path, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "crash", kind, str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    results = json.loads(done.stdout)
    killed = [r for r in results if r[0].startswith("kill")]
    full = [r for r in results if r[0].startswith("full")]
    # Old up to the commit, new from there on.
    found = [r[2] for r in killed]
    commit = found.index("new")
    assert found == ["old"] * commit + ["new"] * (len(found) - commit)
    assert [r[1] for r in killed] == [-9] * (len(killed) - 1) + [0]
    assert len(killed) > (5 if kind == "checkpoint" else 20)
    outcomes = {(status, found) for _, status, found, _, _ in full}
    assert outcomes - {(0, "new")} == {(1, "old")}  # the largest limit may be enough
    for point, _, _, again, left in results:
        assert again == "new", point
        # Only what the old artifact listed and the new one does not may stay.
        assert not set(left) - {"gone.md"}, point


@pytest.mark.parametrize("savers", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "far_field"])
def test_loading_while_others_save(tmp_path: Path, kind: str, savers: int) -> None:
    save_old, save_new, read = crash_points.KINDS[kind]()
    save_old(tmp_path / "old")
    save_new(tmp_path / "new")
    expected = [read(tmp_path / "old"), read(tmp_path / "new")]
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, "alternate", kind, str(tmp_path)], stdout=subprocess.PIPE
        )
        for _ in range(savers)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"saved\n"
        seen = set()
        until = time.monotonic() + 2
        while time.monotonic() < until or (len(seen) < 2 and time.monotonic() < until + 20):
            seen.add(expected.index(read(tmp_path / "target")))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert seen == {0, 1}
    assert read(tmp_path / "target") in expected


@pytest.mark.parametrize("name", ["rows", "index"])
def test_a_pipe_in_place_of_a_large_file(tmp_path: Path, name: str) -> None:
    crash_points.far_field()[0](tmp_path)
    (path,) = tmp_path.glob(f"{name}-*")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="not a regular file"):
        SimilarityWeightedRouter.load(tmp_path)


@pytest.mark.parametrize("length", [10**15, 2**63, 10**400])
def test_a_huge_length_in_a_manifest(tmp_path: Path, length: int) -> None:
    from fastroute.artifacts import load_artifact

    save_artifact(tmp_path, kind="k", config={}, arrays={"x": np.zeros(2)})
    manifest = json.loads((tmp_path / "artifact.json").read_text())
    manifest["files"]["arrays.safetensors"]["bytes"] = length
    (tmp_path / "artifact.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError):
        load_artifact(tmp_path)
