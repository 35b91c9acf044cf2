"""The loop on simulated users with planted changes: noticed when, recovered when, at what regret.

``python bench/loop_simulation.py`` runs, for each change, a journal in SQLite, shadows, judgements,
feedback, ``learn`` each day, ``replay`` of the router or the single model that it recommends, a
canary of what replay finds much cheaper, or better by more than it costs, and drift. Two models
answer prompts of three topics, which have words of their own; a request's value is the probability
of a good answer, less 0.2 where the strong model is asked. Regret is the difference to an oracle
that knows every topic's probabilities on every day. The models and users are drawn in this process;
everything else is what the gateway and the commands run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats
from sqlalchemy import Engine, insert

from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, REQUESTS, SHADOWS
from fastroute.learning import Goal, save_result
from fastroute.learning.from_journal.run import learn_router
from fastroute.learning.replay.journal import read_log, read_pair, read_prices
from fastroute.learning.replay.run import replay
from fastroute.rollout.canary import Canary, Rules
from fastroute.rollout.drift import Drift
from fastroute.rollout.states import change, read
from fastroute.rollout.watch import Watcher
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from loop_journal import write_prices

DAY_S, SLOTS = 86400.0, 10
TOPICS = {
    "mathematics": "integral matrix theorem polynomial eigenvalue derivative proof converges prime",
    "small talk": "birthday holiday recipe garden kitchen weather movie puppy funny short friendly",
    "law": "contract liability statute plaintiff tenant clause appeal court damages lease breach",
}
STRONG, PRICE_OF_STRONG, USD_OF_STRONG = 0.9, 0.2, 1.3e-3
#: Requests a day that explore, that have a shadow, that a user grades.
EXPLORED, SHADOWED, GRADED = 0.05, 0.15, 0.3
RULES = Rules(stages=(0.1, 0.4), settle_s=10.0, min_conversations=50, quality_margin=0.1,
              errors_margin=0.05, latency_margin=5.0, dollars_margin=20.0)  # fmt: skip


@dataclass(frozen=True)
class World:
    """The share of each topic, and how good the weak model's answers to it are."""

    shares: tuple[float, float, float] = (0.4, 0.6, 0.0)
    weak: tuple[float, float, float] = (0.3, 0.88, 0.3)


CHANGES = {
    "none": World(),
    "the weak model gets better at mathematics": World(weak=(0.88, 0.88, 0.3)),
    "the weak model gets worse at small talk": World(weak=(0.3, 0.4, 0.3)),
    "a new kind of prompt, law": World(shares=(0.25, 0.35, 0.4)),
}


@dataclass
class Loop:
    """One gateway and what is around it."""

    folder: Path
    seed: int
    day: int = 0
    router: MatrixFactorizationRouter = field(
        default_factory=MatrixFactorizationRouter.load_default
    )
    regret: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 20])
        self.url = f"sqlite:///{self.folder}/journal.db"
        self.engine: Engine = open_journal(self.url)
        write_prices(self.engine)
        self.threshold = _threshold(self.router)
        self.candidate: MatrixFactorizationRouter | None = None
        self.candidate_threshold = 0.0
        self.watcher = Watcher(
            lambda: self.engine, self._log, canary=True, drift=True, settle_s=10.0
        )
        self.watcher.step(0.0)

    def _log(self, event: str, *_: int, **facts: object) -> None:
        self.events.append(f"day {self.day}: {event} ({facts.get('reason')})")

    def run_day(self, world: World, requests: int) -> None:
        """A day of traffic, and what is learnt from it."""
        regret = []
        for slot in range(SLOTS):
            began = (self.day + slot / SLOTS) * DAY_S
            regret.append(self._serve(world, requests // SLOTS, began))
            self.watcher.step(began + DAY_S / SLOTS - 30.0)
            self._follow()
        self.regret.append(float(np.mean(regret)))
        self._learn()
        self.day += 1

    def _serve(self, world: World, count: int, began: float) -> float:
        rng = self.rng
        topic = rng.choice(3, size=count, p=world.shares)
        words = [text.split() for text in TOPICS.values()]
        prompts = [" ".join([*rng.choice(words[t], 5), f"{rng.integers(10**9):x}"]) for t in topic]
        names = [f"{self.day}-{began:.0f}-{i}" for i in range(count)]
        canary = None if self.candidate is None else read(self.engine, Canary)
        arms = [None if canary is None else canary.arm(name) for name in names]
        rates = self._rates(self.router, prompts)
        strong = rates >= self.threshold
        if self.candidate is not None:
            other = self._rates(self.candidate, prompts) >= self.candidate_threshold
            in_canary = np.array([arm == "canary" for arm in arms])
            strong = np.where(in_canary, other, strong)
        p_strong = np.where(strong, 1.0 - EXPLORED / 2, EXPLORED / 2)
        chosen = (rng.random(count) < p_strong).astype(int)
        p = np.c_[np.array(world.weak)[topic], np.full(count, STRONG)]
        value = p - [0.0, PRICE_OF_STRONG]
        grade = (rng.random((count, 2)) < p).astype(float)
        self._write(prompts, names, arms, rates, p_strong, chosen, grade, began)
        return float((value.max(axis=1) - value[np.arange(count), chosen]).mean())

    def _rates(self, router: MatrixFactorizationRouter, prompts: list[str]) -> np.ndarray:
        return np.asarray(router.win_rates(prompts), dtype=np.float64)

    def _write(self, prompts: list[str], names: list[str], arms: list[str | None],
               rates: np.ndarray, p_strong: np.ndarray, chosen: np.ndarray, grade: np.ndarray,
               began: float) -> None:  # fmt: skip
        rng, models = self.rng, ("weak", "strong")
        tables: dict[object, list[dict[str, object]]] = {
            REQUESTS: [], FEEDBACK: [], SHADOWS: [], JUDGEMENTS: [],
        }  # fmt: skip
        step = (DAY_S / SLOTS - 120.0) / len(prompts)
        for i, prompt in enumerate(prompts):
            k, time = int(chosen[i]), began + 30.0 + i * step
            key = {"request_id": names[i], "time": time}
            tokens = [int(n) for n in rng.lognormal(4.6, 0.5, size=2) + 1.0]
            cost = [60 * a + n * b for n, a, b in zip(tokens, (0.15e-6, 2.5e-6), (0.6e-6, 10e-6),
                                                      strict=True)]  # fmt: skip
            tables[REQUESTS].append(
                {**key, "conversation": names[i], "path": "/", "arm": arms[i], "prompt": prompt,
                 "win_rate": float(rates[i]), "chosen": models[k], "answered_by": models[k],
                 "probabilities": {"strong": float(p_strong[i]), "weak": float(1 - p_strong[i])},
                 "propensity": float(p_strong[i] if k else 1 - p_strong[i]), "status": 200,
                 "input_tokens": 60, "cached_tokens": 0, "output_tokens": tokens[k],
                 "cost_usd": cost[k], "latency_ms": 200.0 + 8.0 * tokens[k] * (1 + k),
                 "router_checksum": str(id(self.router)), "prompt_characters": len(prompt)}
            )  # fmt: skip
            if rng.random() < GRADED:
                tables[FEEDBACK].append({**key, "time": time + 1, "source": "user",
                                         "idempotency_key": "", "score": grade[i, k]})  # fmt: skip
            if rng.random() < SHADOWED:
                j = 1 - k
                tables[SHADOWS].append(
                    {**key, "model": models[j], "weight": 1.0 / SHADOWED, "input_tokens": 60,
                     "output_tokens": tokens[j], "cost_usd": cost[j],
                     "latency_ms": 200.0 + 8.0 * tokens[j] * (1 + j)}
                )  # fmt: skip
                tables[JUDGEMENTS].append(
                    {**key, "time": time + 2, "judge": "judge", "model_a": "weak",
                     "model_b": "strong", "score_a": grade[i, 0], "score_b": grade[i, 1]}
                )  # fmt: skip
        with writing(self.engine) as connection:
            for table, rows in tables.items():
                if rows:
                    connection.execute(insert(table), rows)

    def _follow(self) -> None:
        """Take over a router that was promoted; forget one that was rolled back."""
        canary = read(self.engine, Canary)
        if canary is None or self.candidate is None:
            return
        if canary.status == "promoted":
            self.router, self.candidate = self.candidate, None
            self.threshold = self.candidate_threshold
        elif canary.status == "reverted":
            self.candidate = None

    def _learn(self) -> None:
        if self.candidate is not None:
            return
        since = max(self.day - 13, 0) * DAY_S
        found = learn_router(self.engine, Goal("quality", 0.9, 0.95), since=since, seed=self.day)
        folder = self.folder / f"router-{self.day}"
        save_result(found.tuned, folder)
        policy, threshold = str(folder), _threshold(found.tuned.router)
        if found.tuned.verdict != "use":
            side = found.tuned.recommendation.removeprefix("always_")
            policy, threshold = f"always:{side}", float(side == "weak")
        log = read_log(self.engine, since=(self.day - 1) * DAY_S)
        prices, pair = read_prices(self.engine, log.models), read_pair(self.engine)
        own, new = replay(log, ["logged", policy], prices, pair=pair)
        quality, cost = new.differences["quality"], new.differences["cost_usd"]
        spent = own.estimates["cost_usd"].value
        keeps = quality.low > -RULES.quality_margin and cost.high < -0.1 * spent
        worth = quality.low > PRICE_OF_STRONG / USD_OF_STRONG * cost.high
        if quality.refusal or cost.refusal or not (keeps or (quality.low > 0.0 and worth)):
            return
        self.candidate, self.candidate_threshold = found.tuned.router, threshold
        forgets = f"memory {found.memory_s / DAY_S:.1f} days"
        what = policy.partition(":")[2] or "a router"
        self.events.append(f"day {self.day}: learn proposes {what}, replay agrees ({forgets})")
        started = Canary.start(str(folder), RULES, (self.day + 1) * DAY_S)
        change(self.engine, Canary, lambda _: started)


def _threshold(router: MatrixFactorizationRouter) -> float:
    point = router.provenance.operating_point
    return 0.5 if point is None else point.threshold


class Run(NamedTuple):
    """What came of one run.

    Attributes:
        regret: a request, in the three days before the change, on its day, in the last three days.
        noticed: requests from the change to drift's first alarm of prompts or quality; None: never.
        recovered: the first day after the change whose regret is at most 0.02 above before; None:
            none.
        early: alarms before the change.
    """

    regret: tuple[float, float, float]
    noticed: float | None
    recovered: int | None
    early: int


def run(name: str, seed: int, days: int, requests: int) -> tuple[Run, list[str]]:
    """A run with the change ``name`` after ``days``, and what happened in it."""
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(Path(folder), seed)
        for day in range(2 * days):
            loop.run_day(World() if day < days else CHANGES[name], requests)
        drift = read(loop.engine, Drift)
        loop.watcher.close()
    assert drift is not None
    alarms = [(a.time / DAY_S - days) * requests for a in drift.alarms if a.is_of_traffic]
    before, after = float(np.mean(loop.regret[days - 3 : days])), loop.regret[days:]
    return Run(
        (before, after[0], float(np.mean(after[-3:]))),
        next((x for x in alarms if x > 0), None),
        next((i for i, r in enumerate(after, 1) if r <= before + 0.02), None),
        sum(x <= 0 for x in alarms),
    ), loop.events


def say(runs: Sequence[Run]) -> None:
    """Means with 95 % intervals (Student's t), and medians."""
    regret = np.array([r.regret for r in runs])
    half = stats.t.ppf(0.975, len(runs) - 1) * regret.std(axis=0, ddof=1) / np.sqrt(len(runs))
    means = (f"{m:.3f} ± {h:.3f}" for m, h in zip(regret.mean(axis=0), half, strict=True))
    noticed = [r.noticed for r in runs if r.noticed is not None]
    recovered = [r.recovered for r in runs if r.recovered is not None]
    print(
        "  all: regret a request {} before, {} on the day of the change, {} at the end; ".format(
            *means
        )
        + f"drift in {len(noticed)} of {len(runs)}, after {np.median(noticed or [np.nan]):,.0f} "
        f"requests (median); recovered in {len(recovered)}, on days {sorted(recovered)}; "
        f"{sum(r.early for r in runs)} alarms before",
        flush=True,
    )


def main() -> None:
    """Print a line a run and a summary of each change, and what happened in the first run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--change", choices=CHANGES, action="append", help="default: all")
    parser.add_argument("--days", type=int, default=5, help="before the change, and after")
    parser.add_argument("--requests", type=int, default=2000, help="a day")
    options = parser.parse_args()
    for name in options.change or CHANGES:
        print(f"\n{name}", flush=True)
        runs = []
        for seed in range(options.runs):
            found, events = run(name, seed, options.days, options.requests)
            runs.append(found)
            print(f"  {seed}: {found}", flush=True)
            for event in events if seed == 0 else ():
                print(f"    {event}", flush=True)
        if len(runs) > 1:
            say(runs)


if __name__ == "__main__":
    main()
