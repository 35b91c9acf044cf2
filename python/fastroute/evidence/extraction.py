"""The part of an answer that counts: its final number, letter, word or code."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Sequence

from fastroute.evidence.numbers import Quantity, last_quantity, read_quantity
from fastroute.evidence.structures import fences, find_json, parse_python

#: Final answers are looked for in this many characters at the end of an answer.
MOST_CHARACTERS = 10_000
_PROSE_CHARACTERS = 2_000  # where no mark is found, a number is looked for at the very end

_FIELDS = ("answer", "final_answer", "result", "label", "output")
_FIELD = re.compile(r'"(?:final_)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^,\n}]+)')
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_SAID = re.compile(
    r"\b(?:final |correct |best )?(?:answer|choice|option|result)\b"
    r"(?:\s+(?:is|would be|should be)\b(?:\s*:)?|\s*[:=])"
    r"[ \t]*\**[ \t]*(?:\\\(|\$(?!\d))?[ \t]*([^\n]+)",
    re.IGNORECASE,
)
_ARTICLES = frozenset({"a", "an", "the"})
_BULLET = re.compile(r"^\s*[-*\u2022]\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n")
_INDENTED = re.compile(r"```(?:py|ya?ml|haskell|make)", re.IGNORECASE)
_LETTER_FIRST = re.compile(
    r"^\W*(?:(?:the )?(?:option|choice|answer) )?\(?([A-J])"
    r"(?=[).:\]*`\"]|\s*$|\s*\n|\s+(?:because|since|as|[(\u2013\u2014-]"
    r"|is (?:the )?(?:correct|right|best|answer)\b))"
    r"(?!\W*(?:and|or|nor|[,/&+]|is (?:not|wrong|false|incorrect)|isn['\u2019]t)\b)"
    r"(?!\W*[,/&+]\W*[A-J]\b)",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|nor|never|neither|cannot|except)\b|n['\u2019]t\b", re.IGNORECASE)
_LETTER_ANY = re.compile(
    r"\(([A-J])\)|\*\*\(?([A-J])\)?[.):]?(?:\*\*|\s)"
    r"|(?:^|\n)([A-J])[).:]?[ \t]*(?=\n|$)"
)
_YES = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
_YES_FIRST = re.compile(
    r"^\W*(yes|true|correct|no|false|incorrect)\b"
    r"(?=\W*$|\s*[.,;:!\n*)\u2013\u2014-]|\s+(?:because|since|as|it|this|that|the|there|he|she"
    r"|they|you|we|i)\b)"
)
_YES_STANDING = re.compile(r"\b(yes|true|no|false)\b(?=\W*$|[.,;:!*\n\"'])")
# A comment's mark stands apart, so that --force, #define and http://host are code.
_COMMENT = re.compile(
    r"(?:^|(?<=\s))(?:(?://|#|--)(?:[ \t][^\n]*|(?=\n|$))|/\*.{0,1000}?\*/)", re.DOTALL
)
_STRING = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)""", re.DOTALL)
_ENUMERATED = re.compile(
    r"^[ \t]*\(?\d+[.)][ \t]+(?=\D)|\b(?:step|part|question|note|equation|line)s? \d+",
    re.IGNORECASE | re.MULTILINE,
)
_DECLINED = re.compile(
    r"^\W*(?:i['\u2019]?m sorry|i am sorry|sorry,|i can['\u2019]?t |i cannot |i['\u2019]?m unable"
    r"|i am unable|i (?:don['\u2019]t|do not) know|as an ai\b|unknown\b|n/a\b)",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:cannot|can['\u2019]?t|could(?:n['\u2019]t| not)|unable|not enough|insufficient"
    r"|impossible|inconsistent|let me know|unclear|ambiguous)\b",
    re.IGNORECASE,
)
_LABELS_PUNCTUATION = ".,;:?!\"'()[]{}*_`\u201c\u201d\u2018\u2019\u2026\u3002\uff0c\uff01\uff1f"


def final_answer(text: str) -> str | None:
    """What ``text`` itself marks as its answer; None where it marks nothing.

    Marks are an ``answer`` field of JSON, ``#### 42``, ``\\boxed{42}`` and "the answer is 42".
    Of a long text only the end is read.
    """
    text = text[-MOST_CHARACTERS:]
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
        if _UNSURE.search(marked):
            return None
        quantity = read_quantity(marked)
        if quantity is not None:
            return quantity
    text = text[-_PROSE_CHARACTERS:]
    for sentence in reversed(_SENTENCE_END.split(_ENUMERATED.sub(" ", text))):
        if _UNSURE.search(sentence):
            return None
        quantity = last_quantity(sentence)
        if quantity is not None:
            return quantity
    return None


def choice_letter(text: str) -> str | None:
    """The letter of a multiple choice, "A" to "J"; None where there is none or several."""
    marked = final_answer(text)
    said = text[-MOST_CHARACTERS:].strip() if marked is None else marked.strip()
    match = _LETTER_FIRST.match(said)
    if match and (len(said) < 200 or (match[1].isupper() and match[1] not in "AI")):
        return match[1].upper()
    found = [next(filter(None, groups)) for groups in _LETTER_ANY.findall(said)]
    if not found or (len(said) < 200 and (len(set(found)) > 1 or _DENIED.search(said))):
        return None
    return str(found[-1])


def yes_or_no(text: str) -> bool | None:
    """Whether an answer says yes or no; None where it says neither or both."""
    text = text[-MOST_CHARACTERS:].lower()
    for part in (final_answer(text), text):
        if part is None:
            continue
        said = {_YES[word] for word in _YES_STANDING.findall(part)}
        first = _YES_FIRST.match(part)
        if first:
            return None if len(said) > 1 else _YES[first[1]]
        if said:
            return None if len(said) > 1 or _DENIED.search(part) else said.pop()
    return None


def label_of(text: str, labels: Sequence[str]) -> str | None:
    """The label that an answer gives: of ``labels``, or any of few words where none are known."""
    said = normalize(final_answer(text) or text[-MOST_CHARACTERS:])
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
    blocks = fences(text) if len(text) <= MOST_CHARACTERS else []
    code = "\n".join(blocks)
    if not code.strip():
        return None
    try:
        tree = parse_python(code)
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
                first = node.body[0] if len(node.body) > 1 else None
                value = first.value if isinstance(first, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    del node.body[0]
        return ast.dump(tree) if tree.body else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        if _INDENTED.search(text):
            return code
    parts = _STRING.split(code)
    parts[::2] = [re.sub(r"\s+", " ", _COMMENT.sub(" ", part)) for part in parts[::2]]
    return "".join(parts).strip() or None


def normalize(text: str) -> str:
    """``text`` in one case, without articles and punctuation at the ends of words.

    Signs that change the meaning stay: -1, 3.5, a/b and C++.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = [_strip(word) for word in _BULLET.sub("", folded).split()]
    return " ".join(word for word in words if word and word not in _ARTICLES)


def _strip(word: str) -> str:
    end = word.rstrip(_LABELS_PUNCTUATION)
    if word.endswith("!") and end[-1:].isdigit():
        return word  # a factorial
    return end.lstrip(_LABELS_PUNCTUATION if not end.startswith("!") else "")


def declines(text: str) -> bool:
    """Whether an answer begins with an apology or says that it knows none."""
    return _DECLINED.match(text[:200]) is not None


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
    return (text[: end.start()] if end else text).strip().strip("*`\"' ").rstrip("$ ")
