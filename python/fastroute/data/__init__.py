"""Training data, read from the user's files and cleaned: battles, grades, difficulty of prompts.

``read_training_data`` is the door: files in, ``TrainingData`` out, with a report on what was
removed and why. ``read_records`` reads one file as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.data.exclusion import EvaluationPrompts
    from fastroute.data.reading import read_records, read_training_data
    from fastroute.data.records import (
        DataReport,
        FileReport,
        GradedResult,
        HarderPrompt,
        JudgedBattle,
        RatedPrompt,
        TrainingData,
    )

__all__ = [
    "DataReport",
    "EvaluationPrompts",
    "FileReport",
    "GradedResult",
    "HarderPrompt",
    "JudgedBattle",
    "RatedPrompt",
    "TrainingData",
    "read_records",
    "read_training_data",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DataReport": "fastroute.data.records",
        "EvaluationPrompts": "fastroute.data.exclusion",
        "FileReport": "fastroute.data.records",
        "GradedResult": "fastroute.data.records",
        "HarderPrompt": "fastroute.data.records",
        "JudgedBattle": "fastroute.data.records",
        "RatedPrompt": "fastroute.data.records",
        "TrainingData": "fastroute.data.records",
        "read_records": "fastroute.data.reading",
        "read_training_data": "fastroute.data.reading",
    },
)
