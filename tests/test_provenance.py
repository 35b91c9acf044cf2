"""What is recorded of routers: it can't be changed, is saved with them, and old artifacts load."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.artifacts import load_artifact, prompt_hash, save_artifact, save_provenance
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.provenance import OperatingPoint, Provenance
from fastroute.routers import (
    BertRouter,
    CascadeRouter,
    LengthRouter,
    MatrixFactorizationRouter,
    RandomRouter,
    Router,
    SimilarityWeightedRouter,
    create_router,
)
from fastroute.routers.causal_llm.engine import LabelEngine
from fastroute.routers.causal_llm.router import CausalLLMRouter, _read_measures

#: Artifacts, and the win rates of their routers, written by fastroute before it had a Provenance.
OLD = Path(__file__).parent / "old_artifacts"
WIN_RATES: dict[str, list[float]] = json.loads((OLD / "win_rates.json").read_text())
X = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
PROMPTS = ["hi", "word " * 60, "a longer prompt, of one line", "word " * 200, "", "w1 w2"]
QUANTILES = np.linspace(0.1, 0.9, 1001, dtype=np.float32)
POINT = OperatingPoint(0.25, 0.4, "quantiles of the win rates of 9 prompts")
HASHES = np.sort(np.array([prompt_hash("why?"), prompt_hash("how?")], dtype=np.uint64))
LOADERS: dict[str, Any] = {
    "mf": MatrixFactorizationRouter.load,
    "sw_ranking_exact": SimilarityWeightedRouter.load,
    "sw_ranking_far_field": SimilarityWeightedRouter.load,
    "cascade": lambda folder: create_router("cascade", checkpoint_path=folder),
    "bert": BertRouter,
}


def _rates(router: Any) -> Any:
    if isinstance(router, MatrixFactorizationRouter | SimilarityWeightedRouter):
        return router.win_rates_from_embeddings(X)
    return router.win_rates(PROMPTS)


@pytest.mark.parametrize("name", LOADERS)
def test_artifacts_of_the_old_layout_load_with_the_same_win_rates(name: str) -> None:
    router: Router = LOADERS[name](OLD / name)
    np.testing.assert_allclose(_rates(router), WIN_RATES[name], rtol=0, atol=1e-6)
    known = router.provenance
    np.testing.assert_array_equal(known.calibration, QUANTILES)
    if name == "cascade":  # whose members are length routers, without any record
        assert (known.trained_on, known.checksum) == (None, None)
    else:
        np.testing.assert_array_equal(known.trained_on, HASHES)
        assert known.checksum is not None
        assert len(known.checksum) == 64
    assert (known.data, known.operating_point) == (None, None)


def test_measures_of_the_old_layout_load() -> None:
    known = _read_measures(OLD / "causal_llm", 4)
    np.testing.assert_array_equal(known.calibration, QUANTILES)
    np.testing.assert_array_equal(known.trained_on, HASHES)
    assert _read_measures(OLD / "causal_llm", 3).calibration is None
    assert _read_measures(OLD, 4).calibration is None


class _Engine(LabelEngine):
    checksum = "of the engine"
    truncated_count = 0

    def probabilities(self, prompts: Any) -> Any:
        return np.full((len(prompts), 5), 0.2)


def test_a_router_gets_its_provenance_by_its_constructor() -> None:
    known = Provenance(("a.jsonl",), HASHES, QUANTILES, "9 prompts", POINT, "abc")
    eye = np.eye(2, dtype=np.float32)
    ones = np.ones(2, dtype=np.float32)
    pair = {"strong_model": "a", "weak_model": "b"}
    factorization = MatrixFactorizationRouter(["a", "b"], eye, eye, ones, **pair, provenance=known)
    assert factorization.provenance is known
    model = CausalLLMRouter(_Engine(), provenance=known)
    assert model.provenance.checksum == "of the engine"
    assert model.provenance.data == ("a.jsonl",)
    cascade = CascadeRouter(factorization, LengthRouter(), provenance=known)
    np.testing.assert_array_equal(cascade.provenance.trained_on, HASHES)
    assert cascade.provenance.operating_point == POINT
    assert RandomRouter().provenance.calibration is not None
    assert LengthRouter().provenance.calibration is None
    with pytest.raises(AttributeError):
        factorization.provenance = known  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        known.calibration = None  # type: ignore[misc]


def test_another_record_leaves_the_router_as_it_was() -> None:
    router = LengthRouter(100)
    known = router.with_provenance(Provenance(operating_point=POINT))
    assert known.provenance.operating_point == POINT
    assert router.provenance.operating_point is None
    assert known.win_rate("x" * 100) == router.win_rate("x" * 100) == 0.5


@pytest.mark.parametrize("name", ["mf", "sw_ranking_exact", "cascade", "bert"])
def test_everything_but_the_checksum_is_saved(name: str, tmp_path: Path) -> None:
    old = load_artifact(OLD / name)
    known = Provenance(("a.jsonl", "b.jsonl"), HASHES, QUANTILES, "9 prompts", POINT, "not saved")
    shutil.copytree(OLD / name, tmp_path, dirs_exist_ok=True)
    save_artifact(
        tmp_path,
        kind=old.kind,
        config=old.config,
        arrays={k: v for k, v in old.arrays.items() if k not in known.arrays()},
        files=old.files,
        provenance=known,
    )
    loaded = load_artifact(tmp_path)
    assert set(loaded.arrays) == set(old.arrays) | set(known.arrays())
    found = LOADERS[name](tmp_path).provenance
    assert (found.data, found.operating_point) == (("a.jsonl", "b.jsonl"), POINT)
    assert found.calibrated_on == "9 prompts"
    np.testing.assert_array_equal(found.calibration, QUANTILES)
    assert found.checksum != "not saved"
    assert loaded.provenance.checksum == loaded.checksum


@pytest.mark.parametrize("values", [(float("nan"),), (True,), (0.5, 1.5), (0.5, 0.5, 3)])
def test_operating_points_that_can_not_be(values: Any) -> None:
    with pytest.raises(InvalidInputError, match="operating_point must be"):
        OperatingPoint(*values)


def test_an_operating_point_that_is_a_bare_number_is_a_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Provenance, "facts", lambda _: {"operating_point": 0.25})
    save_artifact(tmp_path, kind="mf", config={}, arrays={})
    assert load_artifact(tmp_path).provenance.operating_point == OperatingPoint(0.25)


@pytest.mark.parametrize("name", LOADERS)
def test_a_saved_artifact_can_get_another_provenance(name: str, tmp_path: Path) -> None:
    shutil.copytree(OLD / name, tmp_path, dirs_exist_ok=True)
    before = load_artifact(tmp_path)
    others = QUANTILES[::-1] / 2
    save_provenance(
        tmp_path, replace(before.provenance, calibration=np.sort(others), operating_point=POINT)
    )
    after = load_artifact(tmp_path)
    assert (after.config, after.files) == (before.config, before.files)
    assert before.arrays.keys() == after.arrays.keys()
    router: Router = LOADERS[name](tmp_path)
    np.testing.assert_allclose(_rates(router), WIN_RATES[name], rtol=0, atol=1e-6)
    assert router.provenance.operating_point == POINT
    np.testing.assert_array_equal(router.provenance.calibration, QUANTILES / 2)


def test_what_is_no_artifact_gets_no_provenance(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"artifact\.json is missing"):
        save_provenance(tmp_path, Provenance())
    with pytest.raises(ArtifactError, match=r"there is no folder .*nowhere"):
        save_provenance(tmp_path / "nowhere", Provenance())
    assert not (tmp_path / "nowhere").exists()


def test_an_artifact_without_facts_has_the_same_bytes_as_before(tmp_path: Path) -> None:
    old = load_artifact(OLD / "mf")
    rest = {k: v for k, v in old.arrays.items() if k not in ("calibration_win_rates", "trained_on")}
    save_artifact(
        tmp_path, kind=old.kind, config=old.config, arrays=rest, provenance=old.provenance
    )
    for path in (OLD / "mf").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ([1], "invalid provenance"),
        ({"data": "a"}, "data must be a tuple of names"),
        ({"data": [1]}, "data must be a tuple of names"),
        ({"operating_point": 2}, "threshold of the operating_point must be a number in 0..1"),
        ({"operating_point": "0.5"}, "threshold of the operating_point must be a number in 0..1"),
        ({"operating_point": {"threshold": 0.5, "strong_share": 2}}, "strong_share of the"),
        ({"operating_point": {"threshold": 0.5, "chosen_by": 2}}, "chosen_by of the"),
        ({"operating_point": {"share": 0.5}}, "invalid provenance"),
        ({"calibrated_on": 3}, "calibrated_on must be a str"),
    ],
)
def test_facts_that_can_not_be_used(
    facts: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Provenance, "facts", lambda _: facts)
    save_artifact(tmp_path, kind="mf", config={}, arrays={})
    with pytest.raises(ArtifactError, match=message):
        load_artifact(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trained_on": np.arange(3)}, "trained_on must be uint64 hashes"),
        ({"trained_on": [1]}, "trained_on must be uint64 hashes"),
        ({"calibration": QUANTILES[::-1]}, "calibration"),
        ({"calibration": QUANTILES.astype(np.float64)}, "calibration"),
        ({"calibration": QUANTILES[:1]}, "calibration"),
        ({"calibration": np.full(3, np.nan, np.float32)}, "calibration"),
        ({"operating_point": True}, "operating_point must be an OperatingPoint"),
        ({"operating_point": 0.5}, "operating_point must be an OperatingPoint"),
        ({"calibrated_on": 3}, "calibrated_on must be a str"),
        ({"data": "a.jsonl"}, "data must be a tuple of names"),
        ({"checksum": 3}, "checksum must be a str"),
    ],
)
def test_values_that_do_not_fit(fields: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Provenance(**fields)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_its_arrays_are_its_own_and_stay_as_they_are(again: Any) -> None:
    mine = HASHES[::-1].copy()
    known = Provenance(trained_on=mine, calibration=QUANTILES)
    mine[:] = 0
    for one in (known, again(known), replace(known, checksum="abc")):
        np.testing.assert_array_equal(one.trained_on, HASHES)
        for array in one.arrays().values():
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
