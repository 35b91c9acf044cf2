"""What a sentence-embedding folder says beyond its ONNX file: its pooling, its longest input.

The layout is that of sentence-transformers: ``modules.json``, ``1_Pooling/config.json`` and
``sentence_bert_config.json`` are read where they are present.
"""

from __future__ import annotations

from pathlib import Path

from fastroute.errors import OnnxModelError
from fastroute.onnx_models import folder as onnx_folder
from fastroute.onnx_models.folder import is_limit, read_json, read_object

CONFIG_FILES = (
    *onnx_folder.CONFIG_FILES,
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)


def max_tokens_of(folder: Path, tokenizer_limit: int | None) -> int | None:
    """The longest input, special tokens included, that the folder's files ask for.

    ``max_seq_length`` of sentence_bert_config.json, which sentence-transformers obeys before all
    else; without it see ``fastroute.onnx_models.folder.max_tokens_of``.
    """
    sentence = read_object(folder / "sentence_bert_config.json").get("max_seq_length")
    limit = onnx_folder.max_tokens_of(folder, tokenizer_limit)
    return int(sentence) if is_limit(sentence) else limit


def lowercases(folder: Path) -> bool:
    """Whether sentence_bert_config.json asks for lower-case text before the tokenizer."""
    return read_object(folder / "sentence_bert_config.json").get("do_lower_case") is True


def pools_prompt_prefix(folder: Path) -> bool:
    """Whether the tokens of a prefix (an instruction) take part in the pooling."""
    return read_object(folder / "1_Pooling" / "config.json").get("include_prompt") is not False


def pooling_of(folder: Path) -> str | None:
    """The pooling that 1_Pooling/config.json asks for: "mean", "cls", "max" or "last".

    None where the file is absent.

    Raises:
        OnnxModelError: a pooling that isn't known here, or layers after the pooling that an
            output of token embeddings doesn't include.
    """
    modules = read_json(folder / "modules.json")
    if isinstance(modules, list):
        kinds = [str(m.get("type", "")).rpartition(".")[2] for m in modules if isinstance(m, dict)]
        extra = [k for k in kinds if k not in {"Transformer", "Pooling", "Normalize"}]
        if extra:
            raise OnnxModelError(
                f"modules.json of {str(folder)!r} lists {', '.join(extra)}, which the ONNX "
                "file's token embeddings don't include; export the whole sentence-embedding "
                "model, with an output of shape [batch, dimensions]"
            )
    path = folder / "1_Pooling" / "config.json"
    config = read_object(path)
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
        raise OnnxModelError(
            f"{str(path)!r} asks for pooling {asked or 'unknown'}; supported are mean, cls, max "
            "and last, one at a time: pass pooling= one of them if that is what you want"
        )
    return names[asked[0]]
