"""Sections ``[journal]``, ``[shadow]`` and ``[explore]``: what is kept of live traffic."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import AfterValidator, Field, field_validator

from fastroute.gateway.config.section import PositiveCount, Secret, Section, Text

#: Which requests are sampled rather than others.
Preference = Literal["none", "uncertain"]
SampledShare = Annotated[float, Field(gt=0, le=1)]


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


def _check_hook(name: str) -> str:
    load_hook(name)
    return name


class JournalConfig(Section):
    """Section ``[journal]``: a row for each request, in a database.

    Prompts and answers are kept only where ``prompts`` and ``answers`` say so, of each at most
    ``max_text_characters``, as ``redact`` returns them, for ``retention_days``.
    """

    url: Text = "sqlite:///journal.db"
    password: Secret | None = Field(default=None, alias="password_env", repr=False)
    prompts: bool = False
    answers: bool = False
    retention_days: Annotated[float, Field(gt=0)] = 30.0
    max_text_characters: PositiveCount = 20_000
    redact: Annotated[Text, AfterValidator(_check_hook)] | None = None
    queue_rows: PositiveCount = 10_000

    @field_validator("url")
    @classmethod
    def _is_readable(cls, url: str) -> str:
        from fastroute.journal.database import journal_url

        journal_url(url)  # its errors are ValueErrors, or name what is not installed
        return url

    def in_folder(self, folder: Path) -> Self:
        """The section with a file that is relative to ``folder``."""
        scheme, separator, path = self.url.partition(":///")
        if scheme != "sqlite":
            return self
        path = str(folder / Path(path).expanduser())
        return self.model_copy(update={"url": f"{scheme}{separator}{path}"})


class ShadowConfig(Section):
    """Section ``[shadow]``: a share of requests is also answered by the other model, unseen."""

    share: SampledShare
    daily_usd: Annotated[float, Field(gt=0)]
    prefer: Preference = "none"
    max_concurrency: PositiveCount = 4


class ExploreConfig(Section):
    """Section ``[explore]``: a share of conversations is routed at random."""

    share: SampledShare
    prefer: Preference = "none"
