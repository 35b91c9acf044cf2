"""The same answers in plain Python: ``unicodedata``, a dictionary of pieces, and NumPy."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rivals import mf_tokenizers, text_fastroute
from rivals.text_fastroute import Parts

NAME = "python"


class Router:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.rows = {piece: row for row, piece in enumerate(parts.pieces)}
        self.longest = max(map(len, parts.pieces))

    def win_rate(self, prompt: str) -> float:
        parts = self.parts
        rows = self.read(prompt)
        total = parts.scales[rows].astype(np.float64) @ parts.table[rows]
        norm = np.sqrt(total @ total)
        if not norm > 0:
            return 0.5
        visible = [c for c in prompt if not c.isspace()]
        digits = sum(unicodedata.category(c)[0] == "N" for c in visible)
        signals = np.array([math.log1p(len(prompt)), digits / len(visible)]) / 32
        return float(1 / (1 + np.exp(-(parts.pair @ np.concatenate([total / norm, signals])))))

    def read(self, prompt: str) -> list[int]:
        """Rows of the longest pieces from left to right."""
        text = "".join(c.lower() for c in unicodedata.normalize("NFKC", prompt))
        text = "".join(f" {word}" for word in unicodedata.normalize("NFC", text).split())
        rows, at = [], 0
        while at < len(text):
            for end in range(min(len(text), at + self.longest), at, -1):
                if (row := self.rows.get(text[at:end])) is not None:
                    rows.append(row)
                    at = end
                    break
            else:
                at += 1
        return rows


def missing() -> str | None:
    return mf_tokenizers.missing()


def load() -> Router:
    return Router(text_fastroute.parts())


def route_text(router: Router, prompt: str) -> str:
    return "strong" if router.win_rate(prompt) >= 0.5 else "weak"


def route_texts(router: Router, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.array([router.win_rate(prompt) for prompt in prompts])
