"""How an ``sw_ranking`` router is made from the keys of its config."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from fastroute.artifacts import check_folder, hash_prompts, read_consistently
from fastroute.data.battles import read_battles
from fastroute.embedders.base import Embedder
from fastroute.embedders.beside import embedder_beside
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.provenance import Provenance
from fastroute.routers.base import Router
from fastroute.routers.spec import RouterSpec
from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter


def _make_sw_ranking(
    battles: str | os.PathLike[str] | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
    embedder: Embedder | None = None,
    **options: Any,
) -> Router:
    if checkpoint_path is not None:
        if battles is not None or set(options) - {"num_threads"}:
            raise InvalidInputError(
                "checkpoint_path has a fitted sw_ranking router, with its battles and options; "
                "only embedder and num_threads go with it"
            )
        folder = check_folder(checkpoint_path)
        return read_consistently(
            folder,
            lambda: SimilarityWeightedRouter.load(
                folder,
                embedder=embedder or embedder_beside(folder) or StaticEmbedder.load_default(),
                **options,
            ),
            by_name=True,
        )
    if battles is None:
        raise InvalidInputError(
            "sw_ranking needs battles: give the path of a file with prompt, model_a, "
            "model_b and winner, or checkpoint_path, the folder of a saved router, or make a "
            "SimilarityWeightedRouter and fit it yourself"
        )
    rows = read_battles(battles)
    embedder = embedder or StaticEmbedder.load_default()
    router = SimilarityWeightedRouter(embedder=embedder, **options)
    X = embedder.embed_batch([battle.prompt for battle in rows])
    settings = {k: v for k, v in options.items() if k != "num_threads"}
    pinned = json.dumps([rows, settings], sort_keys=True)
    return router.fit(
        X,
        [battle.model_a for battle in rows],
        [battle.model_b for battle in rows],
        [battle.winner for battle in rows],
        provenance=Provenance(
            data=(os.fspath(battles),),
            trained_on=hash_prompts(battle.prompt for battle in rows),
            checksum=hashlib.sha256(pinned.encode()).hexdigest(),
        ),
    )


SPEC = RouterSpec(
    "sw_ranking",
    "Bradley-Terry ratings over past battles, weighted by similarity to the prompt",
    _make_sw_ranking,
    accepts=("fastroute.routers.sw_ranking.router:SimilarityWeightedRouter",),
    trainer="fastroute.training.in_domain:sw_ranking",
    takes_pair=lambda config: "checkpoint_path" not in config,
    batch_option="num_threads",
)
