"""The figure and the lists of prompts in the report of a choice among models."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from fastroute.evaluation.report import plots
from fastroute.evaluation.report.panels import INK, LENGTH, PAGE, PALETTE
from fastroute.learning.many_models.result import ModelsResult
from fastroute.learning.tune.prompt_list import SHOWN, prompts_section


def figures(found: ModelsResult) -> str:
    """Quality by dollars: the choice at every price of money, and the models alone."""

    kind = "operating point" if found.certified else "safest policy"
    most = max(float(found.curve[:, 0].max()), *(
        single.cost_usd_per_1000.value for single in found.singles.values()
        if single.cost_usd_per_1000 is not None
    ))  # fmt: skip

    def draw(axes: Any) -> None:
        axes.plot(found.curve[:, 0], 100.0 * found.curve[:, 1], color=PALETTE[0], label="choice")
        for name, single in found.singles.items():
            if single.cost_usd_per_1000 is None:
                continue
            at = single.cost_usd_per_1000.value, 100.0 * single.quality.value
            axes.plot(*at, "o", color=LENGTH, markersize=3)
            left = at[0] > most / 2  # so that a name stays on the axes
            axes.annotate(
                name, at, fontsize=7, xytext=(-4 if left else 4, -7), textcoords="offset points",
                ha="right" if left else "left",
            )  # fmt: skip
        if found.policy.cost_usd_per_1000 is not None:
            point = found.policy.cost_usd_per_1000.value, 100.0 * found.policy.quality.value
            axes.plot(*point, "D", color=INK, markerfacecolor=PAGE, markersize=4.5)
            axes.annotate(kind, point, fontsize=7, xytext=(6, -2), textcoords="offset points")
        axes.set_xlabel("Dollars per 1,000 requests")
        axes.set_ylabel("Quality, % of the best model's")

    caption = (
        "Quality by dollars: the line is the choice, from the cheapest to the best, its mark the "
        f"{kind}. The dots are the models alone."
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
