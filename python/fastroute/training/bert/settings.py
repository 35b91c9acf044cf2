"""What can be chosen about the training of a ``bert`` router."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from fastroute._validate import check_count
from fastroute.errors import InvalidInputError

Arithmetic = Literal["float32", "bfloat16"]
#: The encoder that is fine-tuned where no other is given: 22.7 M parameters, 6 layers.
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train."""

    #: longer prompts are truncated to this many tokens, in training and in use.
    max_tokens: int = 192
    batch_size: int = 32  #: prompts in one step. Batches are of prompts of similar length.
    epochs: int = 2  #: passes over the training prompts at most
    #: of the encoder, at its height; it rises over ``warmup`` and falls to 0.
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3  #: of what is new: the classifier and the groups' offsets
    weight_decay: float = 0.01  #: of AdamW; not of biases and norms
    #: so many of the encoder's first layers, and its embeddings, stay as they are; 0 to train all
    #: of it. With half of them frozen a step takes two thirds of the time.
    frozen_layers: int = 0
    warmup: float = 0.06  #: share of the training in which the rate rises
    evaluations_per_epoch: int = 4  #: how often an epoch the held-out loss is taken
    #: the training stops after so many evaluations in a row without a better loss.
    patience: int = 4
    #: it is over by then, and the rate falls to 0 by then; None for no limit. What comes after
    #: training (export, checks) is not counted.
    max_minutes: float | None = None
    #: of the layers. bfloat16 is about twice as fast where the processor has it, and slower where
    #: it has not; parameters and their updates stay float32.
    arithmetic: Arithmetic = "float32"
    num_threads: int = 1  #: of torch
    device: str = "cpu"  #: of torch: "cpu", "cuda"
    seed: int = 0  #: of the classifier's first weights, dropout, batches and held-out prompts

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "evaluations_per_epoch", "patience", "num_threads"):
            check_count(name, getattr(self, name), least=1)
        check_count("max_tokens", self.max_tokens, least=8)
        check_count("frozen_layers", self.frozen_layers, least=0)
        check_count("seed", self.seed, least=0)
        for name in ("learning_rate", "head_learning_rate"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise InvalidInputError(
                    f"{name} must be above 0 and below 1, got {getattr(self, name)!r}"
                )
        if not 0.0 <= self.weight_decay < 1.0:
            raise InvalidInputError(f"weight_decay must be 0 to 1, got {self.weight_decay!r}")
        if not 0.0 <= self.warmup < 1.0:
            raise InvalidInputError(f"warmup must be a share below 1, got {self.warmup!r}")
        if self.max_minutes is not None and not 0.0 < self.max_minutes < math.inf:
            raise InvalidInputError(f"max_minutes must be above 0, got {self.max_minutes!r}")
        if self.arithmetic not in get_args(Arithmetic):
            raise InvalidInputError(
                f"arithmetic must be one of {', '.join(get_args(Arithmetic))}, got "
                f"{self.arithmetic!r}"
            )

    def pinned(self) -> dict[str, Any]:
        """What must be the same for a training to be taken up again."""
        free = {"max_minutes", "num_threads", "device"}
        return {name: value for name, value in asdict(self).items() if name not in free}
