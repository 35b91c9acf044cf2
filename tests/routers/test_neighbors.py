"""The owner of the battles' vectors: a FAISS index whose memory the kernels read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.errors import ArtifactError, InvalidInputError, InvalidTypeError
from fastroute.routers.sw_ranking import near_field
from fastroute.routers.sw_ranking.neighbors import NeighborIndex, UnitRows


def _vectors(n: int, d: int = 17) -> np.ndarray:
    rng = np.random.default_rng(n)
    return (rng.normal(size=(n, d)) * rng.uniform(1e-6, 1e6, (n, 1))).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 16383, 16384, 16385])
def test_rows_are_unit_vectors_in_order(n: int) -> None:
    X = _vectors(n, 5)
    index = NeighborIndex(5)
    index.add(X)
    assert len(index) == n
    wanted = X / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    rows = index.rows()
    assert (rows.dtype, rows.shape) == (np.float32, (n, 5))
    assert rows.flags.c_contiguous
    assert rows.flags.aligned
    np.testing.assert_allclose(rows, wanted, atol=2.0**-24)


def test_what_is_added_later_comes_after() -> None:
    index = NeighborIndex(17)
    parts = [_vectors(n) for n in (3, 1000, 1, 5000)]
    for part in parts:
        before = part.copy()
        index.add(part)
        np.testing.assert_array_equal(part, before)
    whole = NeighborIndex(17)
    whole.add(np.concatenate(parts))
    np.testing.assert_array_equal(index.rows(), whole.rows())


def test_lengths_at_the_ends_of_float32() -> None:
    index = NeighborIndex(3)
    index.add(np.array([[3e38, 3e38, 0], [1e-44, 0, 0], [0, -1e-30, 0]], dtype=np.float32))
    root = np.sqrt(0.5)
    np.testing.assert_allclose(index.rows(), [[root, root, 0], [1, 0, 0], [0, -1, 0]], atol=1e-7)


def test_nothing_is_added_of_what_is_refused() -> None:
    index = NeighborIndex(17)
    good = _vectors(20_000)
    for position, value in (((19_999, 16), np.nan), ((0, 0), np.inf), ((17_000, 3), -np.inf)):
        bad = good.copy()
        bad[position] = value
        with pytest.raises(
            InvalidInputError, match=rf"^embeddings\[{position[0]}, {position[1]}\]"
        ):
            index.add(bad)
    bad = good.copy()
    bad[19_000] = 0.0
    with pytest.raises(InvalidInputError, match=r"^mine\[19000\] is the zero vector"):
        index.add(bad, name="mine")
    with pytest.raises(InvalidInputError, match="has 16 columns where the index has 17"):
        index.add(_vectors(3, 16))
    with pytest.raises(InvalidTypeError, match="embeddings must have dtype float32"):
        index.add(good.astype(np.float64))
    with pytest.raises(InvalidInputError, match="embeddings must be C-contiguous"):
        index.add(np.asfortranarray(good))
    assert len(index) == 0


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("HNSW0", "from 2 to 1024 links a vector after HNSW"),
        ("HNSW1", "from 2 to 1024 links a vector after HNSW"),
        ("HNSW1_SQ8", "from 2 to 1024 links a vector after HNSW"),
        ("HNSW1,Flat", "from 2 to 1024 links a vector after HNSW"),
        ("IVF4_HNSW1,Flat", "from 2 to 1024 links a vector after HNSW"),
        ("HNSW99999999", "from 2 to 1024 links a vector after HNSW"),
        ("IVF0,Flat", "at least one list after IVF"),
        ("IVF00_HNSW8,Flat", "at least one list after IVF"),
        ("PCA4,IVF0,Flat", "at least one list after IVF"),
        ("IDMap,Flat", "an IDMap takes vectors with numbers of the caller's"),
        ("IDMap2,Flat", "an IDMap takes vectors with numbers of the caller's"),
        ("L2norm,Flat", "FAISS can't copy an L2norm"),
        ("NSG16", "FAISS can't add vectors to an NSG"),
        ("NSG16,Flat", "FAISS can't add vectors to an NSG"),
        ("", "must be a string that faiss"),
        ("Flatt", "must be a string that faiss"),
        ("IMI2x2,Flat", "must be a string that faiss.*MultiIndex not implemented"),
    ],
)
def test_strings_that_give_no_index(factory: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^index .*{message}") as caught:
        NeighborIndex(16, factory)
    assert repr(factory) in str(caught.value)
    assert "faiss::" not in str(caught.value)
    assert ".cpp" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("nprobe=0", "must have nprobe from 1 to"),
        ("nprobe=-1", "must have nprobe from 1 to"),
        ("nprobe=1e99", "must have nprobe from 1 to"),
        ("nprobe=1.5", "must have nprobe from 1 to"),
        ("quantizer_nprobe=0", "must have quantizer_nprobe from 1 to"),
        ("nprobe=4,quantizer_efSearch=0", "must have quantizer_efSearch from 1 to"),
        ("nprobe=nan", "must be names and numbers"),
        ("nprobe", "must be names and numbers"),
        ("=3", "must be names and numbers"),
        ("nprobe=2,", "must be names and numbers"),
        ("", "must be names and numbers"),
        ("nprobes=3", "must suit the index, .*could not set parameter"),
        ("efSearch=16", "must suit the index"),
    ],
)
def test_parameters_that_give_no_search(parameters: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^index_parameters {message}") as caught:
        NeighborIndex(16, "IVF4,Flat", parameters)
    assert "faiss::" not in str(caught.value)
    assert ".cpp" not in str(caught.value)
    NeighborIndex(16, "IVF4,Flat", "nprobe=2")
    NeighborIndex(16, "HNSW8", "efSearch=16")


@pytest.mark.parametrize("value", [3, 2.0, b"nprobe=1", ["nprobe=1"], {"nprobe": 1}])
def test_parameters_of_the_wrong_type(value: Any) -> None:
    with pytest.raises(InvalidTypeError, match=r"^index_parameters must be a str for faiss\."):
        NeighborIndex(16, "IVF4,Flat", value)


def test_lists_are_counted_before_memory_is_taken_for_them() -> None:
    vectors = UnitRows.store(_vectors(100, 4))
    axes = np.eye(4, dtype=np.float32)
    for factory in ("IVF2000000000,Flat", "IVF2000000k,Flat", "IVF101,Flat", "PCA4,IVF101,Flat"):
        with pytest.raises(InvalidInputError, match=r"index has \d+ lists for 100 battles"):
            near_field.build_index(vectors, axes, factory, None, in_axes=False)


def test_a_file_that_is_no_index(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    for content in (b"", b"IxFI", b"nope" * 100, b"IHNf" + b"\xff" * 400):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="can't be read as a FAISS index") as caught:
            NeighborIndex.load(path)
        assert "faiss::" not in str(caught.value)


@pytest.mark.parametrize(
    "factory",
    [
        *("PQ4", "IVF4,PQ4", "HNSW8_PQ4", "PCA8,PQ4", "OPQ4,PQ4", "OPQ4,HNSW8_PQ4"),
        *("OPQ4_8,IVF16,PQ4x4fs", "RQ2x8", "IVF4,RQ2x8", "RQ2x8_Nfloat", "RQ4x4fs", "PRQ2x2x6"),
        *("IVF4,PRQ2x2x6", "IVF4,PQ4,RFlat", "PQ4,Refine(RQ2x8)", "HNSW8_2x8+PQ4"),
        "HNSW8_16+PQ4",
    ],
)
def test_codebooks_of_few_vectors_print_nothing(
    factory: str, capfd: pytest.CaptureFixture[str]
) -> None:
    index = NeighborIndex(16, factory)
    index.train_and_add(_vectors(600, 16))
    assert len(index) == 600
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("factory", ["IVF16,PQ4", "OPQ4,IVF16,PQ4", "PCA8,IVF16,PQ4,RFlat"])
def test_lists_are_looked_through_wherever_they_are_in_the_index(factory: str) -> None:
    index = NeighborIndex(16, factory)
    index.train_and_add(_vectors(300, 16))
    faiss = index._faiss
    assert faiss.extract_index_ivf(index._index).nprobe == 8
    assert faiss.extract_index_ivf(NeighborIndex(16, factory, "nprobe=3")._index).nprobe == 3


def test_a_graph_below_a_transform_is_searched_as_hard_as_one_alone() -> None:
    index = NeighborIndex(16, "PCA8,HNSW8")
    graph = index._faiss.downcast_index(index._faiss.downcast_index(index._index).index)
    assert graph.hnsw.efSearch == 64


@pytest.mark.parametrize(("parameters", "asked"), [(None, False), ("ht=30", True)])
def test_codes_are_renumbered_only_for_a_search_that_needs_it(
    parameters: str | None, asked: bool
) -> None:
    vectors = _vectors(300, 16)
    index = NeighborIndex(16, "PQ2x6", parameters)
    index.train_and_add(vectors)
    faiss = index._faiss
    assert faiss.downcast_index(index._index).do_polysemous_training is asked
    found = [index.search(x, 5).tolist() for x in vectors[:20]]
    plain = faiss.index_factory(16, "PQ2x6np", faiss.METRIC_INNER_PRODUCT)
    plain.pq.cp.min_points_per_centroid = 1
    plain.train(vectors)
    plain.add(vectors)
    if not asked:  # the same vectors are found
        assert found == plain.search(vectors[:20], 5)[1].tolist()
