"""Where a training stands, in one file without pickle: weights, moments, and JSON in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastroute.errors import InvalidInputError

_FILE = "training.safetensors"


def save(folder: Path, model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Write weights, the optimizer's moments and ``state`` to ``folder``; whole or not at all."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # A clone each: weights that are tied share memory, which the format refuses.
    tensors = {f"model.{k}": v.detach().clone() for k, v in model.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v.detach().clone() for k, v in moments.items()}
    written = folder / f".{_FILE}.new"
    save_file(tensors, written, metadata={"state": json.dumps(state)})
    written.replace(folder / _FILE)


def load(folder: Path, model: Any, optimizer: Any) -> dict[str, Any] | None:
    """Put back what ``save`` wrote and return its ``state``; None where there is nothing."""
    from safetensors import SafetensorError, safe_open

    path = folder / _FILE
    if not path.is_file():
        return None
    weights: dict[str, Any] = {}
    moments: dict[int, dict[str, Any]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
            for name in file.keys():  # noqa: SIM118 - it is no dict
                part, rest = name.split(".", 1)
                if part == "model":
                    weights[rest] = file.get_tensor(name)
                else:
                    number, key = rest.split(".")
                    moments.setdefault(int(number), {})[key] = file.get_tensor(name)
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        raise InvalidInputError(
            f"{path} is no checkpoint of this training ({type(error).__name__}: {error}); begin "
            "anew in another folder"
        ) from error
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return state


def remove(folder: Path) -> None:
    """Remove the checkpoint in ``folder``, and the folder if nothing else is in it."""
    (folder / _FILE).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
