"""An encoder of transformers with a classifier on it, and its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._extras import needed_for
from fastroute.errors import InvalidInputError
from fastroute.training.bert.batches import padded, sorted_batches
from fastroute.training.bert.examples import OUTCOMES
from fastroute.types import Float64Array

_EVALUATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class Network:
    """A classifier and what turns text into its input."""

    model: Any  #: a ``transformers`` sequence classifier with three labels
    tokenizer: Any  #: its fast tokenizer
    max_tokens: int  #: where prompts are truncated

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def token_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, special ones included, truncated to ``max_tokens``."""
        if not prompts:
            return []
        encoded = self.tokenizer(list(prompts), truncation=True, max_length=self.max_tokens)
        return [list(ids) for ids in encoded["input_ids"]]

    def logits(self, ids: Sequence[Sequence[int]], *, device: str = "cpu") -> Float64Array:
        """Logits of prompts given as token ids, float64[n, 3], in float32 and without dropout."""
        import torch

        self.model.eval()
        answer = np.zeros((len(ids), len(OUTCOMES)))
        with torch.inference_mode():
            for rows in sorted_batches([len(row) for row in ids], _EVALUATION_BATCH):
                tokens, mask = padded([ids[i] for i in rows], self.pad_id)
                logits = self.model(
                    input_ids=tokens.to(device), attention_mask=mask.to(device)
                ).logits
                answer[rows] = logits.float().cpu().numpy()
        return answer


def check_libraries() -> None:
    """Raise MissingDependencyError where torch or transformers is not installed."""
    with needed_for("training a bert router"):
        import torch
        import transformers
    del torch, transformers


def load_network(encoder: str | os.PathLike[str], *, max_tokens: int, seed: int) -> Network:
    """The encoder in a folder or on the hub, with a new classifier of three labels.

    Only safetensors weights are read, and no code that comes with a model is run. ``seed`` is that
    of the new weights.

    Raises:
        MissingDependencyError: torch or transformers is not installed.
        InvalidInputError: there is no such encoder, it is not an encoder, its tokenizer is not a
            fast one, or ``max_tokens`` is more than it can read.
    """
    check_libraries()
    import torch
    import transformers

    torch.manual_seed(seed)
    name = os.fspath(encoder)
    try:
        with quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                name,
                num_labels=len(OUTCOMES),
                id2label=dict(enumerate(OUTCOMES)),
                label2id={label: i for i, label in enumerate(OUTCOMES)},
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
            )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidInputError(
            f"encoder {name!r} can't be loaded ({reason[0]}); give a folder with config.json, "
            "model.safetensors and tokenizer.json, or the id of such a model on the Hugging Face "
            "Hub"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise InvalidInputError(
            f"encoder {name!r} has no fast tokenizer, which the router needs (tokenizer.json)"
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    if isinstance(longest, int) and max_tokens > longest:
        raise InvalidInputError(
            f"max_tokens={max_tokens} is more than the {longest} that encoder {name!r} can read"
        )
    return Network(model, tokenizer, max_tokens)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Errors only, and no progress bars: what matters of a loading is said by us."""
    import transformers

    logging = transformers.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def save_network(network: Network, folder: Path) -> dict[str, bytes]:
    """Write the network as transformers loads it; returns what a router needs of that by name."""
    backend = network.tokenizer.backend_tokenizer
    # The file's own truncation is what a router goes by; padding is for a batch to decide.
    backend.no_padding()
    backend.enable_truncation(network.max_tokens)
    content = backend.to_str(pretty=False)
    # Its bar of files written can't be turned off otherwise.
    with quiet_transformers(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        network.model.save_pretrained(folder)
        network.tokenizer.save_pretrained(folder)
    names = ("config.json", "tokenizer_config.json")
    files = {name: (folder / name).read_bytes() for name in names}
    return {"tokenizer.json": content.encode()} | files


def freeze(model: Any, layers: int) -> None:
    """Leave the encoder's embeddings and its first ``layers`` layers out of training; none for 0.

    Raises InvalidInputError where the encoder has not so many.
    """
    import torch

    if not layers:
        return
    base, count = model.base_model, model.config.num_hidden_layers
    stacks = [
        module
        for module in base.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    if not stacks or layers > count:
        raise InvalidInputError(
            f"frozen_layers={layers}: the encoder has {count if stacks else 'no list of'} layers"
        )
    for module in (getattr(base, "embeddings", model.get_input_embeddings()), *stacks[0][:layers]):
        module.requires_grad_(False)


def last_layer(model: Any) -> Any:
    """The linear layer that gives the three logits.

    Raises InvalidInputError where there is not exactly one.
    """
    import torch

    found = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == len(OUTCOMES)
    ]
    if len(found) != 1:
        raise InvalidInputError(
            f"encoder: {type(model).__name__} has {len(found)} linear layers of {len(OUTCOMES)} "
            "outputs where one is needed, the classifier's; choose another architecture"
        )
    return found[0]
