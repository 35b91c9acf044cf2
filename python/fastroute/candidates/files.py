"""Candidates from files: TOML of your own, and a public price list.

A TOML file has a table ``[[candidates]]`` for each model, with the fields of ``Candidate``. It may
name a price list, which gives what the tables leave out::

    price_list = "model_prices_and_context_window.json"

    [[candidates]]
    name = "gpt-4o"

    [[candidates]]
    name = "my-deployment"
    listed_as = "azure/gpt-4o-mini"
    tags = ["europe"]

The price list is a JSON file in the layout of LiteLLM's ``model_prices_and_context_window.json``.
Prices there are dollars per token. Nothing is downloaded.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from fastroute._checks import check_path
from fastroute._forking import ForkSafeLock
from fastroute.candidates.candidate import FIELDS, Candidate
from fastroute.errors import InvalidInputError, InvalidTypeError

_LISTED_AS = "listed_as"
_MOST_BYTES = 64 * 2**20
#: Abilities by the key of the price list that states them.
_SUPPORTS = {
    "supports_vision": "vision",
    "supports_audio_input": "audio",
    "supports_function_calling": "tools",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
}
_CHAT = ("chat", "responses")


def read_price_list(
    path: str | os.PathLike[str], names: Collection[str] | None = None
) -> dict[str, Candidate]:
    """Candidates by name from a price list in LiteLLM's layout.

    Args:
        path: ``model_prices_and_context_window.json``.
        names: the models wanted; by default every chat model of the list with a price.

    Raises InvalidInputError for a file that is not such a list, a name that it lacks, and an entry
    that was asked for and can't be used.
    """
    file = check_path("path", path)
    entries = _read_list(file)
    if names is None:
        names = [name for name, entry in entries.items() if _is_chat(entry)]
    return {name: Candidate(**_listed(file, entries, name)) for name in names}


def read_candidates(path: str | os.PathLike[str]) -> tuple[Candidate, ...]:
    """The candidates of a TOML file, in its order.

    Raises InvalidInputError for a file that can't be read, an unknown key, two candidates of one
    name, none at all, or a value that can't be used; the message names the file and the table.
    """
    file = check_path("path", path)
    try:
        document = tomllib.loads(_read(file).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError(f"{file} is not TOML in UTF-8: {error}") from error
    known = {"candidates", "price_list"}
    if set(document) - known:
        raise InvalidInputError(
            f"{file}: unknown key {min(set(document) - known)!r}; the keys are price_list and "
            "[[candidates]]"
        )
    return candidates_of(document.get("candidates"), document.get("price_list"), file)


def candidates_of(tables: Any, price_list: Any, file: Path) -> tuple[Candidate, ...]:
    """The candidates of the parsed ``tables``; paths are relative to the folder of ``file``."""
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise InvalidInputError(f"{file} has no [[candidates]]; add a table with a name for each")
    listed: Path | None = None
    entries: Mapping[str, Any] = {}
    if price_list is not None:
        if not isinstance(price_list, str):
            raise InvalidInputError(f"{file}: price_list must be a path, got {price_list!r}")
        listed = file.parent / price_list
        entries = _read_list(listed)
    found: dict[str, Candidate] = {}
    for i, table in enumerate(tables):
        where = f"{file}: candidates[{i}]"
        for key in table:
            if key not in (*FIELDS, _LISTED_AS):
                close = difflib.get_close_matches(key, [*FIELDS, _LISTED_AS], n=1)
                meant = f"; did you mean {close[0]}?" if close else ""
                raise InvalidInputError(f"{where}: unknown key {key!r}{meant}")
        own = {key: value for key, value in table.items() if key != _LISTED_AS}
        key = table.get(_LISTED_AS, own.get("name"))
        if _LISTED_AS in table and listed is None:
            raise InvalidInputError(f"{where}: listed_as needs a price_list")
        facts: dict[str, Any] = {}
        if listed is not None and (key in entries or _LISTED_AS in table):
            facts = _listed(listed, entries, key)
        try:
            candidate = Candidate(**{"name": "", **facts, **own})
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from error
        if candidate.name in found:
            raise InvalidInputError(f"{where}: a second candidate is named {candidate.name!r}")
        found[candidate.name] = candidate
    return tuple(found.values())


class CandidateSet:
    """Candidates that can be reloaded while requests are served.

    Each decision reads ``current`` once. Safe to use from several threads.

    Args:
        candidates: ready candidates, or the path of a TOML file for ``read_candidates``.
    """

    def __init__(self, candidates: Iterable[Candidate] | str | os.PathLike[str]) -> None:
        self._file: Path | None = None
        self._reloading = ForkSafeLock()
        if isinstance(candidates, (str, os.PathLike)):
            self._file = check_path("candidates", candidates)
            self._current = read_candidates(self._file)
        else:
            self._current = check_candidates(candidates)

    @property
    def current(self) -> tuple[Candidate, ...]:
        """The candidates as they are now."""
        return self._current

    def reload(self) -> None:
        """Read the file and its price list again.

        Raises InvalidInputError as ``read_candidates`` does, or if the candidates came from no
        file. The candidates are then unchanged.
        """
        if self._file is None:
            raise InvalidInputError("these candidates were not read from a file; use replace()")
        with self._reloading:
            self._current = read_candidates(self._file)

    def replace(self, candidates: Iterable[Candidate]) -> None:
        """Use other candidates, or the same ones with other prices, from now on."""
        self._current = check_candidates(candidates)


def check_candidates(candidates: object) -> tuple[Candidate, ...]:
    """``candidates`` as a tuple, if they are at least one, each with its own name."""
    if isinstance(candidates, (str, Candidate)) or not isinstance(candidates, Iterable):
        raise InvalidTypeError(f"candidates must be a list of Candidate, got {candidates!r}")
    found = tuple(candidates)
    for candidate in found:
        if not isinstance(candidate, Candidate):
            raise InvalidTypeError(f"candidates must hold Candidate objects, got {candidate!r}")
    names = [candidate.name for candidate in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not found:
        what = f"{twice[0]!r} twice" if twice else "none"
        raise InvalidInputError(f"candidates must be at least one, of different names, got {what}")
    return found


def _listed(file: Path, entries: Mapping[str, Any], name: object) -> dict[str, Any]:
    """The fields of a candidate that the entry ``name`` of a price list states."""
    if not isinstance(name, str) or name not in entries:
        close = difflib.get_close_matches(str(name), list(entries), n=3)
        meant = f"; did you mean {', '.join(close)}?" if close else ""
        raise InvalidInputError(f"{file} has no model {name!r}{meant}")
    entry = entries[name]
    if not isinstance(entry, dict):
        raise InvalidInputError(f"{file}: the entry of {name!r} must be an object, got {entry!r}")
    facts: dict[str, Any] = {
        "name": name,
        "abilities": frozenset(word for key, word in _SUPPORTS.items() if entry.get(key) is True),
        "provider": _provider(entry),
    }
    for key, field in (
        ("input_cost_per_token", "input_usd_per_mtok"),
        ("output_cost_per_token", "output_usd_per_mtok"),
        ("cache_read_input_token_cost", "cached_usd_per_mtok"),
    ):
        if entry.get(key) is not None:
            facts[field] = _number(file, name, key, entry[key]) * 1e6
    for keys, field in (
        (("max_input_tokens", "max_tokens"), "context_window"),
        (("max_output_tokens",), "max_output_tokens"),
    ):
        for key in keys:
            if entry.get(key) is not None:
                tokens = int(_number(file, name, key, entry[key]))
                if tokens > 0:
                    facts[field] = tokens
                break
    return facts


def _number(file: Path, name: str, key: str, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not 0.0 <= number < 1e12:
        raise InvalidInputError(
            f"{file}: {key} of {name!r} must be a number from 0, got {value!r}; correct the list"
        )
    return number


def _provider(entry: Mapping[str, Any]) -> str:
    provider = entry.get("litellm_provider")
    return provider if isinstance(provider, str) else ""


def _is_chat(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("mode") in _CHAT
        and entry.get("input_cost_per_token") is not None
        and entry.get("output_cost_per_token") is not None
    )


def _read_list(file: Path) -> dict[str, Any]:
    try:
        entries = json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{file} is not JSON: {error}") from error
    if not isinstance(entries, dict):
        raise InvalidInputError(
            f"{file} must be an object of models, as model_prices_and_context_window.json is"
        )
    entries.pop("sample_spec", None)  # the list's own documentation
    return entries


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(f"{file} can't be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise InvalidInputError(f"{file} is larger than {_MOST_BYTES:,} bytes")
    return content
