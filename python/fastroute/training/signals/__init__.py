"""Which cheap signals of a prompt are worth their cost beside its embedding.

``candidates`` are the signals, ``selection`` measures and chooses, by the algorithm of
``benefit_cost``.
"""

from __future__ import annotations
