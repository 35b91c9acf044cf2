"""Where a training stands, in one file without pickle: safetensors, with JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastroute._files import whole_file
from fastroute.errors import ArtifactError, InvalidInputError

#: What the tensors are: NumPy's arrays or torch's tensors.
Framework = Literal["np", "pt"]
#: The state of an interrupted mf training, in its output folder.
JOURNAL = "training-journal.safetensors"
#: That of an interrupted training in parts, a folder.
PARTS = ".parts"


def write_checkpoint(
    path: Path, tensors: Mapping[str, Any], state: Mapping[str, Any], framework: Framework
) -> None:
    """Write tensors by name and ``state``, plain JSON, to ``path``, atomically.

    Raises ArtifactError if it can't be written.
    """
    from safetensors import SafetensorError

    metadata = {"state": json.dumps(dict(state))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            if framework == "pt":
                from safetensors.torch import save_file

                # A clone each: weights that are tied share memory, which the format refuses.
                kept = {name: t.detach().contiguous().clone() for name, t in tensors.items()}
                save_file(kept, temporary, metadata)
            else:
                from safetensors.numpy import save_file as save_arrays

                save_arrays(dict(tensors), temporary, metadata)
    except (OSError, SafetensorError) as error:  # a full disk is the latter
        why = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path} can't be written: {why}") from error


def read_checkpoint(
    path: Path, framework: Framework
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Tensors and state of the checkpoint at ``path``; None where there is none.

    The tensors may be written to. Raises InvalidInputError for a file that is not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework) as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{path} can't be read as a training checkpoint ({type(error).__name__}: "
            f"{error}); delete it to start again"
        ) from error
    if framework == "np":
        tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    return tensors, state
