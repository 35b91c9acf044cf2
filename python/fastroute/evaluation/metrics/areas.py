"""APGR of several routers on the same prompts, with paired differences."""

from __future__ import annotations

from collections.abc import Mapping

from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.bootstrap import Estimate, estimate, resample_curves
from fastroute.evaluation.metrics.curve import apgr, curve
from fastroute.types import Float64Array


class Areas:
    """APGR by router.

    Args:
        rates: float64[n] by router, win rates on the prompts of ``benchmark``.
        costs: dollars of the weak and the strong model, float64[n] each, or two None.
        resamples, confidence, seed: of the intervals; 0 resamples for none.
    """

    def __init__(
        self,
        rates: Mapping[str, Float64Array],
        benchmark: Benchmark,
        costs: tuple[Float64Array, Float64Array] | tuple[None, None] = (None, None),
        *,
        resamples: int,
        confidence: float,
        seed: int,
    ) -> None:
        scores = (benchmark.weak, benchmark.strong, *costs)
        self._values = {name: apgr(curve(r, *scores)) for name, r in rates.items()}
        drawn = resample_curves(rates, *scores, resamples=resamples, seed=seed) if resamples else {}
        self._samples = {name: found.apgr for name, found in drawn.items()}
        self._confidence = confidence

    def of(self, name: str) -> Estimate:
        """APGR of a router."""
        return estimate(self._values[name], self._samples.get(name), self._confidence)

    def better(self, first: str, second: str) -> str:
        """The one of greater APGR; ``first`` where they are equal."""
        return first if self._values[first] >= self._values[second] else second

    def difference(self, first: str, second: str) -> Estimate:
        """APGR of ``first`` less that of ``second``, paired."""
        samples = self._samples[first] - self._samples[second] if self._samples else None
        value = self._values[first] - self._values[second]
        return estimate(value, samples, self._confidence)
