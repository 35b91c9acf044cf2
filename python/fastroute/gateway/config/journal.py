"""What is kept of live traffic and learnt from it: sections ``[journal]``, ``[shadow]``,
``[explore]`` and ``[learn]``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Literal, cast

from pydantic import Field, ValidationInfo, field_validator

from fastroute.gateway.config.section import (
    FilePath,
    PositiveCount,
    Secret,
    Section,
    Share,
    Text,
    in_folder,
    passes,
)

#: Which requests are sampled rather than others.
Preference = Literal["none", "uncertain"]
SampledShare = Annotated[float, Field(gt=0, le=1)]
TARGETS = ("target_quality", "target_share", "target_spend")


def load_hook(name: str) -> Callable[[str], str]:
    """The function ``module:function``. Raises ValueError if there is none."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name!r} can't be imported ({error}); write module:function, of a module on "
            "PYTHONPATH"
        ) from error
    if not callable(found):
        raise ValueError(f"{name!r} is not a function")
    return cast("Callable[[str], str]", found)


class JournalConfig(Section):
    """Section ``[journal]``: a row for each request, in a database.

    Prompts and answers are kept only where ``prompts`` and ``answers`` say so, of each at most
    ``max_text_characters``, as ``redact`` returns them, for ``retention_days``.
    """

    url: Annotated[Text, Field(validate_default=True)] = "sqlite:///journal.db"
    password: Secret | None = Field(default=None, alias="password_env", repr=False)
    prompts: bool = False
    answers: bool = False
    retention_days: Annotated[float, Field(gt=0)] = 30.0
    max_text_characters: PositiveCount = 20_000
    redact: Annotated[Text, passes(load_hook)] | None = None
    queue_rows: PositiveCount = 10_000

    @field_validator("url")
    @classmethod
    def _is_readable(cls, url: str, info: ValidationInfo) -> str:
        from fastroute.journal.database import journal_url

        journal_url(url)  # its errors are ValueErrors, or name what is not installed
        scheme, separator, path = url.partition(":///")
        return f"{scheme}{separator}{in_folder(path, info)}" if scheme == "sqlite" else url


class ShadowConfig(Section):
    """Section ``[shadow]``: a share of requests is also answered by the other model, unseen.

    Among candidates ``models`` says by which of the other eligible ones: one at random, or all.
    """

    share: SampledShare
    daily_usd: Annotated[float, Field(gt=0)]
    models: Literal["one", "all"] = "one"
    prefer: Preference = "none"
    max_concurrency: PositiveCount = 4


class ExploreConfig(Section):
    """Section ``[explore]``: a share of conversations is routed at random."""

    share: SampledShare
    prefer: Preference = "none"


class LearnConfig(Section):
    """Section ``[learn]``: ``fastroute learn`` every ``every_hours``, by a worker process.

    Proposals are folders in ``output``. At most one of the targets is given, as to the command.
    """

    every_hours: Annotated[float, Field(gt=0)] = 24.0
    output: FilePath = Field(default="learned", validate_default=True)
    days: Annotated[float, Field(gt=0)] | None = None
    target_quality: Share | None = None
    target_share: Share | None = None
    target_spend: Annotated[float, Field(gt=0)] | None = None

    @field_validator("target_share", "target_spend")
    @classmethod
    def _is_alone(cls, target: float | None, info: ValidationInfo) -> float | None:
        others = [n for n in TARGETS if n != info.field_name and info.data.get(n) is not None]
        if target is not None and others:
            raise ValueError(f"{others[0]} is given too; give one target")
        return target

    @property
    def options(self) -> list[str]:
        """Options of the command."""
        given = {name: getattr(self, name) for name in ("days", *TARGETS)}
        pairs = ((f"--{name.replace('_', '-')}", v) for name, v in given.items() if v is not None)
        return [word for name, value in pairs for word in (name, repr(value))]
