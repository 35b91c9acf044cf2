"""What a sentence-embedding folder holds: its ONNX file, its pooling, its longest input.

The layout is that of sentence-transformers and of ONNX exports on the Hugging Face Hub:
``tokenizer.json`` and ``model.onnx`` (or ``onnx/model.onnx``) are needed, ``modules.json``,
``1_Pooling/config.json``, ``sentence_bert_config.json``, ``tokenizer_config.json`` and
``config.json`` are read where they are present. Nothing in a folder is ever executed.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from fastroute.errors import EmbeddingError, InvalidInputError, MissingDependencyError

CONFIG_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
#: Taken without being asked for: the export at full precision, where exporters put it.
CANONICAL_MODEL_FILES = ("model.onnx", "onnx/model.onnx")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A tokenizer without a limit says so with 1e30.
_NO_LIMIT = 1_000_000


def locate(
    folder_or_hub_id: str | os.PathLike[str],
    *,
    model_file: str | None,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[Path, str]:
    """The folder to load and the model's short name; a hub id is fetched, or found in its cache.

    Raises:
        InvalidInputError: neither a folder nor a hub id, or ``revision`` with a folder.
        EmbeddingError: the hub can't be reached or does not have it.
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
            f"folder_or_hub_id: there is no folder {text!r}, and it is no Hugging Face id "
            "(owner/name) either"
        )
    return _fetch(text, model_file, revision, cache_dir), text.rpartition("/")[2]


def _fetch(
    hub_id: str,
    model_file: str | None,
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
    models = CANONICAL_MODEL_FILES if model_file is None else (model_file,)
    # Weights above 2 GB lie beside the graph.
    wanted = [*CONFIG_FILES, *(m + suffix for m in models for suffix in ("", "_data", ".data"))]
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                allow_patterns=wanted,
            )
        )
    except Exception as error:  # the hub's client raises OSError, its own kinds and httpx's
        reason = str(error).strip().splitlines() or [""]
        raise EmbeddingError(
            f"there is no local folder {hub_id!r}, and it could not be fetched from the Hugging "
            f"Face Hub ({type(error).__name__}: {reason[0]}). Check the id and the network, or "
            "pass a local folder that holds tokenizer.json and the ONNX file"
        ) from error


def find_model_file(folder: Path, model_file: str | None) -> Path:
    """The ONNX file to load: ``model_file``, else the only one, else the canonical one.

    Raises:
        EmbeddingError: no ONNX file, or several and none called ``model.onnx``.
    """
    # Only the two usual places: a folder may hold an unrelated tree below.
    found = sorted(p for place in (folder, folder / "onnx") for p in place.glob("*.onnx"))
    names = [p.relative_to(folder).as_posix() for p in found]
    if model_file is not None:
        chosen = folder / model_file
        if chosen.is_file():
            return chosen
        raise EmbeddingError(
            f"{str(folder)!r} has no file {model_file!r}; its ONNX files: "
            f"{', '.join(names) or 'none'}"
        )
    if not found:
        raise EmbeddingError(
            f"{str(folder)!r} has no ONNX file (looked for *.onnx there and in onnx/); export "
            "the model, or pass model_file= with the file's path inside the folder"
        )
    if len(found) == 1:
        return found[0]
    for canonical in CANONICAL_MODEL_FILES:
        if canonical in names:
            return folder / canonical
    raise EmbeddingError(
        f"{str(folder)!r} has several ONNX files and none is called model.onnx; pass "
        f"model_file= one of: {', '.join(names)}"
    )


def find_tokenizer_file(folder: Path, model: Path) -> Path:
    """``tokenizer.json``, in the folder or beside the ONNX file."""
    for place in (folder, model.parent):
        if (place / "tokenizer.json").is_file():
            return place / "tokenizer.json"
    raise EmbeddingError(
        f"{str(folder)!r} has no tokenizer.json; save the model's fast tokenizer there "
        "(tokenizer.save_pretrained(folder) of a transformers fast tokenizer writes it)"
    )


def read_json(path: Path) -> dict[str, Any] | list[Any] | None:
    """The content of a JSON file; None where the file is absent."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EmbeddingError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(value, (dict, list)):
        raise EmbeddingError(f"{str(path)!r} must hold a JSON object or list")
    return value


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EmbeddingError(f"{str(path)!r} must hold a JSON object")
    return value


def max_tokens_of(folder: Path, tokenizer_limit: int | None) -> int | None:
    """The longest input, special tokens included, that the folder's files ask for.

    The first that says so: ``max_seq_length`` of sentence_bert_config.json (sentence-transformers
    obeys it before all else), ``tokenizer_limit`` (the truncation in tokenizer.json),
    ``model_max_length`` of tokenizer_config.json, the positions in config.json.
    """
    sentence = _read_object(folder / "sentence_bert_config.json").get("max_seq_length")
    declared = _read_object(folder / "tokenizer_config.json").get("model_max_length")
    config = _read_object(folder / "config.json")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in {
        "camembert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    }:
        # These count positions from the padding id + 1, so that many are never used.
        positions -= int(config.get("pad_token_id") or 0) + 1
    for limit in (sentence, tokenizer_limit, declared, positions):
        if isinstance(limit, (int, float)) and 0 < limit < _NO_LIMIT:
            return int(limit)
    return None


def lowercases(folder: Path) -> bool:
    """Whether sentence_bert_config.json asks for lower-case text before the tokenizer."""
    return _read_object(folder / "sentence_bert_config.json").get("do_lower_case") is True


def pools_prompt_prefix(folder: Path) -> bool:
    """Whether the tokens of a prefix (an instruction) take part in the pooling."""
    return _read_object(folder / "1_Pooling" / "config.json").get("include_prompt") is not False


def pooling_of(folder: Path) -> str | None:
    """The pooling that 1_Pooling/config.json asks for: "mean", "cls", "max" or "last".

    None where the file is absent.

    Raises:
        EmbeddingError: a pooling that isn't known here, or layers after the pooling that an
            output of token embeddings doesn't include.
    """
    modules = read_json(folder / "modules.json")
    if isinstance(modules, list):
        kinds = [str(m.get("type", "")).rpartition(".")[2] for m in modules if isinstance(m, dict)]
        extra = [k for k in kinds if k not in {"Transformer", "Pooling", "Normalize"}]
        if extra:
            raise EmbeddingError(
                f"modules.json of {str(folder)!r} lists {', '.join(extra)}, which the ONNX "
                "file's token embeddings don't include; export the whole sentence-embedding "
                "model, with an output of shape [batch, dimensions]"
            )
    path = folder / "1_Pooling" / "config.json"
    config = _read_object(path)
    if not config:
        return None
    names = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_lasttoken": "last",
    }
    asked = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    if not asked and isinstance(config.get("pooling_mode"), str):
        asked = [config["pooling_mode"]]
    names |= {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
    if len(asked) != 1 or asked[0] not in names:
        raise EmbeddingError(
            f"{str(path)!r} asks for pooling {asked or 'unknown'}; known here are mean, cls, max "
            "and last, one at a time: pass pooling= one of them if that is what you want"
        )
    return names[asked[0]]
