"""Training of ``mf`` routers between any number of models.

``models`` trains one: ``factorization`` learns the models' vectors from pairs, ``checkpoint`` keeps
where that stands, ``held_out`` has the figures. ``added_model`` fits one more model to a router.
"""

from __future__ import annotations
