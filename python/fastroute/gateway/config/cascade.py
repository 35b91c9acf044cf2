"""Section ``[cascade]``: the model name "cascade", by which cheap answers decide."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails

from fastroute.errors import FastRouteError
from fastroute.evidence.kinds import Expectation, Kind
from fastroute.gateway.config.section import (
    Amount,
    FilePath,
    PositiveCount,
    Seconds,
    Section,
    Share,
    Text,
    TupleOf,
)
from fastroute.policy import CASCADE_MODEL


class CascadeConfig(Section):
    """Section ``[cascade]``: the model name "cascade", by which cheap answers decide.

    The weak model and ``helpers``, in order of price, are asked at once. Answers are compared by
    ``kind``, ``pattern`` or ``pointer``, or by what each request asks for.
    """

    helpers: Annotated[TupleOf[Text], Field(min_length=1, max_length=16)]
    quorum: PositiveCount = 2
    deadline_s: Seconds = 60.0
    early_strong_s: Amount | None = None
    streams: Literal["cascade", "prompt_only"] = "cascade"
    acceptance: FilePath | None = None
    threshold: Share | None = None
    kind: Kind | None = None
    pattern: Text | None = None
    pointer: str | None = None
    logprobs: TupleOf[Text] = ()

    @field_validator("quorum")
    @classmethod
    def _can_be_reached(cls, quorum: int, info: ValidationInfo) -> int:
        models = 1 + len(info.data.get("helpers", ()))
        if quorum > models > 1:
            raise ValueError(
                f"must be at most {models}, the number of cheap models; found {quorum}"
            )
        return quorum

    @field_validator("threshold")
    @classmethod
    def _has_a_model(cls, threshold: float | None, info: ValidationInfo) -> float | None:
        if threshold is not None and info.data.get("acceptance") is None:
            raise ValueError("needs acceptance, the model whose probability it is compared with")
        return threshold

    @field_validator("pattern", "pointer")
    @classmethod
    def _is_readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        given = [name for name in ("kind", "pattern") if info.data.get(name) is not None]
        if value is None:
            return None
        if given:
            raise ValueError(f"give {given[0]} or {info.field_name}, not both")
        read = {"pattern": Expectation.from_regex, "pointer": Expectation.from_pointer}
        try:
            read[str(info.field_name)](value)
        except FastRouteError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def expectation(self) -> Expectation | None:
        """What answers are compared by; None where each request tells."""
        if self.pattern is not None:
            return Expectation.from_regex(self.pattern)
        if self.pointer is not None:
            return Expectation.from_pointer(self.pointer)
        return None if self.kind is None else Expectation(self.kind)

    def check_models(
        self, strong: str, weak: str, models: Collection[str], *, other_models: bool
    ) -> None:
        """Raise ValidationError for names that no cheap model has. ``models`` have sections."""
        if CASCADE_MODEL in {*models, strong, weak}:
            raise ValueError(f"a model has the name {CASCADE_MODEL!r}; rename it, or remove this")
        known = {*models, weak}
        wrong: list[tuple[str, int, str]] = []
        for i, helper in enumerate(self.helpers):
            if helper == strong:
                wrong.append(("helpers", i, "is the strong model; name cheaper models"))
            elif helper not in known and not other_models:
                said = "has no section in [models], and other_models is false"
                wrong.append(("helpers", i, said))
        for i, name in enumerate(self.logprobs):
            if name not in {weak, *self.helpers}:
                said = "is not a cheap model: name the weak model or one of helpers"
                wrong.append(("logprobs", i, said))
        if wrong:
            details = [
                InitErrorDetails(
                    type="value_error", loc=(key, i), input=None, ctx={"error": ValueError(said)}
                )
                for key, i, said in wrong
            ]
            raise ValidationError.from_exception_data("cascade", details)
