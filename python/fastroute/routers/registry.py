"""Routers by name, as configs and ``router-<name>-<threshold>`` strings have them."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from fastroute.errors import InvalidInputError, UnknownRouterError
from fastroute.routers.base import Router
from fastroute.routers.spec import RouterSpec

#: Where each router declares itself, as ``SPEC``. A new router is named here.
_MODULES = {
    "mf": "fastroute.routers.matrix_factorization",
    "sw_ranking": "fastroute.routers.sw_ranking.spec",
    "bert": "fastroute.routers.bert",
    "causal_llm": "fastroute.routers.causal_llm.spec",
    "cascade": "fastroute.routers.cascade.spec",
    "models": "fastroute.routers.many_models.router",
    "length": "fastroute.routers.length",
    "random": "fastroute.routers.random",
}

ROUTER_NAMES: tuple[str, ...] = tuple(_MODULES)


def find_spec(name: str) -> RouterSpec:
    """What the router ``name`` declares. Raises UnknownRouterError for another name."""
    if not isinstance(name, str) or name not in _MODULES:
        raise UnknownRouterError(
            f"unknown router {name!r}; the routers are {', '.join(ROUTER_NAMES)}"
        )
    spec: RouterSpec = importlib.import_module(_MODULES[name]).SPEC
    return spec


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
    - ``models``: ``checkpoint_path`` (folder that ``fastroute train models`` wrote),
      ``strong_model``, ``weak_model``, ``embedder``.
    - ``random``: ``seed``. ``length``: ``half_length``.
    - ``cascade``: ``checkpoint_path`` (folder that ``fastroute calibrate --slow`` wrote); or
      ``fast`` and ``slow`` (a router's name, or a mapping of ``router``, its name, and its
      config) and ``band`` ([low, high]) or ``share``; and ``latency_budget_ms``.

    Raises UnknownRouterError for another name, InvalidInputError for a key that the router does
    not have.
    """
    spec = find_spec(name)
    if spec.composite:
        config = {"create": create_router} | config
    try:
        inspect.signature(spec.make).bind(**config)
        return spec.make(**config)
    except TypeError as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"config of router {name!r}: {error}") from error
