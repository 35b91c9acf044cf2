"""Compares policies against stragglers on given latencies, and writes the best into a config."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import default_rng

from fastroute._files import write_whole
from fastroute.errors import InvalidInputError
from fastroute.resilience.simulation import Bill, Latency, Outcome, Policy, Recorded, simulate
from fastroute.types import Float64Array

#: Delays to try: these quantiles of the latency without redundancy.
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.975, 0.99)


class Row(NamedTuple):
    """One policy and what it does; ``quantile`` is that of latency at which it sends again."""

    policy: Policy
    quantile: float | None
    outcome: Outcome


def compare(
    latency: Latency,
    *,
    tasks: int = 1,
    runs: int = 100_000,
    seed: int = 0,
    copies: int = 1,
    bill: Bill | None = None,
) -> list[Row]:
    """None, replication at once, and delayed redundancy and relaunch at several delays."""
    rng = default_rng(seed)
    delays = np.quantile(latency.sample(rng, (runs,)), QUANTILES)
    tried: list[tuple[Policy, float | None]] = [
        (Policy(), None),
        (Policy("replicate", 0.0, copies), 0.0),
    ]
    for quantile, delay_s in zip(QUANTILES, delays.tolist(), strict=True):
        tried.append((Policy("delayed", delay_s, copies), quantile))
        tried.append((Policy("relaunch", delay_s, copies - 1), quantile))
    return [
        Row(
            policy,
            quantile,
            simulate(latency, policy, tasks=tasks, runs=runs, seed=seed + 1, bill=bill),
        )
        for policy, quantile in tried
    ]


def advise(rows: Sequence[Row], *, most_extra: float) -> Row:
    """The row with the least 99th percentile that sends at most ``most_extra`` more requests.

    A policy that gains less than 1 % is not worth it: then the one without redundancy.
    """
    plain = next(row for row in rows if row.policy.mode == "none")
    allowed = [row for row in rows if row.outcome.requests - 1 <= most_extra]
    best = min(allowed, key=lambda row: row.outcome.p99_s)
    return best if best.outcome.p99_s < 0.99 * plain.outcome.p99_s else plain


def settings_of(row: Row, most_extra: float) -> dict[str, Any]:
    """The keys of the config's section ``[resilience]`` that make a gateway do as ``row`` does."""
    mode = row.policy.mode
    if mode == "none":
        return {"redundancy": "none"}
    return {
        "redundancy": "delayed" if mode == "replicate" else mode,
        "redundancy_delay_s": float(f"{row.policy.delay_s:.4g}"),
        "redundancy_budget": float(f"{min(1.0, most_extra):.4g}"),
    }


def write_settings(path: str, settings: dict[str, Any]) -> None:
    """Put ``settings`` into the section ``[resilience]`` of a TOML config; every other line stays.

    The file is replaced at once, never half written. Raises InvalidInputError for another format.
    """
    if not path.endswith(".toml"):
        raise InvalidInputError(
            f"{path}: only TOML files can be updated; copy the lines into it yourself"
        )
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise InvalidInputError(f"{path}: can't be read: {error}") from error
    ours = re.compile(r"\s*redundancy(_delay_s|_budget|_quantile)?\s*=")
    header = re.compile(r"\s*\[\s*resilience\s*\]\s*(#.*)?")
    table = re.compile(r"\s*\[")
    begin = next((i for i, line in enumerate(lines) if header.fullmatch(line)), None)
    new = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    if begin is None:
        lines += ["", "[resilience]", *new]
    else:
        end = next((i for i in range(begin + 1, len(lines)) if table.match(lines[i])), len(lines))
        kept = [line for line in lines[begin + 1 : end] if not ours.match(line)]
        lines[begin + 1 : end] = new + kept
    try:
        write_whole(Path(path).resolve(), ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise InvalidInputError(f"{path} can't be written: {error.strerror}") from error


def read_latencies(path: str) -> Recorded:
    """Latencies from a file: a number of seconds a line, or a gateway's log.

    Of a log, ``first_byte_ms`` of every answered request is taken. Raises InvalidInputError.
    """
    found: list[float] = []
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: can't be read: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            if "{" in text[:4096]:  # a line in a log that is not ours
                continue
            raise InvalidInputError(f"{path}:{number}: {line[:40]!r} is not a number") from None
        if isinstance(value, dict):
            if isinstance(value.get("first_byte_ms"), (int, float)):
                found.append(value["first_byte_ms"] / 1000)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append(float(value))
        else:
            raise InvalidInputError(f"{path}:{number}: {line[:40]!r} is not a number")
    if not found:
        raise InvalidInputError(f"{path}: has no latencies")
    seconds: Float64Array = np.array(found)
    return Recorded(seconds)
