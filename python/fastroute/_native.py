"""The only module that calls the compiled core: it validates arguments and explains failures.

Hot functions call the core first and look for the reason only when it refuses, so that a valid
call pays nothing for the checks: the core itself accepts exact dtypes and layouts only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from fastroute._arrays import (
    check_array,
    check_direction,
    check_finite,
    check_int,
    check_length,
    check_num_threads,
    check_token_ids,
    check_token_table,
    check_wins,
    refuse_query,
)
from fastroute.errors import (
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    RatingError,
)
from fastroute.types import BoolArray, Float32Array, Float64Array, Int64Array, JsonSpan

try:
    from fastroute import _core
except ImportError as error:
    if "FASTROUTE_SIMD" in str(error):
        raise MissingDependencyError(f"{error}, or unset the variable") from None
    if "sub-interpreters" in str(error):
        raise
    raise MissingDependencyError(
        f"fastroute's compiled core can't be imported ({error}); install the package "
        "(pip install fastroute, or pip install . in a checkout) rather than importing its source"
    ) from error

Int32Array = npt.NDArray[np.int32]
#: Stored embeddings: exact, or in half or a quarter of the memory.
RowsArray = Float32Array | npt.NDArray[np.float16] | npt.NDArray[np.int8]

#: Cells are numbered in 16 bits: 2 t^2 + t of them for t tiers.
MOST_TIERS = 180

#: How rating the tiers for one prompt went.
RatingStatus = Literal["converged", "nothing_similar", "no_finite_rating"]

version: str = _core.__version__
compiler = _core.compiler
simd_levels = _core.simd_levels
simd_level = _core.simd_level


def use_simd_level(name: str) -> None:
    """Use a SIMD level from now on, in every thread: one of ``simd_levels()``, or ``"auto"``."""
    if not isinstance(name, str):
        raise InvalidTypeError(f"name must be a str, got {type(name).__name__}")
    try:
        _core.use_simd_level(name)
    except ValueError as error:
        raise InvalidInputError(f"name: {error}") from None


def dot_rows(rows: Float32Array, query: Float32Array) -> Float32Array:
    """Dot product of each of ``rows``, float32[n, d], with ``query``, float32[d]: float32[n]."""
    check_array("rows", rows, np.float32, 2)
    check_array("query", query, np.float32, 1)
    check_length("query", query, rows.shape[1], "rows")
    return _core.dot_rows(rows, query)


def exp2_scaled(x: Float32Array, scale: float) -> Float64Array:
    """2 ** (x * scale) for float32[n]: float64[n]; exponents are clamped to [-1022, 1023]."""
    check_array("x", x, np.float32, 1)
    check_finite("x", x)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise InvalidInputError(f"scale must be a finite number, got {scale!r}")
    return _core.exp2_scaled(x, float(scale))


# Static embeddings


def embed_token_bag(
    table: RowsArray, scales: Float32Array, ids: Int32Array, length_scale: float = 0.0
) -> Float32Array:
    """Unit vector of the tokens ``ids``, int32[t], and with ``length_scale`` how many they are.

    ``table`` is int8, float16 or float32[v, d], ``scales`` float32[v]. Returns float32[d]: the sum
    over tokens of scales[id] * table[id], divided by its length. With ``length_scale`` above 0
    there is one element more, float32[d + 1]: length_scale * ln(1 + t). Zeros where no token has
    weight.
    """
    try:
        return _core.embed_token_bag(table, scales, ids, length_scale)
    except (TypeError, ValueError) as error:
        check_token_table(table, scales, length_scale)
        check_token_ids(ids, len(table))
        _refused(error)


def embed_token_bags(
    table: RowsArray,
    scales: Float32Array,
    ids: Int32Array,
    offsets: Int64Array,
    num_threads: int = 1,
    length_scale: float = 0.0,
) -> Float32Array:
    """Vectors of many prompts: prompt p has the tokens ids[offsets[p]:offsets[p + 1]].

    ``offsets`` is int64[prompts + 1], rising from 0 to len(ids). Returns float32[prompts, d], or
    [prompts, d + 1] with ``length_scale``; each row is bitwise what ``embed_token_bag`` gives for
    it, for any ``num_threads``.
    """
    threads = check_num_threads(num_threads)
    try:
        return _core.embed_token_bags(table, scales, ids, offsets, threads, length_scale)
    except (TypeError, ValueError) as error:
        check_token_table(table, scales, length_scale)
        check_token_ids(ids, len(table))
        check_array("offsets", offsets, np.int64, 1)
        if not (
            len(offsets)
            and offsets[0] == 0
            and offsets[-1] == len(ids)
            and (np.diff(offsets) >= 0).all()
        ):
            raise InvalidInputError(
                f"offsets must rise from 0 to len(ids) = {len(ids)}, one more than there are "
                f"prompts, got {offsets!r}"
            ) from None
        _refused(error)


# Text by a vocabulary, and many models; the callers check the arguments

TextEmbedder: TypeAlias = _core.TextEmbedder
TextEstimator: TypeAlias = _core.TextEstimator
TextScorer: TypeAlias = _core.TextScorer
text_features = _core.text_features
code_point_classes = _core.code_point_classes
normalize_text = _core.normalize_text
unicode_version = _core.unicode_version
GradedPrompts: TypeAlias = _core.GradedPrompts
SuccessEstimator: TypeAlias = _core.SuccessEstimator
nearest_rows = _core.nearest_rows
TokenPrices: TypeAlias = _core.TokenPrices
choose = _core.choose


# Matrix factorization


def fold_models(
    models: Float32Array, projection: Float32Array, weights: Float32Array
) -> Float64Array:
    """Fold P, float32[m, k], W, float32[k, d], c, float32[k]: one vector a model, float64[m, d].

    delta(M, q) = c . (P_M / |P_M| * (W q)) = folded[M] . q.
    """
    check_array("models", models, np.float32, 2)
    check_array("projection", projection, np.float32, 2)
    check_array("weights", weights, np.float32, 1)
    for name, value in (("models", models), ("projection", projection), ("weights", weights)):
        check_finite(name, value)
    if not models.shape[1] == projection.shape[0] == weights.shape[0]:
        raise InvalidInputError(
            f"models {models.shape}, projection {projection.shape} and weights {weights.shape} "
            "must be [m, k], [k, d] and [k] with one k"
        )
    return _core.fold_models(models, projection, weights)


def pair_win_rate(pair: Float32Array, x: Float32Array) -> float:
    """sigmoid(pair . x) for one embedding, float32[d]."""
    try:
        rate = _core.pair_win_rate(pair, x)
    except (TypeError, ValueError) as error:
        check_array("pair", pair, np.float32, 1)
        check_array("x", x, np.float32, 1)
        check_length("x", x, len(pair), "the router")
        _refused(error)
    if rate != rate:  # NaN: not finite, or exactly zero
        check_direction("x", x)
        return _extreme_win_rate(pair, x)
    return rate


def pair_win_rates(pair: Float32Array, X: Float32Array, num_threads: int = 1) -> Float64Array:
    """sigmoid(X @ pair) for embeddings float32[n, d]: float64[n], bitwise as ``pair_win_rate``."""
    threads = check_num_threads(num_threads)
    try:
        rates = _core.pair_win_rates(pair, X, threads)
    except (TypeError, ValueError) as error:
        check_array("pair", pair, np.float32, 1)
        check_array("X", X, np.float32, 2)
        check_length("X", X, len(pair), "the router")
        _refused(error)
    for i in np.flatnonzero(np.isnan(rates)):
        check_direction(f"X[{i}]", X[i])
        rates[i] = _extreme_win_rate(pair, X[i])
    return rates


def _extreme_win_rate(pair: Float32Array, x: Float32Array) -> float:
    """The win rate where float32 gives exactly 0 (orthogonal) or overflows."""
    check_finite("pair", pair)
    delta = float(pair.astype(np.float64) @ x.astype(np.float64))
    return float(1.0 / (1.0 + np.exp(-np.clip(delta, -700.0, 700.0))))


def model_deltas(folded: Float32Array, X: Float32Array, num_threads: int = 1) -> Float32Array:
    """delta of every model, float32[m, d], on every embedding, float32[n, d]: float32[n, m]."""
    check_array("folded", folded, np.float32, 2)
    check_array("X", X, np.float32, 2)
    check_length("X", X, folded.shape[1], "the router")
    check_finite("folded", folded)
    check_finite("X", X)
    return _core.model_deltas(folded, X, check_num_threads(num_threads))


# Bradley-Terry ratings and tiers


def fit_bradley_terry(wins: Float64Array) -> Float64Array:
    """Maximum-likelihood ratings, float64[n] with mean 0, natural logarithm of odds.

    ``wins[i, j]``, float64[n, n], is the weight of i beating j; the diagonal is not read. Raises
    RatingError where no finite maximum exists (Ford 1957: somebody can't be reached from
    everybody by going from winners to losers).
    """
    check_wins(wins)
    ratings, converged, _ = _core.fit_bradley_terry(wins)
    # Newton alone can stop anywhere along a direction in which the likelihood is flat.
    if not converged or _core.rating_groups(wins).any():
        raise RatingError("these battles have no finite Bradley-Terry ratings; see rating_groups")
    return ratings


def rating_groups(wins: Float64Array) -> Int32Array:
    """Group of each player, int32[n]; finite ratings exist where there is only one group."""
    check_wins(wins)
    return _core.rating_groups(wins)


def cut_rating_tiers(ratings: Float64Array, num_tiers: int) -> Int32Array:
    """Tiers, int32[n], of sorted ratings, float64[n]: least summed variance within tiers."""
    check_array("ratings", ratings, np.float64, 1)
    check_finite("ratings", ratings)
    check_int("num_tiers", num_tiers, len(ratings))
    steps = np.diff(ratings)
    if (steps > 0).any() and (steps < 0).any():
        raise InvalidInputError("ratings must be sorted; pass np.sort(ratings)")
    return _core.cut_rating_tiers(ratings, num_tiers)


# Similarity-weighted ranking


class TieredBattles:
    """Battles between tiers, and the unit embeddings, [n, d], that they borrow.

    Embeddings are float32, float16, or int8 with ``scales``, float32[n]: row i is then
    scales[i] * embeddings[i]. ``cells``, uint16[n], says what kind of battle each is
    (``battle_cells``). The embeddings are not copied, nor read for NaN; ``owner``, whatever owns
    their memory, lives as long as this.
    """

    def __init__(
        self,
        embeddings: RowsArray,
        cells: npt.NDArray[np.uint16],
        num_tiers: int,
        strict: bool,
        owner: object = None,
        scales: Float32Array | None = None,
    ) -> None:
        dtype: npt.DTypeLike = np.float32
        if isinstance(embeddings, np.ndarray) and embeddings.dtype in (np.float16, np.int8):
            dtype = embeddings.dtype
        check_array("embeddings", embeddings, dtype, 2)
        check_array("cells", cells, np.uint16, 1)
        scales = np.empty(0, np.float32) if scales is None else scales
        check_array("scales", scales, np.float32, 1)
        self.dimensions = embeddings.shape[1]
        self._num_tiers = check_int("num_tiers", num_tiers, MOST_TIERS)
        self._owner = owner
        self._rows = embeddings, scales
        try:
            self._core = _core.TieredBattles(embeddings, cells, num_tiers, bool(strict), scales)
        except (TypeError, ValueError) as error:
            _refused(error)

    def rate(
        self, x: Float32Array, start: Float64Array, num_threads: int = 1
    ) -> tuple[Float64Array, RatingStatus]:
        """Ratings of the tiers for one prompt embedding, float64[num_tiers], and how it went.

        Newton starts from ``start``. Raises InvalidInputError for an embedding that is not a
        finite, nonzero float32[d].
        """
        threads = check_num_threads(num_threads)
        try:
            ratings, status = self._core.rate(x, start, threads)
        except (TypeError, ValueError) as error:
            check_array("x", x, np.float32, 1)
            check_length("x", x, self.dimensions, "the router")
            _check_start(start, self._num_tiers)
            _refused(error)
        if status == "bad_query":
            refuse_query(x)
        return ratings, cast(RatingStatus, status)

    def weights_by_cell(self, x: Float32Array, num_threads: int = 1) -> Float64Array:
        """Summed weights 10 * 10^(s / s_max) of each kind of battle, float64[2 t^2 + t]."""
        check_array("x", x, np.float32, 1)
        check_length("x", x, self.dimensions, "the router")
        check_direction("x", x)
        sums, status = self._core.weights_by_cell(x, check_num_threads(num_threads))
        if status == "bad_query":
            refuse_query(x)
        if status != "converged":
            raise RatingError("no battle has a positive similarity to x: the weights mean nothing")
        return sums


StoredRows: TypeAlias = _core.StoredRows


def stored_rows(rows: RowsArray, scales: Float32Array | None = None) -> StoredRows:
    """Rows, [n, d], as kernels read them: float32, float16, or int8 with a factor a row."""
    try:
        return _core.StoredRows(rows, np.empty(0, np.float32) if scales is None else scales)
    except (TypeError, ValueError) as error:
        _refused(error)


class FarField:
    """Win rates from moments of battles; ``csrc/kernels/far_field.hpp`` has method and parts."""

    def __init__(
        self,
        battles: TieredBattles,
        *,
        axes: Mapping[str, Any],
        clusters: Mapping[str, Any],
        cells: Mapping[str, Any],
        outside: Mapping[str, Any],
        start: Float64Array,
        strong: int,
        weak: int,
        near_rows: StoredRows | None = None,
    ) -> None:
        self.dimensions = battles.dimensions
        self._battles = battles  # and with them whatever owns their rows
        try:
            parts = (
                _core.FarFieldAxes(**axes), _core.FarFieldClusters(**clusters),
                _core.FarFieldCells(**cells), _core.FarFieldOutside(**outside),
            )  # fmt: skip
            rows = stored_rows(*battles._rows) if near_rows is None else near_rows
            self._core = _core.FarField(battles._core, rows, *parts, start, strong, weak)
        except (TypeError, ValueError) as error:
            _refused(error)

    def project(self, x: Float32Array) -> Float32Array:
        """``x``, float32[d], scaled to length one, along the principal axes: float32[axes]."""
        try:
            projected = self._core.project(x)
        except (TypeError, ValueError) as error:
            self._explain(x, error)
        if projected is None:
            refuse_query(x)
        return cast(Float32Array, projected)

    def win_rate(
        self, x: Float32Array, near: Int64Array, projected: Float32Array | None = None
    ) -> tuple[float, RatingStatus, float]:
        """Win rate for one prompt, how it went, and the misfit of its quadratic.

        ``near``, int64[k], numbers battles near the prompt; -1 for none. The misfit is the root
        mean square error of the quadratic over the mean weight.
        """
        try:
            rate, status, misfit = self._core.win_rate(x, projected, near)
        except (TypeError, ValueError) as error:
            self._explain(x, error)
        if status == "bad_query":
            refuse_query(x)
        return rate, cast(RatingStatus, status), misfit

    def project_rows(self, X: Float32Array, num_threads: int = 1) -> tuple[Float32Array, BoolArray]:
        """``project`` for float32[n, d]: float32[n, axes], and whether each row has a length."""
        try:
            return self._core.project_rows(X, check_num_threads(num_threads))
        except (TypeError, ValueError) as error:
            self._explain(X, error, "X")

    def win_rates(
        self, X: Float32Array, near: Int64Array, projected: Float32Array, num_threads: int = 1
    ) -> tuple[Float64Array, BoolArray, Float64Array]:
        """``win_rate`` for float32[n, d] with int64[n, k] near battles, on so many threads.

        Win rates, whether each is one, and misfits; the same for any number of threads.
        """
        try:
            return self._core.win_rates(X, projected, near, check_num_threads(num_threads))
        except (TypeError, ValueError) as error:
            self._explain(X, error, "X")

    def rate(
        self, x: Float32Array, near: Int64Array
    ) -> tuple[Float64Array, float, float, RatingStatus]:
        """Ratings of the tiers, what is added to strong less weak, s_max, and how it went."""
        try:
            ratings, shift, largest, status = self._core.rate(x, near)
        except (TypeError, ValueError) as error:
            self._explain(x, error)
        if status == "bad_query":
            refuse_query(x)
        return ratings, shift, largest, cast(RatingStatus, status)

    def _explain(self, x: Float32Array, error: Exception, name: str = "x") -> NoReturn:
        check_array(name, x, np.float32, 1 if name == "x" else 2)
        check_length(name, x, self.dimensions, "the router")
        _refused(error)


def accumulate_moments(
    battles: TieredBattles, axes: Float32Array, num_threads: int = 1
) -> Float64Array:
    """Moments of the battles by cell, float64[2 t^2 + t, 1 + m + m (m + 1) / 2].

    A row holds the sums of 1, of p_a and of p_a p_b for a <= b over the battles of a cell, where
    p are their embeddings along ``axes``, float32[m, d], m <= 64.
    """
    check_array("axes", axes, np.float32, 2)
    check_length("axes", axes, battles.dimensions, "the battles")
    return _core.accumulate_moments(battles._core, axes, check_num_threads(num_threads))


def battle_cells(
    tier_a: Int32Array, tier_b: Int32Array, outcome: npt.NDArray[np.int8], num_tiers: int
) -> npt.NDArray[np.uint16]:
    """The kind of each battle, uint16[n], from its tiers and its outcome (+1 a, -1 b, 0 tie)."""
    winner, loser = np.where(outcome >= 0, tier_a, tier_b), np.where(outcome >= 0, tier_b, tier_a)
    low, high = np.minimum(tier_a, tier_b), np.maximum(tier_a, tier_b)
    cells = np.where(
        outcome == 0, num_tiers**2 + low * num_tiers + high, winner * num_tiers + loser
    )
    lost_within = (outcome < 0) & (tier_a == tier_b)
    return np.where(lost_within, 2 * num_tiers**2 + tier_a, cells).astype(np.uint16)


def rate_cells(
    cell_sums: Float64Array, num_tiers: int, strict: bool, start: Float64Array
) -> Float64Array:
    """Ratings of the tiers from weights summed by cell; RatingError where none is finite."""
    check_int("num_tiers", num_tiers, MOST_TIERS)
    check_array("cell_sums", cell_sums, np.float64, 1)
    check_finite("cell_sums", cell_sums)
    cells = 2 * num_tiers**2 + num_tiers
    if len(cell_sums) != cells or (cell_sums < 0).any():
        raise InvalidInputError(
            f"cell_sums must hold {cells} weights for {num_tiers} tiers, none negative"
        )
    _check_start(start, num_tiers)
    ratings, converged = _core.rate_cells(cell_sums, num_tiers, bool(strict), start)
    if not converged:
        raise RatingError("the battles between the tiers have no finite ratings; use fewer tiers")
    return ratings


def _check_start(start: Float64Array, num_tiers: int) -> None:
    check_array("start", start, np.float64, 1)
    check_length("start", start, num_tiers, "the list of tiers")


def _refused(error: Exception) -> NoReturn:
    """The core refused and no check above says why: never show a C++ signature."""
    reason = "" if isinstance(error, TypeError) else f": {error}"
    raise InvalidInputError(f"the compiled core refused its arguments{reason}") from None


# JSON


def find_json_members(text: bytes, *, array: bool = False) -> tuple[str, int, list[JsonSpan]]:
    """Walk over a JSON object in UTF-8, or an array, and note where its members stand.

    Returns what is wrong with it ("" if nothing is), at which byte, and the spans of the members.
    What is wrong is said in the words of Python's json, or it is "no_object", "not_utf8",
    "too_deep", which is deeper than 1000 levels, or "too_many", which is more than 100,000 members
    of the outermost. The lock is not held for a long text.
    """
    if not isinstance(text, bytes):
        raise InvalidTypeError(f"text must be bytes, got {type(text).__name__}")
    fault, at, spans = _core.json_members(text, array)
    return fault, at, [JsonSpan._make(span) for span in spans]
