"""Decisions: two candidate models, routers that score prompts, and a threshold."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from fastroute._progress import progress_bar
from fastroute.errors import (
    InvalidInputError,
    InvalidTypeError,
    ThresholdWarning,
    UnknownRouterError,
)
from fastroute.policy import (
    DecisionBatch,
    DifficultyScale,
    are_strong,
    check_threshold,
    check_win_rate,
)
from fastroute.provenance import Provenance
from fastroute.routers import ROUTER_NAMES, Router, create_router
from fastroute.share_control import HeldShare, ShareControl
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

    A decision needs a threshold. Without one it is the router's operating point, or 0.5 if that has
    none; ``strong_share`` takes the threshold that sends this share, 0..1, of prompts like those of
    the router's calibration to the strong model. A threshold outside the calibrated range, other
    than 0 and 1, gives one ThresholdWarning a router.

    Safe to use from several threads.

    Args:
        routers: names (``mf``, ``sw_ranking``, ``length``, ``random``) or ready routers.
        strong_model, weak_model: the names of the candidates.
        config: arguments of named routers, by router name; see ``fastroute.create_router``.
        progress_bar: show a bar, on a terminal, while routers load and batches are scored.
        held_share: a share of strong calls, or a ``HeldShare``, that single decisions without a
            router or threshold hold on whatever prompts come. It needs a calibrated first router.

    Attributes:
        routers: the routers by name.
        default_router: the name of the first one, which decides where none is given.
        model_pair: ``ModelPair(strong, weak)``.
        share_control: what holds ``held_share``; its ``state`` says how. None without.

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
        held_share: HeldShare | float | None = None,
    ) -> None:
        self.model_pair = ModelPair(
            _check_name("strong_model", strong_model), _check_name("weak_model", weak_model)
        )
        self._progress_bar = progress_bar
        self.routers = self._load(routers, config)
        self.default_router = next(iter(self.routers))
        self._measured: dict[str, _Measured] = {}
        self._warned: set[str] = set()
        self.share_control = self._control(held_share)

    def _without_pair(self) -> None:
        """What ``__init__`` sets, for a subclass that decides without a pair of models."""
        self.model_pair = ModelPair("", "")
        self._progress_bar = False
        self.routers = {}
        self.default_router = ""
        self._measured = {}
        self._warned = set()
        self.share_control = None

    def decide(
        self,
        prompt: str,
        router: str | None = None,
        threshold: float | None = None,
        *,
        strong_share: float | None = None,
    ) -> Decision:
        """Choose a model for ``prompt``; see the class for what is done without a threshold.

        Raises:
            UnknownRouterError: a router that was not loaded.
            InvalidThresholdError: a threshold outside 0..1.
            InvalidInputError, InvalidTypeError: a prompt that is not text; a threshold and a
                strong_share; a strong_share that is not in 0..1, or of a router without
                calibration.
        """
        started_ns = perf_counter_ns()
        name, scale, win_rate, threshold, strong = self._choose(
            prompt, router, threshold, strong_share
        )
        difficulty = None if scale is None else scale.difficulty(win_rate)
        model = self.model_pair[not strong]
        latency_us = (perf_counter_ns() - started_ns) / 1000
        # Half as long as a call of Decision.
        return tuple.__new__(
            Decision, (model, name, win_rate, threshold, strong, latency_us, difficulty)
        )

    def decide_batch(
        self,
        prompts: Iterable[str],
        router: str | None = None,
        threshold: float | None = None,
        *,
        strong_share: float | None = None,
    ) -> DecisionBatch:
        """Choose a model for each of ``prompts``, all at one threshold. Raises as ``decide``.

        With ``held_share`` it is the present one, and the decisions do not move it.
        """
        started_ns = perf_counter_ns()
        name = self.default_router if router is None else router
        measured = self._measures(name, self._router(name))
        threshold = self._threshold(name, measured, threshold, strong_share, depth=4)
        win_rates = self.batch_calculate_win_rate(prompts, name)
        strong = are_strong(win_rates, threshold)
        scale = measured.scale
        difficulties = None if scale is None else scale.difficulties(win_rates)
        elapsed_us = (perf_counter_ns() - started_ns) / 1000
        return DecisionBatch(
            name, threshold, self.model_pair, win_rates, strong, elapsed_us, difficulties
        )

    def route(
        self,
        prompt: str,
        router: str | None = None,
        threshold: float | None = None,
        *,
        strong_share: float | None = None,
    ) -> str:
        """The name of the model that should answer ``prompt``. Arguments and errors as
        ``decide``."""
        strong = self._choose(prompt, router, threshold, strong_share)[-1]
        return self.model_pair.strong if strong else self.model_pair.weak

    def at_threshold(self, decision: Decision, threshold: float) -> Decision:
        """The decision on the same win rate at another threshold."""
        strong = decision.win_rate >= threshold
        model = self.model_pair.strong if strong else self.model_pair.weak
        return decision._replace(model=model, threshold=threshold, strong=strong)

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
        """What decides where none is given: the router's operating point, or 0.5; with
        ``held_share`` the present threshold. Raises as ``decide``."""
        if self.share_control is not None and router == self.default_router:
            return self.share_control.threshold
        return self._measures(router, self._router(router)).threshold

    def threshold_for_strong_share(self, router: str, share: float) -> float:
        """The threshold that sends ``share`` of prompts like those of the router's calibration to
        the strong model.

        Raises InvalidInputError for a share outside 0..1 and for a router without calibration.
        """
        return self._scale(router).threshold(share)

    def _choose(
        self,
        prompt: str,
        router: str | None,
        threshold: float | None,
        strong_share: float | None,
    ) -> tuple[str, DifficultyScale | None, float, float, bool]:
        """Router, its scale, win rate, threshold, whether the strong model answers."""
        name = self.default_router if router is None else router
        # The usual case first, without calls.
        try:
            chosen = self.routers[name]
            measured = self._measured[name]
        except (KeyError, TypeError):
            chosen = self._router(name)
            measured = self._measures(name, chosen)
        if measured.provenance is not chosen.provenance:
            measured = self._measures(name, chosen)
        if (
            type(threshold) is not float
            or strong_share is not None
            or not measured.least <= threshold <= measured.greatest
        ):
            control = self.share_control if name == self.default_router else None
            if control is not None and threshold is None and strong_share is None:
                win_rate = check_win_rate(chosen.win_rate(prompt))
                return name, measured.scale, win_rate, *control.decide(win_rate)
            threshold = self._threshold(name, measured, threshold, strong_share)
        win_rate = check_win_rate(chosen.win_rate(prompt))
        return name, measured.scale, win_rate, threshold, win_rate >= threshold

    def _threshold(
        self,
        router: str,
        measured: _Measured,
        threshold: float | None,
        share: float | None,
        depth: int = 5,
    ) -> float:
        """The threshold that arguments ask for; ``depth`` calls below who is warned of it."""
        if threshold is None:
            if share is None:
                return self.default_threshold(router)
            return self.threshold_for_strong_share(router, share)
        if share is not None:
            raise InvalidInputError("give threshold or strong_share, not both")
        threshold = check_threshold(threshold)
        # 0 and 1 are asked for on purpose, for one model alone.
        if not measured.least <= threshold <= measured.greatest and 0.0 < threshold < 1.0:
            self._warn(router, measured, threshold, depth)
        return threshold

    def _warn(self, router: str, measured: _Measured, threshold: float, depth: int) -> None:
        if router in self._warned:
            return
        self._warned.add(router)
        side = "strong" if threshold < measured.least else "weak"
        warnings.warn(
            f"threshold {threshold:g} sends nearly every prompt to the {side} model: the win rates "
            f"of router {router!r} were calibrated from {measured.least:.4f} to "
            f"{measured.greatest:.4f}; give a threshold in this range, or strong_share",
            ThresholdWarning,
            stacklevel=depth,
        )

    def _measures(self, name: str, router: Router) -> _Measured:
        """What was measured of a router, which may change where battles are added to it."""
        known = router.provenance
        found = self._measured.get(name)
        if found is None or found.provenance is not known:
            found = self._measured[name] = _measured(known)
        return found

    def _control(self, held: HeldShare | float | None) -> ShareControl | None:
        if held is None:
            return None
        held = held if isinstance(held, HeldShare) else HeldShare(held)
        return ShareControl(held, self._scale(self.default_router).calibration)

    def _scale(self, router: str) -> DifficultyScale:
        scale = self._measures(router, self._router(router)).scale
        if scale is None:
            raise InvalidInputError(
                f"strong_share: router {router!r} is not calibrated for this pair of models; give "
                "a threshold, or find one with fastroute calibrate --prompts FILE"
            )
        return scale

    def _router(self, name: str) -> Router:
        try:
            return self.routers[name]
        except (KeyError, TypeError):
            if not self.routers:
                raise UnknownRouterError(
                    "no router is loaded: give routers, strong_model and weak_model"
                ) from None
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


class _Measured(NamedTuple):
    """What was measured of a router, as decisions need it."""

    provenance: Provenance  #: where it is from
    scale: DifficultyScale | None  #: from win rates to difficulties; None without calibration
    #: least, greatest: the calibrated range, with 4 decimals; without calibration 0 and 1.
    least: float
    greatest: float
    threshold: float  #: the router's default


def _measured(known: Provenance) -> _Measured:
    point = known.operating_point
    threshold = DEFAULT_THRESHOLD if point is None else point.threshold
    if known.calibration is None:
        return _Measured(known, None, 0.0, 1.0, threshold)
    scale = DifficultyScale(known.calibration)
    # As messages show them, of float32 numbers.
    least = math.floor(scale.least * 1e4 + 0.01) / 1e4
    greatest = math.ceil(scale.greatest * 1e4 - 0.01) / 1e4
    return _Measured(known, scale, least, greatest, threshold)


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
