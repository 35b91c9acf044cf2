"""The part of a report that lists prompts."""

from __future__ import annotations

import html
from collections.abc import Sequence

#: Prompts that are shown at most.
SHOWN = 8
_MOST_CHARS = 300


def prompts_section(
    title: str, said: str, items: Sequence[tuple[str, str]], count: int, tested: int
) -> str:
    """HTML of prompts and what is to be said of each, the first of ``count`` among ``tested``."""
    rows = []
    for prompt, facts in items:
        text = prompt.strip()
        shown = text if len(text) <= _MOST_CHARS else text[:_MOST_CHARS] + " ..."
        rows.append(f"<li><q>{html.escape(shown)}</q><small>{html.escape(facts)}</small></li>")
    more = f", of which {len(rows)} are shown." if count > len(rows) else "."
    head = f"<h2>{title}</h2><p>{said} {count:,} of {tested:,} test prompts{more}</p>"
    return f"{head}<ul class='prompts'>{''.join(rows)}</ul>"
