"""Evaluation: benchmarks, cost-quality metrics, intervals, protocols and reports."""

from __future__ import annotations
