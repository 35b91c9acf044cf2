"""What can be read off a prompt beside its meaning, cheaply: candidates for a router's signals.

Each signal is a function of a prompt that returns one number. What it means and how far it is
worth its time is for ``signals.selection`` to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_DIGIT = re.compile(r"\d")
_CODE = re.compile(
    r"```|[{};]|\(\)|==|!=|->|=>|::|//|#include|<[a-z]+>|"
    r"\b(?:def|class|return|import|function|const|var|print|SELECT|FROM|null|None|self)\b"
)
_MATHS = re.compile(
    r"\\[a-zA-Z]+|\$|\^|[=<>+*/\u00b1\u00d7\u00f7\u2200-\u22ff\u03b1-\u03c9]|"
    r"\b(?:sqrt|sin|cos|log|ln|lim|mod|integral|matrix|polynomial|equation|prove|theorem)\b"
)
_WORD = re.compile(r"[^\W\d_]+")
_FOREIGN = re.compile(r"[^\W\d_\u0000-\u024f]")
#: The commonest English function words.
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by can do does for from had has have he her his how i if in is "
        "it its my no not of on or our she so that the their them then there they this to was we "
        "were what when which who why will with would you your"
    )
)
_FIRST_CHARACTERS = 400


def digits(prompt: str) -> float:
    """Share of characters that are digits."""
    return len(_DIGIT.findall(prompt)) / max(1, len(prompt))


def code(prompt: str) -> float:
    """Marks of source code for each 100 characters."""
    return 100.0 * len(_CODE.findall(prompt)) / max(1, len(prompt))


def mathematics(prompt: str) -> float:
    """Marks of mathematics for each 100 characters."""
    return 100.0 * len(_MATHS.findall(prompt)) / max(1, len(prompt))


def english(prompt: str) -> float:
    """Share of English function words among the words of the first 400 characters."""
    words = _WORD.findall(prompt[:_FIRST_CHARACTERS].lower())
    return len([word for word in words if word in _STOP_WORDS]) / max(1, len(words))


def script(prompt: str) -> float:
    """Share of letters outside Latin script among the first 400 characters."""
    text = prompt[:_FIRST_CHARACTERS]
    return 0.0 if text.isascii() else len(_FOREIGN.findall(text)) / len(text)


#: The candidates by name, beside the length, which the embedder counts itself.
SIGNALS: dict[str, Callable[[str], float]] = {
    "digits": digits,
    "code": code,
    "mathematics": mathematics,
    "english": english,
    "script": script,
}
