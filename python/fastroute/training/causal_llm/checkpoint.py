"""Where a training stands: weights, moments of the optimizer, and JSON, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastroute.errors import InvalidInputError
from fastroute.training.checkpoint_file import read_checkpoint, write_checkpoint

_FILE = "training.safetensors"


def save(folder: Path, model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Write weights, the optimizer's moments and ``state`` to ``folder``, atomically."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in moments.items()}
    write_checkpoint(folder / _FILE, tensors, state, framework="pt")


def load(folder: Path, model: Any, optimizer: Any) -> dict[str, Any] | None:
    """Put back what ``save`` wrote and return its ``state``; None where there is nothing."""
    path = folder / _FILE
    found = read_checkpoint(path, framework="pt")
    if found is None:
        return None
    weights: dict[str, Any] = {}
    moments: dict[int, dict[str, Any]] = {}
    try:
        for name, tensor in found[0].items():
            part, rest = name.split(".", 1)
            if part == "model":
                weights[rest] = tensor
            else:
                number, key = rest.split(".")
                moments.setdefault(int(number), {})[key] = tensor
        model.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"{path} is not a checkpoint of this training ({type(error).__name__}: {error}); "
            "start again in another folder"
        ) from error
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return found[1]


def remove(folder: Path) -> None:
    """Remove the checkpoint in ``folder``, and the folder if nothing else is in it."""
    # What a killed process was writing is called .FILE.something.
    for file in (folder / _FILE, *folder.glob(f".{_FILE}.*")):
        file.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
