"""The ``bert`` router, int8: against torch, against bare onnxruntime, and batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import bert_model
from data import load_prompts
from measures.figure import Figure, Settings
from rivals import bert_fastroute, bert_onnxruntime, bert_torch
from timing import interleaved_us, no_garbage_collection

BATCH = 64
#: Of int8 against float32 on random weights, whose logits are all near 0.
TOLERANCE = 0.05


def measure(settings: Settings) -> Iterator[Figure]:
    why = bert_model.missing()
    if why:
        yield Figure("`bert` int8, one prompt, against torch", "at least", 3.0, None, "times", why)
        return
    count = 64 if settings.quick else 256
    prompts = load_prompts(settings.data, count)
    kind = "MMLU" if settings.data else "synthetic (no --data)"
    try:
        yield from _singles(prompts, f"{len(prompts):,} {kind} prompts")
        yield from _batch(prompts[:BATCH], f"{BATCH} {kind} prompts")
    finally:
        bert_model.remove()


def _singles(prompts: list[str], which: str) -> Iterator[Figure]:
    router, torch_router = bert_fastroute.load(), bert_torch.load()
    bare = bert_onnxruntime.load()
    fed = {prompt: bert_onnxruntime.feeds(bare, prompt) for prompt in prompts}
    functions: dict[str, Callable[[Any], object]] = {
        "fastroute": lambda prompt: bert_fastroute.route_text(router, prompt),
        "torch": lambda prompt: bert_torch.route_text(torch_router, prompt),
        "onnxruntime": lambda prompt: bert_onnxruntime.run(bare, fed[prompt]),
    }
    interleaved_us(functions, prompts[:20])  # warm
    rounds = 3
    best = interleaved_us(functions, prompts, rounds=rounds)
    median = {name: float(np.median(times)) for name, times in best.items()}
    ms = {name: f"{value / 1000:.2f} ms" for name, value in median.items()}
    tokens = int(np.median([fed[prompt]["input_ids"].shape[1] for prompt in prompts]))
    yield Figure(
        "`bert` int8, one prompt, against torch as RouteLLM runs it",
        "at least",
        3.0,
        float(np.median(best["torch"] / best["fastroute"])),
        "times",
        f"median ratio over {which} (median {tokens} tokens), best of {rounds} each, in turns, one "
        f"thread: {ms['fastroute']}; transformers' tokenizer and model in float32 {ms['torch']}",
    )
    yield Figure(
        "`bert` int8, text to win rate, against bare onnxruntime on the same token ids",
        "at most",
        1.1,
        float(np.median(best["fastroute"] / best["onnxruntime"])),
        "times",
        f"the same run: `InferenceSession.run` {ms['onnxruntime']}",
    )


def _batch(prompts: list[str], which: str) -> Iterator[Figure]:
    router = bert_fastroute.load()
    taken: dict[str, list[float]] = {"one by one": [], "batch": []}
    single = np.array([router.win_rate(prompt) for prompt in prompts])
    batch = router.win_rates(prompts)
    with no_garbage_collection():
        for _ in range(7):
            begin = time.perf_counter()
            for prompt in prompts:
                router.win_rate(prompt)
            middle = time.perf_counter()
            router.win_rates(prompts)
            taken["one by one"].append(middle - begin)
            taken["batch"].append(time.perf_counter() - middle)
    least = {name: min(times) for name, times in taken.items()}
    yield Figure(
        f"`bert` int8, a batch of {BATCH} against {BATCH} single calls, throughput",
        "at least",
        2.0,
        least["one by one"] / least["batch"],
        "times",
        f"{which}, best of 7, in turns; a single call runs on one thread, a batch on "
        f"{router.batch_threads}: {BATCH / least['batch']:.0f} against "
        f"{BATCH / least['one by one']:.0f} prompts a second",
    )
    yield Figure(
        f"`bert` int8, win rates of a batch of {BATCH} that differ from single calls",
        "at most",
        0,
        int((batch != single).sum()),
        "",
        "exact equality",
    )
