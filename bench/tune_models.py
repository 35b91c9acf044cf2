"""How often ``fastroute tune`` keeps its promise with more than two models, and what that saves.

``python bench/tune_models.py --data FOLDER`` draws 1,500 prompts of LLMRouter's file (seven models,
prices of 2024), tunes for 0.95 of the best model's quality, and applies the certified policy to the
others: is the quality kept there, and what is spent? A draw without a certificate keeps the best
model for everything.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from fastroute.candidates.candidate import BYTES_PER_TOKEN
from fastroute.candidates.prices import Prices
from fastroute.data import read_training_data
from fastroute.data.grade_table import GradeTable
from fastroute.learning import Export, Goal, Price, tune_models
from fastroute.learning.many_models.run import choose
from fastroute.learning.tune.costs import Costs, Usage
from fastroute.learning.tune.grades import Scale

_GOAL = Goal("quality", 0.95, 0.95)
#: Dollars per million tokens, in and out.
_PRICES = {
    "codegemma-7b": Price(0.2, 0.2),
    "gemma-2-9b-it": Price(0.1, 0.1),
    "llama-3.1-8b-instruct": Price(0.2, 0.2),
    "llama-3.1-nemotron-51b-instruct": Price(0.9, 0.9),
    "llama-3.3-nemotron-super-49b-v1": Price(0.9, 0.9),
    "mistral-7b-instruct-v0.3": Price(0.2, 0.2),
    "qwen2.5-7b-instruct": Price(0.2, 0.2),
}


def main() -> None:
    """Print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=1500)
    options = parser.parse_args()
    file = options.data / "preferences" / "llmrouter.jsonl.gz"
    table = GradeTable.of(read_training_data([file]).graded)
    table = table.take(~np.isnan(table.grades).any(axis=1))
    none: list[dict[str, Usage]] = [{} for _ in table.prompts]
    usd, tokens, _ = Costs(_PRICES, 300).of(table.models, table.prompts, none)
    assert usd is not None
    found = []
    verdicts: Counter[str] = Counter()
    for seed in range(options.draws):
        order = np.random.default_rng(seed).permutation(len(table.prompts))
        some, rest = order[: options.prompts], order[options.prompts :]
        export = Export(
            file="llmrouter.csv", models=table.models, is_pair=False,
            prompts=tuple(table.prompts[i] for i in some), grades=table.grades[some],
            usd=usd[some], times=None, where=tuple(map(str, some)),
            scale=Scale(0.0, 1.0, "as given"), understood=(), answer_tokens=tokens,
            answers=tuple({} for _ in some),
        )  # fmt: skip
        tuned = tune_models(export, _GOAL, prices=_PRICES, seed=seed)
        verdicts[tuned.verdict] += 1
        best = table.models.index(tuned.best)
        chosen = np.full(len(rest), best)
        if tuned.certified:
            prompts = [table.prompts[i] for i in rest]
            prices = Prices(tuned.candidates)
            sizes = [len(p.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN for p in prompts]
            expected = np.array([prices.dollars(size) for size in sizes])
            probability = tuned.router.estimate(prompts).probability
            chosen = choose(probability, expected, tuned.quality_per_usd)
        quality = table.grades[rest, chosen].mean() / table.grades[rest, best].mean()
        found.append((quality, usd[rest, chosen].mean() / usd[rest, best].mean()))
    quality, spent = np.array(found).T
    print(
        f"{len(found)} draws of {options.prompts:,} of {len(table.prompts):,} prompts: use in "
        f"{verdicts['use']}; on the others at least 0.95 of the best model's quality in "
        f"{(quality >= _GOAL.target).mean():.1%}, {quality.mean():.3f} in the mean, for "
        f"{spent.mean():.1%} of its dollars"
    )


if __name__ == "__main__":
    main()
