"""Static embeddings: the sum of tokens' vectors scaled to length one, at every SIMD level."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bad_arrays
import reference
from fastroute import _arrays, _native
from fastroute.errors import InvalidInputError

SIZES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 128, 255, 256, 257, 384, 1536]
VOCABULARY = 50


class Table(NamedTuple):
    rows: np.ndarray
    scales: np.ndarray


def _table(dimensions: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed + dimensions)
    rows = rng.integers(-127, 128, size=(VOCABULARY, dimensions)).astype(np.int8)
    rows[1] = -128  # the least int8 has no positive twin
    scales = rng.uniform(0.001, 0.1, VOCABULARY).astype(np.float32)
    scales[2] = 0.0
    return Table(rows, scales)


def _ids(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, count).astype(np.int32)


def _assert_is_reference(got: np.ndarray, table: Table, ids: np.ndarray) -> None:
    assert got.dtype == np.float32
    wanted = reference.token_bag(*table, ids)
    length = np.linalg.norm(reference.token_bag_sum(*table, ids))
    if length == 0:
        assert not got.any()
        return
    # A float32 sum of t products rounds at most 2 t times, each by half a unit in the last place
    # of at most the sum of magnitudes; scaling to length one adds a few units relative to it.
    error = 2.0**-24 * (2 * len(ids) + 2) * reference.token_bag_magnitude(*table, ids) / length
    assert (np.abs(got - wanted) <= error + 2.0**-24 * (len(wanted) / 16 + 24)).all()


@pytest.mark.parametrize("dimensions", SIZES)
@pytest.mark.parametrize("tokens", [1, 2, 3, 33])
@pytest.mark.usefixtures("simd_level")
def test_every_dimension(dimensions: int, tokens: int) -> None:
    table, ids = _table(dimensions), _ids(tokens, seed=tokens)
    got = _native.embed_token_bag(*table, ids)
    assert got.shape == (dimensions,)
    _assert_is_reference(got, table, ids)
    if got.any():
        assert abs(np.linalg.norm(got.astype(np.float64)) - 1.0) < 1e-5


@pytest.mark.parametrize("dimensions", SIZES)
@pytest.mark.parametrize("storage", [np.float16, np.float32])
@pytest.mark.usefixtures("simd_level")
def test_tables_of_floats(dimensions: int, storage: type) -> None:
    rng = np.random.default_rng(dimensions)
    rows = rng.normal(size=(VOCABULARY, dimensions)).astype(storage)
    rows[3] = 6e-8  # subnormal in half precision
    table, ids = Table(rows, _table(dimensions).scales), _ids(33)
    _assert_is_reference(_native.embed_token_bag(*table, ids), table, ids)
    offsets = np.array([0, 0, 7, 33])
    got = _native.embed_token_bags(*table, ids, offsets, 2, 0.25)
    for p in range(3):
        part = ids[offsets[p] : offsets[p + 1]].copy()
        np.testing.assert_array_equal(got[p], _native.embed_token_bag(*table, part, 0.25))


@pytest.mark.usefixtures("simd_level")
def test_the_same_bytes_as_floats_give_the_same_vector() -> None:
    table, ids = _table(97), _ids(12)
    wanted = _native.embed_token_bag(*table, ids)
    for storage in (np.float16, np.float32):  # both hold every int8 exactly
        got = _native.embed_token_bag(table.rows.astype(storage), table.scales, ids)
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("storage", [np.float16, np.float32])
def test_a_table_of_floats_that_is_not_finite_is_named(storage: type) -> None:
    rows, scales = _table(5)
    rows = rows.astype(storage)
    rows[7, 2] = np.inf
    with pytest.raises(InvalidInputError, match=r"table\[7, 2\] is inf"):
        _arrays.check_token_table(rows, scales)
    with pytest.raises(InvalidInputError, match="table must have dtype int8, got float64"):
        _native.embed_token_bag(rows.astype(np.float64), scales, _ids(3))


@pytest.mark.usefixtures("simd_level")
def test_no_tokens_or_only_tokens_without_weight_give_zeros() -> None:
    table = _table(65)
    assert not _native.embed_token_bag(*table, np.empty(0, np.int32)).any()
    assert not _native.embed_token_bag(*table, np.full(7, 2, np.int32)).any()


@pytest.mark.usefixtures("simd_level")
def test_ten_thousand_tokens() -> None:
    table, ids = _table(97), _ids(10_000)
    _assert_is_reference(_native.embed_token_bag(*table, ids), table, ids)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e18, 1e34])
@pytest.mark.usefixtures("simd_level")
def test_scales_whose_squares_leave_float32_still_give_a_unit_vector(scale: float) -> None:
    table = _table(65)
    shifted = Table(table.rows, (table.scales * np.float32(scale)).astype(np.float32))
    got = _native.embed_token_bag(*shifted, _ids(9))
    assert abs(np.linalg.norm(got.astype(np.float64)) - 1.0) < 1e-5
    np.testing.assert_allclose(got, _native.embed_token_bag(*table, _ids(9)), atol=1e-5)


@pytest.mark.parametrize("prompts", [0, 1, 2, 3, 63, 64, 65, 257])
@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.usefixtures("simd_level")
def test_a_batch_is_bitwise_its_prompts(prompts: int, num_threads: int) -> None:
    table = _table(97)
    lengths = np.random.default_rng(prompts).integers(0, 12, prompts)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = _ids(int(offsets[-1]))
    got = _native.embed_token_bags(*table, ids, offsets, num_threads)
    assert got.shape == (prompts, 97)
    for p in range(prompts):
        one = _native.embed_token_bag(*table, ids[offsets[p] : offsets[p + 1]].copy())
        np.testing.assert_array_equal(got[p], one)


@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(1, 40), dimensions=st.integers(1, 80))
def test_the_order_of_tokens_matters_only_to_rounding(
    seed: int, tokens: int, dimensions: int
) -> None:
    table = _table(dimensions, seed)
    ids = np.random.default_rng(seed).permutation(_ids(tokens, seed))
    _assert_is_reference(_native.embed_token_bag(*table, ids), table, np.sort(ids))


@given(seed=st.integers(0, 2**32 - 1), prompts=st.integers(1, 10))
def test_a_permutation_of_prompts_permutes_the_rows(seed: int, prompts: int) -> None:
    rng = np.random.default_rng(seed)
    table = _table(33, seed)
    bags = [_ids(int(n), seed + i) for i, n in enumerate(rng.integers(0, 9, prompts))]
    order = rng.permutation(prompts)

    def embed(bags: list[np.ndarray]) -> np.ndarray:
        offsets = np.cumsum([0, *map(len, bags)]).astype(np.int64)
        return _native.embed_token_bags(*table, np.concatenate(bags), offsets)

    np.testing.assert_array_equal(embed([bags[i] for i in order]), embed(bags)[order])


def test_bad_arrays(tmp_path: Path) -> None:
    (rows, scales), ids = _table(6), _ids(5)
    offsets = np.array([0, 2, 5], dtype=np.int64)
    one, many = _native.embed_token_bag, _native.embed_token_bags
    bad_arrays.check_refusals(rows, "table", lambda table: one(table, scales, ids))
    bad_arrays.check_refusals(scales, "scales", lambda scales: one(rows, scales, ids))
    bad_arrays.check_refusals(ids, "ids", lambda ids: one(rows, scales, ids))
    bad_arrays.check_refusals(rows, "table", lambda table: many(table, scales, ids, offsets))
    bad_arrays.check_refusals(scales, "scales", lambda scales: many(rows, scales, ids, offsets))
    bad_arrays.check_refusals(ids, "ids", lambda ids: many(rows, scales, ids, offsets))
    bad_arrays.check_refusals(offsets, "offsets", lambda offsets: many(rows, scales, ids, offsets))
    bad_arrays.check_accepted(rows, lambda table: one(table, scales, ids), tmp_path)
    bad_arrays.check_accepted(ids, lambda ids: many(rows, scales, ids, offsets), tmp_path)
    with pytest.raises(InvalidInputError, match="scales has length 49 where the vocabulary has 50"):
        one(rows, scales[:49].copy(), ids)


@pytest.mark.parametrize("bad", [-1, VOCABULARY, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("position", [0, 4])
@pytest.mark.usefixtures("simd_level")
def test_an_id_that_is_no_row_of_the_table(bad: int, position: int) -> None:
    table, ids = _table(33), _ids(5)
    ids[position] = bad
    message = rf"ids\[{position}\] is {bad}, .*use the tokenizer that the table was made with"
    with pytest.raises(InvalidInputError, match=message):
        _native.embed_token_bag(*table, ids)
    with pytest.raises(InvalidInputError, match=message):
        _native.embed_token_bags(*table, ids, np.array([0, 2, 5]), 2)


@pytest.mark.parametrize(
    "offsets", [[], [1, 5], [0, 4], [0, 6], [0, 4, 3, 5], [0, -1, 5], [0, 2**62, 5], [5, 0]]
)
def test_offsets_that_are_no_offsets(offsets: list[int]) -> None:
    with pytest.raises(InvalidInputError, match=r"offsets must rise from 0 to len\(ids\) = 5"):
        _native.embed_token_bags(*_table(33), _ids(5), np.array(offsets, dtype=np.int64))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("simd_level")
def test_scales_that_are_not_finite(value: float) -> None:
    rows, scales = _table(33)
    scales[7] = value
    ids = np.array([3, 7], dtype=np.int32)
    with pytest.raises(InvalidInputError, match=r"scales\[7\] is -?(nan|inf)"):
        _native.embed_token_bag(rows, scales, ids)
    with pytest.raises(InvalidInputError, match=r"scales\[7\] is -?(nan|inf)"):
        _native.embed_token_bags(rows, scales, ids, np.array([0, 2]))


@pytest.mark.usefixtures("simd_level")
def test_a_sum_beyond_float32_is_refused() -> None:
    rows = np.full((1, 3), 127, dtype=np.int8)
    scales = np.array([3e36], dtype=np.float32)
    with pytest.raises(InvalidInputError, match="the sum is not finite"):
        _native.embed_token_bag(rows, scales, np.zeros(2, np.int32))


@pytest.mark.parametrize("num_threads", [0, -1, 1.0, True, None, "2", 10**30])
def test_num_threads_must_be_a_sane_count(num_threads: object) -> None:
    with pytest.raises(InvalidInputError, match="num_threads must be an int from 1 to 1024"):
        _native.embed_token_bags(
            *_table(33),
            _ids(5),
            np.array([0, 5]),
            num_threads,  # type: ignore[arg-type]
        )


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("dimensions", [1, 16, 33, 256])
def test_the_length_stands_behind_the_unit_vector(dimensions: int) -> None:
    table = _table(dimensions)
    for tokens in (1, 7, 3000):
        ids = _ids(tokens, seed=tokens)
        got = _native.embed_token_bag(*table, ids, 0.03125)
        assert got.shape == (dimensions + 1,)
        np.testing.assert_array_equal(got[:-1], _native.embed_token_bag(*table, ids))
        assert got[-1] == pytest.approx(0.03125 * np.log1p(tokens), rel=1e-6)


@pytest.mark.usefixtures("simd_level")
def test_without_any_weight_there_is_no_length_either() -> None:
    table = _table(65)
    for ids in (np.empty(0, np.int32), np.full(7, 2, np.int32)):
        got = _native.embed_token_bag(*table, ids, 1.0)
        assert got.shape == (66,)
        assert not got.any()


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("scale", [1e-30, 1e18])
def test_the_length_does_not_mind_scales_whose_squares_leave_float32(scale: float) -> None:
    table = _table(33)
    extreme = Table(table.rows, (table.scales * np.float32(scale)).astype(np.float32))
    ids = _ids(9)
    assert _native.embed_token_bag(*extreme, ids, 0.5)[-1] == pytest.approx(0.5 * np.log(10))


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_lengths_of_a_batch_are_those_of_single_prompts(num_threads: int) -> None:
    table, ids = _table(33), _ids(500)
    offsets = np.concatenate([[0], np.sort(np.random.default_rng(1).integers(0, 500, 200)), [500]])
    got = _native.embed_token_bags(*table, ids, offsets, num_threads, 0.25)
    assert got.shape == (201, 34)
    for p, row in enumerate(got):
        one = _native.embed_token_bag(*table, ids[offsets[p] : offsets[p + 1]].copy(), 0.25)
        np.testing.assert_array_equal(row, one)


@pytest.mark.parametrize("length_scale", [-0.1, float("nan"), float("inf"), "1", None])
def test_a_length_scale_that_is_none_is_named(length_scale: object) -> None:
    table, bad = _table(3), {"length_scale": length_scale}
    with pytest.raises(InvalidInputError, match="length_scale must be a number"):
        _native.embed_token_bag(*table, _ids(2), **bad)
    with pytest.raises(InvalidInputError, match="length_scale must be a number"):
        _native.embed_token_bags(*table, _ids(2), np.array([0, 2]), **bad)
    with pytest.raises(InvalidInputError, match="length_scale must be a number"):
        _arrays.check_token_table(*table, **bad)
