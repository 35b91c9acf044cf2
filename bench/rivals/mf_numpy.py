"""The default router's formula in plain NumPy, as a careful user would write it.

It reads the files itself, folds everything that does not depend on the prompt, and checks
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from fastroute.embedders.static import DEFAULT_FOLDER as EMBEDDER_FOLDER
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER as ROUTER_FOLDER
from rivals import mf_tokenizers

NAME = "numpy"

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Router:
    tokenizer: Tokenizer
    table: npt.NDArray[np.int8]
    scales: Float32
    length_scale: float
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
    P = arrays["P.weight"].astype(np.float64)
    unit = P / np.linalg.norm(P, axis=1, keepdims=True)
    folded = (unit * arrays["classifier.0.weight"].reshape(-1)) @ arrays["text_proj.0.weight"]
    strong, weak = (config["models"].index(config[k]) for k in ("strong_model", "weak_model"))
    pair = (folded[strong] - folded[weak]).astype(np.float32)
    return Router(
        mf_tokenizers.load(),
        embedder["table"],
        embedder["scales"],
        of_embedder["length_scale"],
        pair,
    )


def embed(router: Router, prompt: str) -> Float32:
    """Embed one prompt: float32[d + 1], the last for its length; zeros for one without tokens."""
    x = np.zeros(router.table.shape[1] + 1, dtype=np.float32)
    ids = router.tokenizer.encode(prompt, add_special_tokens=False).ids
    if ids:
        total = router.scales[ids] @ router.table[ids].astype(np.float32)
        norm = np.sqrt(total @ total)
        if norm > 0:
            x[:-1] = total / norm
            x[-1] = router.length_scale * np.log1p(len(ids))
    return x


def route_text(router: Router, prompt: str) -> float:
    return route_embedding(router, embed(router, prompt))


def route_texts(router: Router, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
    X = np.zeros((len(prompts), router.table.shape[1] + 1), dtype=np.float32)
    encodings = router.tokenizer.encode_batch(list(prompts), add_special_tokens=False)
    for x, encoding in zip(X, encodings, strict=True):
        if ids := encoding.ids:
            np.matmul(router.scales[ids], router.table[ids].astype(np.float32), out=x[:-1])
    norms = np.sqrt(np.einsum("nd,nd->n", X, X))[:, None]
    np.divide(X, norms, out=X, where=norms > 0)
    tokens = np.array([len(encoding.ids) for encoding in encodings])
    X[:, -1] = np.where(norms[:, 0] > 0, router.length_scale * np.log1p(tokens), 0.0)
    return route_embeddings(router, X)


def route_embedding(router: Router, x: Float32) -> float:
    return float(1.0 / (1.0 + np.exp(-(router.pair @ x))))


def route_embeddings(router: Router, X: Float32) -> npt.NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-(X @ router.pair).astype(np.float64)))
