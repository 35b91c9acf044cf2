"""One line of the table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """How ``figures.py`` was asked to measure.

    Attributes:
        data: folder with RouteLLM's evaluation results, or None for synthetic prompts.
        quick: smaller sizes; the targets are not about those.
    """

    data: Path | None
    quick: bool


@dataclass(frozen=True)
class Figure:
    """A figure that was measured in this run, or the reason why it could not be.

    Attributes:
        name: what was measured.
        bound, target: it should be "at most" or "at least" that; None where nobody set one.
        measured: in ``unit``; None where it could not be measured.
        how: sizes, what it was measured against, and what else the reader should know.
    """

    name: str
    bound: Literal["at most", "at least"]
    target: float | None
    measured: float | None
    unit: str
    how: str

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is no target or no measurement."""
        if self.target is None or self.measured is None:
            return None
        at_most = self.bound == "at most"
        return self.measured <= self.target if at_most else self.measured >= self.target


HEADER = "| figure | target | measured | of target | how |\n|---|---|---|---|---|"


def row(figure: Figure) -> str:
    """The figure as a row of a Markdown table."""
    target = measured = ratio = ""
    if figure.target is not None:
        target = f"{figure.bound} {_quantity(figure.target, figure.unit)}"
    if figure.measured is None:
        measured = "not measured"
    else:
        measured = _quantity(figure.measured, figure.unit)
        if figure.target:
            ratio = f"{_number(figure.measured / figure.target)}, "
        if figure.met is not None:
            ratio += "met" if figure.met else "**missed**"
    return f"| {figure.name} | {target} | {measured} | {ratio} | {figure.how} |"


def missed(figures: Iterable[Figure]) -> list[str]:
    """Names of the figures that miss their target."""
    return [figure.name for figure in figures if figure.met is False]


def _quantity(value: float, unit: str) -> str:
    return f"{_number(value)}x" if unit == "times" else f"{_number(value)} {unit}".rstrip()


def _number(value: float) -> str:
    """Three significant digits; a power of ten where that is shorter to read."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
