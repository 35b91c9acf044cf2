"""Fine-tunes a decoder so that the first token it answers is the label of a prompt.

As in RouteLLM (Ong et al. 2024): all weights are trained by next-token prediction, with the five
labels as new tokens of the vocabulary. The loss is the cross-entropy of the label token over the
whole vocabulary, and of no other token: the prompt is given, not learnt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import default_rng

from fastroute._validate import check_count
from fastroute.errors import InvalidInputError
from fastroute.routers.causal_llm.prompt import LabelPrompt
from fastroute.training.causal_llm import checkpoint
from fastroute.training.causal_llm.labels import Labelled
from fastroute.training.causal_llm.libraries import import_libraries
from fastroute.types import Int64Array


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train. The defaults are the recipe of RouteLLM's paper for Llama 3 8B."""

    steps: int = 2000  #: updates of the weights
    batch_size: int = 8  #: prompts an update
    micro_batch_size: int = 8  #: prompts at a time; gradients are added up to ``batch_size``
    learning_rate: float = 1e-6  #: of AdamW, after a linear warm-up over the first 5 % of the steps
    weight_decay: float = 0.0  #: of AdamW
    seed: int = 0  #: of the order of prompts, of the new tokens' weights and of dropout
    #: stop after so long, counted over resumed runs; None for no limit.
    max_minutes: float | None = None
    checkpoint_minutes: float = 10.0  #: minutes between checkpoints, and at the end
    gradient_checkpointing: bool = False  #: compute activations twice to hold fewer
    #: compute in bfloat16. Weights and moments stay in float32: in bfloat16 they would round most
    #: updates of such a learning rate away.
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "micro_batch_size"):
            check_count(name, getattr(self, name), least=1)
        check_count("seed", self.seed, least=0)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidInputError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InvalidInputError(f"weight_decay must be at least 0, got {self.weight_decay}")
        for name in ("max_minutes", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInputError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training did."""

    losses: list[float]  #: mean loss of each step, nats
    minutes: float  #: how long it took, over all runs
    finished: bool  #: whether every step was made


def fine_tune(
    model: Any,
    prompt: LabelPrompt,
    data: Labelled,
    settings: Settings,
    *,
    checkpoints: Path,
    resume: bool = False,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Trained:
    """Train ``model`` in place.

    Args:
        model: a decoder whose vocabulary has the labels.
        prompt: template and tokenizer.
        data: prompts and labels.
        settings: how.
        checkpoints: folder for where the training stands; a run that is interrupted, by Ctrl-C
            too, leaves a checkpoint there.
        resume: continue from the checkpoint there. The same steps then give the same weights, on
            the same machine, as without a stop.
        report: is told each step's number, from 1, and loss.

    Raises InvalidInputError for no data, or a checkpoint of another training.
    """
    torch, _ = import_libraries()
    if not len(data):
        raise InvalidInputError("data: there is no prompt to train on")
    inputs = [fitted.ids for fitted in prompt.fit(data.prompts)]
    targets = np.array(prompt.label_ids)[data.labels - 1]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    pinned = asdict(settings) | {"prompts": len(data)}
    for name in ("steps", "max_minutes", "checkpoint_minutes", "gradient_checkpointing"):
        pinned.pop(name)  # these may change between runs
    losses: list[float] = []
    minutes_before = 0.0
    if resume and (state := checkpoint.load(checkpoints, model, optimizer)) is not None:
        if state["settings"] != pinned:
            raise InvalidInputError(
                f"resume: the checkpoint in {str(checkpoints)!r} is of a training with "
                f"{state['settings']}, not {pinned}; give the same settings and data"
            )
        losses, minutes_before = state["losses"], state["minutes"]
    if settings.gradient_checkpointing:
        # Its name until transformers 5, and the one since.
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)()
    began_s = saved_s = time.monotonic()

    def minutes() -> float:
        return minutes_before + (time.monotonic() - began_s) / 60

    def save() -> None:
        state = {"settings": pinned, "losses": losses, "minutes": minutes()}
        checkpoint.save(checkpoints, model, optimizer, state)

    warm_up = max(1, settings.steps // 20)
    model.train()
    whole = True  # whether weights, moments and losses are of the same step
    try:
        for step, rows in _batches(len(data), settings, len(losses)):
            if settings.max_minutes is not None and minutes() >= settings.max_minutes:
                break
            torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout, the same after a resume
            rate = settings.learning_rate * min(1.0, (step + 1) / warm_up)
            for group in optimizer.param_groups:
                group["lr"] = rate
            parts = _parts(rows, inputs, settings.micro_batch_size)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.bfloat16):
                loss = _add_gradients(model, optimizer, inputs, targets, parts)
            whole = False
            optimizer.step()
            losses.append(loss)
            whole = True
            report(step + 1, losses[-1])
            if time.monotonic() - saved_s >= 60 * settings.checkpoint_minutes:
                save()
                saved_s = time.monotonic()
    finally:
        # Ctrl-C while gradients are computed loses that step; in the update itself, what came after
        # the last checkpoint.
        model.eval()
        if whole:
            save()
    return Trained(losses, minutes(), len(losses) >= settings.steps)


def add_label_tokens(model: Any, token_ids: list[int], seed: int) -> None:
    """Give the vocabulary of ``model`` rows for the labels, where it has too few."""
    torch, _ = import_libraries()
    rows = model.get_input_embeddings().weight.shape[0]
    if max(token_ids) >= rows:
        torch.manual_seed(seed)
        model.resize_token_embeddings(max(token_ids) + 1, mean_resizing=False)


def mean_loss(model: Any, prompt: LabelPrompt, data: Labelled, micro_batch_size: int) -> float:
    """Mean cross-entropy, nats, of the labels of ``data``."""
    torch, _ = import_libraries()
    inputs = [fitted.ids for fitted in prompt.fit(data.prompts)]
    targets = np.array(prompt.label_ids)[data.labels - 1]
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(data), micro_batch_size):
            rows = np.arange(start, min(start + micro_batch_size, len(data)))
            total += float(_loss(model, [inputs[i] for i in rows], targets[rows]))
    return total / len(data)


def _batches(n: int, settings: Settings, done: int) -> Iterator[tuple[int, Int64Array]]:
    """Numbers of the steps after ``done``, from 0, and their rows: every row once an epoch."""
    size = min(settings.batch_size, n)
    per_epoch = n // size  # what is left over is in another epoch's order
    order, at = np.arange(0), -1
    for step in range(done, settings.steps):
        epoch, place = divmod(step, per_epoch)
        if epoch != at:
            order, at = default_rng([settings.seed, epoch]).permutation(n), epoch
        yield step, order[place * size : (place + 1) * size]


def _add_gradients(
    model: Any,
    optimizer: Any,
    inputs: list[list[int]],
    targets: Int64Array,
    parts: list[Int64Array],
) -> float:
    """Gradients of one step, clipped to a norm of 1; returns its mean loss."""
    torch, _ = import_libraries()
    count, total = sum(map(len, parts)), 0.0
    optimizer.zero_grad(set_to_none=True)
    for part in parts:
        loss = _loss(model, [inputs[i] for i in part], targets[part])
        (loss / count).backward()
        total += float(loss.detach())
    if not math.isfinite(total):
        raise InvalidInputError(
            "the loss is not finite; give a smaller --learning-rate, and train again"
        )
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return total / count


def _parts(rows: Int64Array, inputs: list[list[int]], size: int) -> list[Int64Array]:
    """Micro-batches of a step, by length, so that little is padding."""
    rows = rows[np.argsort([len(inputs[i]) for i in rows], kind="stable")]
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _loss(model: Any, inputs: list[list[int]], targets: Int64Array) -> Any:
    """Cross-entropy of the label tokens after ``inputs``, summed."""
    torch, _ = import_libraries()
    width = max(map(len, inputs))
    ids = torch.zeros((len(inputs), width), dtype=torch.long)
    mask, positions = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, tokens in enumerate(inputs):  # padded on the left: the last position is the label's
        begin = width - len(tokens)
        ids[row, begin:] = torch.tensor(tokens)
        mask[row, begin:] = 1
        positions[row, begin:] = torch.arange(len(tokens))
    device = model.device
    logits = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        use_cache=False,
        logits_to_keep=1,
    ).logits[:, -1]
    return torch.nn.functional.cross_entropy(
        logits.float(), torch.tensor(targets, device=device), reduction="sum"
    )
