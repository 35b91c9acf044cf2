"""Everybody who is measured, fastroute among them: one small file each, the same names in all.

``mf_*``: ``load()``, then ``route_text``, ``route_texts``, ``route_embedding``,
``route_embeddings``. ``bert_*``: ``load()``, then ``route_text`` and ``route_texts``.
``sw_*``: ``fit(battles, strict=...)``, then ``route_embedding`` and ``route_embeddings``. Each
takes what ``load`` or ``fit`` returned first, and gives win rates. A rival that has no such
function leaves it out. ``NAME`` is what tables call it; ``missing()`` says why it can't run here,
or is None.
"""

from __future__ import annotations

from importlib.util import find_spec

#: RouteLLM's declared dependencies (torch, transformers, datasets, litellm) are not needed for
#: what is measured, so it is installed without them, and what is needed beside it.
INSTALL_RIVALS = (
    "pip install -r bench/requirements-rivals.txt && "
    "pip install --no-deps -r bench/requirements-rivals-no-deps.txt"
)


def missing_packages(*names: str) -> str | None:
    """Why a rival that needs the modules ``names`` can't run, or None."""
    absent = [name for name in names if find_spec(name) is None]
    return f"{', '.join(absent)} not installed: {INSTALL_RIVALS}" if absent else None
