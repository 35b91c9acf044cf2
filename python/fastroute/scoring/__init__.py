"""Win rates of many prompts: files of any size, in bounded memory, on any number of processes.

``files`` finds what is to be read, here or in an object store. A row group of a Parquet file, or a
whole JSONL or CSV file, is a part (``parts``): it is read, scored (``batch``) and written as one
file that appears whole or not at all. ``run`` plans the parts, and goes on where a run was killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.scoring.batch import BatchScorer as BatchScorer
    from fastroute.scoring.run import ScoreReport as ScoreReport
    from fastroute.scoring.run import score_files as score_files

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.scoring.batch": "BatchScorer",
        "fastroute.scoring.run": "ScoreReport score_files",
    },
)
