"""RouteLLM's published ``mf`` checkpoint, read as it is.

``config.json`` and ``model.safetensors`` with ``P.weight`` [64, 128], ``text_proj.0.weight``
[128, 1536] (absent where the config says ``"use_proj": false``) and ``classifier.0.weight``
[1, 128], over OpenAI's text-embedding-3-small.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastroute.artifacts import check_regular
from fastroute.errors import ArtifactError, ArtifactNotFoundError
from fastroute.types import Float32Array

if TYPE_CHECKING:
    from fastroute.embedders.base import Embedder

STRONG_MODEL = "gpt-4-1106-preview"
WEAK_MODEL = "mixtral-8x7b-instruct-v0.1"

#: The models of the checkpoint's rows, in order: those of Chatbot Arena in early 2024.
MODELS: tuple[str, ...] = (
    "RWKV-4-Raven-14B",
    "alpaca-13b",
    "chatglm-6b",
    "chatglm2-6b",
    "chatglm3-6b",
    "claude-1",
    "claude-2.0",
    "claude-2.1",
    "claude-instant-1",
    "codellama-34b-instruct",
    "deepseek-llm-67b-chat",
    "dolly-v2-12b",
    "dolphin-2.2.1-mistral-7b",
    "falcon-180b-chat",
    "fastchat-t5-3b",
    "gemini-pro",
    "gemini-pro-dev-api",
    "gpt-3.5-turbo-0125",
    "gpt-3.5-turbo-0314",
    "gpt-3.5-turbo-0613",
    "gpt-3.5-turbo-1106",
    "gpt-4-0125-preview",
    "gpt-4-0314",
    "gpt-4-0613",
    "gpt-4-1106-preview",
    "gpt4all-13b-snoozy",
    "guanaco-33b",
    "koala-13b",
    "llama-13b",
    "llama-2-13b-chat",
    "llama-2-70b-chat",
    "llama-2-7b-chat",
    "llama2-70b-steerlm-chat",
    "mistral-7b-instruct",
    "mistral-7b-instruct-v0.2",
    "mistral-medium",
    "mixtral-8x7b-instruct-v0.1",
    "mpt-30b-chat",
    "mpt-7b-chat",
    "nous-hermes-2-mixtral-8x7b-dpo",
    "oasst-pythia-12b",
    "openchat-3.5",
    "openchat-3.5-0106",
    "openhermes-2.5-mistral-7b",
    "palm-2",
    "pplx-70b-online",
    "pplx-7b-online",
    "qwen-14b-chat",
    "qwen1.5-4b-chat",
    "qwen1.5-72b-chat",
    "qwen1.5-7b-chat",
    "solar-10.7b-instruct-v1.0",
    "stablelm-tuned-alpha-7b",
    "starling-lm-7b-alpha",
    "stripedhyena-nous-7b",
    "tulu-2-dpo-70b",
    "vicuna-13b",
    "vicuna-33b",
    "vicuna-7b",
    "wizardlm-13b",
    "wizardlm-70b",
    "yi-34b-chat",
    "zephyr-7b-alpha",
    "zephyr-7b-beta",
)


class Factors(NamedTuple):
    """The three matrices of the router."""

    model_embeddings: Float32Array
    projection: Float32Array
    weights: Float32Array


def load_factors(folder: Path) -> Factors:
    """Read the matrices: P, float32[models, k], W, float32[k, d], c, float32[k].

    Raises ArtifactError for a missing file or tensor, another dtype or a shape that does not fit
    the config.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    try:
        for path in (config_path, weights_path):
            check_regular(path)
        config = json.loads(config_path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(
            f"{error.filename} is missing: a RouteLLM checkpoint is config.json and "
            "model.safetensors"
        ) from error
    except OSError as error:
        raise ArtifactError(f"{error.filename} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{config_path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"{config_path} must hold a JSON object, not {type(config).__name__}")
    try:
        tensors = load_file(weights_path)
    except (SafetensorError, KeyError, OSError) as error:  # KeyError: NumPy lacks the dtype
        raise ArtifactError(
            f"{weights_path} is truncated or altered, or has dtypes that NumPy lacks: {error}; "
            "download it again"
        ) from error

    def tensor(name: str) -> Float32Array:
        if name not in tensors:
            raise ArtifactError(
                f"{weights_path} has no tensor {name!r}, only {', '.join(sorted(tensors))}; it is "
                "not a checkpoint of RouteLLM's mf router"
            )
        found = tensors[name]
        if found.dtype != np.float32 or found.ndim != 2:
            raise ArtifactError(
                f"{weights_path}: {name} is {found.dtype} of shape {found.shape} where a float32 "
                "matrix is expected; save it as float32"
            )
        return np.ascontiguousarray(found)

    model_embeddings, classifier = tensor("P.weight"), tensor("classifier.0.weight")
    k = model_embeddings.shape[-1]
    if config.get("use_proj", True):
        projection = tensor("text_proj.0.weight")
    else:
        projection = np.eye(k, dtype=np.float32)
    expected = {
        "P.weight": (model_embeddings.shape, (config.get("num_models"), config.get("dim"))),
        "text_proj.0.weight": (projection.shape, (k, config.get("text_dim"))),
        "classifier.0.weight": (classifier.shape, (1, k)),
    }
    for name, (found, wanted) in expected.items():
        if any(w not in (None, f) for f, w in zip(found, wanted, strict=True)):
            raise ArtifactError(f"{weights_path}: {name} has shape {found}, expected {wanted}")
    return Factors(model_embeddings, projection, np.ascontiguousarray(classifier[0]))


def default_embedder(dimensions: int) -> Embedder | None:
    """text-embedding-3-small, for checkpoints of its dimension. No client is built here."""
    if dimensions != 1536:
        return None
    from fastroute.embedders.openai import OpenAIEmbedder

    return OpenAIEmbedder("text-embedding-3-small")
