"""The owner of the battles' vectors: a FAISS index whose memory the kernels read."""

from __future__ import annotations

import numpy as np
import pytest

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.neighbors import NeighborIndex


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
