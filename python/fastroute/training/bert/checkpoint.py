"""Where a training stands, in one file without pickle: safetensors, with JSON in its header."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastroute.errors import InvalidInputError

FILE = "checkpoint.safetensors"


def save_checkpoint(folder: Path, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write tensors and ``state``, plain JSON, to ``folder``; whole or not at all."""
    from safetensors.torch import save_file

    kept = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{FILE}.")
        os.close(handle)
        try:
            save_file(kept, temporary, metadata={"state": json.dumps(dict(state))})
            Path(temporary).replace(folder / FILE)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidInputError(
            f"the checkpoint can't be written to {folder}: {error.strerror}"
        ) from error


def load_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Tensors and state of the checkpoint in ``folder``; None where there is none.

    Raises InvalidInputError for a file that is no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InvalidInputError(
            f"{path} is no checkpoint of a training ({type(error).__name__}: {error}); remove it "
            "to begin anew"
        ) from error
    return tensors, state
