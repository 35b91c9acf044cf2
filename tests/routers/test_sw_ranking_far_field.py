"""The sw_ranking router's far field: accuracy, indexes, growth, explanations, saved routers."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eight_threads
import reference
from battle_factory import SyntheticBattles, make_battles
from fastroute.embedders import Embedder
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactNotFoundError,
    ArtifactTruncatedError,
    InvalidInputError,
    InvalidTypeError,
    NotFittedError,
    RatingError,
)
from fastroute.provenance import Provenance
from fastroute.routers import SimilarityWeightedRouter, create_router
from fastroute.routers.sw_ranking import near_field
from fastroute.routers.sw_ranking import router as module

INDEXES = ["Flat", "HNSW16", "IVF8,Flat", "HNSW16_SQ8", "SQ8", "IVF8,PQ8x4", None]


@pytest.fixture(scope="module")
def data() -> SyntheticBattles:
    """6,000 battles of 14 models, of 40 dimensions."""
    return make_battles(seed=5, count=6000, dimensions=40, models=14)


def _router(data: SyntheticBattles, **options: Any) -> SimilarityWeightedRouter:
    return SimilarityWeightedRouter(
        **{"strong_model": data.strong, "weak_model": data.weak, "num_tiers": 5, **options}
    )


def _columns(data: SyntheticBattles, which: Any = slice(None)) -> tuple[Any, ...]:
    return (
        np.ascontiguousarray(data.embeddings[which]),
        np.array(data.model_a)[which].tolist(),
        np.array(data.model_b)[which].tolist(),
        np.array(data.winner)[which].tolist(),
    )


def _fit(data: SyntheticBattles, **options: Any) -> SimilarityWeightedRouter:
    return _router(data, **{"mode": "far_field", **options}).fit(*_columns(data))


def _prompts(data: SyntheticBattles, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(3)
    near = data.embeddings[rng.integers(0, len(data.embeddings), count)]
    near = near / np.linalg.norm(near, axis=1, keepdims=True)
    made: np.ndarray = (near + 0.08 * rng.normal(size=near.shape)).astype(np.float32)
    return made


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("index", INDEXES)
def test_win_rates_are_near_those_of_exact_mode(
    data: SyntheticBattles, index: str | None, strict: bool
) -> None:
    X = _prompts(data)
    exact = _fit(data, mode="exact", strict=strict)
    far = _fit(data, index=index, strict=strict)
    assert (exact.mode_, far.mode_) == ("exact", "far_field")
    wanted = exact.win_rates_from_embeddings(X)
    error = np.abs(far.win_rates_from_embeddings(X) - wanted)
    # 6,000 battles are few, so a battle weighs much; quantised indexes miss some of the nearest.
    assert error.max() < 4e-3
    assert error.mean() < 8e-4
    # Equal weights would be off by far more, so the approximation says something.
    assert np.abs(exact.win_rate_without_signal - wanted).mean() > 5 * error.mean()
    assert far.model_tiers_ == exact.model_tiers_
    np.testing.assert_array_equal(far.tier_ratings_, exact.tier_ratings_)


@pytest.mark.parametrize("count", [40_000, 55_000, 300_000, 1_000_000, 20_000_000])
def test_the_default_index_reads_about_as_many_vectors_for_any_count(count: int) -> None:
    factory, parameters = near_field.default_index(count)
    assert parameters is not None
    lists, opened = int(re.findall(r"IVF(\d+)", factory)[0]), int(parameters.split("=")[1])
    assert factory.endswith(",SQ8"), "a query of a new prompt takes as long as its bytes"
    assert 2 <= opened <= lists
    assert 0.5 < opened * count / lists / near_field._READ_PER_SEARCH < 1.5


def test_the_default_index_finds_the_most_similar_battle() -> None:
    # Where it is missed, all weights are off.
    data = make_battles(seed=6, count=20_000, dimensions=64, models=14)
    router = _fit(data)
    unit = data.embeddings / np.linalg.norm(data.embeddings, axis=1, keepdims=True)
    missed = 0
    X = _prompts(data, 200)
    for x in X:
        similar = unit @ (x / np.linalg.norm(x))
        near = router._fitted.far.near(x)  # type: ignore[union-attr] # in the far field
        missed += similar[near].max() < similar.max() - 1e-6
    assert missed == 0


@pytest.mark.parametrize("index", ["HNSW16", None])
def test_one_prompt_a_batch_and_threads_agree(data: SyntheticBattles, index: str | None) -> None:
    X = _prompts(data)
    router = _fit(data, index=index)
    wanted = [router.win_rate_from_embedding(x) for x in X]
    np.testing.assert_array_equal(router.win_rates_from_embeddings(X, num_threads=3), wanted)
    eight_threads.check(lambda _: router.win_rates_from_embeddings(X), wanted, rounds=5)


def test_auto_is_exact_until_it_pays(
    data: SyntheticBattles, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _fit(data, mode="auto").mode_ == "exact"
    monkeypatch.setattr(module, "FAR_FIELD_FROM", 6000)
    assert _fit(data, mode="auto").mode_ == "far_field"
    assert _fit(data, mode="auto", strict=True).mode_ == "exact"


@pytest.mark.parametrize("storage", ["float16", "int8"])
@pytest.mark.parametrize("mode", ["exact", "far_field"])
def test_smaller_storage(data: SyntheticBattles, storage: str, mode: str) -> None:
    X = _prompts(data)
    wanted = _fit(data, mode=mode).win_rates_from_embeddings(X)
    router = _fit(data, mode=mode, storage=storage)
    moved = np.abs(router.win_rates_from_embeddings(X) - wanted).max()
    # In the far field a hair's difference may find other neighbours: its own error, then.
    most = 4e-3 if mode == "far_field" else {"float16": 2e-5, "int8": 4e-4}[storage]
    assert 0 < moved < most


def test_kernels_borrow_what_the_index_stores(data: SyntheticBattles) -> None:
    for index in ("Flat", "HNSW16"):
        router = _fit(data, index=index)
        fitted = router._fitted
        assert fitted is not None
        assert fitted.far is not None
        assert np.shares_memory(fitted.vectors.rows, fitted.far.index.rows())
        wanted = router.win_rate_from_embedding(data.prompts[0])
        battles, owner = fitted.battles, fitted.vectors.owner
        del fitted, router, owner
        gc.collect()
        assert battles.rate(data.prompts[0], np.zeros(5))[1] == "converged"
        assert 0 < wanted < 1


def test_a_prompt_unlike_all_battles_is_looked_at_exactly(data: SyntheticBattles) -> None:
    E, *names = _columns(data)
    E = np.abs(E)
    far, exact = (_router(data, mode=mode).fit(E, *names) for mode in ("far_field", "exact"))
    behind = -np.ones(40, np.float32)
    assert far.win_rate_from_embedding(behind) == far.win_rate_without_signal
    strict = _router(data, mode="far_field", strict=True).fit(E, *names)
    with pytest.raises(RatingError, match="no battle has a positive similarity to it"):
        strict.win_rate_from_embedding(behind)
    # Hardly similar to any: weights span many powers of ten, which no quadratic follows.
    rng = np.random.default_rng(0)
    odd = rng.normal(size=40).astype(np.float32)
    odd -= E.mean(axis=0) * (odd @ E.mean(axis=0)) / (E.mean(axis=0) @ E.mean(axis=0))
    unit = E / np.linalg.norm(E, axis=1, keepdims=True)
    odd -= np.float32(1.2 * (unit @ odd).mean()) * E.mean(axis=0)
    assert far._fitted is not None
    assert far._fitted.far is not None
    if far._fitted.far.win_rate(odd) is None:
        assert far.win_rate_from_embedding(odd) == exact.win_rate_from_embedding(odd)


def test_the_bound_is_measured_and_held(data: SyntheticBattles) -> None:
    router = _fit(data, max_error=8e-3)
    assert router.mode_ == "far_field"
    assert router.measured_error_ is not None
    assert 0 < router.measured_error_ <= 0.75 * 8e-3
    X = _prompts(data)
    exact = _fit(data, mode="exact")
    error = np.abs(router.win_rates_from_embeddings(X) - exact.win_rates_from_embeddings(X))
    assert error.max() <= 8e-3
    assert exact.measured_error_ is None
    # All battles are in it, those held out to measure too, under their own numbers.
    for i in (0, 17, 5999):
        x = data.embeddings[i].copy()
        nearest = router.explain_from_embedding(x, 1).nearest[0]
        assert nearest.battle == i
        assert (nearest.model_a, nearest.model_b) == (data.model_a[i], data.model_b[i])


def test_a_bound_that_cannot_be_held_falls_back_and_says_so(data: SyntheticBattles) -> None:
    router = _router(data, mode="far_field", max_error=1e-9)
    with pytest.warns(RuntimeWarning, match=r"too much for max_error=1e-09; .*'exact'"):
        router.fit(*_columns(data))
    assert router.mode_ == "exact"
    assert router.measured_error_ is not None
    assert router.measured_error_ > 1e-9
    x = data.prompts[0]
    assert router.win_rate_from_embedding(x) == _fit(data, mode="exact").win_rate_from_embedding(x)


@pytest.mark.parametrize("count", [3, 200, 3000])
def test_the_bound_is_measured_again_when_battles_are_added(
    data: SyntheticBattles, count: int
) -> None:
    router = _fit(data, max_error=8e-3)
    assert router.measured_error_ is not None
    before = router.measured_error_
    # Prompts of the same kind: the bound holds on, and what was measured is at least reported.
    E, *names = _columns(data, slice(0, count))
    same = (E + 0.3 * np.abs(E).mean() * np.random.default_rng(1).normal(size=E.shape)).astype(
        np.float32
    )
    router.add_battles(same, *names)
    assert router.mode_ == "far_field"
    assert before <= router.measured_error_ <= 0.75 * 8e-3
    # The bound as if it had been tighter: what is added shows that it can't be held.
    router.max_error = 1e-9
    with pytest.warns(RuntimeWarning, match=r"too much for max_error=1e-09; .*'exact'") as caught:
        router.add_battles(same, *names)
    assert caught[0].filename == __file__
    assert router.mode_ == "exact"
    assert router.measured_error_ > 1e-9
    exact = _router(data, mode="exact").fit(*_columns(data))
    for _ in range(2):
        exact.add_battles(same, *names)
    X = _prompts(data, 5)
    np.testing.assert_array_equal(
        np.round(router.win_rates_from_embeddings(X), 6),
        np.round(exact.win_rates_from_embeddings(X), 6),
    )
    # In exact mode there is nothing more to measure.
    measured = router.measured_error_
    router.add_battles(same, *names)
    assert (router.mode_, router.measured_error_) == ("exact", measured)


def test_the_choice_takes_the_cheapest_that_will_do(data: SyntheticBattles) -> None:
    loose, tight = _fit(data, max_error=0.5), _fit(data, max_error=4e-3)
    assert loose._fitted is not None
    assert loose._fitted.far is not None
    assert (loose._fitted.far.rank, loose._fitted.far.neighbors) == near_field._CHOICES[0]
    assert tight.measured_error_ is not None
    assert loose.measured_error_ is not None
    assert tight.measured_error_ <= loose.measured_error_


@pytest.mark.parametrize("mode", ["exact", "far_field"])
@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("index", ["HNSW16", None])
def test_adding_battles_is_fitting_them_all_on_the_same_tiers(
    data: SyntheticBattles, mode: str, storage: str, index: str | None
) -> None:
    options = {"mode": mode, "storage": storage, "index": index}
    E, *names = _columns(data)
    rng = np.random.default_rng(8)
    more = (E + np.abs(E).mean() * rng.normal(size=E.shape)).astype(np.float32)
    grown = _fit(data, **options)
    before = grown.win_rate_from_embedding(data.prompts[0])
    # The same outcomes over other prompts: ratings and tiers stay, similarities don't.
    assert grown.add_battles(more, *names) is grown
    whole = _router(data, **options).fit(
        np.concatenate([E, more]), *(name + name for name in names)
    )
    assert grown.model_tiers_ == whole.model_tiers_
    X = _prompts(data)
    found, wanted = grown.win_rates_from_embeddings(X), whole.win_rates_from_embeddings(X)
    np.testing.assert_allclose(grown.tier_ratings_, whole.tier_ratings_, atol=1e-9)
    if mode == "exact":
        np.testing.assert_array_equal(found, wanted)
    else:  # within its error; the axes are those of the first battles
        exact = _router(data, mode="exact").fit(
            np.concatenate([E, more]), *(name + name for name in names)
        )
        error = np.abs(found - exact.win_rates_from_embeddings(X))
        assert error.max() < 4e-3
        assert np.abs(before - exact.win_rate_from_embedding(data.prompts[0])) > error.mean()
    assert grown.win_rate_from_embedding(data.prompts[0]) != before
    assert grown.explain_from_embedding(more[500].copy(), 1).nearest[0].battle == 6500


def test_adding_while_others_score(data: SyntheticBattles) -> None:
    router = _router(data, mode="far_field", index="HNSW16").fit(*_columns(data, slice(0, 5000)))
    x = data.prompts[0]
    allowed = [router.win_rate_from_embedding(x)]
    stop = threading.Event()
    seen: set[float] = set()

    def score() -> None:
        while not stop.is_set():
            seen.add(router.win_rate_from_embedding(x))

    threads = [threading.Thread(target=score) for _ in range(2)]
    for thread in threads:
        thread.start()
    for begin in range(5000, 6000, 200):
        router.add_battles(*_columns(data, slice(begin, begin + 200)))
        allowed.append(router.win_rate_from_embedding(x))
        gc.collect()
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= set(allowed)


def test_battles_that_cannot_be_added(data: SyntheticBattles) -> None:
    router = _router(data)
    with pytest.raises(NotFittedError, match="call fit"):
        router.add_battles(*_columns(data, slice(0, 3)))
    router.fit(*_columns(data))
    wanted = router.win_rate_from_embedding(data.prompts[0])
    E, a, b, winner = _columns(data, slice(0, 3))
    for message, columns in (
        (r"model_b\[1\] is 'new', which was in no battle", (E, a, [b[0], "new", b[2]], winner)),
        ("battle 2 is of .* with itself", (E, [*a[:2], b[2]], b, winner)),
        (r"winner\[0\] is 'x'", (E, a, b, ["x", *winner[1:]])),
        ("must have the same length, at least 1, got 2, 3", (E[:2].copy(), a, b, winner)),
        ("has 39 columns where the router has 40", (E[:, :39].copy(), a, b, winner)),
        (r"embeddings\[1\] is the zero vector", (E * [[1], [0], [1]], a, b, winner)),
    ):
        with pytest.raises(InvalidInputError, match=message):
            router.add_battles(columns[0].astype(np.float32), *columns[1:])
    assert router.win_rate_from_embedding(data.prompts[0]) == wanted


@pytest.mark.parametrize("mode", ["exact", "far_field"])
def test_explanations(data: SyntheticBattles, mode: str) -> None:
    router = _fit(data, mode=mode, index="Flat")
    x = _prompts(data)[1]
    explanation = router.explain_from_embedding(x, 5)
    assert explanation.win_rate == router.win_rate_from_embedding(x)
    s = reference.similarities(data.embeddings, x)
    order = np.argsort(-s)[:5]
    assert [n.battle for n in explanation.nearest] == order.tolist()
    weights = reference.battle_weights(s)
    for near in explanation.nearest:
        i = near.battle
        assert near.similarity == pytest.approx(s[i], abs=1e-6)
        assert near.weight == pytest.approx(weights[i], rel=1e-5)
        assert (near.model_a, near.model_b) == (data.model_a[i], data.model_b[i])
        assert near.winner.split(" ")[0] == data.winner[i].split(" ")[0]
    assert explanation.nearest[0].weight == pytest.approx(100.0)
    R = explanation.tier_ratings
    strong, weak = (router.model_tiers_[m] for m in (data.strong, data.weak))
    odds = 10 ** ((R[strong] - R[weak]) / 400)
    assert 1 - 1 / (1 + odds) == pytest.approx(explanation.win_rate, abs=1e-9)
    with pytest.raises(InvalidInputError, match="count must be an int of at least 1, got 0"):
        router.explain_from_embedding(x, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "exact"},
        {"mode": "exact", "storage": "int8"},
        {"mode": "far_field"},
        {"mode": "far_field", "index": "HNSW16", "strict": True},
        {"mode": "far_field", "index": "IVF8,Flat", "index_parameters": "nprobe=3"},
        {"mode": "far_field", "storage": "float16", "max_error": 0.01},
    ],
    ids=str,
)
def test_a_saved_router_is_the_same(
    data: SyntheticBattles, options: dict[str, Any], tmp_path: Path
) -> None:
    router = _fit(data, **options)
    router.save(tmp_path / "router")
    X = _prompts(data)
    wanted = router.win_rates_from_embeddings(X)
    for verify in (False, True):
        loaded = SimilarityWeightedRouter.load(tmp_path / "router", verify=verify)
        np.testing.assert_array_equal(loaded.win_rates_from_embeddings(X), wanted)
        assert loaded.measured_error_ == router.measured_error_
        assert (loaded.mode_, loaded.mode) == (router.mode_, router.mode)
        assert list(loaded.model_ratings_.items()) == list(router.model_ratings_.items())
        assert loaded.model_tiers_ == router.model_tiers_
        np.testing.assert_array_equal(loaded.tier_ratings_, router.tier_ratings_)
        assert loaded.provenance.checksum is not None
        assert len(loaded.provenance.checksum) == 64
        mine, theirs = (r.explain_from_embedding(X[0]) for r in (router, loaded))
        assert mine.nearest == theirs.nearest
        # And it goes on learning.
        loaded.add_battles(*_columns(data, slice(0, 50)))
        assert not np.array_equal(loaded.win_rates_from_embeddings(X), wanted)
    # Saved again over itself, while a process has it mapped.
    loaded = SimilarityWeightedRouter.load(tmp_path / "router")
    loaded.save(tmp_path / "router")
    np.testing.assert_array_equal(loaded.win_rates_from_embeddings(X), wanted)
    again = SimilarityWeightedRouter.load(tmp_path / "router", verify=True)
    np.testing.assert_array_equal(again.win_rates_from_embeddings(X), wanted)


def test_another_process_loads_it(data: SyntheticBattles, tmp_path: Path) -> None:
    router = _fit(data, index="HNSW16")
    router.save(tmp_path / "router")
    np.save(tmp_path / "X.npy", data.prompts)
    code = (
        "import sys, json, numpy as np; from fastroute.routers import SimilarityWeightedRouter\n"
        "r = SimilarityWeightedRouter.load(sys.argv[1] + '/router')\n"
        "print(json.dumps(r.win_rates_from_embeddings(np.load(sys.argv[1] + '/X.npy')).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == router.win_rates_from_embeddings(data.prompts).tolist()


def test_large_files_stay_on_disk(data: SyntheticBattles, tmp_path: Path) -> None:
    _fit(data, mode="exact").save(tmp_path / "router")
    loaded = SimilarityWeightedRouter.load(tmp_path / "router")
    assert loaded._fitted is not None
    rows = loaded._fitted.vectors.rows
    assert isinstance(rows, np.memmap)
    assert rows.filename is not None
    assert Path(rows.filename).name.startswith("rows-")


class _Words(Embedder):
    """Adds up a vector for each word."""

    name = ""
    dimensions = 40

    def __init__(self, name: str) -> None:
        self.name = name

    def embed_batch(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), 40), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row += np.random.default_rng(zlib.crc32(word.encode())).normal(size=40)
        return rows

    def embed(self, text: str) -> np.ndarray:
        return self.embed_batch([text])[0]


def test_text_and_the_registry(data: SyntheticBattles, tmp_path: Path) -> None:
    known = Provenance(
        trained_on=np.array([3, 5], np.uint64),
        calibration=np.linspace(0, 1, 1001, dtype=np.float32),
    )
    router = _fit(data, embedder=_Words("words"))
    router.fit(data.embeddings, data.model_a, data.model_b, data.winner, provenance=known)
    router.save(tmp_path / "router")
    made = create_router(
        "sw_ranking", checkpoint_path=tmp_path / "router", embedder=_Words("words"), num_threads=2
    )
    assert made.win_rate("how many roads") == router.win_rate("how many roads")
    assert isinstance(made, SimilarityWeightedRouter)
    np.testing.assert_array_equal(made.provenance.trained_on, router.provenance.trained_on)
    np.testing.assert_array_equal(made.provenance.calibration, router.provenance.calibration)
    assert made.explain("how many roads", 3).win_rate == router.win_rate("how many roads")
    with pytest.raises(InvalidInputError, match=r"embedder is 'other' where .* with 'words'"):
        SimilarityWeightedRouter.load(tmp_path / "router", embedder=_Words("other"))
    with pytest.raises(InvalidInputError, match="only embedder and num_threads go with it"):
        create_router("sw_ranking", checkpoint_path=tmp_path / "router", num_tiers=4)


def test_damage_is_named(data: SyntheticBattles, tmp_path: Path) -> None:
    folder = tmp_path / "router"
    load = SimilarityWeightedRouter.load
    _fit(data, storage="int8").save(folder)
    (file,) = folder.glob("rows-*.npy")
    rows = file.read_bytes()
    file.write_bytes(rows[:-1])
    with pytest.raises(ArtifactTruncatedError, match=r"rows-.*\.npy has .* bytes where"):
        load(folder)
    file.write_bytes(rows[:-1] + bytes([rows[-1] ^ 1]))
    for verify in (False, True):
        with pytest.raises(ArtifactChecksumError, match=r"rows-.*\.npy was altered"):
            load(folder, verify=verify)
    file.unlink()
    with pytest.raises(ArtifactNotFoundError, match=r"rows-.*\.npy is missing"):
        load(folder)
    file.write_bytes(rows)
    (file,) = folder.glob("index-*.faiss")
    file.write_bytes((b"nope" * file.stat().st_size)[: file.stat().st_size])
    with pytest.raises(ArtifactChecksumError, match=r"index-.*\.faiss was altered"):
        load(folder)
    with pytest.raises(ArtifactNotFoundError):
        load(tmp_path / "nowhere")
    with pytest.raises(NotFittedError):
        _router(data).save(tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message", "error"),
    [
        ({"storage": "float64"}, "storage must be one of float32, float16, int8", None),
        ({"max_error": 0}, "max_error must be a number between 0 and 1, or None, got 0", None),
        ({"max_error": "1e-3"}, "max_error must be a number", None),
        ({"index": 7}, "index must be a str for faiss.index_factory", InvalidTypeError),
    ],
)
def test_bad_options(options: dict[str, Any], message: str, error: type[Exception] | None) -> None:
    with pytest.raises(error or InvalidInputError, match=message):
        SimilarityWeightedRouter(**options)


def test_bad_indexes(data: SyntheticBattles) -> None:
    with pytest.raises(
        InvalidInputError, match=r"index must be a string that faiss\.index_factory"
    ):
        _fit(data, index="Flatt")
    with pytest.raises(InvalidInputError, match="index has 9999 lists for 6000 battles; use fewer"):
        _fit(data, index="IVF9999,Flat")
    with pytest.raises(InvalidInputError, match="index_parameters must suit the index, such as"):
        _fit(data, index="Flat", index_parameters="nprobes=3")


@pytest.mark.parametrize("index", ["Flat", "HNSW16", None])
def test_bad_prompts(data: SyntheticBattles, index: str | None) -> None:
    router = _fit(data, index=index)
    good = data.prompts[0]
    for bad, message in (
        (good.astype(np.float64), "^x must have dtype float32"),
        (good[:5].copy(), "^x has length 5 where the router has 40"),
        (good.tolist(), "^x must be a NumPy array"),
        (good * 0, "^x is the zero vector"),
        (good[None], r"^x must have 1 dimension"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            router.win_rate_from_embedding(bad)  # type: ignore[arg-type]
    bad = good.copy()
    bad[3] = np.nan
    with pytest.raises(InvalidInputError, match=r"^x\[3\] is nan"):
        router.win_rate_from_embedding(bad)


def test_few_or_equal_battles() -> None:
    pair = {"strong_model": "a", "weak_model": "b", "num_tiers": 2, "mode": "far_field"}
    router = SimilarityWeightedRouter(**pair)
    router.fit(np.ones((1, 3), np.float32), ["a"], ["b"], ["tie"])
    assert router.win_rate_from_embedding(np.ones(3, np.float32)) == pytest.approx(0.5)
    with pytest.raises(RatingError, match="only won, only lost or never met"):
        router.fit(np.ones((1, 3), np.float32), ["a"], ["b"], ["model_a"])
    E = np.tile(np.array([[1, 2, 3, 4]], np.float32), (300, 1))
    router.fit(E, ["a"] * 300, ["b"] * 300, ["model_a", "model_b", "tie"] * 100)
    assert router.win_rate_from_embedding(E[0].copy()) == pytest.approx(0.5, abs=1e-9)
    one_tier = SimilarityWeightedRouter(**{**pair, "num_tiers": 1})
    one_tier.fit(E, ["a"] * 300, ["b"] * 300, ["model_a", "model_b", "tie"] * 100)
    assert one_tier.win_rate_from_embedding(E[0].copy()) == 0.5
