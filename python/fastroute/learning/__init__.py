"""Learning from own traffic: a router with a guarantee from graded prompts.

``read_export`` reads a file, ``tune`` learns and judges, ``save_result`` writes what can be served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.learning.tune.costs import Price
    from fastroute.learning.tune.export import Export, read_export
    from fastroute.learning.tune.guarantee import Goal
    from fastroute.learning.tune.output import save_result
    from fastroute.learning.tune.result import TuneResult
    from fastroute.learning.tune.run import tune_router

__all__ = ["Export", "Goal", "Price", "TuneResult", "read_export", "save_result", "tune_router"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Export": "fastroute.learning.tune.export",
        "Goal": "fastroute.learning.tune.guarantee",
        "Price": "fastroute.learning.tune.costs",
        "TuneResult": "fastroute.learning.tune.result",
        "read_export": "fastroute.learning.tune.export",
        "save_result": "fastroute.learning.tune.output",
        "tune_router": "fastroute.learning.tune.run",
    },
)
