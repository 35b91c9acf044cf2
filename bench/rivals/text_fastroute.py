"""A controller whose mf router reads text by a vocabulary, in one call into the core.

The vocabulary is that of the tokenizer alone (``mf_tokenizers``), so both look for the same pieces.
The table and the pair of models are random, which changes no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastroute import Controller
from fastroute.embedders.static import StaticEmbedder
from fastroute.embedders.vocabulary import Signal, Vocabulary
from fastroute.routers import MatrixFactorizationRouter
from rivals import mf_tokenizers

NAME = "fastroute"
DIMENSIONS = 64
SIGNALS = (Signal("length", "one", 1 / 32), Signal("share:digit", "one", 1 / 32))


@dataclass(frozen=True)
class Parts:
    """What the answers follow from."""

    pieces: list[str]
    table: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    pair: npt.NDArray[np.float32]


def missing() -> str | None:
    return mf_tokenizers.missing()


def parts() -> Parts:
    tokens = mf_tokenizers.load().get_vocab()
    pieces = [_piece(token) for token in sorted(tokens, key=tokens.__getitem__)]
    rng = np.random.default_rng(0)
    table = rng.integers(-127, 128, (len(pieces), DIMENSIONS)).astype(np.int8)
    scales = rng.uniform(1e-3, 1e-2, len(pieces)).astype(np.float32)
    pair = rng.normal(size=DIMENSIONS + len(SIGNALS)).astype(np.float32)
    return Parts(pieces, table, scales, pair)


def _piece(token: str) -> str:
    """WordPiece marks what continues a word, a vocabulary what begins one."""
    if token.startswith("[") and len(token) > 1:
        return ""  # [CLS] and its like, which no text has
    return token.removeprefix("##") if token.startswith("##") else f" {token}"


def load() -> Controller:
    made = parts()
    vocabulary = Vocabulary.of(made.pieces, lowercase=True, signals=SIGNALS)
    embedder = StaticEmbedder(made.table, made.scales, vocabulary, name="static:bench")
    # delta(M, q) = c . (P_M / |P_M| * (W q)): the pair's vector comes out as it is.
    router = MatrixFactorizationRouter(
        ["strong", "weak"],
        np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32),
        np.stack([made.pair, np.zeros_like(made.pair)]),
        np.ones(2, dtype=np.float32),
        strong_model="strong",
        weak_model="weak",
        embedder=embedder,
    )
    return Controller(routers=[router], strong_model="strong", weak_model="weak")


def route_text(controller: Controller, prompt: str) -> str:
    return controller.route(prompt, "mf", 0.5)


def route_texts(controller: Controller, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
    return controller.batch_calculate_win_rate(prompts, "mf")
