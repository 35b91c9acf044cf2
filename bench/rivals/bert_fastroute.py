"""fastroute's ``bert`` router, int8, one prompt on one thread; a batch on as many as there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import bert_model
from fastroute.routers import BertRouter

NAME = "fastroute, int8"


def missing() -> str | None:
    return bert_model.missing()


def load() -> BertRouter:
    return BertRouter(bert_model.model_folder(), precision="int8")


def route_text(router: BertRouter, prompt: str) -> float:
    return router.win_rate(prompt)


def route_texts(router: BertRouter, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
    return router.win_rates(prompts)
