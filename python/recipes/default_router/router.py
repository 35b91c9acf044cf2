"""Makes the default router from the encoder, translations and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from default_router.encoder import DIMENSIONS, Encoder
from default_router.head import Trainer, compress, imitate, quantise
from default_router.prompts import (
    EXAMINATIONS,
    FILES,
    JUDGED,
    MESSAGES,
    OPEN_ENDED,
    WRITTEN,
    Prompts,
)
from default_router.texts import (
    SCRIPTS,
    SHARE_SCALE,
    SIGNALS,
    Texts,
    count,
    draw_passages,
    learn_units,
)  # fmt: skip
from default_router.translations import Translation
from fastroute.artifacts import hash_prompts, save_artifact
from fastroute.embedders import StaticEmbedder
from fastroute.embedders.static import KIND
from fastroute.embedders.vocabulary import CLASSES, Signal, Vocabulary
from fastroute.evaluation import apgr, curve
from fastroute.policy import calibrated
from fastroute.provenance import Provenance
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.folds import fold_numbers
from fastroute.types import Float32Array, Float64Array

NAME = "static:universal-sentence-encoder-multilingual-64"
TABLE_DIMENSIONS = 64
FOLDS = 5
QUANTILES = 1001
#: a in the weights a / (a + p) of a piece of probability p.
FREQUENCY = 1e-2
#: A piece's vector is the mean in context; this many times it stands alone are added.
ALONE = 5.0
LENGTH_SPREAD = 0.5
#: Unit of the signals. Small, so that cosines between embeddings, which sw_ranking takes, stay
#: those of their meaning.
SIGNAL_UNIT = 1.0 / 32
_CONTEXT_EXAMINATIONS, _CONTEXT_MESSAGES = 6000, 15_000


class Figures(NamedTuple):
    """What was measured on held-out prompts while training."""

    rank_correlation: float
    rank_correlation_of_messages: float
    rank_correlation_of_written: float
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
) -> tuple[MatrixFactorizationRouter, Figures, dict[str, float]]:
    """Write the embedder to ``folder``/embedder, and return the router, its figures, and APGR by
    open-ended file without the labels of the prompts that are scored."""
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
    labelled = prompts.rows((*JUDGED, MESSAGES, WRITTEN))
    taught = np.unique(np.concatenate([
        labelled, prompts.rows(OPEN_ENDED), prompts.conversations,
    ]))  # fmt: skip
    sentences = np.zeros((len(prompts.texts), DIMENSIONS), dtype=np.float32)
    table, sentences[taught] = _piece_vectors(
        encoder,
        [ids[row] for row in taught],
        [ids[row] for row in some] + [messages[row] for row in some_messages],
    )
    probabilities = np.exp(encoder.log_probabilities)
    table *= (FREQUENCY / (FREQUENCY + probabilities)).astype(np.float32)[:, None]
    # Before a character that no piece covers, a space stands alone. It says nothing.
    table[[piece == " " for piece in encoder.pieces]] = 0.0
    signals = texts.signals(units)
    scales = np.array([
        *[LENGTH_SPREAD / signals[labelled, :2].sum(axis=1).std()] * 2,
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
    vocabulary = replace(
        vocabulary,
        class_units=units,
        signals=(
            *(
                Signal(n, "one", s * SIGNAL_UNIT)
                for n, s in zip(SIGNALS, scales.tolist(), strict=True)
            ),
            Signal("one", "one", SIGNAL_UNIT),
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
    # The core's length is the sum of both parts.
    head[TABLE_DIMENSIONS] -= head[TABLE_DIMENSIONS + 1]
    pair = np.append(figures.slope * head, constant)
    pair[TABLE_DIMENSIONS:] /= SIGNAL_UNIT
    win_rates = _sigmoid(figures.slope * scores + constant)
    held_out = _sigmoid(figures.slope * held_out + figures.level)
    known = np.where(np.isnan(held_out), win_rates, held_out)
    typical = np.concatenate([
        _quantiles(known[prompts.rows(JUDGED)]), _quantiles(known[prompts.conversations])
    ])  # fmt: skip
    # Of other prompts only the pieces were seen, in their context.
    labels_seen = np.union1d(taught, prompts.pairs.ravel())
    half = (pair / 2).astype(np.float32)
    router = MatrixFactorizationRouter.of_vectors(
        ["strong", "weak"],
        np.stack([half, -half]),
        strong_model="strong",
        weak_model="weak",
        embedder=embedder,
        provenance=calibrated(
            Provenance(
                data=(*FILES, MESSAGES, WRITTEN),
                trained_on=hash_prompts(prompts.texts[row] for row in labels_seen),
            ),
            typical,
            calibrated_on="users' prompts: half of WildChat, half of OpenAssistant (multilingual)",
        ),
    )
    some = taught[:200]
    computed = router.win_rates([prompts.texts[row] for row in some])
    if np.abs(computed - win_rates[some]).max() > 1e-3:
        raise AssertionError("the core's win rates are not those that were trained")
    return router, figures, _open_ended(numbers)


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
    """Figures by five folds of the labelled prompts, and the held-out scores of all prompts, NaN
    for others; their mean over the judged prompts is 0."""
    prompts = numbers.prompts
    judged = prompts.rows(JUDGED)
    labelled = prompts.rows((*JUDGED, MESSAGES, WRITTEN))
    folds = fold_numbers([prompts.texts[row] for row in labelled], FOLDS)
    scores = np.full(len(prompts.texts), np.nan)
    for fold in range(FOLDS):
        out = labelled[folds == fold]
        found = _fit(numbers, out)[3]
        scores[out] = found[out] - found[judged].mean()
    ordered = scores[prompts.pairs]
    ordered = ordered[np.isfinite(ordered).all(axis=1)]
    slope, level = _calibrate(ordered)
    return Figures(
        rank_correlation=_rank_correlation(scores, prompts, JUDGED[0]),
        rank_correlation_of_messages=_rank_correlation(scores, prompts, MESSAGES),
        rank_correlation_of_written=_rank_correlation(scores, prompts, WRITTEN),
        pairs_in_order=float(np.mean(ordered[:, 0] > ordered[:, 1])),
        calibration_error=_calibration_error(ordered),
        slope=slope,
        level=level,
        length_units={},
    ), scores


def _open_ended(numbers: _Numbers) -> dict[str, float]:
    found = {}
    for file, outcomes in numbers.prompts.outcomes.items():
        rows, _ = numbers.prompts.labels[file]
        folds = fold_numbers([numbers.prompts.texts[row] for row in rows], FOLDS)
        scores = np.empty(len(rows))
        for fold in range(FOLDS):
            out = rows[folds == fold]
            scores[folds == fold] = _fit(numbers, np.unique(out))[3][out]
        both = np.isfinite(outcomes).all(axis=1)
        if np.subtract(*outcomes[both].mean(axis=0)) >= 0:
            continue  # the best of all is not better where both answered
        found[file] = apgr(curve(scores[both], *outcomes[both].T))
        if file == OPEN_ENDED[0]:
            both &= numbers.prompts.chats
            found["its chats alone"] = apgr(curve(scores[both], *outcomes[both].T))
    return found


def _calibrate(ordered: Float64Array) -> tuple[float, float]:
    """Slope and level of the logarithm of the odds that a prompt is the harder one of its pair.

    ordered: float64[pairs, 2], scores of the harder prompt and of the other. Either one is a prompt
    that was compared with another one at random.
    """
    won = np.array([1.0, 0.0])

    def loss(parameters: Float64Array) -> float:
        logits = parameters[0] * ordered + parameters[1]
        return float(np.mean(np.logaddexp(0.0, logits) - won * logits))

    slope, level = optimize.minimize(loss, np.array([1.0, 0.0])).x.round(4)
    return float(slope), float(level)


def _calibration_error(ordered: Float64Array) -> float:
    """Mean difference in tenths of the win rate, each fold of pairs by the others' calibration."""
    win_rates = np.empty(ordered.shape)
    folds = np.arange(len(ordered)) % FOLDS
    for fold in range(FOLDS):
        slope, level = _calibrate(ordered[folds != fold])
        win_rates[folds == fold] = _sigmoid(slope * ordered[folds == fold] + level)
    bins = np.minimum((win_rates * 10).astype(int), 9)
    errors = np.bincount(bins.ravel(), (win_rates - [1.0, 0.0]).ravel(), minlength=10)
    return float(np.abs(errors).sum() / ordered.size)


def _rank_correlation(scores: Float64Array, prompts: Prompts, file: str) -> float:
    rows, labels = prompts.labels[file]
    return float(stats.spearmanr(scores[rows], labels).statistic)


def _quantiles(values: Float64Array) -> Float64Array:
    return np.quantile(values, np.linspace(0.0, 1.0, QUANTILES))


def _sigmoid(logits: Float64Array) -> Float64Array:
    return 1.0 / (1.0 + np.exp(-logits))
