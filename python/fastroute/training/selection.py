"""Compares recipes of the default router, on held-out training data only.

``python -m fastroute.training.selection --encoder FOLDER --preferences FOLDER`` prints the table
that the default was chosen by (minutes). A recipe is scored two ways:

folds
    The router is trained on four fifths of all prompts and scored on the rest.
transfer
    The router is trained on the other files and scored on this one. What a bundled router is for
    comes from other sources than what it was trained on, so this decides.

And by two measures, each taken within a dataset, averaged over a file's datasets by prompts, and
over files:

correlation
    Spearman's, of win rate and difficulty (1 less the mean score of all models). Dozens of models
    are averaged in it, so it tells recipes apart where APGR between two sides can't.
APGR
    Exact, between the mean of the best quarter of the models and the mean of the weaker half, on
    datasets where such a pair is what a router is for: the strong side right on at least 65 %, at
    least 5 points ahead.

Datasets of fewer than 150 prompts are not scored.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import FastRouteError
from fastroute.evaluation.calibration_metrics import expected_calibration_error
from fastroute.evaluation.metrics import apgr, curve
from fastroute.training import static_table
from fastroute.training.default_router import LENGTH_SCALE, Recipe, weights_of
from fastroute.training.encoder import load_encoder
from fastroute.training.heads import FOLDS, fit_head, level_parts
from fastroute.training.labels import LABELS, difficulty, score_table
from fastroute.training.preferences import Preference, fold_numbers, read_preferences
from fastroute.types import Float32Array, Float64Array

LEAST_PROMPTS = 150
LEAST_STRONG = 0.65
LEAST_GAP = 0.05


class Arena(NamedTuple):
    """A dataset to score on: row numbers, and what the two sides scored on each."""

    file: str
    rows: npt.NDArray[np.intp]
    weak: Float64Array
    strong: Float64Array


class Result(NamedTuple):
    """Figures of one recipe. Files on which it could not be scored are not in them."""

    transfer_by_file: dict[str, float]
    folds_correlation: float
    transfer_apgr: float
    folds_apgr: float
    calibration_error: float

    @property
    def transfer_correlation(self) -> float:
        """What the recipe is chosen by: the mean over files."""
        return _mean(self.transfer_by_file)


def arenas(rows: Sequence[Preference]) -> list[Arena]:
    """The datasets of ``rows`` that routers are scored on; see the module."""
    result = []
    for index in _members(rows).values():
        scores = score_table([rows[i] for i in index])
        order = np.argsort(-scores.mean(axis=0), kind="stable")
        strong = scores[:, order[: max(1, round(len(order) / 4))]].mean(axis=1)
        weak = scores[:, order[len(order) - len(order) // 2 :]].mean(axis=1)
        useful = strong.mean() >= max(LEAST_STRONG, weak.mean() + LEAST_GAP)
        if len(index) >= LEAST_PROMPTS and useful:
            result.append(Arena(rows[index[0]].file, np.array(index), weak, strong))
    return result


def apgr_by_file(win_rates: Float64Array, scored: Sequence[Arena]) -> dict[str, float]:
    """Mean APGR of each file's datasets, weighted by prompts; NaN win rates are not scored."""
    found: dict[str, list[tuple[float, int]]] = {}
    for arena in scored:
        rates = win_rates[arena.rows]
        if not np.isnan(rates).any():
            area = apgr(curve(rates, arena.weak, arena.strong))
            found.setdefault(arena.file, []).append((area, len(rates)))
    return _weighted(found)


def correlation_by_file(
    win_rates: Float64Array, rows: Sequence[Preference], difficulties: Float64Array
) -> dict[str, float]:
    """Mean rank correlation of each file's datasets; NaN win rates are not scored."""
    found: dict[str, list[tuple[float, int]]] = {}
    for index in _members(rows).values():
        rates = win_rates[index]
        if len(index) >= LEAST_PROMPTS and not np.isnan(rates).any():
            ranks, wanted = _ranks(rates), _ranks(difficulties[index])
            matrix = np.asarray(np.corrcoef(ranks, wanted))
            value = float(matrix[0, 1])
            found.setdefault(rows[index[0]].file, []).append((value, len(index)))
    return _weighted(found)


def compare(
    rows: Sequence[Preference],
    X: Float32Array,
    recipe: Recipe,
    files: Sequence[str] | None = None,
    signals: int = 0,
) -> Result:
    """Figures of ``recipe``, trained on ``files`` (by default all) of ``rows``.

    ``X``, float32[n, d], holds the embeddings of the rows' prompts; the last ``signals`` of its
    columns are signals.
    """
    targets = LABELS[recipe.label](rows)
    of_row = np.array([row.file for row in rows])
    used = np.isin(of_row, list(files or set(of_row))) & X.any(axis=1)
    groups = np.unique([row.group for row in rows], return_inverse=True)[1].astype(np.int64)
    head = fit_head(
        X[used],
        targets[used],
        group_ids=groups[used],
        weights=_weights(rows, used, recipe),
        fold_ids=fold_numbers([row.prompt for row in rows], FOLDS)[used],
        ridge=recipe.ridge,
        signals=signals,
        signal_weight=recipe.signal_weight,
    )
    held_out = np.full(len(rows), np.nan)
    held_out[used] = head.held_out_win_rates
    transfer = np.full(len(rows), np.nan)
    E = X.astype(np.float64)
    for file in np.unique(of_row):
        rest = used & (of_row != file)
        if rest.any():
            weights = _weights(rows, rest, recipe)
            direction, constant = level_parts(
                E[rest], targets[rest], groups[rest], weights, (head.ridge,), signals,
                recipe.signal_weight,
            )  # fmt: skip
            out = of_row == file
            transfer[out] = E[out] @ (head.slope * direction + head.level * constant)
    difficulties, scored = difficulty(rows), arenas(rows)
    return Result(
        correlation_by_file(transfer, rows, difficulties),
        _mean(correlation_by_file(held_out, rows, difficulties)),
        _mean(apgr_by_file(transfer, scored)),
        _mean(apgr_by_file(held_out, scored)),
        expected_calibration_error(head.held_out_win_rates, np.clip(head.targets, 0.0, 1.0)),
    )


def _members(rows: Sequence[Preference]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(row.group, []).append(i)
    return members


def _weights(
    rows: Sequence[Preference], used: npt.NDArray[np.bool_], recipe: Recipe
) -> Float64Array:
    part = [row for row, kept in zip(rows, used, strict=True) if kept]
    return weights_of(part, recipe.weighting)


def _ranks(values: Float64Array) -> Float64Array:
    """Ranks from 0, ties averaged."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float64Array = (np.cumsum(counts) - (counts + 1) / 2.0)[index]
    return ranks


def _weighted(found: dict[str, list[tuple[float, int]]]) -> dict[str, float]:
    return {
        file: float(np.average([value for value, _ in pairs], weights=[n for _, n in pairs]))
        for file, pairs in found.items()
    }


def _mean(figures: dict[str, float]) -> float:
    return sum(figures.values()) / len(figures) if figures else float("nan")


def _recipes(files: Sequence[str]) -> Iterator[tuple[str, float, Recipe, Sequence[str]]]:
    """Name, frequency constant, recipe and files of what is compared."""
    default = Recipe()
    chosen = static_table.FREQUENCY
    yield "the default", chosen, default, files
    yield "label: halves", chosen, default._replace(label="halves"), files
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
        prog="python -m fastroute.training.selection",
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

    from fastroute.training.default_router import read_tokenizer

    rows = read_preferences(preferences)
    content = static_table.bare_tokenizer(read_tokenizer(encoder)).decode()
    tokenizer = Tokenizer.from_str(content)
    components = static_table.principal_components(
        static_table.token_vectors(load_encoder(encoder), tokenizer)
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
            weights = static_table.frequency_weights(tokenizer, frequency)
            embedder = StaticEmbedder(
                *static_table.quantise(components, weights),
                tokenizer,
                name="static:trial",
                length_scale=LENGTH_SCALE,
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
