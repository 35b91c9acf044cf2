"""Decisions: two candidate models, routers that score prompts, and a threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from fastroute._progress import progress_bar
from fastroute.errors import (
    InvalidInputError,
    InvalidTypeError,
    UnknownRouterError,
)
from fastroute.policy import (
    DecisionBatch,
    are_strong,
    check_threshold,
    check_win_rate,
    threshold_for_strong_share,
)
from fastroute.routers import ROUTER_NAMES, Router, create_router
from fastroute.types import Decision, Float64Array, ModelPair

__all__ = [
    "DEFAULT_THRESHOLD",
    "Decider",
]

#: The threshold of a router without an operating point.
DEFAULT_THRESHOLD = 0.5
_PROGRESS_CHUNK = 1024


class Decider:
    """Chooses between a strong and a weak model for each prompt; nothing is sent.

    Safe to use from several threads.

    Args:
        routers: names (``mf``, ``sw_ranking``, ``length``, ``random``) or ready routers.
        strong_model, weak_model: the names of the candidates.
        config: arguments of named routers, by router name; see ``fastroute.create_router``.
        progress_bar: show a bar, on a terminal, while routers load and batches are scored.

    Attributes:
        routers: the routers by name.
        model_pair: ``ModelPair(strong, weak)``.

    Raises:
        UnknownRouterError: no router has this name.
        InvalidInputError, InvalidTypeError: another argument that can't be used.
    """

    def __init__(
        self,
        routers: Sequence[str | Router],
        strong_model: str,
        weak_model: str,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        progress_bar: bool = False,
    ) -> None:
        self.model_pair = ModelPair(
            _check_name("strong_model", strong_model), _check_name("weak_model", weak_model)
        )
        self._progress_bar = progress_bar
        self.routers = self._load(routers, config)

    def decide(self, prompt: str, router: str, threshold: float) -> Decision:
        """Choose a model for ``prompt``.

        Raises:
            UnknownRouterError: a router that was not loaded.
            InvalidThresholdError: a threshold outside 0..1.
            InvalidInputError, InvalidTypeError: a prompt that is not text.
        """
        started_ns = perf_counter_ns()
        chosen = self._router(router)
        threshold = check_threshold(threshold)
        win_rate = check_win_rate(chosen.win_rate(prompt))
        strong = win_rate >= threshold
        return Decision(
            self.model_pair.strong if strong else self.model_pair.weak,
            router,
            win_rate,
            threshold,
            strong,
            (perf_counter_ns() - started_ns) / 1000,
        )

    def decide_batch(self, prompts: Iterable[str], router: str, threshold: float) -> DecisionBatch:
        """Choose a model for each of ``prompts``. Raises as ``decide``."""
        started_ns = perf_counter_ns()
        threshold = check_threshold(threshold)
        win_rates = self.batch_calculate_win_rate(prompts, router)
        strong = are_strong(win_rates, threshold)
        elapsed_us = (perf_counter_ns() - started_ns) / 1000
        return DecisionBatch(router, threshold, self.model_pair, win_rates, strong, elapsed_us)

    def route(self, prompt: str, router: str, threshold: float) -> str:
        """The name of the model that should answer ``prompt``. Raises as ``decide``."""
        return self.decide(prompt, router, threshold).model

    def batch_calculate_win_rate(self, prompts: Iterable[str], router: str) -> Float64Array:
        """Win rates of ``prompts`` (a list, a NumPy array, a pandas Series): float64[n].

        RouteLLM takes and returns a pandas Series; ``pd.Series(win_rates, index=prompts.index)``
        makes one of this. Raises as ``decide``.
        """
        chosen = self._router(router)
        # Arrays and Series give Python's own str this way.
        to_list = getattr(prompts, "tolist", None)
        texts: Any = prompts if to_list is None else to_list()
        if not self._progress_bar or not isinstance(texts, list):
            return chosen.win_rates(texts)
        parts = []
        with progress_bar(len(texts), "scoring") as advance:
            for i in range(0, len(texts), _PROGRESS_CHUNK):
                parts.append(chosen.win_rates(texts[i : i + _PROGRESS_CHUNK]))
                advance(len(parts[-1]))
        return np.concatenate(parts) if parts else chosen.win_rates(texts)

    def default_threshold(self, router: str) -> float:
        """The router's operating point, or 0.5. Raises as ``decide``."""
        point = self._router(router).provenance.operating_point
        return DEFAULT_THRESHOLD if point is None else point.threshold

    def threshold_for_strong_share(self, router: str, share: float) -> float:
        """The threshold that sends ``share`` of prompts like those of the router's calibration to
        the strong model.

        Raises InvalidInputError for a share outside 0..1 and for a router without calibration.
        """
        quantiles = self._router(router).provenance.calibration
        if quantiles is None:
            raise InvalidInputError(
                f"strong_share: router {router!r} is not calibrated for this pair of models; give "
                "a threshold, or find one with fastroute calibrate --prompts FILE"
            )
        return threshold_for_strong_share(quantiles, share)

    def _router(self, name: str) -> Router:
        try:
            return self.routers[name]
        except (KeyError, TypeError):
            raise UnknownRouterError(
                f"router {name!r} is not loaded; loaded routers: {', '.join(self.routers)}"
            ) from None

    def _load(
        self,
        routers: Sequence[str | Router],
        config: Mapping[str, Mapping[str, Any]] | None,
    ) -> dict[str, Router]:
        if isinstance(routers, (str, Router)) or not isinstance(routers, Sequence) or not routers:
            raise InvalidTypeError(
                f'routers must be a list with names or routers, such as ["mf"], got {routers!r}'
            )
        sections = _check_config(config, routers)
        loaded: dict[str, Router] = {}
        shown = self._progress_bar
        with progress_bar(len(routers), "loading", unit="router", shown=shown) as advance:
            for router in routers:
                if not isinstance(router, (str, Router)):
                    raise InvalidTypeError(f"routers must hold names and routers, got {router!r}")
                name = router.name if isinstance(router, Router) else router
                if isinstance(router, Router) and (not isinstance(name, str) or not name):
                    raise InvalidTypeError(f"{router!r} must have a name (str), got {name!r}")
                if name in loaded:
                    raise InvalidInputError(f"routers has {name!r} twice; give each name once")
                if not isinstance(router, Router):
                    router = create_router(router, **sections.get(name, {}))
                loaded[name] = router
                advance()
        return loaded


def _check_name(what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what} must be a model's name, got {value!r}")
    return value


def _check_config(
    config: Mapping[str, Mapping[str, Any]] | None, routers: Sequence[str | Router]
) -> Mapping[str, Mapping[str, Any]]:
    if config is None:
        return {}
    if not isinstance(config, Mapping) or not all(isinstance(c, Mapping) for c in config.values()):
        raise InvalidTypeError(
            "config must be a dict from router name to a dict of its arguments, got "
            f"{config!r}; read a YAML file with yaml.safe_load first"
        )
    ready = {router.name for router in routers if isinstance(router, Router)}
    for name in config:
        if name in ready:
            raise InvalidInputError(f"config[{name!r}] has no effect: that router is ready-made")
        if name not in ROUTER_NAMES:
            raise UnknownRouterError(
                f"config[{name!r}]: unknown router; the routers are {', '.join(ROUTER_NAMES)}"
            )
    return config
