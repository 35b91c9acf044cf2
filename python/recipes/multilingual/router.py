"""Makes the multilingual router from the encoder, translations and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from fastroute.artifacts import prompt_hash, save_artifact
from fastroute.embedders import StaticEmbedder
from fastroute.embedders.static import KIND
from fastroute.embedders.vocabulary import CLASSES, Signal, Vocabulary
from fastroute.policy import calibrated
from fastroute.provenance import Provenance
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.folds import fold_numbers
from fastroute.types import Float32Array, Float64Array
from multilingual.encoder import DIMENSIONS, Encoder
from multilingual.head import Trainer, compress, imitate, quantise
from multilingual.prompts import EXAMINATIONS, FILES, JUDGED, OPEN_ENDED, Prompts
from multilingual.texts import (
    SCRIPTS,
    SHARE_SCALE,
    Texts,
    count,
    draw_passages,
    learn_units,
)  # fmt: skip
from multilingual.translations import Translation

NAME = "static:universal-sentence-encoder-multilingual-64"
TABLE_DIMENSIONS = 64
FOLDS = 5
QUANTILES = 1001
#: a in the weights a / (a + p) of a piece of probability p.
FREQUENCY = 1e-2
#: A piece's vector is the mean in context; this many times it stands alone are added.
ALONE = 5.0
LENGTH_SPREAD = 0.5
_CONTEXT_EXAMINATIONS, _CONTEXT_MESSAGES = 6000, 15_000


class Figures(NamedTuple):
    """What was measured on held-out prompts while training."""

    rank_correlation: float
    pairs_in_order: float
    calibration_error: float
    slope: float
    level: float
    length_units: dict[str, float]


class _Numbers(NamedTuple):
    """Everything that training reads, in numbers."""

    prompts: Prompts
    texts: Texts
    table: Float32Array
    signals: Float64Array
    differences: Float64Array
    sentences: Float32Array
    weights: Float64Array
    used: npt.NDArray[np.int64]


def make_router(
    encoder: Encoder, translations: Sequence[Translation], prompts: Prompts, folder: Path
) -> tuple[MatrixFactorizationRouter, Figures]:
    """Write the embedder to ``folder``/embedder, and return the router and its figures."""
    vocabulary = Vocabulary.of(encoder.pieces)
    texts, ids = count(prompts.texts, vocabulary)
    english, english_ids = count([t.english for t in translations], vocabulary)
    translated, translated_ids = count([t.translated for t in translations], vocabulary)
    languages = np.array([translation.language for translation in translations])
    units = learn_units(english, translated, languages)
    rows = draw_passages(translations)
    english, translated = english.passages(rows), translated.passages(rows)

    generator = np.random.default_rng(0)
    examined = generator.permutation(prompts.rows(EXAMINATIONS))
    some = np.sort(examined[:_CONTEXT_EXAMINATIONS])
    messages = [*english_ids, *translated_ids]
    some_messages = np.sort(generator.permutation(len(messages))[:_CONTEXT_MESSAGES])
    taught = np.union1d(prompts.rows((*JUDGED, *OPEN_ENDED)), prompts.conversations)
    sentences = np.zeros((len(prompts.texts), DIMENSIONS), dtype=np.float32)
    table, sentences[taught] = _piece_vectors(
        encoder,
        [ids[row] for row in taught],
        [ids[row] for row in some] + [messages[row] for row in some_messages],
    )
    probabilities = np.exp(encoder.log_probabilities)
    table *= (FREQUENCY / (FREQUENCY + probabilities)).astype(np.float32)[:, None]
    signals = texts.signals(units)
    scales = np.array([
        LENGTH_SPREAD / signals[prompts.labels[JUDGED[0]][0], 0].std(),
        *[SHARE_SCALE] * len(SCRIPTS),
    ])  # fmt: skip
    used = np.union1d(taught, some)
    differences = np.hstack([
        translated.vectors(table) - english.vectors(table),
        (translated.signals(units) - english.signals(units)) * scales,
    ])  # fmt: skip
    weights = np.asarray(texts.pieces[used].sum(axis=0)).ravel() + 1e5 * probabilities
    numbers = _Numbers(
        prompts, texts, table, signals * scales, differences, sentences, weights, used
    )

    figures, held_out = _held_out(numbers)
    figures = figures._replace(
        length_units={s: float(u) for s, u in zip(CLASSES, units, strict=True)}
    )
    quantised, steps, head, scores = _fit(numbers, np.zeros(0, dtype=np.int64))
    names = ["excess_length", *(f"share:{script}" for script in SCRIPTS)]
    vocabulary = replace(
        vocabulary,
        class_units=units,
        signals=(
            *(Signal(n, "one", float(s)) for n, s in zip(names, scales, strict=True)),
            Signal("one", "one", 1.0),
        ),
    )
    save_artifact(
        folder / "embedder",
        kind=KIND,
        config={"name": NAME, **vocabulary.config()},
        arrays={"table": quantised, "scales": steps, **vocabulary.arrays()},
    )
    embedder = StaticEmbedder.load(folder / "embedder")
    constant = figures.level - figures.slope * scores[prompts.rows(JUDGED)].mean()
    pair = np.append(figures.slope * head, constant)
    win_rates = _sigmoid(figures.slope * scores + constant)
    typical = np.concatenate([
        _quantiles(_sigmoid(figures.slope * held_out + figures.level)),
        _quantiles(win_rates[prompts.conversations]),
    ])  # fmt: skip
    half = (pair / 2).astype(np.float32)
    router = MatrixFactorizationRouter(
        ["strong", "weak"],
        np.eye(2, dtype=np.float32),
        np.stack([half, -half]),
        np.ones(2, dtype=np.float32),
        strong_model="strong",
        weak_model="weak",
        embedder=embedder,
        provenance=calibrated(
            Provenance(
                data=FILES,
                trained_on=np.unique(np.array([prompt_hash(t) for t in prompts.texts], np.uint64)),
            ),
            typical,
            calibrated_on="users' prompts: half of them judged, in English, half of conversations",
        ),
    )
    some = taught[:200]
    computed = router.win_rates([prompts.texts[row] for row in some])
    if np.abs(computed - win_rates[some]).max() > 1e-3:
        raise AssertionError("the core's win rates are not those that were trained")
    return router, figures


def _piece_vectors(
    encoder: Encoder,
    taught: Sequence[npt.NDArray[np.int32]],
    others: Sequence[npt.NDArray[np.int32]],
) -> tuple[Float32Array, Float32Array]:
    """Mean vectors of pieces, float32[vocabulary, 512], and those of the texts in ``taught``."""
    size = len(encoder.pieces)
    sums = np.empty((size, DIMENSIONS), dtype=np.float32)
    for which, vectors, _ in encoder.encode([np.array([row], np.int32) for row in range(size)]):
        sums[which] = ALONE * vectors
    counts = np.full(size, ALONE)
    sentences = np.empty((len(taught), DIMENSIONS), dtype=np.float32)
    for texts in (taught, others):
        for which, vectors, of_texts in encoder.encode(texts):
            rows = np.concatenate(texts[which])
            np.add.at(sums, rows, vectors)
            np.add.at(counts, rows, 1.0)
            if texts is taught:
                sentences[which] = of_texts
    return np.asarray(sums / counts[:, None].astype(np.float32)), sentences


def _fit(
    numbers: _Numbers, held_out: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int8], Float32Array, Float64Array, Float64Array]:
    """The table in 8 bits with its steps, the head on it, and every prompt's score."""
    whole = np.hstack([numbers.texts.vectors(numbers.table), numbers.signals])
    trainer = Trainer(
        numbers.prompts, whole, numbers.sentences, numbers.differences, numbers.signals.shape[1]
    )
    direction = trainer.direction(held_out)
    table = compress(numbers.table, direction[:DIMENSIONS], numbers.weights, TABLE_DIMENSIONS)
    quantised, steps = quantise(table)
    vectors = numbers.texts.vectors(quantised.astype(np.float32) * steps[:, None])
    X = np.hstack([vectors, numbers.signals])
    used = np.setdiff1d(numbers.used, held_out)
    weights = np.where(np.isin(used, numbers.prompts.rows(EXAMINATIONS)), 1.0, 5.0)
    head = imitate(X[used], (whole @ direction)[used], weights)
    return quantised, steps, head, X @ head


def _held_out(numbers: _Numbers) -> tuple[Figures, Float64Array]:
    """Figures by five folds of the judged prompts, and the held-out scores, of mean 0."""
    prompts = numbers.prompts
    rows, labels = prompts.labels[JUDGED[0]]
    judged = prompts.rows(JUDGED)
    folds = fold_numbers([prompts.texts[row] for row in judged], FOLDS)
    scores = np.full(len(prompts.texts), np.nan)
    for fold in range(FOLDS):
        out = judged[folds == fold]
        found = _fit(numbers, out)[3]
        scores[out] = found[out] - found[judged].mean()
    ordered = scores[prompts.pairs]
    ordered = ordered[np.isfinite(ordered).all(axis=1)]
    # Either prompt of a pair is one that was compared with another at random.
    X, won = np.concatenate([ordered[:, 0], ordered[:, 1]]), np.repeat([1.0, 0.0], len(ordered))

    def loss(parameters: Float64Array) -> float:
        logits = parameters[0] * X + parameters[1]
        return float(np.mean(np.logaddexp(0.0, logits) - won * logits))

    slope, level = optimize.minimize(loss, np.array([1.0, 0.0])).x.round(4)
    win_rates = _sigmoid(slope * X + level)
    bins = np.minimum((win_rates * 10).astype(int), 9)
    sizes = np.bincount(bins, minlength=10)
    errors = np.bincount(bins, win_rates - won, minlength=10)
    return Figures(
        rank_correlation=_rank_correlation(scores[rows], labels),
        pairs_in_order=float(np.mean(ordered[:, 0] > ordered[:, 1])),
        calibration_error=float(np.abs(errors).sum() / sizes.sum()),
        slope=float(slope),
        level=float(level),
        length_units={},
    ), scores[judged]


def _rank_correlation(a: Float64Array, b: Float64Array) -> float:
    return float(stats.spearmanr(a, b).statistic)


def _quantiles(values: Float64Array) -> Float64Array:
    return np.quantile(values, np.linspace(0.0, 1.0, QUANTILES))


def _sigmoid(logits: Float64Array) -> Float64Array:
    return 1.0 / (1.0 + np.exp(-logits))
