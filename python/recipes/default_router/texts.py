"""Texts as counts of pieces and as signals, which add up: a passage is the sum of its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

from default_router.translations import Translation
from fastroute.embedders.vocabulary import CLASSES, Vocabulary
from fastroute.types import Float32Array, Float64Array

#: Scripts whose share of a text may move its level. The encoder knows no others.
SCRIPTS = ("arabic", "cyrillic", "southeast_asian", "hangul", "kana", "han")
#: What the core appends to a vector; ``Texts.signals`` has the second less the first.
SIGNALS = ("excess_length", "length", *(f"share:{script}" for script in SCRIPTS))
SHARE_SCALE = 2.0
_SHORT_UNITS = 100.0
_NO_LENGTH = ("space", "newline", "control", "mark")
_INVISIBLE = ("space", "newline", "control")
_PASSAGES, _MAX_SENTENCES = 400, 10


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts in numbers.

    Attributes:
        pieces: counts of pieces, float32[texts, vocabulary], sparse.
        classes: counts of code points by class, float64[texts, classes].
    """

    pieces: sparse.csr_matrix
    classes: Float64Array

    def vectors(self, table: Float32Array) -> Float32Array:
        """Directions of the sums of pieces, float32[texts, dimensions]."""
        sums = self.pieces @ table
        return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9))

    def signals(self, units: Float64Array) -> Float64Array:
        """Length beyond ``_SHORT_UNITS``, length up to there, and the shares of ``SCRIPTS``:
        float64[texts, signals]."""
        length = np.log1p(self.classes @ units)
        visible = self.classes.sum(axis=1) - self.classes[:, _classes(_INVISIBLE)].sum(axis=1)
        shares = self.classes[:, _classes(SCRIPTS)] / np.maximum(visible, 1.0)[:, None]
        excess = np.maximum(length - np.log1p(_SHORT_UNITS), 0.0)
        return np.column_stack([excess, length - excess, shares])

    def passages(self, rows: Sequence[npt.NDArray[np.int64]]) -> Texts:
        """The sums of some texts each."""
        bounds = np.concatenate([[0], np.cumsum([len(some) for some in rows])])
        ones = np.ones(bounds[-1], dtype=np.float32)
        shape = (len(rows), self.pieces.shape[0])
        sums = sparse.csr_matrix((ones, np.concatenate(rows), bounds), shape=shape)
        return Texts((sums @ self.pieces).tocsr(), sums @ self.classes)


def count(
    texts: Sequence[str], vocabulary: Vocabulary
) -> tuple[Texts, list[npt.NDArray[np.int32]]]:
    """The texts in numbers, and the rows of each one's pieces in order."""
    rows = vocabulary.rows
    reader = vocabulary.reader(np.zeros((rows, 1), np.int8), np.ones(rows, np.float32))
    ids = [reader.token_ids(text) for text in texts]
    bounds = np.concatenate([[0], np.cumsum([len(some) for some in ids])])
    ones = np.ones(bounds[-1], dtype=np.float32)
    pieces = sparse.csr_matrix((ones, np.concatenate(ids), bounds), shape=(len(texts), rows))
    pieces.sum_duplicates()
    classes = np.array([reader.class_counts(text) for text in texts], dtype=np.float64)
    return Texts(pieces, classes), ids


def learn_units(english: Texts, translated: Texts, languages: npt.NDArray[np.str_]) -> Float64Array:
    """Units of length of a code point of each class, float64[classes], by which translations are as
    long as what they translate; each language weighs the same. Latin letters are 1."""
    units = np.ones(len(CLASSES))
    units[_classes(_NO_LENGTH)] = 0.0
    learnt = _classes(SCRIPTS)
    _, language, sizes = np.unique(languages, return_inverse=True, return_counts=True)
    weights = 1.0 / np.sqrt(sizes[language])

    def with_logarithms(logarithms: Float64Array) -> Float64Array:
        found = units.copy()
        found[learnt] = np.exp(logarithms)
        return found

    def errors(logarithms: Float64Array) -> Float64Array:
        of = with_logarithms(logarithms)
        return (np.log1p(translated.classes @ of) - np.log1p(english.classes @ of)) * weights

    found = optimize.least_squares(errors, np.zeros(len(learnt)), loss="soft_l1")
    return with_logarithms(found.x).round(3)


def draw_passages(translations: Sequence[Translation]) -> list[npt.NDArray[np.int64]]:
    """Groups of random translations of one language, equally many for each language."""
    generator = np.random.default_rng(1)
    languages = np.array([translation.language for translation in translations])
    found = []
    for language in np.unique(languages):
        rows = np.flatnonzero(languages == language)
        for _ in range(_PASSAGES):
            size = min(int(generator.integers(2, _MAX_SENTENCES + 1)), len(rows))
            found.append(generator.choice(rows, size, replace=False))
    return found


def _classes(names: Sequence[str]) -> list[int]:
    return [CLASSES.index(name) for name in names]
