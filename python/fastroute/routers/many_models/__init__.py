"""The ``models`` router: P(success) of each of many models on a prompt, calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.routers.many_models.estimator import Estimates, SuccessEstimator
    from fastroute.routers.many_models.examples import GradedExamples, NearPrompt
    from fastroute.routers.many_models.router import ModelsRouter

__all__ = ["Estimates", "GradedExamples", "ModelsRouter", "NearPrompt", "SuccessEstimator"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Estimates": "fastroute.routers.many_models.estimator",
        "GradedExamples": "fastroute.routers.many_models.examples",
        "ModelsRouter": "fastroute.routers.many_models.router",
        "NearPrompt": "fastroute.routers.many_models.examples",
        "SuccessEstimator": "fastroute.routers.many_models.estimator",
    },
)
