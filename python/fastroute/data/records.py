"""The records that training reads: a battle, a graded result, and all that was read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from fastroute.types import Battle, Winner


def listed(names: Iterable[str], most: int = 12) -> str:
    """The first names with commas between, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def group_name(file: str, dataset: str) -> str:
    """File and dataset: what one label offset is taken for."""
    return f"{file.split('.')[0]}/{dataset}"


@dataclass(frozen=True, slots=True)
class Record:
    """What a file says of a prompt.

    Attributes:
        file: name of the file that it was read from.
        dataset: the dataset that the prompt belongs to, unique with ``file``; may be empty.
        prompt: what the models were asked.
    """

    file: str
    dataset: str
    prompt: str

    @property
    def group(self) -> str:
        """File and dataset: what one label offset is taken for."""
        return group_name(self.file, self.dataset)


@dataclass(frozen=True, slots=True)
class GradedResult(Record):
    """One prompt and what each model scored on it, a ``Record``.

    Attributes:
        scores: score of each model, 0 (wrong) to 1 (right) in training data, as the file has them
            from ``read_records``; a model may be missing.
        costs: dollars that each model's answer cost; empty where not known.
        where: line or row of the file.
        id: what the file calls the prompt; may be empty.
    """

    scores: dict[str, float]
    costs: dict[str, float] = field(default_factory=dict)
    where: str = field(default="", compare=False)
    id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class JudgedBattle(Record):
    """One comparison of two models' answers to one prompt, a ``Record``.

    Attributes:
        model_a, model_b: the two models, different ones.
        preference: how far b's answer was preferred: 1 where b won, 0.5 for a tie, 0 where a won.
        both_bad: a tie because neither answer was any good.
        where: line or row of the file; the verdicts of one row are of one judge.
    """

    model_a: str
    model_b: str
    preference: float
    both_bad: bool = False
    where: str = field(default="", compare=False)

    @property
    def winner(self) -> Winner:
        """The side that was preferred, however little, in the words of Chatbot Arena's data."""
        if self.preference == 0.5:
            return "tie (bothbad)" if self.both_bad else "tie"
        return "model_b" if self.preference > 0.5 else "model_a"

    def as_battle(self) -> Battle:
        """The battle as ``sw_ranking`` takes it."""
        return Battle(self.prompt, self.model_a, self.model_b, self.winner)


@dataclass(frozen=True, slots=True)
class RatedPrompt(Record):
    """How hard one prompt is, on the scale of its file and dataset, its ``group``; a ``Record``.

    Attributes:
        difficulty: a number that is greater for harder prompts.
        standard_error: of ``difficulty``, 0 where not known.
        where: line or row of the file.
    """

    difficulty: float
    standard_error: float = 0.0
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class HarderPrompt(Record):
    """Which of two prompts is harder, a ``Record``.

    Attributes:
        prompt_b: the other prompt, a different one.
        harder: how far ``prompt_b`` is harder: 1, 0.5 where they are equally hard, 0.
        where: line or row of the file.
    """

    prompt_b: str
    harder: float
    where: str = field(default="", compare=False)


def prompts_of(
    record: JudgedBattle | GradedResult | RatedPrompt | HarderPrompt,
) -> tuple[str, ...]:
    """The prompts that a record is on: one or two."""
    if isinstance(record, HarderPrompt):
        return record.prompt, record.prompt_b
    return (record.prompt,)


@dataclass(slots=True)
class FileReport:
    """What was read from one file.

    Attributes:
        file: its path.
        rows: its rows, malformed ones too.
        battles, graded, difficulty: the battles, graded results and labels of difficulty in them.
        malformed: rows that could not be read; only where they may be skipped.
        without_prompt: rows of Chatbot Arena whose turns are all null or blank; left out.
        repaired: prompts of Chatbot Arena with a lone surrogate, which became U+FFFD.
        examples: the first malformed rows, as "line 3: ...".
        models: the models of graded results, sorted by name.
        left_out: columns that hold no scores, and why.
        scale: the least and the greatest score: 0 and 1, or those of the file.
    """

    file: str
    rows: int = 0
    battles: int = 0
    graded: int = 0
    difficulty: int = 0
    malformed: int = 0
    without_prompt: int = 0
    repaired: int = 0
    examples: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    scale: tuple[float, float] = (0.0, 1.0)

    def column_lines(self) -> list[str]:
        """What was made of the columns, a line each; nothing where there is nothing to say."""
        said = []
        if self.left_out:
            columns = listed(f"{name} ({why})" for name, why in self.left_out.items())
            models = "" if self.difficulty else f"; the models are {listed(self.models) or 'none'}"
            said.append(f"{self.file}: columns not read as scores: {columns}{models}")
        if self.scale != (0.0, 1.0):
            low, high = self.scale
            said.append(f"{self.file}: scores are from {low:g} to {high:g}")
        return said


@dataclass(slots=True)
class DataReport:
    """What was read, what was removed and why. Labels are verdicts and scores of one model.

    Attributes:
        files: what each file held.
        both_orders: verdicts of one judge on the same two answers in the other order, which became
            one verdict, their mean.
        duplicates: labels that say again what another said: same prompt, models and label.
        conflicts: labels removed because labels of the same prompt and models disagree, or made
            one mean where that was asked for.
        not_english: records left out because only English was asked for.
        excluded_exact: prompts removed that are in an evaluation set but for case and punctuation.
        excluded_overlap: prompts removed that share more than half of their 8-grams with one.
        battles, graded, difficulty, prompts, models: what is left.
        examples: the first removed ones of each kind, as "file, line 3: ...".
    """

    files: list[FileReport] = field(default_factory=list)
    both_orders: int = 0
    duplicates: int = 0
    conflicts: int = 0
    not_english: int = 0
    excluded_exact: int = 0
    excluded_overlap: int = 0
    battles: int = 0
    graded: int = 0
    difficulty: int = 0
    prompts: int = 0
    models: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report in words, a line each; what did not occur is left out."""
        said = [f"{f.file}: {f.rows:,} rows, {_counted(f)}" for f in self.files]
        said += [line for f in self.files for line in f.column_lines()]
        for count, what in (
            (sum(f.malformed for f in self.files), "malformed rows left out"),
            (sum(f.without_prompt for f in self.files), "rows without any prompt left out"),
            (sum(f.repaired for f in self.files), "prompts with a lone surrogate repaired"),
            (self.both_orders, "verdicts in both orders taken together"),
            (self.duplicates, "duplicate labels left out"),
            (self.conflicts, "conflicting labels left out, or averaged where asked"),
            (self.not_english, "labels of prompts that are not in English left out"),
            (self.excluded_exact, "prompts of an evaluation set left out"),
            (self.excluded_overlap, "prompts much like one of an evaluation set left out"),
        ):
            if count:
                said.append(f"{count:,} {what}")
        models = f" of {self.models:,} models" if self.models else ""
        said.append(f"left: {_counted(self)}{models} on {self.prompts:,} prompts")
        return said

    def note(self, kind: str, example: str, most: int = 5) -> None:
        """Keep ``example`` if it is among the first of its kind."""
        kept = self.examples.setdefault(kind, [])
        if len(kept) < most:
            kept.append(example)


def _counted(report: FileReport | DataReport) -> str:
    """How many records of each kind, in words."""
    counts = [f"{report.battles:,} battles", f"{report.graded:,} graded results"]
    if report.difficulty:
        said = f"{report.difficulty:,} labels of difficulty"
        return f"{', '.join(counts)}, {said}" if report.battles + report.graded else said
    return " and ".join(counts)


@dataclass(frozen=True)
class TrainingData:
    """Training data, and the report on how it came to be this.

    Attributes:
        battles, graded: what was said of models.
        report: what was read and removed.
        rated, harder: what was said of prompts: their difficulty, and which of two is harder.
    """

    battles: Sequence[JudgedBattle]
    graded: Sequence[GradedResult]
    report: DataReport
    rated: Sequence[RatedPrompt] = ()
    harder: Sequence[HarderPrompt] = ()

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Every model, sorted by name."""
        names = {m for b in self.battles for m in (b.model_a, b.model_b)}
        return tuple(sorted(names | {m for row in self.graded for m in row.scores}))

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Every distinct prompt, in the order of the data; battles first."""
        every = [
            *(row.prompt for rows in (self.battles, self.graded, self.rated) for row in rows),
            *(prompt for row in self.harder for prompt in (row.prompt, row.prompt_b)),
        ]
        return tuple(dict.fromkeys(every))
