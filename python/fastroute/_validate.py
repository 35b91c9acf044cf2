"""Checks of the text that embedders and routers are given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from fastroute.errors import InvalidInputError, InvalidTypeError


def check_prompt(prompt: object, name: str = "prompt") -> str:
    """Return ``prompt`` if it is text that UTF-8 can carry.

    Raises:
        InvalidTypeError: not a str.
        InvalidInputError: a lone surrogate, which is not valid Unicode; tokenizers and JSON over
            HTTP both refuse it.
    """
    if not isinstance(prompt, str):
        raise InvalidTypeError(
            f"{name} must be a str, got {type(prompt).__name__}; pass the text of one prompt"
        )
    if not prompt.isascii():
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{name} holds a lone surrogate at position {error.start}; decode the text with "
                "errors='replace' before it gets here"
            ) from error
    return prompt


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """Return ``prompts`` as a list of text. Raises as ``list_prompts`` and ``check_prompt``."""
    return [check_prompt(prompt, f"prompts[{i}]") for i, prompt in enumerate(list_prompts(prompts))]


def list_prompts(prompts: Sequence[str]) -> list[str]:
    """Return ``prompts`` as a list whose members are not checked yet.

    Raises InvalidTypeError for a lone string, which is not read letter by letter.
    """
    if isinstance(prompts, (str, bytes)):
        raise InvalidTypeError(
            "prompts must be a sequence of str, got one string; wrap it in a list"
        )
    if not isinstance(prompts, Iterable):
        raise InvalidTypeError(
            f"prompts must be a sequence of str, got {type(prompts).__name__}; pass a list"
        )
    return prompts if isinstance(prompts, list) else list(prompts)


def check_count(name: str, value: object, *, least: int) -> int:
    """Return ``value`` if it is an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise InvalidInputError(f"{name} must be at least {least}, got {value}")
    return value


_most_threads = 16


def limit_threads(count: int) -> None:
    """Let ``available_threads`` be at most ``count``, for one of several processes."""
    global _most_threads
    _most_threads = count


def available_threads() -> int:
    """Threads for a batch of texts: the processors that this process may use, at most 16."""
    return min(_most_threads, processors())


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS
