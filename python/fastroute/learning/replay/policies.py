"""The policies that ``fastroute replay`` compares, by their names on the command line."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastroute.candidates import Needs, Turn
from fastroute.errors import InvalidInputError, NoEligibleModelError
from fastroute.learning.replay.log import Log
from fastroute.learning.tune.output import CANDIDATES
from fastroute.many_models import CandidateDecider
from fastroute.policy import check_threshold, stays
from fastroute.routers.specification import parse_router
from fastroute.types import Float64Array, ModelPair

#: As the gateway's [routing.session_affinity] has them by default.
MARGIN, SHORT_CHARACTERS = 0.1, 40
SYNTAX = "logged, always:MODEL, random:SHARE, threshold:X, the folder of a router, or ROUTER=FOLDER"


def target_of(
    name: str, log: Log, pair: ModelPair | None, margin: float | None = MARGIN
) -> Float64Array:
    """Probability, float64[n, K], with which the policy ``name`` sends each request to each model.

    ``threshold:X`` decides by the win rates in the log; a router scores its prompts, at its
    operating point, and one for many models chooses by its policy. They keep a conversation with
    its model as the gateway does, unless the other is better by ``margin``; None decides each
    request by itself. Raises InvalidInputError.
    """
    kind, colon, value = name.partition(":")
    if name == "logged":
        return log.probabilities
    if colon and kind == "always":
        return _constant(log, value, name)
    if colon and kind in ("random", "threshold"):
        number = _number(name, value)
        if kind == "random":
            return _of_strong(log, np.full(len(log), number), pair, name)
        if np.isnan(log.win_rates).any():
            raise InvalidInputError(f"policy {name}: the journal has requests without a win rate")
        return _of_strong(
            log, _sides(log, log.win_rates, number, margin).astype(np.float64), pair, name
        )
    if "=" not in name and not Path(name).is_dir():
        raise InvalidInputError(f"policy {name!r} is unknown; give {SYNTAX}")
    if "=" not in name and Path(name, CANDIDATES).is_file():
        return _of_candidates(log, Path(name), margin)
    router = parse_router(name if "=" in name else f"mf={name}").make()
    prompts = _prompts(log, name)
    point = router.provenance.operating_point
    rates = np.asarray(router.win_rates(prompts), dtype=np.float64)
    sides = _sides(log, rates, 0.5 if point is None else point.threshold, margin)
    models = [getattr(router, f"{side}_model", None) for side in ("strong", "weak")]
    if all(model in log.models for model in models):
        pair = ModelPair(*map(str, models))
    return _of_strong(log, sides.astype(np.float64), pair, name)


def _of_candidates(log: Log, folder: Path, margin: float | None) -> Float64Array:
    """As the gateway chooses among candidates by a folder that ``fastroute learn`` or ``tune``
    wrote; what a request could not be sent to is left out."""
    try:
        config = tomllib.loads((folder / "gateway.toml").read_text("utf-8"))
        policy = str(config["policy"]["choose"])
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInputError(
            f"policy {str(folder)!r}: its gateway.toml has no policy"
        ) from error
    decider = CandidateDecider(folder / CANDIDATES, policy, folder)
    names = [candidate.name for candidate in decider.candidates.current]
    missing = sorted(set(names) - set(log.models))
    if missing:
        _constant(log, missing[0], str(folder))
    prompts = _prompts(log, str(folder))
    found = np.zeros((len(log), len(log.models)))
    for i, prompt in enumerate(prompts):
        out = () if log.eligible is None else np.flatnonzero(~log.eligible[i])
        excluded = {log.models[k]: "it could not answer" for k in out}
        turn = Turn()
        if margin is not None and log.previous[i] >= 0:
            before = log.models[int(found[log.previous[i]].argmax())]
            is_short = len(prompt) <= SHORT_CHARACTERS
            turn = Turn(before, margin=1.0 if is_short else margin)
        needs = replace(Needs.of_text(prompt), excluded=excluded)
        try:
            model = decider.decide(prompt, needs=needs, turn=turn, counts=False).model
        except NoEligibleModelError:  # only others could: the one that ran decides
            found[i] = log.probabilities[i]
        else:
            found[i, log.models.index(model)] = 1.0
    return found


def _prompts(log: Log, name: str) -> list[str]:
    if log.prompts is None:
        raise InvalidInputError(
            f"policy {name}: the journal has no prompts to score; keep them ([journal] prompts), "
            "or compare thresholds (threshold:X)"
        )
    return log.prompts


def _number(name: str, value: str) -> float:
    try:
        return check_threshold(float(value))
    except ValueError:
        raise InvalidInputError(f"policy {name!r}: {value!r} is not a number in 0..1") from None


def _constant(log: Log, model: str, name: str) -> Float64Array:
    if model not in log.models:
        raise InvalidInputError(
            f"policy {name!r}: the journal has no model {model!r}; it has {', '.join(log.models)}"
        )
    found = np.zeros((len(log), len(log.models)))
    found[:, log.models.index(model)] = 1.0
    return found


def _of_strong(log: Log, strong: Float64Array, pair: ModelPair | None, name: str) -> Float64Array:
    if pair is None:
        raise InvalidInputError(
            f"policy {name}: the journal does not say which model is the strong one; give "
            "--strong and --weak"
        )
    found = np.zeros((len(log), len(log.models)))
    for model in pair:
        if model not in log.models:
            _constant(log, model, name)
    found[:, log.models.index(pair.strong)] = strong
    found[:, log.models.index(pair.weak)] = 1.0 - strong
    return found


def _sides(
    log: Log, rates: Float64Array, threshold: float, margin: float | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether each request goes to the strong model; rows are in the order of time."""
    strong = rates >= threshold
    if margin is None:
        return strong
    chars = np.where(np.isfinite(log.characters), log.characters, SHORT_CHARACTERS + 1.0)
    for i in np.flatnonzero(log.previous >= 0):
        was = bool(strong[log.previous[i]])
        if was != strong[i] and stays(
            was, float(rates[i]), threshold, int(chars[i]), margin, SHORT_CHARACTERS
        ):
            strong[i] = was
    return strong
