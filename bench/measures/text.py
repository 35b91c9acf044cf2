"""Text by a vocabulary that the core reads: one decision, and a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data import load_prompts
from measures.figure import Figure, Settings
from rivals import mf_tokenizers, text_fastroute
from timing import interleaved_us

ROUNDS = 3


def measure(settings: Settings) -> Iterator[Figure]:
    names = (
        "`Controller.route` by a vocabulary, against `tokenizers` alone",
        "all prompts by `mf` with a vocabulary",
    )
    if why := mf_tokenizers.missing():
        yield from (Figure(name, "at most", None, None, "", why) for name in names)
        return
    count = (1000 if settings.quick else None) if settings.data else 2000
    prompts = load_prompts(settings.data, count)
    which = f"{len(prompts):,} {'MMLU' if settings.data else 'synthetic (no --data)'} prompts"
    controller, tokenizer = text_fastroute.load(), mf_tokenizers.load()
    functions: dict[str, Callable[[Any], object]] = {
        "route": lambda prompt: controller.route(prompt, "mf", 0.5),
        "tokenizers": lambda prompt: tokenizer.encode(prompt, add_special_tokens=False),
    }
    interleaved_us(functions, prompts[:200])  # warm
    best = interleaved_us(functions, prompts, rounds=ROUNDS)
    route, limit = (float(np.median(best[name])) for name in ("route", "tokenizers"))
    yield Figure(
        names[0],
        "at most",
        0.15,
        route / limit,
        "times",
        f"medians over {which}, best of {ROUNDS} each, in turns, one thread: {route:.1f} us, "
        f"`tokenizer.encode(prompt, add_special_tokens=False)` {limit:.1f} us, with the same "
        "vocabulary and a random table",
    )
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        controller.batch_calculate_win_rate(prompts, "mf")
        seconds.append(time.perf_counter() - begin)
    yield Figure(
        names[1], "at most", 0.3, min(seconds), "s", f"{which}, best of {ROUNDS}, all processors"
    )
