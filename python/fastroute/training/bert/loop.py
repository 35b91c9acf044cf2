"""The training loop: cross-entropy with an offset for each group, early stopping, checkpoints.

Each group of prompts has three offsets that are added to the classifier's logits in training, and
left away in use: a fixed effect. They begin at the group's mean outcome, so that nothing is won by
telling which group a prompt came from; what is left to learn is which prompts *within* a group need
the strong model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.training.bert.batches import epoch_batches, padded, sorted_batches
from fastroute.training.bert.examples import Examples, group_means
from fastroute.training.bert.interrupts import DeferredInterrupt
from fastroute.training.bert.network import Network, freeze
from fastroute.training.bert.settings import Settings
from fastroute.training.checkpoint_file import read_checkpoint, write_checkpoint
from fastroute.types import Float64Array

#: Called after every step: share of the training done, 0..1, and the smoothed loss.
Progress = Callable[[float, float], None]

_LEAST_SHARE = 0.02  # of an outcome in a group, in the offsets' first values
_CLIP = 1.0
_SMOOTHING = 0.98
CHECKPOINT_FILE = "checkpoint.safetensors"
_CHECKPOINT_EVERY_S = 300.0


@dataclass(frozen=True, slots=True)
class History:
    """How a training went."""

    steps: int  #: batches that were learnt from, in all
    epochs: float  #: the same, in passes over the prompts
    #: (step, mean training loss since the evaluation before, held-out loss).
    losses: list[tuple[int, float, float]]
    best_step: int  #: the step whose parameters were kept
    minutes: float  #: spent in training, over all runs of it
    stopped: str  #: "epochs", "patience" or "minutes"


def fine_tune(
    network: Network,
    training: Examples,
    stopping: Examples,
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> History:
    """Train ``network`` in place; it ends with the parameters of the least loss on ``stopping``.

    Interrupted, it leaves a checkpoint in the folder ``checkpoint`` if there is one; with
    ``resume`` it continues from there, with the same numbers as if it had not been interrupted.

    Raises InvalidInputError for a checkpoint of other settings or examples, a folder without one,
    or a loss that is not finite.
    """
    run = _Run(network, training, stopping, settings, checkpoint)
    if resume:
        run.restore()
    with DeferredInterrupt() as interrupt:
        try:
            return run.train(progress, interrupt)
        except KeyboardInterrupt:
            if not run.in_step:
                run.save()
            raise


class _Run:
    """One training: its state is what a checkpoint holds."""

    def __init__(
        self,
        network: Network,
        training: Examples,
        stopping: Examples,
        settings: Settings,
        checkpoint: Path | None,
    ) -> None:
        import torch

        self.network, self.settings, self.folder = network, settings, checkpoint
        self.training, self.stopping = training, stopping
        torch.set_num_threads(settings.num_threads)
        torch.manual_seed(settings.seed)
        self.model = network.model.to(settings.device)
        freeze(self.model, settings.frozen_layers)
        self.ids = network.token_ids(training.prompts)
        self.stopping_ids = network.token_ids(stopping.prompts)
        self.group_ids, names, means = group_means(training)
        index = {name: i for i, name in enumerate(names)}
        # A group that is only held out has no offset of its own: the mean of all is used.
        self.stopping_groups = [index.get(name, len(names)) for name in stopping.groups]
        first = np.log(np.maximum(np.vstack([means, means.mean(axis=0)]), _LEAST_SHARE))
        self.offsets = torch.nn.Parameter(
            torch.tensor(first - first.mean(axis=1, keepdims=True), dtype=torch.float32).to(
                settings.device
            )
        )
        self.optimiser = torch.optim.AdamW(self._parameter_groups())
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.step = self.best_step = self.bad = 0
        self.best_loss = np.inf
        self.losses: list[tuple[int, float, float]] = []
        self.since: list[float] = []
        self.elapsed_s = 0.0
        self.in_step = False
        self.saved_at = time.monotonic()

    def train(self, progress: Progress | None, interrupt: DeferredInterrupt) -> History:
        """Train to the end, or to an interrupt between two steps."""
        settings = self.settings
        lengths = [len(row) for row in self.ids]
        per_epoch = len(epoch_batches(lengths, settings.batch_size, seed=settings.seed, epoch=0))
        total = per_epoch * settings.epochs
        every = max(1, per_epoch // settings.evaluations_per_epoch)
        batches: list[Any] = []
        smoothed = float("nan")
        stopped = "epochs"
        began = time.monotonic() - self.elapsed_s
        while self.step < total:
            share = self.step / total
            if settings.max_minutes is not None:
                share = max(share, self.elapsed_s / (60.0 * settings.max_minutes))
            if share >= 1.0:
                stopped = "minutes"
                break
            self.in_step = True
            epoch, at = divmod(self.step, per_epoch)
            if at == 0 or not batches:
                batches = epoch_batches(
                    lengths, settings.batch_size, seed=settings.seed, epoch=epoch
                )
            loss = self._learn(batches[at], share)
            self.step += 1
            self.since.append(loss)
            smoothed = (
                loss
                if smoothed != smoothed
                else (_SMOOTHING * smoothed + (1.0 - _SMOOTHING) * loss)
            )
            if self.step % every == 0 or self.step == total:
                self._evaluate()
            self.elapsed_s = time.monotonic() - began
            if self.folder is not None and time.monotonic() - self.saved_at > _CHECKPOINT_EVERY_S:
                self.save()
            self.in_step = False
            interrupt.check()
            if progress is not None:
                progress(min(1.0, max(self.step / total, share)), smoothed)
            if self.bad >= settings.patience:
                stopped = "patience"
                break
        if self.since:
            self._evaluate()
        interrupt.check()
        self.elapsed_s = time.monotonic() - began
        self.model.load_state_dict(self.best)
        return History(
            self.step,
            self.step / per_epoch,
            self.losses,
            self.best_step,
            self.elapsed_s / 60.0,
            stopped,
        )

    def _learn(self, rows: Any, share: float) -> float:
        """One step on the examples ``rows``, at ``share`` of the training; returns its loss."""
        import torch

        settings = self.settings
        self.model.train()
        warmup = settings.warmup
        height = min((share + 1e-9) / warmup if warmup else 1.0, (1.0 - share) / (1.0 - warmup))
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * height
        tokens, mask = padded([self.ids[i] for i in rows], self.network.pad_id)
        device = settings.device
        with torch.autocast(
            torch.device(device).type, torch.bfloat16, enabled=settings.arithmetic == "bfloat16"
        ):
            logits = self.model(input_ids=tokens.to(device), attention_mask=mask.to(device)).logits
        logits = logits.float() + self.offsets[torch.from_numpy(self.group_ids[rows]).to(device)]
        wanted = torch.tensor(self.training.outcomes[rows], dtype=torch.float32, device=device)
        weights = torch.tensor(self.training.weights[rows], dtype=torch.float32, device=device)
        each = -(wanted * torch.log_softmax(logits, dim=1)).sum(dim=1)
        loss = (weights * each).mean()
        value = float(loss.detach())
        if not np.isfinite(value):
            raise InvalidInputError(
                f"the loss is {value} after {self.step} steps; lower learning_rate (now "
                f"{settings.learning_rate:g}), or take float32 arithmetic"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*self.model.parameters(), self.offsets], _CLIP)
        self.optimiser.step()
        return value

    def _evaluate(self) -> None:
        """Take the held-out loss, and keep the parameters if it is the best."""
        import torch

        settings = self.settings
        self.model.eval()
        losses = np.empty(len(self.stopping))
        with (
            torch.inference_mode(),
            torch.autocast(
                torch.device(settings.device).type,
                torch.bfloat16,
                enabled=settings.arithmetic == "bfloat16",
            ),
        ):
            for rows in sorted_batches([len(row) for row in self.stopping_ids], 32):
                tokens, mask = padded([self.stopping_ids[i] for i in rows], self.network.pad_id)
                logits = self.model(
                    input_ids=tokens.to(settings.device), attention_mask=mask.to(settings.device)
                ).logits.float()
                logits = logits + self.offsets[[self.stopping_groups[i] for i in rows]]
                losses[rows] = cross_entropy(
                    logits.cpu().numpy().astype(np.float64), self.stopping.outcomes[rows]
                )
        loss = float(np.average(losses, weights=self.stopping.weights))
        self.losses.append((self.step, float(np.mean(self.since)), loss))
        self.since = []
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.bad = loss, self.step, 0
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        else:
            self.bad += 1

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's groups: encoder and head, each with and without decay, and the offsets."""
        settings = self.settings
        inside = {id(p) for p in self.model.base_model.parameters()}
        groups: dict[tuple[bool, bool], list[Any]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                key = id(parameter) in inside, parameter.ndim >= 2
                groups.setdefault(key, []).append(parameter)
        found = [
            {
                "params": parameters,
                "lr": settings.learning_rate if in_encoder else settings.head_learning_rate,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (in_encoder, decays), parameters in sorted(groups.items())
        ]
        head = settings.head_learning_rate
        return [*found, {"params": [self.offsets], "lr": head, "weight_decay": 0.0}]

    def save(self) -> None:
        """Write a checkpoint, where there is a folder for it."""
        import torch

        self.saved_at = time.monotonic()
        if self.folder is None:
            return
        tensors: dict[str, Any] = {"offsets": self.offsets, "random": torch.get_rng_state()}
        tensors |= {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for number, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{k}": torch.as_tensor(v) for k, v in values.items()}
        state = {
            "pinned": self._pinned(),
            "step": self.step,
            "best_step": self.best_step,
            "best_loss": self.best_loss if np.isfinite(self.best_loss) else None,
            "bad": self.bad,
            "losses": self.losses,
            "since": self.since,
            "elapsed_s": self.elapsed_s,
        }
        write_checkpoint(self.folder / CHECKPOINT_FILE, tensors, state, framework="pt")

    def restore(self) -> None:
        """Take up the checkpoint in the folder."""
        import torch

        found = None
        if self.folder is not None:
            found = read_checkpoint(self.folder / CHECKPOINT_FILE, framework="pt")
        if found is None:
            raise InvalidInputError(
                f"there is no checkpoint in {str(self.folder)!r} to resume from; begin without it"
            )
        tensors, state = found
        if state["pinned"] != self._pinned():
            raise InvalidInputError(
                f"the checkpoint in {str(self.folder)!r} was made with different settings, "
                "encoder or training data; give the same, or start without resuming"
            )
        parts: dict[str, dict[str, Any]] = {"model": {}, "best": {}}
        moments: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if part in parts:
                parts[part][rest] = tensor
            elif part == "adam":
                number, _, key = rest.partition(".")
                moments.setdefault(int(number), {})[key] = tensor
        self.model.load_state_dict(parts["model"])
        self.best = parts["best"]
        with torch.no_grad():
            self.offsets.copy_(tensors["offsets"])
        optimiser = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**optimiser, "state": moments})
        torch.set_rng_state(tensors["random"])
        self.step, self.best_step, self.bad = state["step"], state["best_step"], state["bad"]
        self.best_loss = np.inf if state["best_loss"] is None else state["best_loss"]
        self.losses = [(int(s), float(a), float(b)) for s, a, b in state["losses"]]
        self.since, self.elapsed_s = list(state["since"]), float(state["elapsed_s"])

    def _pinned(self) -> dict[str, Any]:
        config = self.model.config
        return {
            "settings": self.settings.pinned(),
            "training": self.training.fingerprint(),
            "stopping": self.stopping.fingerprint(),
            "architecture": f"{type(self.model).__name__} {config.model_type}",
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }


def cross_entropy(logits: Float64Array, outcomes: Float64Array) -> Float64Array:
    """Cross-entropy of each row's outcomes, float64[n], by its logits float64[n, 3]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses: Float64Array = -(outcomes * log_p).sum(axis=1)
    return losses
