"""
fastroute's kernels. Private: fastroute._native is the only door to it.
"""
from __future__ import annotations
import numpy
import numpy.typing
import typing
__all__: list[str] = ['FarField', 'FarFieldAxes', 'FarFieldCells', 'FarFieldClusters', 'FarFieldOutside', 'GradedPrompts', 'StoredRows', 'SuccessEstimator', 'TextEmbedder', 'TextEstimator', 'TextScorer', 'TieredBattles', 'TokenPrices', 'accumulate_moments', 'best_value', 'choose', 'code_point_classes', 'compiler', 'cut_rating_tiers', 'dot_rows', 'embed_token_bag', 'embed_token_bags', 'exp2_scaled', 'fit_bradley_terry', 'fold_models', 'json_members', 'model_deltas', 'nearest_rows', 'normalize_text', 'pair_win_rate', 'pair_win_rates', 'rate_cells', 'rating_groups', 'simd_level', 'simd_levels', 'text_features', 'unicode_version', 'use_simd_level']
class TieredBattles:
    """
    Battles between tiers, with unit embeddings that it borrows.
    """
    def __init__(self, embeddings: numpy.ndarray, cells: numpy.typing.NDArray[numpy.uint16], tiers: typing.SupportsInt | typing.SupportsIndex, strict: bool, scales: numpy.typing.NDArray[numpy.float32]) -> None:
        ...
    def rate(self, query: numpy.typing.NDArray[numpy.float32], start: numpy.typing.NDArray[numpy.float64], num_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[numpy.typing.NDArray[numpy.float64], str]:
        """
        (ratings of the tiers, float64[tiers], status).
        """
    def weights_by_cell(self, query: numpy.typing.NDArray[numpy.float32], num_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[numpy.typing.NDArray[numpy.float64], str]:
        """
        (summed weights, float64[cells], status).
        """
class StoredRows:
    """
    Rows of float32, float16, or int8 with factors.
    """
    def __init__(self, rows: numpy.ndarray, scales: numpy.typing.NDArray[numpy.float32]) -> None:
        ...
class FarFieldAxes:
    """
    The principal axes, and the battles along them.
    """
    def __init__(self, rows: StoredRows, middle: numpy.typing.NDArray[numpy.float32], variances: numpy.typing.NDArray[numpy.float64], energies: numpy.typing.NDArray[numpy.float64], spread: typing.SupportsFloat | typing.SupportsIndex) -> None:
        ...
class FarFieldClusters:
    """
    Clusters of the battles.
    """
    def __init__(self, centres: StoredRows, influences: StoredRows, sizes: numpy.typing.NDArray[numpy.float64], pulls: numpy.typing.NDArray[numpy.float64], widths: numpy.typing.NDArray[numpy.float64], of_battle: numpy.typing.NDArray[numpy.uint16]) -> None:
        ...
class FarFieldCells:
    """
    Moments of the cells that hold battles.
    """
    def __init__(self, axes: typing.SupportsInt | typing.SupportsIndex, moments: numpy.typing.NDArray[numpy.float32], lines: StoredRows, active: numpy.typing.NDArray[numpy.int32], gradient: numpy.typing.NDArray[numpy.float64]) -> None:
        ...
class FarFieldOutside:
    """
    What enters to first order.
    """
    def __init__(self, directions: StoredRows, curvatures: numpy.typing.NDArray[numpy.float64], corner: numpy.typing.NDArray[numpy.float64]) -> None:
        ...
class FarField:
    """
    Moments of battles, with which a win rate costs the same for any number.
    """
    def __init__(self, battles: TieredBattles, near_rows: StoredRows, axes: FarFieldAxes, clusters: FarFieldClusters, cells: FarFieldCells, outside: FarFieldOutside, start: numpy.typing.NDArray[numpy.float64], strong: typing.SupportsInt | typing.SupportsIndex, weak: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def project(self, query: numpy.typing.NDArray[numpy.float32]) -> typing.Any:
        """
        The prompt along the principal axes, float32[axes]; None if it has no length.
        """
    def project_rows(self, queries: numpy.typing.NDArray[numpy.float32], num_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.bool]]:
        """
        The same by row, and whether each row has a length.
        """
    def rate(self, query: numpy.typing.NDArray[numpy.float32], near: numpy.typing.NDArray[numpy.int64]) -> tuple[numpy.typing.NDArray[numpy.float64], float, float, str]:
        """
        (ratings of the tiers, shift of strong less weak, largest similarity, status).
        """
    def stages(self, query: numpy.typing.NDArray[numpy.float32], projected: numpy.typing.NDArray[numpy.float32], near: numpy.typing.NDArray[numpy.int64]) -> dict[str, float]:
        """
        Nanoseconds that a query spends in each stage.
        """
    def win_rate(self, query: numpy.typing.NDArray[numpy.float32], projected: typing.Any, near: numpy.typing.NDArray[numpy.int64]) -> tuple[float, str, float]:
        """
        (win rate, status, misfit of the quadratic).
        """
    def win_rates(self, queries: numpy.typing.NDArray[numpy.float32], projected: numpy.typing.NDArray[numpy.float32], near: numpy.typing.NDArray[numpy.int64], num_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.bool], numpy.typing.NDArray[numpy.float64]]:
        """
        (win rates, whether they converged, misfits), a row each.
        """
class TokenPrices:
    """
    Prices of many candidates.
    """
    def __init__(self, input: numpy.typing.NDArray[numpy.float64], output: numpy.typing.NDArray[numpy.float64], answer_tokens: numpy.typing.NDArray[numpy.float64]) -> None:
        ...
    def dollars(self, input_tokens: typing.SupportsFloat | typing.SupportsIndex, most_answer_tokens: typing.SupportsFloat | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
        """
        Expected dollars of each candidate's answer: float64[n].
        """
class GradedPrompts:
    """
    Graded prompts and what their grades say.
    """
    def __init__(self, rows: numpy.typing.NDArray[numpy.float32], starts: numpy.typing.NDArray[numpy.int64], centre: numpy.typing.NDArray[numpy.float32], shared: numpy.typing.NDArray[numpy.float32], own: numpy.typing.NDArray[numpy.float32], own_count: numpy.typing.NDArray[numpy.float64], shared_count: typing.SupportsFloat | typing.SupportsIndex, count: typing.SupportsInt | typing.SupportsIndex, scanned: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
class SuccessEstimator:
    """
    P(success) of many models.
    """
    def __init__(self, stacked: numpy.typing.NDArray[numpy.float32], at_centre: numpy.typing.NDArray[numpy.float64], centre: numpy.typing.NDArray[numpy.float32], clusters: numpy.typing.NDArray[numpy.float32], of_clusters: numpy.typing.NDArray[numpy.float32], clusterings: typing.SupportsInt | typing.SupportsIndex, nearest_clusters: typing.SupportsInt | typing.SupportsIndex, level: numpy.typing.NDArray[numpy.float64], slope: numpy.typing.NDArray[numpy.float64], offset: numpy.typing.NDArray[numpy.float64], usual: numpy.typing.NDArray[numpy.float64], widening: numpy.typing.NDArray[numpy.float64], widest: numpy.typing.NDArray[numpy.float64], edge: typing.SupportsFloat | typing.SupportsIndex, most_spread: typing.SupportsFloat | typing.SupportsIndex, prompts: GradedPrompts | None) -> None:
        ...
    def estimate(self, x: numpy.typing.NDArray[numpy.float32]) -> tuple[numpy.typing.NDArray[numpy.float64], int]:
        """
        Probability, low and high, float64[3, models]; 0, 1 for abstained, 2 for not finite.
        """
    def estimate_many(self, X: numpy.typing.NDArray[numpy.float32], num_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.uint8]]:
        """
        The same for many: float64[3, n, models] and uint8[n].
        """
class TextEmbedder:
    """
    A vocabulary and its table, from text to vectors.
    """
    def __init__(self, table: numpy.ndarray, scales: numpy.typing.NDArray[numpy.float32], pieces: numpy.typing.NDArray[numpy.uint8], piece_offsets: numpy.typing.NDArray[numpy.uint32], lowercase: bool, unknown_row: typing.SupportsInt | typing.SupportsIndex, class_units: numpy.typing.NDArray[numpy.float64], signal_features: numpy.typing.NDArray[numpy.int64], signal_scales: numpy.typing.NDArray[numpy.float32]) -> None:
        ...
    def class_counts(self, prompt: str) -> numpy.typing.NDArray[numpy.uint64]:
        """
        Code points of each of code_point_classes(): uint64[classes].
        """
    def embed(self, prompt: str) -> numpy.typing.NDArray[numpy.float32]:
        """
        float32[width].
        """
    def embed_batch(self, prompts: list[str], num_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float32]:
        """
        float32[prompts, width].
        """
    def features(self, prompt: str) -> numpy.typing.NDArray[numpy.float64]:
        """
        Values of text_features(): float64[features].
        """
    def piece_rows(self, prompt: str) -> numpy.typing.NDArray[numpy.int32]:
        """
        Rows of the pieces, in order: int32[pieces].
        """
class TextScorer:
    """
    Win rates of texts for one pair of models.
    """
    def __init__(self, embedder: TextEmbedder, pair: numpy.typing.NDArray[numpy.float32]) -> None:
        ...
    def win_rate(self, prompt: str) -> float:
        """
        NaN where the embedding is not finite or exactly orthogonal.
        """
    def win_rates(self, prompts: list[str], num_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
        """
        float64[prompts]; NaN as in win_rate.
        """
class TextEstimator:
    """
    P(success) of many models on texts.
    """
    def __init__(self, embedder: TextEmbedder, estimator: SuccessEstimator) -> None:
        ...
    def choose(self, prompt: str, prices: TokenPrices, input_tokens: typing.SupportsFloat | typing.SupportsIndex, most_answer_tokens: typing.SupportsFloat | typing.SupportsIndex, price: typing.SupportsFloat | typing.SupportsIndex, most_dollars: typing.SupportsFloat | typing.SupportsIndex, reserved: typing.SupportsFloat | typing.SupportsIndex, share: typing.SupportsFloat | typing.SupportsIndex) -> tuple[int, float, float, bool]:
        """
        Chosen model, its P(success) and dollars, and whether the estimate abstained.
        """
    def estimate(self, prompt: str) -> tuple[numpy.typing.NDArray[numpy.float64], int]:
        """
        As SuccessEstimator.estimate.
        """
def accumulate_moments(battles: TieredBattles, axes: numpy.typing.NDArray[numpy.float32], num_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
    """
    Moments by cell: float64[cells, moments].
    """
def best_value(quality: numpy.typing.NDArray[numpy.float64], dollars: numpy.typing.NDArray[numpy.float64], price: typing.SupportsFloat | typing.SupportsIndex, most_dollars: typing.SupportsFloat | typing.SupportsIndex) -> int:
    """
    The greatest quality - price * dollars; -1 for none.
    """
def choose(quality: numpy.typing.NDArray[numpy.float64], dollars: numpy.typing.NDArray[numpy.float64], safely: bool, price: typing.SupportsFloat | typing.SupportsIndex, most_dollars: typing.SupportsFloat | typing.SupportsIndex, reserved: typing.SupportsFloat | typing.SupportsIndex, share: typing.SupportsFloat | typing.SupportsIndex) -> int:
    """
    The choice by a policy's terms; -1 for none.
    """
def code_point_classes() -> list[str]:
    """
    Names of the classes of code points.
    """
def compiler() -> str:
    """
    The compiler that made this, and its version.
    """
def cut_rating_tiers(ratings: numpy.typing.NDArray[numpy.float64], num_tiers: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.int32]:
    """
    Tier of each of the sorted ratings: int32[n].
    """
def dot_rows(rows: numpy.typing.NDArray[numpy.float32], query: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float32]:
    """
    Dot product of every row with the query: float32[n].
    """
def embed_token_bag(table: numpy.ndarray, scales: numpy.typing.NDArray[numpy.float32], ids: numpy.typing.NDArray[numpy.int32], length_scale: typing.SupportsFloat | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float32]:
    """
    Vector of one prompt's tokens: float32[width].
    """
def embed_token_bags(table: numpy.ndarray, scales: numpy.typing.NDArray[numpy.float32], ids: numpy.typing.NDArray[numpy.int32], offsets: numpy.typing.NDArray[numpy.int64], num_threads: typing.SupportsInt | typing.SupportsIndex, length_scale: typing.SupportsFloat | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float32]:
    """
    Vectors of many prompts' tokens: float32[prompts, width].
    """
def exp2_scaled(x: numpy.typing.NDArray[numpy.float32], scale: typing.SupportsFloat | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
    """
    2^(x * scale): float64[n].
    """
def fit_bradley_terry(wins: numpy.typing.NDArray[numpy.float64]) -> tuple[numpy.typing.NDArray[numpy.float64], bool, int]:
    """
    (ratings float64[n] with mean 0, whether it converged, Newton steps).
    """
def fold_models(models: numpy.typing.NDArray[numpy.float32], projection: numpy.typing.NDArray[numpy.float32], weights: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float64]:
    """
    One vector a model, whose product with an embedding is delta: float64[models, d].
    """
def json_members(text: bytes, array: bool) -> tuple[str, int, list[tuple[int, int, int, int]]]:
    """
    Where the members of a JSON object stand: (fault, at, spans).
    """
def model_deltas(folded: numpy.typing.NDArray[numpy.float32], X: numpy.typing.NDArray[numpy.float32], num_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float32]:
    """
    delta of every model on every embedding: float32[n, models].
    """
def nearest_rows(rows: numpy.typing.NDArray[numpy.float32], starts: numpy.typing.NDArray[numpy.int64], X: numpy.typing.NDArray[numpy.float32], lists: numpy.typing.NDArray[numpy.int32], count: typing.SupportsInt | typing.SupportsIndex, num_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.float32]]:
    """
    Rows of greatest product with each of X, and the products: [n, count] each; -1 where the lists have too few.
    """
def normalize_text(prompt: str, lowercase: bool) -> str:
    """
    The text as a vocabulary's pieces are looked for in it.
    """
def pair_win_rate(pair: numpy.typing.NDArray[numpy.float32], x: numpy.typing.NDArray[numpy.float32]) -> float:
    """
    Win rate of one embedding; NaN where it is not finite or exactly orthogonal.
    """
def pair_win_rates(pair: numpy.typing.NDArray[numpy.float32], X: numpy.typing.NDArray[numpy.float32], num_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
    """
    Win rates of many embeddings, float64[n]; NaN as in pair_win_rate.
    """
def rate_cells(cell_sums: numpy.typing.NDArray[numpy.float64], tiers: typing.SupportsInt | typing.SupportsIndex, strict: bool, start: numpy.typing.NDArray[numpy.float64]) -> tuple[numpy.typing.NDArray[numpy.float64], bool]:
    """
    (ratings of the tiers, float64[tiers], whether they converged).
    """
def rating_groups(wins: numpy.typing.NDArray[numpy.float64]) -> numpy.typing.NDArray[numpy.int32]:
    """
    Group of each player: finite ratings exist where there is only one group.
    """
def simd_level() -> str:
    """
    The level in use.
    """
def simd_levels() -> list[str]:
    """
    Levels that this machine can run, slowest first.
    """
def text_features() -> list[str]:
    """
    Names of the features of a text.
    """
def use_simd_level(name: str) -> None:
    """
    Use a level from now on, in every thread; 'auto' is the best.
    """
__version__: str = '0.1.0'
unicode_version: str = '14.0.0'
