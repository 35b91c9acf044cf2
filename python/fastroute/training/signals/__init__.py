"""Which cheap signals of a prompt earn their place beside its embedding.

``candidates`` are the signals, ``selection`` measures and chooses, by the algorithm of
``benefit_cost``.
"""

from __future__ import annotations
