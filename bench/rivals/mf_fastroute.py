"""fastroute's default router."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastroute.routers import MatrixFactorizationRouter

NAME = "fastroute"


def missing() -> str | None:
    return None


def load() -> MatrixFactorizationRouter:
    return MatrixFactorizationRouter.load_default()


def route_text(router: MatrixFactorizationRouter, prompt: str) -> float:
    return router.win_rate(prompt)


def route_texts(
    router: MatrixFactorizationRouter, prompts: Sequence[str]
) -> npt.NDArray[np.float64]:
    return router.win_rates(prompts)


def route_embedding(router: MatrixFactorizationRouter, x: npt.NDArray[np.float32]) -> float:
    return router.win_rate_from_embedding(x)


def route_embeddings(
    router: MatrixFactorizationRouter, X: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    return router.win_rates_from_embeddings(X)
