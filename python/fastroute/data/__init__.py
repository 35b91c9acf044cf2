"""Training data, read from the user's files and cleaned: battles, grades, difficulty of prompts.

``read_training_data`` is the door: files in, ``TrainingData`` out, with a report on what was
removed and why. ``read_records`` reads one file as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.data.exclusion import EvaluationPrompts as EvaluationPrompts
    from fastroute.data.reading import read_records as read_records
    from fastroute.data.reading import read_training_data as read_training_data
    from fastroute.data.records import DataReport as DataReport
    from fastroute.data.records import FileReport as FileReport
    from fastroute.data.records import GradedResult as GradedResult
    from fastroute.data.records import HarderPrompt as HarderPrompt
    from fastroute.data.records import JudgedBattle as JudgedBattle
    from fastroute.data.records import RatedPrompt as RatedPrompt
    from fastroute.data.records import TrainingData as TrainingData

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.data.exclusion": "EvaluationPrompts",
        "fastroute.data.reading": "read_records read_training_data",
        "fastroute.data.records": (
            "DataReport FileReport GradedResult HarderPrompt JudgedBattle RatedPrompt TrainingData"
        ),
    },
)
