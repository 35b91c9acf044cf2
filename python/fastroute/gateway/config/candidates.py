"""``[[candidates]]``, ``[policy]`` and ``[[rules]]``: what ``model="fastroute"`` chooses among."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fastroute.candidates import Candidate, Rule, parse_policy, read_candidates
from fastroute.candidates.files import candidates_of
from fastroute.errors import ConfigError, InvalidInputError
from fastroute.gateway.config.file import ConfigFile
from fastroute.gateway.config.section import FilePath, Section, Text, TupleOf, passes
from fastroute.http.request import Endpoint
from fastroute.policy import CASCADE_MODEL, MANY_MODELS

#: The names of a model's prices in ``[models.<name>]``, and in a candidate.
_PRICES = {
    "input_usd_per_mtok": "input_usd_per_mtok",
    "output_usd_per_mtok": "output_usd_per_mtok",
    "cached_input_usd_per_mtok": "cached_usd_per_mtok",
}


PolicyText = Annotated[Text, passes(parse_policy)]


class PolicyConfig(Section):
    """Section ``[policy]``: how one of the candidates is chosen."""

    choose: PolicyText = "max_quality"
    router: FilePath | None = None
    drop_reasoning: bool = False


class RuleConfig(Section):
    """A ``[[rules]]`` table; see ``fastroute.candidates.Rule``."""

    keys: TupleOf[Text] = ()
    headers: dict[str, Text] = Field(default_factory=dict)
    paths: TupleOf[Text] = ()
    system_prompts: TupleOf[Text] = ()
    allow: TupleOf[Text] = ()
    deny: TupleOf[Text] = ()

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        self.rule()  # its errors are ValueErrors
        return self

    def rule(self) -> Rule:
        """The rule itself."""
        return Rule(**{name: getattr(self, name) for name in RuleConfig.model_fields})


def check_candidates_section(value: object) -> object:
    """``value``, if it is a list of tables, or a table with a ``file`` alone."""
    if isinstance(value, Mapping):
        file = value.get("file")
        if set(value) == {"file"} and isinstance(file, str) and file:
            return value
        raise ValueError('must be tables [[candidates]], or one table with file = "models.toml"')
    if not isinstance(value, list) or not all(isinstance(table, Mapping) for table in value):
        raise ValueError("must be tables [[candidates]]")
    return value


def read_section(
    section: Any,
    price_list: str | None,
    models: Mapping[str, Any],
    file: ConfigFile,
    folder: Path,
) -> tuple[Candidate, ...]:
    """The candidates of a section; none without one.

    Prices that a table does not give are those of ``models``, the sections ``[models.<name>]``, and
    then those of the ``price_list``. Raises ConfigError.
    """
    if section is None:
        return ()
    try:
        if isinstance(section, Mapping):
            found = read_candidates(folder / Path(section["file"]).expanduser())
        else:
            tables = [_prices_of(table, models) | dict(table) for table in section]
            found = candidates_of(tables, price_list, folder / Path(file.name).name)
    except InvalidInputError as error:
        said = str(error) if isinstance(section, Mapping) else _with_line(str(error), file)
        raise ConfigError(said) from error
    for candidate in found:
        if candidate.name in (MANY_MODELS, CASCADE_MODEL):
            raise ConfigError(
                f"{file.name}: candidates: {candidate.name!r} is what a request names to have one "
                "chosen; rename the candidate"
            )
    return found


def endpoint_of(candidate: Candidate, default: Endpoint) -> Endpoint:
    """The candidate's own API, with the timeouts of ``default``; ``default`` if it has none.

    Raises ConfigError for an environment variable that is not set.
    """
    try:
        own = candidate.endpoint
    except InvalidInputError as error:
        raise ConfigError(str(error)) from error
    if own is None:
        return default
    return replace(default, base_url=own.base_url, api_key=own.api_key, api=own.api)


def prices_for_bills(candidate: Candidate) -> dict[str, float | None]:
    """The candidate's prices by their names in ``[models.<name>]``."""
    return {ours: getattr(candidate, theirs) for ours, theirs in _PRICES.items()}


def _prices_of(table: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, float]:
    name = table.get("name")
    section = models.get(name) if isinstance(name, str) else None
    found = {theirs: getattr(section, ours, None) for ours, theirs in _PRICES.items()}
    return {name: price for name, price in found.items() if price is not None}


def _with_line(said: str, file: ConfigFile) -> str:
    """A message about ``candidates[3]`` of ``file``, with its line."""
    found = re.match(r".*?: candidates\[(\d+)\]: ", said)
    line = None if found is None else file.line_of(("candidates", int(found[1])))
    if found is None or line is None:
        return said
    return f"{file.name}:{line}: candidates.{found[1]}: {said[found.end() :]}"
