"""The router that ships with fastroute: how it is made, and how its recipe is judged.

``router`` makes it, ``comparison`` scores a recipe on held-out training data, ``figures`` prints
what its card shows, and ``gold`` makes the router of the gold protocol.
"""

from __future__ import annotations
