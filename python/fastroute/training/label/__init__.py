"""Augmentation: labels for prompts that nobody has labelled.

``judge`` asks a language model which of two answers is better, ``golden`` grades answers by a key
(RouteLLM's paper, arXiv 2406.18665, sections 4.1 and 4.2, has both: D_judge and D_gold).
``difficulty`` asks which of two prompts is harder.
"""

from __future__ import annotations
