"""The far field's compiled part against battle-by-battle sums in float64, at every SIMD level."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import bad_arrays
import reference
from fastroute import _native
from fastroute.errors import InvalidInputError
from fastroute.routers.sw_ranking import far_field, near_field, sums
from fastroute.routers.sw_ranking.battle_table import BattleTable
from fastroute.routers.sw_ranking.neighbors import UnitRows

TIERS, STRONG, WEAK = 3, 0, 2
CLUSTER_SUMS = ("sizes", "squares", "pulls", "places", "influences")


class Case:
    """n battles between three tiers over unit embeddings in a few clusters."""

    def __init__(self, n: int, d: int, *, strict: bool = False, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, n, d])
        centres = rng.normal(size=(5, d)) + 0.7
        E = centres[rng.integers(0, 5, n)] + 0.8 * rng.normal(size=(n, d))
        self.embeddings = (E / np.linalg.norm(E, axis=1, keepdims=True)).astype(np.float32)
        self.tier_a = rng.integers(0, TIERS, n).astype(np.int32)
        self.tier_b = rng.integers(0, TIERS, n).astype(np.int32)
        self.outcome = rng.integers(-1, 2, n).astype(np.int8)
        self.strict = strict
        self.cells = _native.battle_cells(self.tier_a, self.tier_b, self.outcome, TIERS)
        self.counts = np.bincount(self.cells, minlength=2 * TIERS**2 + TIERS).astype(np.float64)
        self.battles = _native.TieredBattles(self.embeddings, self.cells, TIERS, strict)
        self.start = _native.rate_cells(self.counts, TIERS, strict, np.zeros(TIERS))
        self.prompts = (centres[:4] + 0.8 * rng.normal(size=(4, d))).astype(np.float32) * 3.0

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        for first in range(0, len(self.embeddings), 100):
            yield first, self.embeddings[first : first + 100]

    def moments(self, most_directions: int = 256) -> far_field.Moments:
        none = np.zeros(0, np.int32)
        table = BattleTable((), np.zeros(0), none, TIERS, none, none, none.astype(np.int8))
        plan = sums.plan_of(
            table, self.cells, self.blocks, self.start, (STRONG, WEAK),
            strict=self.strict, storage="float32",
        )  # fmt: skip
        found = sums.FarFieldSums(plan)
        for first, rows in self.blocks():
            found.add(rows, self.cells[first : first + len(rows)])
        return found.moments(most_directions)

    def clusters(self, moments: far_field.Moments) -> np.ndarray:
        return far_field.nearest(self.embeddings @ moments.axes.T, moments.seeds)

    def field(self, moments: far_field.Moments, rank: int = 1000) -> _native.FarField:
        clusters = self.clusters(moments)
        return moments.field(
            self.battles, clusters, self.start, STRONG, WEAK, strict=self.strict, rank=rank
        )

    def near(self, x: np.ndarray, count: int = 12) -> np.ndarray:
        return np.argsort(-(self.embeddings @ x))[:count].astype(np.int64)

    def oracle(self, moments: far_field.Moments) -> reference.FarField:
        says = np.ones(len(self.cells)) if self.strict else (self.tier_a != self.tier_b) * 1.0
        return reference.FarField(
            self.embeddings,
            (self.tier_a, self.tier_b, self.outcome),
            TIERS,
            (STRONG, WEAK),
            moments.axes,
            len(moments.corner),
            len(moments.corner) + moments.lines.shape[1],
            self.clusters(moments),
            moments.gradient[self.cells],
            says,
            strict=self.strict,
        )


@pytest.mark.parametrize("strict", [False, True])
def test_the_gradient_is_the_derivative_of_the_fit(strict: bool) -> None:
    case = Case(2000, 3, strict=strict)
    found = far_field.gradient(case.counts, case.start, STRONG, WEAK, strict=strict)
    first = {int(cell): i for i, cell in reversed(list(enumerate(case.cells)))}
    numbers = sorted(first)
    kinds = [
        (int(case.tier_a[i]), int(case.tier_b[i]), int(case.outcome[i]))
        for i in (first[c] for c in numbers)
    ]
    wanted = reference.rating_gradient(
        kinds, case.counts[numbers].tolist(), TIERS, STRONG, WEAK, strict=strict
    )
    says = far_field.active_cells(case.counts, TIERS, strict=strict)
    wanted *= case.counts[says].sum()
    np.testing.assert_allclose(found[numbers], wanted, rtol=1e-5, atol=1e-9)
    assert np.abs(wanted).max() > 0.1


@pytest.mark.parametrize("d", [2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.usefixtures("simd_level")
def test_win_rates_are_the_formula(d: int, strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer than d each, so that a part lies outside; and nothing rounded, as in the formula.
    monkeypatch.setattr(far_field, "AXES", 24)
    monkeypatch.setattr(far_field, "LINE_AXES", 20)
    monkeypatch.setattr(far_field, "CELL_AXES", 8)
    monkeypatch.setattr(far_field, "MOST_ROUNDING", 0.0)
    case = Case(700, d, strict=strict)
    moments = case.moments()
    field, oracle = case.field(moments), case.oracle(moments)
    for x in case.prompts:
        near = case.near(x)
        rate, status, misfit = field.win_rate(x, near)
        assert status == "converged"
        assert 0 <= misfit < 0.5
        assert rate == pytest.approx(oracle.win_rate(x, near.tolist()), abs=2e-5)
        projected = field.project(x)
        unit = x / np.linalg.norm(x.astype(np.float64))
        np.testing.assert_allclose(projected, moments.axes @ unit, atol=1e-6)
        again, _, _ = field.win_rate(x, near, projected)
        assert again == rate
        ratings, shift, largest, _ = field.rate(x, near)
        difference = ratings[STRONG] - ratings[WEAK] + shift
        assert reference.sigmoid(difference) == pytest.approx(rate, abs=1e-12)
        assert largest == pytest.approx(float((case.embeddings[near] @ unit).max()), abs=1e-6)


@pytest.mark.usefixtures("simd_level")
def test_rounding_to_bytes_moves_little(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(3000, 130)
    moments = case.moments()
    clusters = case.clusters(moments)
    rounded = near_field.near_rows(UnitRows(case.embeddings))
    assert rounded is not None
    assert rounded.rows.dtype == far_field.packed(moments.axes, 1e-5).rows.dtype == np.int8
    arguments = case.battles, clusters, case.start, STRONG, WEAK
    small = moments.field(*arguments, strict=False, near_rows=rounded)
    monkeypatch.setattr(far_field, "MOST_ROUNDING", 0.0)
    whole = moments.field(*arguments, strict=False)
    for x in case.prompts:
        near = case.near(x)
        rate, _, _ = small.win_rate(x, near)
        assert 0 < abs(rate - whole.win_rate(x, near)[0]) < 2e-4
        # The largest similarity is never rounded: every weight hangs on it.
        assert small.rate(x, near)[2] == whole.rate(x, near)[2]


def test_rows_that_bytes_would_spoil_stay_floats() -> None:
    rows = np.full((2, 40), 0.1, np.float32)
    assert far_field.packed(rows).rows.dtype == np.int8
    rows[1, 0] = 30.0  # its other elements would all become zero
    assert far_field.packed(rows).rows.dtype == np.float32
    assert len(far_field.packed(rows[:0])) == 0
    np.testing.assert_array_equal(far_field.packed(rows * 0).rows, 0)


@pytest.mark.usefixtures("simd_level")
def test_a_batch_is_its_prompts_for_any_number_of_threads() -> None:
    case = Case(700, 33)
    field = case.field(case.moments())
    X = np.concatenate([case.prompts, -case.prompts[:1], case.prompts[:1] * 0])
    near = np.stack([case.near(x) for x in X])
    near[4] = -1  # nothing near, and no length
    for num_threads in (1, 2, 5):
        projected, ok = field.project_rows(X, num_threads)
        np.testing.assert_array_equal(ok, [True] * 5 + [False])
        rates, converged, misfits = field.win_rates(X, near, projected, num_threads)
        np.testing.assert_array_equal(converged, [True] * 4 + [False] * 2)
        for i, x in enumerate(case.prompts):
            np.testing.assert_array_equal(projected[i], field.project(x))
            assert (rates[i], "converged", misfits[i]) == field.win_rate(x, near[i], projected[i])
    spent = field._core.stages(X[0], projected[0], near[0])
    assert set(spent) == {"directions", "near", "lines", "cells", "ratings"}
    assert min(spent.values()) > 0
    for bad, message in (
        (X.astype(np.float64), "X must have dtype float32"),
        (X[:, :9].copy(), "X has 9 columns where the router has 33"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            field.project_rows(bad)
    for bad_near in (near + 700, near[:-1].copy()):
        with pytest.raises(InvalidInputError, match="near"):
            field.win_rates(X, bad_near, projected)


@pytest.mark.usefixtures("simd_level")
def test_all_battles_near_is_exact() -> None:
    case = Case(300, 33)
    field = case.field(case.moments())
    everyone = np.arange(300, dtype=np.int64)
    for x in case.prompts:
        ratings, _ = case.battles.rate(x, case.start)
        wanted = reference.sigmoid(ratings[STRONG] - ratings[WEAK])
        rate, _, _ = field.win_rate(x, everyone)
        # A quadratic is still fitted below the least similar one, to no battle: rounding is left.
        assert rate == pytest.approx(float(wanted), abs=2e-5)
        # -1 stands for "no battle".
        near = np.concatenate([case.near(x), [-1, -1]])
        assert field.win_rate(x, near) == field.win_rate(x, near[:-2])


def test_the_error_is_small() -> None:
    case = Case(6000, 48)
    field = case.field(case.moments(), far_field.RANK)
    for x in case.prompts:
        ratings, _ = case.battles.rate(x, case.start)
        wanted = reference.sigmoid(ratings[STRONG] - ratings[WEAK])
        rate, status, _ = field.win_rate(x, case.near(x, 32))
        assert status == "converged"
        assert rate == pytest.approx(wanted, abs=1e-3)
        assert abs(reference.sigmoid(case.start[STRONG] - case.start[WEAK]) - wanted) > 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("d", [1, 7, 15, 16, 17, 31, 33, 64, 97, 257])
@pytest.mark.usefixtures("simd_level")
def test_rows_of_every_storage(dtype: Any, d: int) -> None:
    case = Case(65, d)
    scales = None
    if dtype == np.int8:
        scales = np.abs(case.embeddings).max(axis=1) / np.float32(127)
        rows = np.rint(case.embeddings / scales[:, None]).astype(np.int8)
        wide = rows.astype(np.float32) * scales[:, None]
    else:
        rows = case.embeddings.astype(dtype)
        wide = rows.astype(np.float32)
    stored = _native.TieredBattles(rows, case.cells, TIERS, False, None, scales)
    same = _native.TieredBattles(wide, case.cells, TIERS, False)
    x = case.embeddings[3]
    np.testing.assert_allclose(stored.weights_by_cell(x), same.weights_by_cell(x), rtol=2e-5)
    axes = case.moments().axes[:2]
    np.testing.assert_allclose(
        _native.accumulate_moments(stored, axes),
        _native.accumulate_moments(same, axes),
        rtol=1e-5,
        atol=1e-5,
    )


def test_halves_at_the_ends_of_their_range() -> None:
    values = np.array([0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 1.0, -2.0, 65504.0], np.float16)
    rows = np.stack([values, np.ones(8, np.float16)])
    cells = np.array([1, 3], np.uint16)
    battles = _native.TieredBattles(rows, cells, 2, False)
    eye = np.eye(8, dtype=np.float32)
    moments = [_native.accumulate_moments(battles, eye[i : i + 1])[1, 1] for i in range(8)]
    np.testing.assert_array_equal(moments, values.astype(np.float64))


@pytest.mark.parametrize("n", [1, 2, 1023, 1025, 5000])
@pytest.mark.usefixtures("simd_level")
def test_moments_are_sums_for_any_number_of_threads(n: int) -> None:
    case = Case(n, 9) if n > 100 else Case(200, 9)
    battles = _native.TieredBattles(case.embeddings[:n].copy(), case.cells[:n].copy(), TIERS, False)
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 4)))[0].T.astype(np.float32)
    axes = np.ascontiguousarray(axes)
    found = _native.accumulate_moments(battles, axes)
    wanted = np.zeros((2 * TIERS**2 + TIERS, 1 + 4 + 10))
    for e, cell in zip(case.embeddings[:n].astype(np.float64), case.cells[:n], strict=True):
        p = axes.astype(np.float64) @ e
        wanted[cell] += np.concatenate([[1.0], p, np.outer(p, p)[np.triu_indices(4)]])
    np.testing.assert_allclose(found, wanted, atol=1e-6 * n + 1e-6)
    for num_threads in (2, 3):
        np.testing.assert_array_equal(_native.accumulate_moments(battles, axes, num_threads), found)


def test_more_battles_are_added_to_the_sums() -> None:
    case = Case(900, 17)
    some = Case(900, 17)
    whole = case.moments()
    half = dataclasses.replace(case.moments())
    first, rest = slice(0, 600), slice(600, 900)

    def part(which: slice) -> tuple[_native.TieredBattles, np.ndarray, np.ndarray]:
        rows, cells = some.embeddings[which].copy(), some.cells[which].copy()
        return _native.TieredBattles(rows, cells, TIERS, False), cells, rows

    nothing = dataclasses.replace(
        half,
        cells=half.cells * 0,
        lines=half.lines * 0,
        linear=half.linear * 0,
        corner=half.corner * 0,
        form=half.form * 0,
        **{name: getattr(half, name) * 0 for name in CLUSTER_SUMS},
    )
    summed = nothing.extended(*part(first), 1).extended(*part(rest), 2)
    for name in ("cells", "lines", "linear", "corner", "form", "energies", *CLUSTER_SUMS):
        size = np.abs(getattr(whole, name)).max()
        np.testing.assert_allclose(
            getattr(summed, name), getattr(whole, name), atol=1e-5 * size, err_msg=name
        )


def test_bad_input() -> None:
    case = Case(300, 6)
    field = case.field(case.moments())
    x, near = case.prompts[0], case.near(case.prompts[0])
    bad_arrays.check_refusals(x, "x", field.project)
    bad_arrays.check_refusals(x, "x", lambda x: field.win_rate(x, near))
    bad_arrays.check_refusals(x, "x", lambda x: field.rate(x, near))
    for call in (field.project, lambda x: field.win_rate(x, near), lambda x: field.rate(x, near)):
        for value, message in ((np.nan, r"x\[2\] is nan"), (np.inf, r"x\[2\] is inf")):
            bad = x.copy()
            bad[2] = value
            with pytest.raises(InvalidInputError, match=message):
                call(bad)
        with pytest.raises(InvalidInputError, match="x is the zero vector"):
            call(x * 0)
        with pytest.raises(InvalidInputError, match="too small or too large for float32"):
            call(x * np.float32(1e-30))
        with pytest.raises(InvalidInputError, match="x has length 5 where the router has 6"):
            call(x[:5].copy())
    for number in (300, -2):
        with pytest.raises(InvalidInputError, match="a near battle is out of range"):
            field.win_rate(x, np.array([number]))
    assert field.win_rate(x, near[:0])[1] == "nothing_similar"
    assert field.win_rate(-np.ones(6, np.float32), near)[1] == "nothing_similar"
    with pytest.raises(InvalidInputError, match="axes has 5 columns where the battles has 6"):
        _native.accumulate_moments(case.battles, np.ones((1, 5), np.float32))
    moments = case.moments()
    clusters = case.clusters(moments)
    for bad_clusters, message in (
        (clusters[:-1].copy(), "refused its arguments: clusters and battles differ"),
        (clusters + np.uint16(1000), "refused its arguments: a cluster is out of range"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            moments.field(case.battles, bad_clusters, case.start, STRONG, WEAK, strict=False)
    scales = np.ones(300, np.float32)
    bytes_ = np.ones((300, 6), np.int8)
    with pytest.raises(InvalidInputError, match="rows and scales differ in length"):
        _native.TieredBattles(bytes_, case.cells, TIERS, False, None, scales[:-1].copy())
    with pytest.raises(InvalidInputError, match="embeddings must have dtype float32"):
        _native.TieredBattles(bytes_.astype(np.int16), case.cells, TIERS, False)  # type: ignore[arg-type]
