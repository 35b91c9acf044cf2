"""Figures of choices among many models, on files of graded prompts.

``python bench/many_models_figures.py --grades FILE [FILE ...]`` prints, for each file, what
``fastroute evaluate --models`` prints, with the prices in ``many_models_prices.toml`` beside this
file (``--prices`` for others). ``--new-model N`` also leaves out each of N models in turn, adds it
again from 50 graded prompts, and compares the choices with those of a router trained on all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fastroute.candidates import read_candidates
from fastroute.data import read_training_data
from fastroute.data.grade_table import GradeTable
from fastroute.embedders import StaticEmbedder
from fastroute.evaluation.many_models.report import to_text
from fastroute.evaluation.many_models.run import evaluate_models
from fastroute.routers.many_models.add_model import add_model
from fastroute.routers.many_models.estimator import SuccessEstimator
from fastroute.routers.many_models.fit import fit_estimator

PRICES = Path(__file__).parent / "many_models_prices.toml"
FEW = 50
DRAWS = 10


def new_model(table: GradeTable, count: int) -> list[tuple[str, float, float, float]]:
    """(model, quality without it, from 50 prompts, from all), of maximum-quality choices.

    The ``count`` best models are each left out; a fifth of the prompts is held out. The 50 prompts
    are drawn DRAWS times, and the mean is given.
    """
    X = StaticEmbedder.load_default().embed_batch(list(table.prompts))
    random = np.random.default_rng(0)
    kept = np.flatnonzero((~np.isnan(table.grades)).mean(axis=0) > 0.9)
    grades = table.grades[:, kept]
    whole = ~np.isnan(grades).any(axis=1) & X.any(axis=1)
    X, grades = X[whole], grades[whole]
    names = [table.models[j] for j in kept]
    test = random.permutation(len(X)) % 5 == 0
    folds = random.permutation(int((~test).sum())) % 5

    def quality(estimator: SuccessEstimator, models: list[str]) -> float:
        columns = [names.index(m) for m in models]
        estimate = estimator.select(models).estimate(X[test]).probability
        return float(
            grades[test][np.arange(test.sum()), np.array(columns)[estimate.argmax(1)]].mean()
        )

    everything = fit_estimator(names, X[~test], grades[~test], folds).estimator
    found = []
    for j in np.argsort(-grades.mean(axis=0))[:count].tolist():
        others = [i for i in range(len(names)) if i != j]
        without = fit_estimator(
            [names[i] for i in others], X[~test], grades[~test][:, others], folds
        ).estimator
        train = np.flatnonzero(~test)
        few = []
        for _ in range(DRAWS):
            rows = random.choice(train, FEW, replace=False)
            added = add_model(
                without, names[j], np.ascontiguousarray(X[rows]), grades[rows, j],
                grades[np.ix_(rows, others)],
            )  # fmt: skip
            few.append(quality(added, names))
        found.append(
            (
                names[j],
                quality(without, [names[i] for i in others]),
                float(np.mean(few)),
                quality(everything, names),
            )
        )
    return found


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--grades", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--prices", default=PRICES, metavar="FILE.toml")
    parser.add_argument("--new-model", type=int, default=0, metavar="N")
    options = parser.parse_args()
    prices = read_candidates(options.prices)
    for file in options.grades:
        table = GradeTable.of(read_training_data([file], conflicts="average").graded)
        report = evaluate_models(table, prices, StaticEmbedder.load_default(), name=Path(file).name)
        print(to_text(report), flush=True)
        for name, without, few, everything in new_model(table, options.new_model):
            gain = everything - without
            share = f"{(few - without) / gain:.0%} of the gain" if gain > 0.002 else "no gain"
            print(
                f"  {name}: quality without it {without:.4f}, added from {FEW} prompts {few:.4f}, "
                f"from all {everything:.4f} ({few / everything:.1%}, {share})",
                flush=True,
            )
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
