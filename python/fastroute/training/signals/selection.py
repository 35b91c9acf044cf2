"""Which cheap signals are worth their cost beside the embedding: measured, and chosen by
benefit-cost.

The benefit of a signal is the held-out APGR that it adds (``dataset_folds``: whole datasets are
left out). A score is what the embedding says plus a weight for each signal, in units of their
spreads within datasets; a weight is learnt, or it is ``FIXED`` with the sign that was learnt, and
the better of the two counts when a signal joins. Its cost is the microseconds it takes a prompt,
measured beside the embedder. At each step, signals drawn at random stand in for the candidates:
what is kept must gain more than each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import default_rng

from fastroute.data import GradedResult
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.training.dataset_folds import HeldOut
from fastroute.training.heads import centred
from fastroute.training.measures import apgr_by_file
from fastroute.training.signals.benefit_cost import Step, rescaled, select
from fastroute.training.signals.candidates import SIGNALS
from fastroute.training.with_tokens import with_tokens
from fastroute.types import Float64Array

LENGTH = "length"
#: Weight of a signal against the embedding, where it is not learnt.
FIXED = 1.0
DECOYS = 20
_SAMPLE = 300
_ROUNDS = 5


@dataclass(frozen=True)
class SignalReport:
    """What was measured, and what was kept."""

    base: float  #: held-out APGR of the embedding alone
    #: measured microseconds a prompt of each signal, and of the ``embedder``.
    costs_us: dict[str, float]
    rescaled_costs: dict[str, float]  #: as they count
    #: of the selection; ``least_benefit`` of each is the most that a decoy gained.
    steps: tuple[Step, ...]
    plain_steps: tuple[Step, ...]  #: those of the plain ratio without any safeguard
    apgr: tuple[float, ...]  #: held-out APGR with each number of signals taken, from none
    apgr_by_file: tuple[dict[str, float], ...]  #: the same by file
    #: of each signal kept, whether its weight is ``FIXED``; else it is learnt.
    fixed: tuple[bool, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """The signals that were kept, in the order in which they were taken."""
        return tuple(step.taken for step in self.steps if step.taken is not None)


def select_signals(
    rows: Sequence[GradedResult],
    embedder: StaticEmbedder,
    *,
    least_cost_us: float | None = None,
    most_ratio: float = 10.0,
    exponent: float = 0.5,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> SignalReport:
    """Measure and choose among ``candidates.SIGNALS`` and the length.

    Args:
        rows: graded prompts; nothing else is looked at.
        embedder: what the signals would stand beside; of its own signals the length is a candidate.
        least_cost_us: what a signal costs at least; by default a hundredth of the embedder's time.
        most_ratio, exponent: as for ``benefit_cost``.
        seed: of the decoys.
        progress: told of each set of signals that was tried.

    Raises InvalidInputError for an embedder without a length, and as ``HeldOut`` does.
    """
    if embedder.length_element is None:
        raise InvalidInputError(
            "embedder has no element for the length; load one that has, as the default does"
        )
    held_out = HeldOut(rows)
    prompts = [row.prompt for row in rows]
    X = embedder.embed_batch(prompts)
    with_tokens(X, embedder)
    meaning = held_out.parts(np.ascontiguousarray(X[:, : X.shape[1] - embedder.signals]))
    columns: dict[str, Float64Array] = {LENGTH: X[:, embedder.length_element].astype(np.float64)}
    for name, function in SIGNALS.items():
        columns[name] = np.array([function(prompt) for prompt in prompts])
    costs = measure_costs(embedder, prompts[:: max(1, len(prompts) // _SAMPLE)][:_SAMPLE])
    own = {name: costs[name] for name in columns}

    known: dict[tuple[str, ...], _Scored] = {}

    def scored(names: tuple[str, ...], column: Float64Array | None = None) -> _Scored:
        """With signals in the order in which they joined; ``column`` stands for the last."""
        if names in known and column is None:
            return known[names]
        progress(1)
        if not names:
            found = _Scored(held_out.apgr(meaning[0]), meaning[0], ())
        else:
            signals = [columns[name] for name in names[:-1]]
            signals.append(columns[names[-1]] if column is None else column)
            before = scored(names[:-1]).fixed
            trials = [
                _scores_with(held_out, meaning, signals, (*before, fixed))
                for fixed in (False, True)
            ]
            areas = [held_out.apgr(trial) for trial in trials]
            best = int(areas[1] > areas[0])
            found = _Scored(areas[best], trials[best], (*before, bool(best)))
        if column is None:
            known[names] = found
        return found

    def gain(names: tuple[str, ...]) -> float:
        return scored(names).apgr

    rng = default_rng(seed)
    noise = [rng.normal(size=len(prompts)) for _ in range(DECOYS)]

    def most_of_noise(taken: tuple[str, ...]) -> float:
        return max(0.0, *(scored((*taken, ""), decoy).apgr - gain(taken) for decoy in noise))

    least_cost = costs["embedder"] / 100.0 if least_cost_us is None else least_cost_us
    counted = rescaled(own, least_cost, most_ratio)
    steps = select(gain, counted, exponent=exponent, least_benefit=most_of_noise)
    # A cost of nothing has no ratio; a nanosecond is next to nothing.
    bare = {name: max(cost, 1e-3) for name, cost in own.items()}
    plain = select(gain, bare, exponent=1.0, least_benefit=lambda _: 0.0)
    kept = [step.taken for step in steps if step.taken is not None]
    sets = [scored(tuple(kept[:count])) for count in range(len(kept) + 1)]
    return SignalReport(
        gain(()),
        costs,
        counted,
        tuple(steps),
        tuple(plain),
        tuple(one.apgr for one in sets),
        tuple(apgr_by_file(one.scores, held_out.arenas) for one in sets),
        sets[-1].fixed,
    )


class _Scored(NamedTuple):
    """A set of signals: its APGR, its scores, and which weights are fixed."""

    apgr: float
    scores: Float64Array
    fixed: tuple[bool, ...]


def _scores_with(
    held_out: HeldOut,
    meaning: tuple[Float64Array, Float64Array],
    signals: Sequence[Float64Array],
    fixed: tuple[bool, ...],
) -> Float64Array:
    """The embedding's held-out score with signals beside it, float64[n]; see the module."""
    outside, inside = meaning
    is_fixed = np.array((False, *fixed))
    raw = np.stack(signals, axis=1)
    scores = np.empty(len(outside))
    for fold, of_fold in enumerate(inside):
        used, held = ~np.isnan(of_fold), held_out.folds == fold
        weights = held_out.weights(used)
        groups = held_out.groups[used]
        within = centred(np.column_stack([of_fold[used], raw[used]]), groups, weights)
        spreads = np.sqrt(np.average(within**2, axis=0, weights=weights))
        spreads[spreads == 0.0] = np.inf  # a signal that never varies says nothing
        Z = within / spreads
        y = centred(held_out.targets[used], groups, weights)
        gram = (Z * weights[:, None]).T @ Z + 1e-3 * weights.sum() * np.eye(Z.shape[1])
        coefficients = np.linalg.solve(gram, (Z * weights[:, None]).T @ y)
        parts = np.column_stack([outside[held], raw[held]]) / spreads
        # In units of the embedding's own weight, which a fixed one is compared with.
        coefficients /= max(coefficients[0], 1e-12)
        scores[held] = parts @ np.where(is_fixed, FIXED * np.sign(coefficients), coefficients)
    return scores


def measure_costs(embedder: StaticEmbedder, prompts: Sequence[str]) -> dict[str, float]:
    """Median microseconds a prompt of the embedder without its length, of the length, and of each
    signal, all in one run that takes turns."""
    bare = embedder.without_length()
    calls: dict[str, Callable[[str], object]] = {
        "embedder": bare.embed,
        LENGTH: embedder.embed,
        **SIGNALS,
    }
    best = {name: np.full(len(prompts), np.inf) for name in calls}
    names = list(calls)
    rng = default_rng(0)
    for _ in range(_ROUNDS):
        for p, prompt in enumerate(prompts):
            for k in rng.permutation(len(names)):  # so that caches favour nobody
                name = names[k]
                call = calls[name]
                begin = time.perf_counter_ns()
                call(prompt)
                best[name][p] = min(best[name][p], time.perf_counter_ns() - begin)
    costs = {name: float(np.median(times)) / 1e3 for name, times in best.items()}
    costs[LENGTH] = float(np.median(best[LENGTH] - best["embedder"])) / 1e3
    return costs
