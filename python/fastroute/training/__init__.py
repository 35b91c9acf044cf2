"""Training: makes routers from preference data. Nothing below evaluation imports it.

``fastroute train`` trains routers on the user's data (``fastroute.training.data`` reads it),
``python -m fastroute.training`` makes the router that ships with fastroute, and
``python -m fastroute.training.battles`` makes battles for ``sw_ranking``.
"""

from __future__ import annotations
