"""Learning from own traffic: a router with a guarantee from graded prompts.

``read_export`` reads a file, ``tune_router`` learns and judges for a pair of models and
``tune_models`` for more, ``save_result`` writes what can be served. ``suggest_prompts`` says what
to grade next, and ``GradeFile`` keeps a person's verdicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.labelling.comparison import Comparison as Comparison
    from fastroute.learning.grading import GradeFile as GradeFile
    from fastroute.learning.grading import read_comparisons as read_comparisons
    from fastroute.learning.many_models.result import ModelsResult as ModelsResult
    from fastroute.learning.many_models.run import tune_models as tune_models
    from fastroute.learning.tune.costs import Price as Price
    from fastroute.learning.tune.export import Export as Export
    from fastroute.learning.tune.export import read_export as read_export
    from fastroute.learning.tune.guarantee import Goal as Goal
    from fastroute.learning.tune.output import save_result as save_result
    from fastroute.learning.tune.result import TuneResult as TuneResult
    from fastroute.learning.tune.run import tune_router as tune_router
    from fastroute.learning.tune.suggest import suggest_prompts as suggest_prompts

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.labelling.comparison": "Comparison",
        "fastroute.learning.grading": "GradeFile read_comparisons",
        "fastroute.learning.many_models.result": "ModelsResult",
        "fastroute.learning.many_models.run": "tune_models",
        "fastroute.learning.tune.costs": "Price",
        "fastroute.learning.tune.export": "Export read_export",
        "fastroute.learning.tune.guarantee": "Goal",
        "fastroute.learning.tune.output": "save_result",
        "fastroute.learning.tune.result": "TuneResult",
        "fastroute.learning.tune.run": "tune_router",
        "fastroute.learning.tune.suggest": "suggest_prompts",
    },
)
