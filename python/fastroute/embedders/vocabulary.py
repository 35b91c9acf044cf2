"""The vocabulary of a static table that the compiled core reads itself, from text to vector.

A text is normalised (NFKC, runs of white space to one space, one space in front), and from left to
right the longest piece that matches is taken. A piece that begins a word begins with a space,
where SentencePiece writes U+2581.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute._arrays import check_array
from fastroute._validate import available_threads, check_prompt, check_prompts
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.types import Float32Array, Float64Array

#: What a text is measured by, beside its pieces; csrc/text/text_features.hpp defines each.
FEATURES: tuple[str, ...] = tuple(_native.text_features())
#: Classes of code points, which ``length`` weighs and ``share:<class>`` counts.
CLASSES: tuple[str, ...] = tuple(_native.code_point_classes())

T = TypeVar("T")


class Signal(NamedTuple):
    """An element behind the direction: ``scale`` times a feature, or the product of two."""

    first: str
    second: str
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Pieces of text, one for each row of a table, and how a text is read by them.

    Attributes:
        pieces: uint8[bytes], UTF-8 of the pieces one after another. An empty piece is one that no
            text has.
        piece_offsets: uint32[rows + 1]; piece i is pieces[piece_offsets[i]:piece_offsets[i + 1]].
        lowercase: whether the pieces are in lower case, and text is put into it.
        unknown_row: the row of a code point that no piece covers; None: it adds nothing.
        class_units: float64[classes], the weight of a code point of each of ``CLASSES`` in the
            feature ``length``: what makes it mean the same in every script.
        signals: the elements behind the direction.

    Raises InvalidInputError or a subclass for an invalid vocabulary.
    """

    pieces: npt.NDArray[np.uint8]
    piece_offsets: npt.NDArray[np.uint32]
    lowercase: bool = False
    unknown_row: int | None = None
    class_units: Float64Array | None = None
    signals: tuple[Signal, ...] = ()

    def __post_init__(self) -> None:
        check_array("pieces", self.pieces, np.uint8, 1)
        check_array("piece_offsets", self.piece_offsets, np.uint32, 1)
        if not (
            len(self.piece_offsets)
            and self.piece_offsets[0] == 0
            and self.piece_offsets[-1] == len(self.pieces)
            and (self.piece_offsets[1:] >= self.piece_offsets[:-1]).all()
        ):
            raise InvalidInputError(
                f"piece_offsets must rise from 0 to len(pieces) = {len(self.pieces)}"
            )
        try:
            self.pieces.tobytes().decode()
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"pieces is not UTF-8 at byte {error.start}") from None
        begins = self.piece_offsets[self.piece_offsets < len(self.pieces)]
        if ((self.pieces[begins] & 0xC0) == 0x80).any():
            raise InvalidInputError("piece_offsets has an offset inside a code point of pieces")
        if self.unknown_row is not None and not (
            isinstance(self.unknown_row, int) and 0 <= self.unknown_row < self.rows
        ):
            raise InvalidInputError(
                f"unknown_row must be None or a row from 0 to {self.rows - 1}, got "
                f"{self.unknown_row!r}"
            )
        if not isinstance(self.lowercase, bool):
            raise InvalidTypeError(f"lowercase must be a bool, got {self.lowercase!r}")
        if self.class_units is not None:
            check_array("class_units", self.class_units, np.float64, 1)
            if not (
                len(self.class_units) == len(CLASSES)
                and np.isfinite(self.class_units).all()
                and (self.class_units >= 0).all()
            ):
                raise InvalidInputError(
                    f"class_units must be {len(CLASSES)} numbers that are not negative: "
                    f"{', '.join(CLASSES)}"
                )

    @classmethod
    def of(cls, pieces: Sequence[str], **options: Any) -> Self:
        """A vocabulary of ``pieces``, with spaces or U+2581 where a word begins."""
        encoded = [piece.replace("\u2581", " ").encode() for piece in pieces]
        offsets = np.zeros(len(encoded) + 1, dtype=np.uint32)
        np.cumsum([len(piece) for piece in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets, **options)

    @classmethod
    def read(cls, arrays: Mapping[str, npt.NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """The vocabulary in an artifact's arrays and config.

        Raises KeyError for an array that is missing, InvalidInputError for one that can't be used.
        """
        units, signals = arrays.get("class_units"), config.get("signals", [])
        if not isinstance(signals, (list, tuple)):
            raise InvalidInputError(f"signals must be a list, got {signals!r}")
        return cls(
            arrays["pieces"],
            arrays["piece_offsets"],
            lowercase=config.get("lowercase", False),
            unknown_row=config.get("unknown_row"),
            class_units=units,
            signals=tuple(map(_read_signal, signals)),
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What ``read`` reads from an artifact's arrays."""
        units = {} if self.class_units is None else {"class_units": self.class_units}
        return {"pieces": self.pieces, "piece_offsets": self.piece_offsets, **units}

    def config(self) -> dict[str, Any]:
        """What ``read`` reads from an artifact's config."""
        return {
            "lowercase": self.lowercase,
            "unknown_row": self.unknown_row,
            "signals": [list(signal) for signal in self.signals],
        }

    @property
    def rows(self) -> int:
        """Number of pieces, and of rows in the table."""
        return len(self.piece_offsets) - 1

    def piece(self, row: int) -> str:
        """The piece of a row."""
        begin, end = self.piece_offsets[row : row + 2]
        return self.pieces[begin:end].tobytes().decode()

    def reader(self, table: npt.NDArray[Any], scales: Float32Array) -> VocabularyReader:
        """What reads text by these pieces, over a checked table of as many rows."""
        if len(table) != self.rows:
            raise InvalidInputError(
                f"table has {len(table)} rows where the vocabulary has {self.rows} pieces"
            )
        units = np.ones(len(CLASSES)) if self.class_units is None else self.class_units
        features = [[_feature(s.first), _feature(s.second)] for s in self.signals]
        try:
            core = _native.TextEmbedder(
                table,
                scales,
                self.pieces,
                self.piece_offsets,
                lowercase=self.lowercase,
                unknown_row=-1 if self.unknown_row is None else self.unknown_row,
                class_units=units,
                signal_features=np.array(features, dtype=np.int64).reshape(-1, 2),
                signal_scales=np.array([s.scale for s in self.signals], dtype=np.float32),
            )
        except ValueError as error:
            raise InvalidInputError(f"the vocabulary can't be used: {error}") from None
        return VocabularyReader(core, self, table, scales)


class VocabularyReader:
    """Text to vectors in one call into the core: read, add up, scale, append the signals."""

    def __init__(
        self,
        core: _native.TextEmbedder,
        vocabulary: Vocabulary,
        table: npt.NDArray[Any],
        scales: Float32Array,
    ) -> None:
        self._core = core
        self._parts = vocabulary, table, scales
        self.vocabulary = vocabulary
        self.signals = len(vocabulary.signals)
        lengths = [signal[:2] == ("length", "one") for signal in vocabulary.signals]
        self.length_signal = lengths.index(True) if any(lengths) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return Vocabulary.reader, self._parts

    def without_signals(self) -> Vocabulary:
        """The vocabulary without elements behind the direction."""
        return replace(self.vocabulary, signals=())

    def token_ids(self, prompt: str) -> npt.NDArray[np.int32]:
        """Rows of the pieces in order, int32[pieces]."""
        return self._checked(self._core.piece_rows, prompt)

    def features(self, prompt: str) -> Float64Array:
        """Values of ``FEATURES``, float64[features]."""
        return self._checked(self._core.features, prompt)

    def class_counts(self, prompt: str) -> npt.NDArray[np.uint64]:
        """Code points of each of ``CLASSES``, uint64[classes]."""
        return self._checked(self._core.class_counts, prompt)

    def embed(self, prompt: str) -> Float32Array:
        """Vector of one prompt, float32[dimensions + signals]."""
        return self._checked(self._core.embed, prompt)

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        """Vectors of many prompts, float32[n, dimensions + signals]."""
        texts = check_prompts(prompts)
        try:
            return self._core.embed_batch(texts, available_threads())
        except ValueError as error:
            raise InvalidInputError(f"prompts can't be embedded: {error}") from None

    def scorer(self, pair: Float32Array) -> _native.TextScorer:
        """Win rates of text by a pair of models, float32[dimensions + signals]."""
        return _native.TextScorer(self._core, pair)

    def estimator(self, estimator: _native.SuccessEstimator) -> _native.TextEstimator:
        """P(success) of many models on text."""
        return _native.TextEstimator(self._core, estimator)

    @staticmethod
    def _checked(read: Callable[[str], T], prompt: str) -> T:
        try:
            return read(prompt)
        except (TypeError, ValueError) as error:
            check_prompt(prompt)
            raise InvalidInputError(f"prompt can't be embedded: {error}") from None


def _feature(name: str) -> int:
    try:
        return FEATURES.index(name)
    except ValueError:
        raise InvalidInputError(
            f"signals has {name!r}, which is not a feature; the features are {', '.join(FEATURES)}"
        ) from None


def _read_signal(entry: Any) -> Signal:
    match entry:
        case [str(first), int(scale) | float(scale)]:
            return Signal(first, "one", float(scale))
        case [str(first), str(second), int(scale) | float(scale)]:
            return Signal(first, second, float(scale))
    raise InvalidInputError(
        f"signals has {entry!r}, which is not [feature, scale] or [feature, feature, scale]"
    )
