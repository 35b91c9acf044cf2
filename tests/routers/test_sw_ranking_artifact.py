"""Saved sw_ranking routers: saves over others, damage that checksums miss, what stays known."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from battle_factory import SyntheticBattles, make_battles
from fastroute.artifacts import ARRAYS, MANIFEST, load_artifact, prompt_hash, save_artifact
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactError,
    InvalidInputError,
    InvalidTypeError,
)
from fastroute.evaluation.cache import router_identity
from fastroute.provenance import Provenance
from fastroute.routers import SimilarityWeightedRouter
from fastroute.routers.sw_ranking import large_files
from fastroute.routers.sw_ranking.neighbors import NeighborIndex

CALIBRATION = np.linspace(0, 1, 1001, dtype=np.float32)


def _fit(
    data: SyntheticBattles, provenance: Provenance | None = None, **options: Any
) -> SimilarityWeightedRouter:
    pair = {"strong_model": data.strong, "weak_model": data.weak}
    router = SimilarityWeightedRouter(
        **{**pair, "num_tiers": 4, "mode": "far_field", "index": "HNSW8", **options}
    )
    return router.fit(
        data.embeddings, data.model_a, data.model_b, data.winner, provenance=provenance
    )


@pytest.fixture(scope="module")
def data() -> SyntheticBattles:
    """800 battles of 8 models."""
    return make_battles(seed=2, count=800, dimensions=12, models=8)


@pytest.fixture(scope="module")
def other() -> SyntheticBattles:
    """As many others, of other outcomes: files of the same lengths."""
    return make_battles(seed=3, count=800, dimensions=12, models=8)


@pytest.fixture(scope="module")
def saved(data: SyntheticBattles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that tests copy."""
    folder = tmp_path_factory.mktemp("saved") / "router"
    _fit(data, max_error=0.3, storage="int8").save(folder)
    return folder


def _rates(router: SimilarityWeightedRouter, data: SyntheticBattles) -> list[float]:
    rates: list[float] = router.win_rates_from_embeddings(data.prompts).tolist()
    return rates


def test_loads_while_another_saves(
    data: SyntheticBattles, other: SyntheticBattles, tmp_path: Path
) -> None:
    routers = _fit(data), _fit(other)
    allowed = [_rates(router, data) for router in routers]
    routers[0].save(tmp_path)
    stop = threading.Event()

    def save() -> None:
        while not stop.is_set():
            for router in reversed(routers):
                router.save(tmp_path)

    thread = threading.Thread(target=save)
    thread.start()
    try:
        for _ in range(60):
            try:
                loaded = SimilarityWeightedRouter.load(tmp_path)
            except ArtifactError:
                continue
            assert _rates(loaded, data) in allowed
    finally:
        stop.set()
        thread.join()
    assert _rates(SimilarityWeightedRouter.load(tmp_path), data) in allowed


def test_what_no_longer_holds_is_forgotten(data: SyntheticBattles, tmp_path: Path) -> None:
    hashes = np.array([1, 2], np.uint64)
    router = _fit(data, Provenance(calibration=CALIBRATION, trained_on=hashes))
    router.save(tmp_path)
    columns = data.embeddings[:2].copy(), data.model_a[:2], data.model_b[:2], data.winner[:2]

    loaded = SimilarityWeightedRouter.load(tmp_path)
    assert router_identity(loaded) is not None
    loaded.add_battles(*columns, prompts=["why?", " how?\n"])
    assert router_identity(loaded) is None
    assert loaded.provenance.checksum is None
    assert loaded.provenance.calibration is None
    assert loaded.provenance.trained_on is not None
    assert loaded.provenance.trained_on.dtype == np.uint64
    assert loaded.provenance.trained_on.tolist() == sorted(
        [1, 2, prompt_hash("why?"), prompt_hash("how?")]
    )
    again = tmp_path / "again"
    loaded.save(again)
    np.testing.assert_array_equal(
        SimilarityWeightedRouter.load(again).provenance.trained_on, loaded.provenance.trained_on
    )
    for bad, message in ((["why?"], "prompts has 1 texts for 2 embeddings"), ("ab", "prompts")):
        before = loaded.provenance.trained_on
        with pytest.raises(InvalidInputError, match=message):
            loaded.add_battles(*columns, prompts=bad)
        assert loaded.provenance.trained_on is before
    loaded.add_battles(*columns)
    assert loaded.provenance.trained_on is None
    loaded.add_battles(*columns, prompts=["why?", "how?"])  # of the others nothing is known
    assert loaded.provenance.trained_on is None

    loaded = SimilarityWeightedRouter.load(tmp_path)
    loaded.fit(data.embeddings, data.model_a, data.model_b, data.winner)
    assert (
        loaded.provenance.checksum,
        loaded.provenance.calibration,
        loaded.provenance.trained_on,
    ) == (None, None, None)


def _resign(folder: Path, edit: Any) -> None:
    """Change config and arrays, and sign them as a forger would."""
    artifact = load_artifact(folder)
    edit(artifact.config, artifact.arrays)
    save_artifact(folder, kind=artifact.kind, config=artifact.config, arrays=artifact.arrays)


def _replace(folder: Path, name: str, change: Any) -> None:
    """Change a column and what the manifest says of it."""

    def edit(config: dict[str, Any], _: dict[str, Any]) -> None:
        old = np.load(folder / config["large_files"][name]["file"])
        config["large_files"][name] = large_files.write_large(folder, name, change(old.copy()))

    _resign(folder, edit)


def _set(column: np.ndarray, value: Any) -> np.ndarray:
    column[5] = value
    return column


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model_a.npy", lambda c: _set(c, 8), r"model_a-.*numbers outside 0 to 7"),
        ("model_b.npy", lambda c: _set(c, -1), r"model_b-.*numbers outside 0 to 7"),
        ("outcome.npy", lambda c: _set(c, 2), r"outcome-.*numbers outside -1 to 1"),
        ("outcome.npy", lambda c: -c, r"cells-.* disagrees with the models and outcomes"),
        ("cells.npy", lambda c: _set(c, 60000), r"cells-.* disagrees"),
        ("cells.npy", lambda c: c.astype(np.int32), r"cells-.*: it is int32 \[800\]"),
        ("clusters.npy", lambda c: _set(c, 60000), r"clusters-.*numbers outside"),
        ("clusters.npy", lambda c: c[:-1], r"clusters-.*it has 799 rows, and rows.npy 800"),
        ("order.npy", lambda c: _set(c, 800), r"order-.*numbers outside 0 to 799"),
        ("order.npy", lambda c: _set(c, c[6]), r"order-.*it numbers two battles alike"),
        ("scales.npy", lambda c: _set(c, np.nan), r"scales-.*no positive factors"),
        ("scales.npy", lambda c: c * 2, r"rows-.*do not have length one"),
        ("rows.npy", lambda c: c.astype(np.float32), r"rows-.*: it is float32 \[800, 12\]"),
        ("rows.npy", lambda c: c[:, :11].copy(), r"'moments\.axes' is float32 \[12, 12\]"),
        ("rows.npy", lambda c: c[:0], r"rows-.*: it is int8 \[0, 12\]"),
    ],
)
def test_columns_that_do_not_go_together(
    saved: Path, tmp_path: Path, name: str, change: Any, message: str
) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")
    _replace(folder, name, change)
    with pytest.raises(ArtifactError, match=f"{message}.*download or export it again"):
        SimilarityWeightedRouter.load(folder)


@pytest.mark.parametrize("count", [799, 801])
def test_an_index_of_other_battles(saved: Path, tmp_path: Path, count: int) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")

    def swap(dimensions: int) -> None:
        index = NeighborIndex(dimensions)
        index.add(np.ones((count, dimensions), np.float32))
        stated = large_files.write_large(folder, "index.faiss", index)
        _resign(folder, lambda c, _: c["large_files"].update({"index.faiss": stated}))

    swap(12)
    with pytest.raises(ArtifactError, match=f"it holds {count} vectors of 12 dimensions where 800"):
        SimilarityWeightedRouter.load(folder)
    swap(3)
    with pytest.raises(ArtifactError, match="vectors of 3 dimensions where"):
        SimilarityWeightedRouter.load(folder)


def test_an_index_that_faiss_cannot_read(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")
    junk = b"IHNf" + b"\xff" * 500
    digest = hashlib.sha256(junk).hexdigest()
    file = f"index-{digest[:12]}.faiss"
    (folder / file).write_bytes(junk)
    stated = {"file": file, "bytes": len(junk), "sha256": digest, "sample_sha256": digest}
    _resign(folder, lambda c, _: c["large_files"].update({"index.faiss": stated}))
    with pytest.raises(ArtifactError, match="can't be read as a FAISS index") as caught:
        SimilarityWeightedRouter.load(folder)
    assert "faiss::" not in str(caught.value)


def test_a_sample_of_a_large_file_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(large_files, "_WHOLE_UP_TO", 1000)
    monkeypatch.setattr(large_files, "_END", 100)
    monkeypatch.setattr(large_files, "_BLOCKS", 3)
    monkeypatch.setattr(large_files, "_BLOCK", 10)
    stated = large_files.write_large(tmp_path, "rows.npy", np.zeros(2000, np.int8))
    path = large_files.check_large(tmp_path, "rows.npy", stated, verify=True)
    content = path.read_bytes()
    seen = 0
    for at in range(0, len(content), 5):
        path.write_bytes(content[:at] + b"\x7e" + content[at + 1 :])
        with pytest.raises(ArtifactChecksumError, match="was altered"):
            large_files.check_large(tmp_path, "rows.npy", stated, verify=True)
        try:
            large_files.check_large(tmp_path, "rows.npy", stated, verify=False)
        except ArtifactChecksumError:
            seen += 1
    assert seen == (100 + 100 + 3 * 10) // 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("neighbors", 10**30),
        ("neighbors", -1),
        ("neighbors", "32"),
        ("neighbors", None),
        ("rank", 0),
        ("rank", 1.5),
        ("measured_error", "small"),
        ("measured_error", -1.0),
        ("models", "ab"),
        ("models", [1, 2]),
        ("models", ["b", "a"]),
        ("large_files", []),
        ("large_files", {}),
        ("embedder", 3),
        ("options", []),
        ("options", {}),
    ],
)
def test_fields_of_the_wrong_type(saved: Path, tmp_path: Path, field: str, value: Any) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")
    _resign(folder, lambda config, _: config.update({field: value}))
    with pytest.raises(ArtifactError, match=f"manifest whose {field} can't be used: "):
        SimilarityWeightedRouter.load(folder)
    _resign(folder, lambda config, _: config.pop(field))
    with pytest.raises(ArtifactError, match=f"manifest whose {field} can't be used: missing"):
        SimilarityWeightedRouter.load(folder)


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_tiers", "4"), ("mode", 3), ("index", "HNSW1"), ("strong_model", "nobody"),
     ("strong_model", 1), ("index_in_axes", None), ("storage", []), ("num_tiers", 3)],
)  # fmt: skip
def test_options_of_the_wrong_type(saved: Path, tmp_path: Path, option: str, value: Any) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")
    _resign(folder, lambda config, _: config["options"].update({option: value}))
    with pytest.raises(ArtifactError, match="download or export it again"):
        SimilarityWeightedRouter.load(folder)


@pytest.mark.parametrize(
    "stated",
    [None, [], {}, {"file": "../rows.npy"}, {"bytes": "7"}, {"sha256": 3}, {"sample_sha256": 1}],
)
def test_what_a_manifest_says_of_a_file(saved: Path, tmp_path: Path, stated: Any) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")

    def edit(config: dict[str, Any], _: dict[str, Any]) -> None:
        files = config["large_files"]
        files["rows.npy"] = {**files["rows.npy"], **stated} if stated else stated

    _resign(folder, edit)
    with pytest.raises(ArtifactError, match=r"has an invalid entry of rows\.npy in its manifest"):
        SimilarityWeightedRouter.load(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("elo", lambda a: a[:-1]),
        ("elo", lambda a: a * np.nan),
        ("tiers", lambda a: a + 3),
        ("start", lambda a: a[None]),
        ("moments.axes", lambda a: a.astype(np.float64)),
        ("moments.form", lambda a: a[:, :-1]),
        ("moments.cells", lambda a: a[:3]),
        ("moments.spread", lambda a: a + np.inf),
        ("calibration_win_rates", lambda a: a * 2),
        ("calibration_win_rates", lambda a: a[::-1]),
        ("calibration_win_rates", lambda a: a.astype(np.float64)),
        ("trained_on", lambda a: a.astype(np.int64)),
    ],
)
def test_arrays_that_do_not_fit(
    data: SyntheticBattles, tmp_path: Path, name: str, change: Any
) -> None:
    hashes = np.array([3], np.uint64)
    router = _fit(data, Provenance(calibration=CALIBRATION, trained_on=hashes))
    router.save(tmp_path)
    SimilarityWeightedRouter.load(tmp_path)
    _resign(tmp_path, lambda _, a: a.update({name: np.ascontiguousarray(change(a[name]))}))
    with pytest.raises(ArtifactError, match=rf"{ARRAYS}.*{name}.*download or export it again"):
        SimilarityWeightedRouter.load(tmp_path)


def test_an_array_that_is_missing(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")
    _resign(folder, lambda _, arrays: arrays.pop("moments.seeds"))
    with pytest.raises(ArtifactError, match=r"it lacks 'moments\.seeds'"):
        SimilarityWeightedRouter.load(folder)


def test_the_layout_of_before_still_loads(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "router")

    def edit(config: dict[str, Any], _: dict[str, Any]) -> None:
        for name, stated in config["large_files"].items():
            (folder / stated.pop("file")).rename(folder / name)
            del stated["sample_sha256"]

    _resign(folder, edit)
    loaded = SimilarityWeightedRouter.load(folder)
    loaded.save(folder)  # and a save over it leaves none of its files
    assert not (folder / "rows.npy").exists()
    SimilarityWeightedRouter.load(folder, verify=True)
    index = next(iter(folder.glob("index-*.faiss")))
    assert json.loads((folder / MANIFEST).read_text())["config"]["large_files"]["index.faiss"] == {
        "file": index.name,
        "bytes": index.stat().st_size,
        "sha256": hashlib.sha256(index.read_bytes()).hexdigest(),
        "sample_sha256": hashlib.sha256(index.read_bytes()).hexdigest(),
    }


def test_folders_that_are_no_paths(data: SyntheticBattles) -> None:
    router = _fit(data)
    for bad in (None, 3, b"folder", os.environ):
        for call in (SimilarityWeightedRouter.load, router.save):
            with pytest.raises(InvalidTypeError, match="folder must be a str or a path, got"):
                call(bad)
    for bad in ("a\0b", Path("a\0b"), "\ud800"):
        for call in (SimilarityWeightedRouter.load, router.save):
            with pytest.raises(ArtifactError, match="has a character that no path can have"):
                call(bad)


def test_copies_go_through_a_folder(data: SyntheticBattles) -> None:
    router = _fit(data)
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(InvalidTypeError, match=r"call router\.save\(folder\), and Similar"):
            call(router)
