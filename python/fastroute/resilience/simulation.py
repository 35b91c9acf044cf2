"""What redundancy and relaunch of late requests cost and gain: simulated, and in closed form.

The model is that of Aktas and Soljanin ("Effective straggler mitigation", arXiv 1710.00748;
"Straggler mitigation at scale", arXiv 1906.10664): a job of k tasks with independent times X ends
with its slowest task. A task is sent once more, ``copies`` times, at ``delay_s``: beside the first
("replicate" at 0, "delayed" later), or in its place ("relaunch"). The first copy to end ends the
task, and the others are cancelled. Latency is the job's time, cost the time that all copies ran.
For a gateway k is 1: a request.

With q = exp(-mu delay) and S = sum over i = 1..k of (1 - q)^i / i, exponential times give

    latency = (S + (H_k - S) / (copies + 1)) / mu,    cost = k / mu,

whichever way they are sent again, as X has no memory (without copies, relaunch changes nothing).
Pareto times, P(X > t) = (least / t)^a, replicated at once have the exponent A = (copies + 1) a:

    latency = least k! G(1 - 1/A) / G(k + 1 - 1/A),    cost = k (copies + 1) least A / (A - 1).

Both were derived here from order statistics, and are checked against the integrals and simulations;
they are not quoted from the papers, whose theorems could not be read beside them. (Exponential: by
the delay a binomial number R of tasks is left, which by the lack of memory take (H_R) / ((copies +
1) mu) more; E H_R = H_k - S, and the latency before is the integral of 1 - (1 - exp(-mu t))^k, S /
mu. Pareto: the least of copies is Pareto again, and the slowest of k has the given mean.)

Everything else is integrated: latency = integral of 1 - P(T <= t)^k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator, default_rng

from fastroute._validate import check_count
from fastroute.errors import InvalidInputError
from fastroute.http.address import check_seconds
from fastroute.types import Float64Array

Mode = Literal["none", "replicate", "delayed", "relaunch"]
MODES: tuple[Mode, ...] = ("none", "replicate", "delayed", "relaunch")
_GRID = 400_001


class Latency(Protocol):
    """How long one copy of a task takes, seconds."""

    def sample(self, rng: Generator, shape: tuple[int, ...]) -> Float64Array:
        """Independent draws."""
        ...

    def survival(self, t: Float64Array) -> Float64Array:
        """P(X > t) for every t."""
        ...

    def horizon_s(self) -> float:
        """A time after which what is left of the mean does not matter."""
        ...


@dataclass(frozen=True)
class Exponential:
    """P(X > t) = exp(-t / mean)."""

    mean_s: float

    def __post_init__(self) -> None:
        check_seconds("mean_s", self.mean_s)

    def sample(self, rng: Generator, shape: tuple[int, ...]) -> Float64Array:
        """Independent draws."""
        return rng.exponential(self.mean_s, shape)

    def survival(self, t: Float64Array) -> Float64Array:
        """P(X > t)."""
        return np.exp(-np.maximum(t, 0.0) / self.mean_s)

    def horizon_s(self) -> float:
        """Seconds after which exp(-t / mean) is nothing."""
        return 60.0 * self.mean_s


@dataclass(frozen=True)
class Pareto:
    """P(X > t) = (least / t)^shape for t >= least: the smaller ``shape``, the heavier the tail."""

    least_s: float
    shape: float

    def __post_init__(self) -> None:
        check_seconds("least_s", self.least_s)
        if not (math.isfinite(self.shape) and self.shape > 1):
            raise InvalidInputError(
                f"shape must be above 1, or the mean is infinite, got {self.shape}"
            )

    def sample(self, rng: Generator, shape: tuple[int, ...]) -> Float64Array:
        """Independent draws."""
        return self.least_s * (1.0 + rng.pareto(self.shape, shape))

    def survival(self, t: Float64Array) -> Float64Array:
        """P(X > t)."""
        return (self.least_s / np.maximum(t, self.least_s)) ** self.shape

    def horizon_s(self) -> float:
        """Seconds after which less than 1e-12 of the mean is left."""
        return float(self.least_s * 1e12 ** (1 / (self.shape - 1)))


@dataclass(frozen=True, eq=False)
class Recorded:
    """Draws from latencies that were recorded: float64[n], seconds."""

    seconds: Float64Array

    def __post_init__(self) -> None:
        seconds = np.asarray(self.seconds, dtype=np.float64)
        if seconds.ndim != 1 or not len(seconds):
            raise InvalidInputError("recorded latencies must be a list of at least one number")
        if not (np.isfinite(seconds) & (seconds >= 0)).all():
            raise InvalidInputError("recorded latencies must be finite seconds, 0 or more")
        object.__setattr__(self, "seconds", np.sort(seconds))

    def sample(self, rng: Generator, shape: tuple[int, ...]) -> Float64Array:
        """Independent draws."""
        return rng.choice(self.seconds, shape)

    def survival(self, t: Float64Array) -> Float64Array:
        """P(X > t)."""
        above = len(self.seconds) - np.searchsorted(self.seconds, t, side="right")
        return above / len(self.seconds)

    def horizon_s(self) -> float:
        """The longest, and twice."""
        return 2.0 * float(self.seconds[-1]) + 1e-9


class Policy(NamedTuple):
    """When a task is sent again."""

    mode: Mode = "none"  #: "none", "replicate" (at once), "delayed", "relaunch"
    delay_s: float = 0.0  #: after how long; 0 for "replicate"
    #: further copies beside the one that runs; with "relaunch" beside the one that takes its place,
    #: so 0 is the plain relaunch.
    copies: int = 1

    def checked(self) -> Policy:
        """The policy as it is. Raises InvalidInputError if it is invalid."""
        if self.mode not in MODES:
            raise InvalidInputError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not (math.isfinite(self.delay_s) and self.delay_s >= 0):
            raise InvalidInputError(f"delay_s must be 0 or more, got {self.delay_s}")
        if self.mode == "replicate" and self.delay_s:
            raise InvalidInputError("replicate sends at once: delay_s must be 0, or use delayed")
        check_count("copies", self.copies, least=0)
        return self


class Bill(NamedTuple):
    """What an API bills for one request, in tokens or in money."""

    input: float  #: for the prompt, which each copy sends in full
    #: for a whole completion. A copy that is cancelled is billed for the part that it had
    #: generated, which is taken to be the part of its time that it ran.
    output: float


class Outcome(NamedTuple):
    """What a policy does, per job."""

    #: latency_s, cost_s: means.
    latency_s: float
    cost_s: float
    #: latency_error_s, cost_error_s: their standard errors.
    latency_error_s: float
    cost_error_s: float
    #: p50_s, p95_s, p99_s: quantiles of latency.
    p50_s: float
    p95_s: float
    p99_s: float
    p99_error_s: float  #: standard error of ``p99_s``, from its order statistics
    requests: float  #: mean number of copies that were sent per task
    completions: float  #: mean number of completions per task; parts count as such
    #: billed, billed_error: mean and standard error of the bill; None without prices.
    billed: float | None
    billed_error: float | None


class Expected(NamedTuple):
    """Exact means: latency and cost of a job, seconds."""

    latency_s: float
    cost_s: float


def simulate(
    latency: Latency,
    policy: Policy,
    *,
    tasks: int = 1,
    runs: int = 100_000,
    seed: int = 0,
    bill: Bill | None = None,
) -> Outcome:
    """Simulate ``runs`` jobs of ``tasks`` tasks. Raises InvalidInputError."""
    policy.checked()
    check_count("tasks", tasks, least=1)
    check_count("runs", runs, least=2)
    rng = default_rng(seed)
    first = latency.sample(rng, (runs, tasks))
    time, cost = first.copy(), first.copy()
    sent, generated = np.ones_like(first), np.ones_like(first)
    if policy.mode != "none":
        late = first > policy.delay_s
        count = int(late.sum())
        new = policy.copies + (policy.mode == "relaunch")
        if new and count:
            copies = latency.sample(rng, (count, new))
            again = copies.min(axis=1)
            keeps = policy.mode != "relaunch"
            left = np.minimum(first[late] - policy.delay_s, again) if keeps else again
            ran = policy.delay_s + (left if keeps else 0.0)
            # A recorded time may be 0: such a copy is whole.
            parts = np.divide(left[:, None], copies, out=np.ones_like(copies), where=copies > 0)
            generated[late] = ran / first[late] + parts.sum(axis=1)
            time[late] = policy.delay_s + left
            cost[late] = policy.delay_s + left * (new + keeps)
            sent[late] += new
    jobs, costs = time.max(axis=1), cost.sum(axis=1)
    p50, p95, p99 = np.quantile(jobs, [0.5, 0.95, 0.99])
    ranks = np.clip(0.99 + np.array([-1.0, 1.0]) * math.sqrt(0.99 * 0.01 / runs), 0.0, 1.0)
    around = np.quantile(jobs, ranks)
    bills = None if bill is None else (sent * bill.input + generated * bill.output).sum(axis=1)
    return Outcome(
        float(jobs.mean()),
        float(costs.mean()),
        float(jobs.std(ddof=1) / math.sqrt(runs)),
        float(costs.std(ddof=1) / math.sqrt(runs)),
        float(p50),
        float(p95),
        float(p99),
        float(around[1] - around[0]) / 2,
        float(sent.mean()),
        float(generated.mean()),
        None if bills is None else float(bills.mean()),
        None if bills is None else float(bills.std(ddof=1) / math.sqrt(runs)),
    )


def expected(latency: Latency, policy: Policy, *, tasks: int = 1) -> Expected:
    """Exact mean latency and cost: the closed form where there is one, else integrated."""
    policy.checked()
    check_count("tasks", tasks, least=1)
    copies = 0 if policy.mode == "none" else policy.copies
    if isinstance(latency, Exponential):
        return _exponential(latency.mean_s, policy.delay_s, copies, tasks)
    if isinstance(latency, Pareto) and policy.mode in ("none", "replicate"):
        return _pareto_at_once(latency, copies, tasks)
    return _integrated(latency, policy, tasks)


def _exponential(mean_s: float, delay_s: float, copies: int, tasks: int) -> Expected:
    done = -math.expm1(-delay_s / mean_s)
    partial = sum(done**i / i for i in range(1, tasks + 1))
    harmonic = sum(1 / i for i in range(1, tasks + 1))
    return Expected(mean_s * (partial + (harmonic - partial) / (copies + 1)), tasks * mean_s)


def _pareto_at_once(latency: Pareto, copies: int, tasks: int) -> Expected:
    a = (copies + 1) * latency.shape
    slowest = math.exp(
        math.lgamma(tasks + 1) + math.lgamma(1 - 1 / a) - math.lgamma(tasks + 1 - 1 / a)
    )
    cost = tasks * (copies + 1) * latency.least_s * a / (a - 1)
    return Expected(latency.least_s * slowest, cost)


def _integrated(latency: Latency, policy: Policy, tasks: int) -> Expected:
    """Integrals of P(T > t); cost: the first copy's time, then that of every copy that runs."""
    delay = policy.delay_s
    new = policy.copies + (policy.mode == "relaunch") if policy.mode != "none" else 0
    keeps = policy.mode != "relaunch"
    if isinstance(latency, Recorded):
        steps = np.unique(np.r_[latency.seconds, latency.seconds + delay, 0.0, delay])
        before, after = steps[steps <= delay], steps[steps >= delay]
    else:
        before, after = _grid(latency, delay)
    early = latency.survival(before)
    left = after - delay
    if new:
        first = latency.survival(after) if keeps else latency.survival(np.array([delay]))
        late = first * latency.survival(left) ** new
    else:
        late = latency.survival(after)
    area = _steps if isinstance(latency, Recorded) else _trapezoid
    job = area(1 - (1 - early) ** tasks, before) + area(1 - (1 - late) ** tasks, after)
    cost = area(early, before) + area(late, after) * (new + keeps if new else 1)
    return Expected(job, tasks * cost)


def _grid(latency: Latency, delay_s: float) -> tuple[Float64Array, Float64Array]:
    """Points up to the delay, and from it on: even first, then in growing steps."""
    least = latency.least_s if isinstance(latency, Pareto) else 0.0
    before = np.unique(np.r_[np.linspace(0.0, delay_s, _GRID), min(least, delay_s)])
    # Dense behind the delay, and behind where the density of a new copy begins.
    spread = np.geomspace(1e-9, latency.horizon_s(), _GRID)
    after = np.unique(np.r_[0.0, spread, least, least + spread])
    return before, np.unique(np.r_[delay_s, delay_s + after, max(least, delay_s)])


def _trapezoid(y: Float64Array, x: Float64Array) -> float:
    return float(np.sum((y[1:] + y[:-1]) * np.diff(x)) / 2)


def _steps(y: Float64Array, x: Float64Array) -> float:
    return float(np.sum(y[:-1] * np.diff(x)))
