"""Compares recipes of the default router, on held-out training data only.

``python python/recipes/compare_recipes.py --encoder FOLDER --preferences FOLDER`` prints the table
that the default was chosen by (minutes). ``default.comparison`` has how a recipe is scored, and
``measures`` by what.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from default_router.comparison import compare
from default_router.preferences import read_preferences
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import FastRouteError
from fastroute.training.recipe import Recipe
from fastroute.training.static import token_table
from fastroute.training.static.encoder import load_encoder, read_tokenizer


def _recipes(files: Sequence[str]) -> Iterator[tuple[str, float, Recipe, Sequence[str]]]:
    """Name, frequency constant, recipe and files of what is compared."""
    default = Recipe()
    chosen = token_table.FREQUENCY
    yield "the default", chosen, default, files
    for label in ("weak_failure", "halves"):
        yield f"label: {label}", chosen, default._replace(label=label), files
    yield "weighting: rows", chosen, default._replace(weighting="rows"), files
    for ridge in (3.0, 300.0, 3000.0):
        yield f"ridge: {ridge:g}", chosen, default._replace(ridge=ridge), files
    for left_out in files:
        rest = [file for file in files if file != left_out]
        yield f"without {left_out.split('.')[0]}", chosen, default, rest
    for weight in (0.0, 0.5, 2.0, 4.0):
        yield f"length: {weight:g}", chosen, default._replace(signal_weight=weight), files
    yield "length: learnt", chosen, default._replace(signal_weight=None), files
    yield "length alone", chosen, default._replace(signal_weight=1e6), files
    yield f"only {files[0].split('.')[0]}", chosen, default, files[:1]
    for frequency in (1e-5, 1e-3, 1e9):
        yield f"frequency: {frequency:g}", frequency, default, files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python python/recipes/compare_recipes.py",
        description="Compare recipes of the default router on held-out training data.",
    )
    parser.add_argument("--encoder", required=True, metavar="FOLDER")
    parser.add_argument("--preferences", required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        _print_table(options.encoder, options.preferences)
    except FastRouteError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        return 130
    return 0


def _print_table(encoder: str, preferences: str) -> None:
    from tokenizers import Tokenizer
    from tqdm import tqdm

    rows = read_preferences(preferences)
    content = token_table.bare_tokenizer(read_tokenizer(encoder)).decode()
    tokenizer = Tokenizer.from_str(content)
    components = token_table.principal_components(
        token_table.token_vectors(load_encoder(encoder), tokenizer)
    )
    files = list(dict.fromkeys(row.file for row in rows))
    columns = ["recipe", *(f"transfer to {file.split('.')[0]}" for file in files)]
    columns += ["transfer, mean", "folds, mean", "APGR transfer", "APGR folds", "calibration error"]
    print(f"| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    made_for = -1.0
    for name, frequency, recipe, trained in tqdm(
        list(_recipes(files)), desc="compare", unit="recipe", leave=False, disable=None
    ):
        if frequency != made_for:
            weights = token_table.frequency_weights(tokenizer, frequency)
            embedder = StaticEmbedder(
                *token_table.quantise(components, weights),
                tokenizer,
                name="static:trial",
                length_scale=token_table.LENGTH_SCALE,
            )
            X, made_for = embedder.embed_batch([row.prompt for row in rows]), frequency
        result = compare(rows, X, recipe, trained, embedder.signals)
        by_file = result.transfer_by_file
        cells = [f"{by_file[file]:.3f}" if file in by_file else "" for file in files]
        cells += [
            f"{figure:.3f}"
            for figure in (
                result.transfer_correlation,
                result.folds_correlation,
                result.transfer_apgr,
                result.folds_apgr,
                result.calibration_error,
            )
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
