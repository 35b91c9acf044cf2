"""The ``sw_ranking`` router: similarity-weighted Elo over past battles.

``router`` is what users call. It is fitted by ``fit``: battles as arrays, with ratings and tiers
(``battle_table``), and, where they are many, moments of their embeddings (``far_field``) and an
index of the nearest (``near_field``). Parts of the battles can be fitted to apart (``sums``), on
disk too (``shards``, ``disk_index``). ``artifact`` saves and loads all of it, by ``contents``, the
checks of what must be there, and ``large_files``, which are mapped. ``explanation`` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.routers.sw_ranking.explanation import Explanation as Explanation
    from fastroute.routers.sw_ranking.explanation import NearBattle as NearBattle
    from fastroute.routers.sw_ranking.router import (
        SimilarityWeightedRouter as SimilarityWeightedRouter,
    )
    from fastroute.routers.sw_ranking.sums import BattleCounts as BattleCounts
    from fastroute.routers.sw_ranking.sums import FarFieldSums as FarFieldSums

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.routers.sw_ranking.explanation": "Explanation NearBattle",
        "fastroute.routers.sw_ranking.router": "SimilarityWeightedRouter",
        "fastroute.routers.sw_ranking.sums": "BattleCounts FarFieldSums",
    },
)
