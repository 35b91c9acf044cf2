"""The figure and the lists of prompts in the report of a choice among models."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from fastroute.evaluation.report import plots
from fastroute.evaluation.report.panels import INK, LENGTH, PALETTE
from fastroute.learning.many_models.result import ModelsResult
from fastroute.learning.tune.prompt_list import SHOWN, prompts_section


def figures(found: ModelsResult) -> str:
    """Quality by dollars: the choice at every price of money, and the models alone."""

    def draw(axes: Any) -> None:
        axes.plot(found.curve[:, 0], 100.0 * found.curve[:, 1], color=PALETTE[0], label="choice")
        for name, single in found.singles.items():
            if single.cost_usd_per_1000 is None:
                continue
            at = single.cost_usd_per_1000.value, 100.0 * single.quality.value
            axes.plot(*at, "o", color=LENGTH, markersize=3)
            axes.annotate(name, at, fontsize=6, xytext=(3, 3), textcoords="offset points")
        if found.policy.cost_usd_per_1000 is not None:
            point = found.policy.cost_usd_per_1000.value, 100.0 * found.policy.quality.value
            axes.plot(*point, "D", color=INK, markersize=5)
        axes.set_xlabel("dollars per 1,000 requests")
        axes.set_ylabel(f"quality, % of {found.best}'s")

    kind = "operating point" if found.certified else "safest policy"
    caption = (
        f"Quality by dollars on the test prompts, as the price of money changes; the mark is the "
        f"{kind}, the dots are the models alone."
    )
    svg = plots.panel_svg((3.9, 3.3), draw)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def choices(found: ModelsResult) -> str:
    """The test prompts on which the choice lost and won the most against the best model."""
    row = np.arange(len(found.test))
    best = [candidate.name for candidate in found.candidates].index(found.best)
    grades = found.test.grades
    gain = grades[row, found.chosen] - grades[:, best]
    order = np.argsort(gain, kind="stable")
    sections = []
    for title, said, part in (
        ("Worst choices", f"The answer of {found.best} was better.", order[gain[order] < 0.0]),
        ("Best choices", f"The answer of {found.best} was worse.", order[gain[order] > 0.0][::-1]),
    ):
        items = []
        for i in part[:SHOWN].tolist():
            j = int(found.chosen[i])
            facts = (
                f"To {found.candidates[j].name}, with P(success) {found.probability[i, j]:.2f} "
                f"({found.best}: {found.probability[i, best]:.2f}). Grades (0 to 1): "
                f"{grades[i, j]:.2f}, {found.best} {grades[i, best]:.2f}. "
                f"{found.test.where[i].capitalize()}."
            )
            items.append((found.test.prompts[i], facts))
        sections.append(prompts_section(title, said, items, len(part), len(found.test)))
    return "".join(sections)
