"""The only module that imports torch and transformers, which are large and not always installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fastroute._extras import needed_for
from fastroute.errors import InvalidInputError


def load_decoder(folder: Path) -> Any:
    """The decoder in ``folder``, in float32 and in evaluation mode.

    Nothing is fetched, and no code of the folder runs.
    """
    torch, transformers = import_libraries()
    if not (folder / "config.json").is_file():
        raise InvalidInputError(
            f"checkpoint: {str(folder)!r} has no config.json; give the folder of a Hugging Face "
            "checkpoint (huggingface-cli download OWNER/NAME --local-dir FOLDER makes one)"
        )
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="eager",
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InvalidInputError(
            f"checkpoint: transformers can't load {str(folder)!r} as a causal language model: "
            f"{error}"
        ) from error
    return model.eval()


def import_libraries() -> tuple[Any, Any]:
    """torch and transformers."""
    with needed_for("a causal_llm checkpoint"):
        import torch
        import transformers
    return torch, transformers


def quieten() -> None:
    """For a command: no words of transformers but errors, and bars on a terminal only."""
    _, transformers = import_libraries()
    transformers.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
