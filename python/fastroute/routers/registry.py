"""Routers by name, as configs and ``router-<name>-<threshold>`` strings have them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastroute.artifacts import MANIFEST
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError, UnknownRouterError
from fastroute.routers.base import Router

#: Where a router that was trained with another embedder than the bundled one has it, in its folder.
EMBEDDER_FOLDER = "embedder"


def has_embedder(folder: str | os.PathLike[str]) -> bool:
    """Whether a router's folder holds an embedder of its own."""
    inside = Path(folder) / EMBEDDER_FOLDER
    return (inside / MANIFEST).is_file() or (inside / "tokenizer.json").is_file()


def embedder_beside(folder: str | os.PathLike[str]) -> Embedder | None:
    """The embedder in a router's folder, static or ONNX, or None where there is none."""
    if not has_embedder(folder):
        return None
    inside = Path(folder) / EMBEDDER_FOLDER
    if (inside / MANIFEST).is_file():
        from fastroute.embedders.static import StaticEmbedder

        return StaticEmbedder.load(inside)
    from fastroute.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(inside)


def _make_mf(
    checkpoint_path: str | os.PathLike[str] | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    embedder: Embedder | None = None,
    embedder_path: str | os.PathLike[str] | None = None,
) -> Router:
    from fastroute.routers.matrix_factorization import MatrixFactorizationRouter

    if checkpoint_path is None:
        if strong_model or weak_model or embedder or embedder_path:
            raise InvalidInputError(
                "strong_model, weak_model and embedder belong to a checkpoint_path; the default "
                "mf router has one generic pair and its own embedder"
            )
        return MatrixFactorizationRouter.load_default()
    if embedder_path is not None:
        if embedder is not None:
            raise InvalidInputError("give embedder or embedder_path, not both")
        from fastroute.embedders.onnx import OnnxEmbedder

        embedder = OnnxEmbedder(embedder_path)
    router = MatrixFactorizationRouter.load(
        checkpoint_path, strong_model=strong_model, weak_model=weak_model, embedder=embedder
    )
    if router.embedder is None and (own := embedder_beside(checkpoint_path)) is not None:
        return MatrixFactorizationRouter.load(
            checkpoint_path, strong_model=strong_model, weak_model=weak_model, embedder=own
        )
    if router.embedder is None:
        from fastroute.artifacts import load_artifact
        from fastroute.embedders.static import StaticEmbedder

        # Most artifacts are made with the embedder that ships with fastroute; it is cheap to load.
        bundled = StaticEmbedder.load_default()
        if load_artifact(checkpoint_path).config["embedder"] == bundled.name:
            router.embedder = bundled
    return router


def _make_sw_ranking(
    battles: str | os.PathLike[str] | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
    embedder: Embedder | None = None,
    **options: Any,
) -> Router:
    import hashlib
    import json

    import numpy as np

    from fastroute.artifacts import prompt_hash
    from fastroute.data.battles import read_battles
    from fastroute.embedders.static import StaticEmbedder
    from fastroute.provenance import Provenance
    from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter

    if checkpoint_path is not None:
        if battles is not None or set(options) - {"num_threads"}:
            raise InvalidInputError(
                "checkpoint_path has a fitted sw_ranking router, with its battles and options; "
                "only embedder and num_threads go with it"
            )
        return SimilarityWeightedRouter.load(
            checkpoint_path,
            embedder=embedder or embedder_beside(checkpoint_path) or StaticEmbedder.load_default(),
            **options,
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
    prompts = {prompt_hash(battle.prompt) for battle in rows}
    settings = {k: v for k, v in options.items() if k != "num_threads"}
    pinned = json.dumps([rows, settings], sort_keys=True)
    return router.fit(
        X,
        [battle.model_a for battle in rows],
        [battle.model_b for battle in rows],
        [battle.winner for battle in rows],
        provenance=Provenance(
            data=(os.fspath(battles),),
            trained_on=np.array(sorted(prompts), dtype=np.uint64),
            checksum=hashlib.sha256(pinned.encode()).hexdigest(),
        ),
    )


def _make_bert(
    checkpoint_path: str | os.PathLike[str] | None = None,
    num_labels: int = 3,
    **options: Any,
) -> Router:
    from fastroute.routers.bert import BertRouter

    if checkpoint_path is None:
        raise InvalidInputError(
            "bert needs checkpoint_path: a folder with an ONNX classifier and its tokenizer.json, "
            "as `fastroute train bert` writes, or the id of one on the Hugging Face Hub"
        )
    if num_labels != 3:  # a key of RouteLLM's configs
        raise InvalidInputError(f"num_labels must be 3, got {num_labels!r}")
    return BertRouter(checkpoint_path, **options)


def _make_random(seed: int | None = None) -> Router:
    from fastroute.routers.random import RandomRouter

    return RandomRouter(seed)


def _make_length(half_length: float = 300.0) -> Router:
    from fastroute.routers.length import LengthRouter

    return LengthRouter(half_length)


def _make_cascade(
    fast: object = None,
    slow: object = None,
    band: Sequence[float] | None = None,
    share: float | None = None,
    latency_budget_ms: float | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
) -> Router:
    from fastroute.routers.cascade.artifact import load_cascade, make_member
    from fastroute.routers.cascade.router import CascadeRouter

    if checkpoint_path is not None:
        if any(value is not None for value in (fast, slow, band, share)):
            raise InvalidInputError(
                "checkpoint_path has a calibrated cascade, with its members and its band; only "
                "latency_budget_ms goes with it"
            )
        return load_cascade(checkpoint_path, latency_budget_ms=latency_budget_ms)
    if fast is None or slow is None or (band is None and share is None):
        raise InvalidInputError(
            "cascade needs checkpoint_path, the folder of one that fastroute calibrate wrote, or "
            "fast, slow and either band or share"
        )
    return CascadeRouter(
        make_member("fast", fast),
        make_member("slow", slow),
        band=band,
        share=share,
        latency_budget_ms=latency_budget_ms,
    )


def _make_causal_llm(
    checkpoint_path: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    score_threshold: int = 4,
    **options: Any,
) -> Router:
    from fastroute.routers.causal_llm.router import CausalLLMRouter

    if checkpoint_path is None:
        raise InvalidInputError(
            "causal_llm needs checkpoint_path, a folder written by `fastroute export causal_llm` "
            "or `fastroute train causal_llm`; with base_url and model, its tokenizer and template "
            "are enough"
        )
    if base_url is None:
        return CausalLLMRouter.load(checkpoint_path, score_threshold=score_threshold, **options)
    return CausalLLMRouter.at_endpoint(
        checkpoint_path, base_url=base_url, score_threshold=score_threshold, **options
    )


#: A new router is named here; its README section lists the other three places.
_MAKERS: dict[str, Callable[..., Router]] = {
    "mf": _make_mf,
    "sw_ranking": _make_sw_ranking,
    "bert": _make_bert,
    "random": _make_random,
    "length": _make_length,
    "causal_llm": _make_causal_llm,
    "cascade": _make_cascade,
}

ROUTER_NAMES: tuple[str, ...] = tuple(_MAKERS)


def create_router(name: str, **config: Any) -> Router:
    """Make a router by name, with the keys of its section in a config.

    - ``mf``: ``checkpoint_path`` (a fastroute artifact or RouteLLM's layout; by default the router
      that ships with fastroute), ``strong_model``, ``weak_model``, ``embedder`` (by default the
      one that ships with fastroute, where the artifact was trained with it) or ``embedder_path``
      (folder of an ONNX sentence encoder).
    - ``sw_ranking``: ``battles`` (path for ``read_battles``), ``embedder`` (by default the static
      one) and the arguments of ``SimilarityWeightedRouter``; or ``checkpoint_path`` (folder of a
      saved one), ``embedder`` and ``num_threads``.
    - ``bert``: ``checkpoint_path`` (a folder or a hub id) and the arguments of ``BertRouter``.
    - ``causal_llm``: ``checkpoint_path`` (a folder of ``fastroute export causal_llm``),
      ``score_threshold`` and the arguments of ``OnnxLabelEngine``; or ``base_url``, ``model`` and
      those of ``CompletionsLabelEngine``.
    - ``random``: ``seed``. ``length``: ``half_length``.
    - ``cascade``: ``checkpoint_path`` (folder that ``fastroute calibrate --slow`` wrote); or
      ``fast`` and ``slow`` (a router's name, or a mapping of ``router``, its name, and its
      config) and ``band`` ([low, high]) or ``share``; and ``latency_budget_ms``.

    Raises UnknownRouterError for another name, InvalidInputError for a key that the router does
    not have.
    """
    if not isinstance(name, str) or name not in _MAKERS:
        raise UnknownRouterError(
            f"there is no router {name!r}; the routers are {', '.join(ROUTER_NAMES)}"
        )
    make = _MAKERS[name]
    try:
        inspect.signature(make).bind(**config)
        return make(**config)
    except TypeError as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"config of router {name!r}: {error}") from error
