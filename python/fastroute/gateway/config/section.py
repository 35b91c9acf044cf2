"""What every section of a configuration is, and the types of its values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from fastroute.http.address import check_key


class Reading(NamedTuple):
    """What validation knows beside the values of a file: its context."""

    folder: Path  #: of the file; its paths are relative to it
    is_pairless: bool  #: whether candidates take the place of a pair of models


def in_folder(path: str, info: ValidationInfo) -> str:
    """``path`` relative to the folder of the file; as it is where no file is read."""
    return path if info.context is None else str(info.context.folder / Path(path).expanduser())


def _value_of_variable(name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        # A secret that was written here by mistake must not appear in a log.
        raise ValueError("must be the name of an environment variable, such as OPENAI_API_KEY")
    value = os.environ.get(name)
    if not value:
        shown = name if name.isupper() else "of that name"
        raise ValueError(f"the environment variable {shown} is not set")
    return check_key(value, name)


def passes(check: Callable[[str], object]) -> AfterValidator:
    """Accepts the texts for which ``check`` raises no ValueError, as they are."""

    def keep(text: str) -> str:
        check(text)
        return text

    return AfterValidator(keep)


T = TypeVar("T")
# Python's strict mode takes no list for a tuple, and files have no tuples.
TupleOf = Annotated[tuple[T, ...], Field(strict=False)]
Text = Annotated[str, Field(min_length=1)]
#: A path, relative to the folder of the file.
FilePath = Annotated[Text, AfterValidator(in_folder)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
#: The value of the environment variable that the file names.
Secret = Annotated[str, BeforeValidator(_value_of_variable)]


class Section(BaseModel):
    """A table of the file. Unknown keys are errors, and no value is converted to another type."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # a value may be a secret in the wrong place
    )
