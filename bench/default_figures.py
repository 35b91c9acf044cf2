"""Figures of the router that ships: what its model card shows.

``python bench/default_figures.py --data DATA`` reads ``DATA/common_sense_pairs.jsonl``,
``DATA/mgsm/mgsm_LANGUAGE.tsv`` and ``DATA/routellm_evals``, a checkout of RouteLLM, and
``everyday_prompts.jsonl`` beside it. ``--router FOLDER`` takes another ``mf`` router. The recipe
prints the figures on held-out judged prompts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fastroute.embedders import StaticEmbedder
from fastroute.evaluation import apgr, curve
from fastroute.evaluation.benchmarks.routellm import LOADERS
from fastroute.routers import Router, create_router

LANGUAGES = ("es", "de", "ru", "zh", "ja")
EVERYDAY = Path(__file__).with_name("everyday_prompts.jsonl")


def pairs_in_order(router: Router, file: Path) -> float:
    """Share of the pairs whose hard prompt has the higher win rate."""
    pairs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    easy, hard = (router.win_rates([pair[key] for pair in pairs]) for key in ("easy", "hard"))
    return float(np.mean(hard > easy))


def everyday_rank(router: Router) -> float:
    """Rank correlation with the ratings of everyday prompts in eight languages."""
    rows = [json.loads(line) for line in EVERYDAY.read_text(encoding="utf-8").splitlines()]
    rates = router.win_rates([row["prompt"] for row in rows])
    return float(stats.spearmanr(rates, [row["rating"] for row in rows]).statistic)


def parity(router: Router, folder: Path) -> dict[str, tuple[float, float]]:
    """By language, the share of MGSM above the English median, and the rank correlation."""
    english = router.win_rates(_questions(folder / "mgsm_en.tsv"))
    found = {}
    for language in LANGUAGES:
        rates = router.win_rates(_questions(folder / f"mgsm_{language}.tsv"))
        share = float(np.mean(rates > np.median(english)))
        found[language] = share, float(stats.spearmanr(english, rates).statistic)
    return found


def _questions(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").split("\n")
    return [line.rpartition("\t")[0] for line in lines if line]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--router", metavar="FOLDER", help="an mf artifact; by default the bundled")
    parser.add_argument("--embedder", metavar="FOLDER", help="its static embedder")
    parser.add_argument("--no-benchmarks", action="store_true", help="leave out RouteLLM's three")
    options = parser.parse_args()
    config: dict[str, Any] = {"checkpoint_path": options.router} if options.router else {}
    if options.embedder:
        config["embedder"] = StaticEmbedder.load(options.embedder)
    router = create_router("mf", **config)
    print("| figure | value |", "|---|---|", sep="\n")
    in_order = pairs_in_order(router, options.data / "common_sense_pairs.jsonl")
    print(f"| common sense pairs, hard above easy | {in_order:.3f} |")
    print(f"| everyday prompts, rank correlation with ratings | {everyday_rank(router):.3f} |")
    for language, (share, rank) in parity(router, options.data / "mgsm").items():
        print(f"| MGSM {language}: above the English median; rank | {share:.2f}; {rank:.2f} |")
    for name, load in {} if options.no_benchmarks else LOADERS.items():
        benchmark = load(options.data / "routellm_evals")
        rates = router.win_rates(benchmark.prompts)
        area = apgr(curve(rates, benchmark.weak, benchmark.strong, method="routellm"))
        print(f"| {name}, zero-shot APGR by RouteLLM's method | {area:.3f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
