"""Learning from own traffic: a router with a guarantee from graded prompts.

``read_export`` reads a file, ``tune_router`` learns and judges for a pair of models and
``tune_models`` for more, ``save_result`` writes what can be served. ``suggest_prompts`` says what
to grade next, and ``GradeFile`` keeps a person's verdicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.labelling.comparison import Comparison
    from fastroute.learning.grading import GradeFile, read_comparisons
    from fastroute.learning.many_models.result import ModelsResult
    from fastroute.learning.many_models.run import tune_models
    from fastroute.learning.tune.costs import Price
    from fastroute.learning.tune.export import Export, read_export
    from fastroute.learning.tune.guarantee import Goal
    from fastroute.learning.tune.output import save_result
    from fastroute.learning.tune.result import TuneResult
    from fastroute.learning.tune.run import tune_router
    from fastroute.learning.tune.suggest import suggest_prompts

__all__ = [
    "Comparison",
    "Export",
    "Goal",
    "GradeFile",
    "ModelsResult",
    "Price",
    "TuneResult",
    "read_comparisons",
    "read_export",
    "save_result",
    "suggest_prompts",
    "tune_models",
    "tune_router",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Comparison": "fastroute.labelling.comparison",
        "Export": "fastroute.learning.tune.export",
        "Goal": "fastroute.learning.tune.guarantee",
        "GradeFile": "fastroute.learning.grading",
        "ModelsResult": "fastroute.learning.many_models.result",
        "Price": "fastroute.learning.tune.costs",
        "TuneResult": "fastroute.learning.tune.result",
        "read_comparisons": "fastroute.learning.grading",
        "read_export": "fastroute.learning.tune.export",
        "save_result": "fastroute.learning.tune.output",
        "suggest_prompts": "fastroute.learning.tune.suggest",
        "tune_models": "fastroute.learning.many_models.run",
        "tune_router": "fastroute.learning.tune.run",
    },
)
