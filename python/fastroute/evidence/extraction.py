"""The part of an answer that counts: its final number, letter, word or code."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Sequence

from fastroute.evidence.numbers import Quantity, find_quantities, read_quantity
from fastroute.evidence.structures import fences, find_json

_FIELDS = ("answer", "final_answer", "result", "label", "output")
_FIELD = re.compile(r'"(?:final_)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^,\n}]+)')
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_SAID = re.compile(
    r"\b(?:final |correct |best )?(?:answer|choice|option|result)\b"
    r"(?:\s+(?:is|would be|should be)\b(?:\s*:)?|\s*[:=])"
    r"[ \t]*\**[ \t]*(?:\\\(|\$(?!\d))?[ \t]*([^\n]+)",
    re.IGNORECASE,
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_LETTER_FIRST = re.compile(
    r"^\W*(?:option |choice |answer )?\(?([A-J])\b(?!['\u2019])[).:\]]?", re.IGNORECASE
)
_LETTER_ANY = re.compile(
    r"\(([A-J])\)|\*\*\(?([A-J])\)?[.):]?(?:\*\*|\s)"
    r"|(?:^|\n)([A-J])[).:]?[ \t]*(?=\n|$)"
)
_YES = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
_FIRST_WORD = re.compile(r"[^\W\d_]+")
_COMMENT = re.compile(r"(?://|#|--)[^\n]*|/\*.*?\*/", re.DOTALL)


def final_answer(text: str) -> str | None:
    """What ``text`` itself marks as its answer; None where it marks nothing.

    Marks are an ``answer`` field of JSON, ``#### 42``, ``\\boxed{42}`` and "the answer is 42".
    """
    value = find_json(text)
    if isinstance(value, dict):
        for field in _FIELDS:
            if field in value and not isinstance(value[field], dict):
                return str(value[field])
    found = _FIELD.findall(text)
    if found:
        return str(found[-1]).strip().strip('"')
    found = _HASHES.findall(text)
    if found:
        return str(found[-1])
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    found = _SAID.findall(text)
    return _sentence(str(found[-1])) if found else None


def final_quantity(text: str) -> Quantity | None:
    """The number that an answer ends with: the one it marks, or else its last."""
    marked = final_answer(text)
    if marked is not None:
        quantity = read_quantity(marked)
        if quantity is not None:
            return quantity
    found = find_quantities(text)
    return found[-1] if found else None


def choice_letter(text: str) -> str | None:
    """The letter of a multiple choice, "A" to "J"; None where there is none or several."""
    marked = final_answer(text)
    for part in (marked, text if len(text) < 200 else None):
        match = _LETTER_FIRST.match(part.strip()) if part else None
        if match:
            return match[1].upper()
    found = [next(filter(None, groups)) for groups in _LETTER_ANY.findall(text)]
    if found:
        return str(found[-1])
    match = _LETTER_FIRST.match(text.strip())
    return match[1] if match and match[1].isupper() and match[1] not in "AI" else None


def yes_or_no(text: str) -> bool | None:
    """Whether an answer says yes or no; None where it says neither or both."""
    for part in (final_answer(text), text):
        word = _FIRST_WORD.search(part.lower()) if part else None
        if word and word[0] in _YES:
            return _YES[word[0]]
    said = {_YES[word] for word in _FIRST_WORD.findall(text.lower()) if word in _YES}
    return said.pop() if len(said) == 1 else None


def label_of(text: str, labels: Sequence[str]) -> str | None:
    """The label that an answer gives: of ``labels``, or any of few words where none are known."""
    said = normalize(final_answer(text) or text)
    if not labels:
        return said if 0 < len(said.split()) <= 5 else None
    known = {normalize(label): label for label in labels}
    if said in known:
        return known[said]
    found = [key for key in known if re.search(rf"\b{re.escape(key)}\b", said)]
    longest = max(found, key=len, default="")  # "not spam" holds "spam"
    return known[longest] if found and all(key in longest for key in found) else None


def code_of(text: str) -> str | None:
    """The code of an answer without comments, docstrings and layout; None where there is none."""
    blocks = fences(text)
    if not blocks:
        return None
    code = "\n".join(blocks)
    try:
        tree = ast.parse(code)
    except (
        SyntaxError,
        ValueError,
        RecursionError,
        MemoryError,
        SystemError,
    ):  # 3.11: ast.parse in threads
        return re.sub(r"\s+", " ", _COMMENT.sub("", code)).strip() or None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]
    return ast.dump(tree)


def normalize(text: str) -> str:
    """``text`` in one case and without punctuation, articles and extra spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(" " if unicodedata.category(c)[0] in "PZC" else c for c in folded)
    return " ".join(_ARTICLES.sub(" ", words).split())


def _boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}``, whose braces may nest."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for i in range(start, min(len(text), start + 1000)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i]
    return None


def _sentence(text: str) -> str:
    """``text`` up to the end of its sentence."""
    end = re.search(r"[.!?](?:\s|\**$)", text)
    return (text[: end.start()] if end else text).strip().strip("*`\"'$ ")
