"""The journal of a training: its state after each epoch, in one file that is whole or absent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from fastroute.errors import InvalidInputError
from fastroute.training.checkpoint_file import JOURNAL, read_checkpoint, write_checkpoint
from fastroute.training.mf.factorization import Settings, State
from fastroute.training.pairs import Pairs
from fastroute.types import Float32Array


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
    facts = {"epoch": state.epoch, "steps": state.steps, "losses": state.losses}
    write_checkpoint(
        folder / JOURNAL, state.arrays, facts | {"fingerprint": belongs_to}, framework="np"
    )


def load_state(folder: Path, belongs_to: str) -> State:
    """The state in the journal in ``folder``.

    Raises InvalidInputError where there is none, or one of other data or settings.
    """
    path = folder / JOURNAL
    found = read_checkpoint(path, framework="np")
    if found is None:
        raise InvalidInputError(
            f"--resume: {path} does not exist, so there is no training to resume; leave --resume "
            "out"
        )
    arrays, facts = found
    if facts.get("fingerprint") != belongs_to:
        raise InvalidInputError(
            f"--resume: {path} was made with different data, embedder or options; give the same, "
            "or leave --resume out to start again"
        )
    return State(facts["epoch"], facts["steps"], arrays, facts["losses"])


def remove_state(folder: Path) -> None:
    """Delete the journal, when what it was for is done."""
    (folder / JOURNAL).unlink(missing_ok=True)
