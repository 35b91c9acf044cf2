"""Training data: battles and graded results, read from the user's files and cleaned.

``read_training_data`` is the door: files in, ``TrainingData`` out, with a report on what was
removed and why. ``read_records`` reads one file as it is.
"""

from __future__ import annotations

from fastroute.data.exclusion import EvaluationPrompts
from fastroute.data.reading import read_records, read_training_data
from fastroute.data.records import (
    DataReport,
    FileReport,
    GradedResult,
    JudgedBattle,
    TrainingData,
)

__all__ = [
    "DataReport",
    "EvaluationPrompts",
    "FileReport",
    "GradedResult",
    "JudgedBattle",
    "TrainingData",
    "read_records",
    "read_training_data",
]
