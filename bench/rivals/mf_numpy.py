"""The default router's formula in plain Python and NumPy: a dictionary of pieces and a sum of rows.

It reads the files itself, folds everything that does not depend on the prompt, and checks
nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

import text_reference
from fastroute.embedders.static import DEFAULT_FOLDER as EMBEDDER_FOLDER
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER as ROUTER_FOLDER

NAME = "numpy"

Float32 = npt.NDArray[np.float32]

_class_of = cache(text_reference.class_of)


@dataclass(frozen=True)
class Router:
    pieces: dict[str, int]
    longest: int
    table: npt.NDArray[np.int8]
    scales: Float32
    units: dict[str, float]
    signals: list[tuple[str, str, float]]
    pair: Float32


def missing() -> str | None:
    return None


def load() -> Router:
    embedder = load_file(EMBEDDER_FOLDER / "arrays.safetensors")
    arrays = load_file(ROUTER_FOLDER / "arrays.safetensors")
    config, of_embedder = (
        json.loads((folder / "artifact.json").read_text("utf-8"))["config"]
        for folder in (ROUTER_FOLDER, EMBEDDER_FOLDER)
    )
    text, offsets = embedder["pieces"].tobytes(), embedder["piece_offsets"].tolist()
    bounds = enumerate(pairwise(offsets))
    pieces = {text[begin:end].decode(): row for row, (begin, end) in bounds if end > begin}
    P = arrays["P.weight"].astype(np.float64)
    unit = P / np.linalg.norm(P, axis=1, keepdims=True)
    folded = (unit * arrays["classifier.0.weight"].reshape(-1)) @ arrays["text_proj.0.weight"]
    strong, weak = (config["models"].index(config[k]) for k in ("strong_model", "weak_model"))
    return Router(
        pieces,
        max(map(len, pieces)),
        embedder["table"],
        embedder["scales"],
        dict(zip(text_reference.CLASSES, embedder["class_units"].tolist(), strict=True)),
        [tuple(signal) for signal in of_embedder["signals"]],
        (folded[strong] - folded[weak]).astype(np.float32),
    )


def embed(router: Router, prompt: str) -> Float32:
    """Embed one prompt: float32[dimensions + signals]; zeros for one without a known piece."""
    x = np.zeros(len(router.pair), dtype=np.float32)
    rows = _rows(router, text_reference.normalize(prompt))
    if rows:
        total = router.scales[rows] @ router.table[rows].astype(np.float32)
        norm = np.sqrt(total @ total)
        if norm > 0:
            dimensions = len(total)
            x[:dimensions] = total / norm
            x[dimensions:] = _signals(router, prompt)
    return x


def _rows(router: Router, text: str) -> list[int]:
    """Rows of the longest pieces from left to right."""
    rows, at = [], 0
    while at < len(text):
        for end in range(min(len(text), at + router.longest), at, -1):
            if (row := router.pieces.get(text[at:end])) is not None:
                rows.append(row)
                at = end
                break
        else:
            at += 1
    return rows


def _signals(router: Router, prompt: str) -> list[float]:
    counts = Counter(map(_class_of, prompt))
    length = float(np.log1p(sum(router.units[name] * n for name, n in counts.items())))
    visible = sum(n for name, n in counts.items() if name not in ("space", "newline", "control"))
    features = {"one": 1.0, "length": length, "excess_length": max(0.0, length - np.log(101))}
    for name in text_reference.CLASSES:
        features[f"share:{name}"] = counts[name] / visible
    return [scale * features[first] * features[second] for first, second, scale in router.signals]


def route_text(router: Router, prompt: str) -> float:
    return route_embedding(router, embed(router, prompt))


def route_texts(router: Router, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
    return route_embeddings(router, np.array([embed(router, prompt) for prompt in prompts]))


def route_embedding(router: Router, x: Float32) -> float:
    return float(1.0 / (1.0 + np.exp(-(router.pair @ x))))


def route_embeddings(router: Router, X: Float32) -> npt.NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-(X @ router.pair).astype(np.float64)))
