"""Folders of transformers in ONNX: their files, found on disk or fetched from the hub.

The layout is that of ONNX exports on the Hugging Face Hub: ``tokenizer.json`` and an ONNX file,
there or in ``onnx/``, are needed; ``config.json`` and ``tokenizer_config.json`` are read where they
are present. Nothing in a folder is ever executed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from fastroute.errors import InvalidInputError, MissingDependencyError, OnnxModelError

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "config.json")
#: The export at full precision, where exporters put it.
FLOAT_FILES = ("model.onnx", "onnx/model.onnx")
#: The dynamically quantised export, under the names that exporters give it.
INT8_FILES = tuple(
    f"{place}{name}.onnx"
    for place in ("", "onnx/")
    for name in ("model_int8", "model_quantized", "model_qint8", "model_quint8")
)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A tokenizer without a limit says so with 1e30.
_NO_LIMIT = 1_000_000
_OFFSET_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta")


def locate(
    folder_or_hub_id: str | os.PathLike[str],
    *,
    model_file: str | None,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    model_files: Sequence[str] = FLOAT_FILES,
    config_files: Sequence[str] = CONFIG_FILES,
) -> tuple[Path, str]:
    """The folder to load and the model's short name; a hub id is fetched, or found in its cache.

    From the hub come ``config_files``, and ``model_file`` or else those of ``model_files`` that
    there are.

    Raises:
        InvalidInputError: neither a folder nor a hub id, or ``revision`` with a folder.
        OnnxModelError: the hub can't be reached or does not have it.
    """
    if model_file is not None and (
        re.search(r"[*?\[\]]", model_file) or ".." in Path(model_file).parts
    ):
        raise InvalidInputError(
            f"model_file must be the path of one file inside the folder, got {model_file!r}"
        )
    path = Path(folder_or_hub_id).expanduser()
    if path.is_dir():
        if revision is not None:
            raise InvalidInputError(
                f"revision={revision!r} is for Hugging Face ids, and {str(path)!r} is a folder"
            )
        return path, path.resolve().name
    text = os.fspath(folder_or_hub_id)
    if path.is_file():
        raise InvalidInputError(
            f"folder_or_hub_id must be a folder, got the file {text!r}; pass its folder and "
            f"model_file={path.name!r}"
        )
    if not isinstance(folder_or_hub_id, str) or not _HUB_ID.fullmatch(text):
        raise InvalidInputError(
            f"folder_or_hub_id: there is no folder {text!r}, and it is not a Hugging Face id "
            "(owner/name)"
        )
    wanted = model_files if model_file is None else (model_file,)
    found = _fetch(text, [*config_files, *_with_weights(wanted)], revision, cache_dir)
    return found, text.rpartition("/")[2]


def _fetch(
    hub_id: str,
    files: list[str],
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            f"fetching {hub_id!r} needs huggingface_hub: pip install huggingface_hub, or pass "
            "a local folder"
        ) from error
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                allow_patterns=files,
            )
        )
    except Exception as error:  # the hub's client raises OSError, its own kinds and httpx's
        reason = str(error).strip().splitlines() or [""]
        raise OnnxModelError(
            f"there is no local folder {hub_id!r}, and it could not be fetched from the Hugging "
            f"Face Hub ({type(error).__name__}: {reason[0]}). Check the id and the network, or "
            "pass a local folder that holds tokenizer.json and the ONNX file"
        ) from error


def _with_weights(models: Sequence[str]) -> list[str]:
    """ONNX files, and the files beside them that hold weights above 2 GB."""
    return [model + suffix for model in models for suffix in ("", "_data", ".data")]


def find_model_file(folder: Path, model_file: str | None) -> Path:
    """The ONNX file to load: ``model_file``, else the only one, else that at full precision.

    Raises:
        OnnxModelError: no ONNX file, or several and none with its usual name.
    """
    # Only the two usual places: a folder may hold an unrelated tree below.
    places = (folder, folder / "onnx")
    found = sorted(p for place in places for p in place.glob("*.onnx") if p.is_file())
    names = [p.relative_to(folder).as_posix() for p in found]
    if model_file is not None:
        chosen = folder / model_file
        if chosen.is_file():
            return chosen
        raise OnnxModelError(
            f"{str(folder)!r} has no file {model_file!r}; its ONNX files: "
            f"{', '.join(names) or 'none'}"
        )
    if not found:
        raise OnnxModelError(
            f"{str(folder)!r} has no ONNX file (looked for *.onnx there and in onnx/); export "
            "the model, or pass model_file= with the file's path inside the folder"
        )
    if len(found) == 1:
        return found[0]
    for canonical in FLOAT_FILES:
        if canonical in names:
            return folder / canonical
    raise OnnxModelError(
        f"{str(folder)!r} has several ONNX files and none is called {FLOAT_FILES[0]}; pass "
        f"model_file= one of: {', '.join(names)}"
    )


def find_tokenizer_file(folder: Path, model: Path) -> Path:
    """``tokenizer.json``, in the folder or beside the ONNX file."""
    for place in (folder, model.parent):
        if (place / TOKENIZER_FILE).is_file():
            return place / TOKENIZER_FILE
    raise OnnxModelError(
        f"{str(folder)!r} has no tokenizer.json; save the model's fast tokenizer there "
        "(tokenizer.save_pretrained(folder) of a transformers fast tokenizer writes it)"
    )


def read_json(path: Path) -> dict[str, Any] | list[Any] | None:
    """The content of a JSON file; None where the file is absent."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OnnxModelError(f"{str(path)!r} is not JSON: {error}") from error
    except OSError as error:
        raise OnnxModelError(f"{str(path)!r} can't be read: {error.strerror}") from error
    if not isinstance(value, (dict, list)):
        raise OnnxModelError(f"{str(path)!r} must hold a JSON object or list")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object; empty where the file is absent."""
    value = read_json(path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OnnxModelError(f"{str(path)!r} must hold a JSON object")
    return value


def max_tokens_of(folder: Path, tokenizer_limit: int | None) -> int | None:
    """The longest input, special tokens included, that the folder's files ask for.

    The first that says so: ``tokenizer_limit`` (the truncation in tokenizer.json),
    ``model_max_length`` of tokenizer_config.json, the positions in config.json.
    """
    declared = read_object(folder / "tokenizer_config.json").get("model_max_length")
    config = read_object(folder / "config.json")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _OFFSET_POSITIONS:
        # These count positions from the padding id + 1, so that many are never used.
        pad_id = config.get("pad_token_id")
        positions -= (pad_id if isinstance(pad_id, int) else 0) + 1
    for limit in (tokenizer_limit, declared, positions):
        if is_limit(limit):
            return int(limit)
    return None


def is_limit(value: Any) -> TypeGuard[int | float]:
    """Whether a length in a settings file means something."""
    return isinstance(value, (int, float)) and 0 < value < _NO_LIMIT
