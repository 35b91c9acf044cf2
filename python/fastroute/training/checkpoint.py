"""The journal of a training: its state after each epoch, in one file that is whole or absent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastroute.artifacts import write_whole
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.training.factorization import Settings, State
from fastroute.training.pairs import Pairs
from fastroute.types import Float32Array

JOURNAL = "training-journal.safetensors"


def fingerprint(learnt: Pairs, stopping: Pairs, X: Float32Array, settings: Settings) -> str:
    """What a state belongs to: data, embeddings and settings, as 64 hex digits."""
    digest = hashlib.sha256(json.dumps([asdict(settings), learnt.models]).encode())
    digest.update(X.tobytes())
    for pairs in (learnt, stopping):
        columns = (
            pairs.group_ids, pairs.rows, pairs.a, pairs.b, pairs.preference, pairs.weights,
        )  # fmt: skip
        for column in columns:
            digest.update(column.tobytes())
    return digest.hexdigest()


def save_state(folder: Path, state: State, belongs_to: str) -> None:
    """Write ``state`` to the journal in ``folder``."""
    from safetensors.numpy import save

    facts = {"epoch": state.epoch, "steps": state.steps, "losses": state.losses}
    metadata = {"fingerprint": belongs_to, "facts": json.dumps(facts)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / JOURNAL, save(state.arrays, metadata))
    except OSError as error:
        raise ArtifactError(f"{folder / JOURNAL} can't be written: {error.strerror}") from error


def load_state(folder: Path, belongs_to: str) -> State:
    """The state in the journal in ``folder``.

    Raises InvalidInputError where there is none, or one of other data or settings.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / JOURNAL
    if not path.is_file():
        raise InvalidInputError(
            f"--resume: {path} does not exist, so there is nothing to go on from; leave --resume "
            "out"
        )
    arrays: dict[str, Any] = {}
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata()
            # Copies: what is learnt further is written in place.
            arrays = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118 - it is no dict
            facts, stated = json.loads(metadata["facts"]), metadata["fingerprint"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"--resume: {path} can't be read ({error}); delete it and leave --resume out"
        ) from error
    if stated != belongs_to:
        raise InvalidInputError(
            f"--resume: {path} is of other data, another embedder or other options; give those, or "
            "leave --resume out to start again"
        )
    return State(facts["epoch"], facts["steps"], arrays, facts["losses"])


def remove_state(folder: Path) -> None:
    """Delete the journal, when what it was for is done."""
    (folder / JOURNAL).unlink(missing_ok=True)
