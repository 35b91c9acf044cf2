"""The ``mf`` router: matrix factorization of models and prompts (Ong et al. 2024)."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastroute import _native
from fastroute._validate import available_threads, check_prompt, check_prompts
from fastroute.artifacts import (
    MANIFEST,
    Artifact,
    check_folder,
    load_artifact,
    read_consistently,
)
from fastroute.embedders.base import Embedder
from fastroute.embedders.beside import embedder_beside
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import ArtifactError, InvalidInputError, InvalidTypeError
from fastroute.provenance import CALIBRATION, TRAINED_ON, Provenance
from fastroute.routers.base import (
    EmbeddingRouter,
    check_embedder,
    check_pair,
    has_words,
    without_words,
)
from fastroute.routers.spec import RouterSpec
from fastroute.types import Float32Array, Float64Array

#: Kind of the artifacts that hold one.
KIND = "mf"
_FACTORS = ("P.weight", "text_proj.0.weight", "classifier.0.weight")
DEFAULT_FOLDER = Path(__file__).parent.parent / "bundled" / "mf"


class MatrixFactorizationRouter(EmbeddingRouter):
    """delta(M, q) = c . (P_M / |P_M| * (W q)); win rate = sigmoid(delta(strong) - delta(weak)).

    Source: arXiv 2406.18665, section 4.2, and RouteLLM's published checkpoint. No biases.

    Args:
        models: names of the rows of ``model_embeddings``.
        model_embeddings: P, float32[models, k].
        projection: W, float32[k, d].
        weights: c, float32[k].
        strong_model, weak_model: the pair to score; names from ``models``.
        embedder: makes the prompt embeddings, of d dimensions; needed for text only.
        provenance: what is recorded of the router.
    """

    name = "mf"

    def __init__(
        self,
        models: Sequence[str],
        model_embeddings: Float32Array,
        projection: Float32Array,
        weights: Float32Array,
        *,
        strong_model: str,
        weak_model: str,
        embedder: Embedder | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        folded = _native.fold_models(model_embeddings, projection, weights)
        self.models = tuple(models)
        if not all(isinstance(model, str) for model in self.models):
            raise InvalidTypeError(f"models must be names (str), got {self.models[:5]!r}")
        if len(self.models) != len(folded) or len(set(self.models)) != len(folded):
            raise InvalidInputError(
                f"models must name the {len(folded)} rows of model_embeddings, each once, got "
                f"{len(self.models)} names"
            )
        check_pair(strong_model, weak_model)
        self.strong_model, self.weak_model = strong_model, weak_model
        self.dimensions = int(folded.shape[1])
        # The difference is taken before rounding to float32: nearby models lose nothing.
        strong = folded[self._row("strong_model", strong_model)]
        weak = folded[self._row("weak_model", weak_model)]
        if np.abs(folded).max(initial=0.0) > np.finfo(np.float32).max / 2:
            raise InvalidInputError(
                "projection and weights are so large that their product overflows float32; "
                "scale them down"
            )
        self._provenance = Provenance() if provenance is None else provenance
        self._folded = folded.astype(np.float32)
        self._pair = (strong - weak).astype(np.float32)
        self.embedder = embedder

    @classmethod
    def of_vectors(
        cls,
        models: Sequence[str],
        vectors: Float32Array,
        *,
        strong_model: str,
        weak_model: str,
        embedder: Embedder | None = None,
        provenance: Provenance | None = None,
    ) -> MatrixFactorizationRouter:
        """A router with delta(M, q) = vectors[M] . q, float32[models, d]; see the class."""
        count = len(vectors)
        return cls(
            models, np.eye(count, dtype=np.float32), vectors, np.ones(count, dtype=np.float32),
            strong_model=strong_model, weak_model=weak_model, embedder=embedder,
            provenance=provenance,
        )  # fmt: skip

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        strong_model: str | None = None,
        weak_model: str | None = None,
        embedder: Embedder | None = None,
        models: Sequence[str] | None = None,
    ) -> MatrixFactorizationRouter:
        """Load a fastroute artifact or a folder in RouteLLM's published layout.

        RouteLLM's layout is ``config.json`` and ``model.safetensors``, as on the Hugging Face hub;
        its rows are Chatbot Arena's 64 models unless ``models`` names them, and its embeddings
        OpenAI's text-embedding-3-small unless ``embedder`` is given.

        ``strong_model`` and ``weak_model`` default to the artifact's own pair; a router of another
        pair has no calibration, which was measured on that one. Raises ArtifactError or a subclass
        for a folder that can't be used, InvalidInputError for an unknown model.
        """
        path = check_folder(folder)
        try:
            routellms = not (path / MANIFEST).exists() and (path / "model.safetensors").exists()
        except OSError:  # a name too long, a folder that may not be read: load_artifact says which
            routellms = False
        if routellms:
            from fastroute.routers import routellm_checkpoint as routellm

            factors = routellm.load_factors(path)
            return cls(
                routellm.MODELS if models is None else models,
                *factors,
                strong_model=strong_model or routellm.STRONG_MODEL,
                weak_model=weak_model or routellm.WEAK_MODEL,
                embedder=embedder or routellm.default_embedder(factors.projection.shape[1]),
            )
        artifact = load_artifact(path, kind=KIND)
        if models is not None:
            raise InvalidInputError(f"models must be None: {path} names its own models")
        return cls._from_artifact(artifact, strong_model, weak_model, embedder)

    @classmethod
    def load_default(cls) -> MatrixFactorizationRouter:
        """Load the router that ships with fastroute, with its embedder: no network, no key.

        Its pair is generic ("strong" and "weak"): it ranks prompts by how much a stronger model
        helps, whichever two models are routed between. The model card beside it has the figures.
        """
        return cls.load(DEFAULT_FOLDER, embedder=StaticEmbedder.load_default())

    @classmethod
    def _from_artifact(
        cls,
        artifact: Artifact,
        strong_model: str | None,
        weak_model: str | None,
        embedder: Embedder | None,
    ) -> MatrixFactorizationRouter:
        config, arrays, path = artifact.config, artifact.arrays, artifact.path
        for needed, held in (
            (("models", "strong_model", "weak_model", "embedder"), config),
            ((*_FACTORS, CALIBRATION, TRAINED_ON), arrays),
        ):
            for key in needed:
                if key not in held:
                    raise ArtifactError(f"{path} lacks {key!r}; download or export it again")
        models, made_with = _check_names(path, config)
        P, W, c = _check_factors(path, [arrays[name] for name in _FACTORS], len(models))
        if embedder is not None and embedder.name.split(":")[0] != made_with.split(":")[0]:
            raise InvalidInputError(
                f"embedder is {embedder.name!r} where {path} was trained with "
                f"{made_with!r}; pass that one"
            )
        own = config["strong_model"], config["weak_model"]
        pair = strong_model or own[0], weak_model or own[1]
        known = artifact.provenance
        if pair != own:  # what was measured of one pair does not hold for another
            known = replace(known, calibration=None, calibrated_on=None, operating_point=None)
        return cls(
            models,
            P,
            W,
            c,
            strong_model=pair[0],
            weak_model=pair[1],
            embedder=embedder,
            provenance=known,
        )

    @property
    def embedder(self) -> Embedder | None:
        """Embeds prompts; None where only ``win_rates_from_embeddings`` will be called."""
        return self._embedder_or_none

    @embedder.setter
    def embedder(self, embedder: Embedder | None) -> None:
        check_embedder(embedder)
        if embedder is not None and embedder.dimensions != self.dimensions:
            raise InvalidInputError(
                f"embedder {embedder.name!r} makes vectors of {embedder.dimensions} dimensions "
                f"where this router needs {self.dimensions}; pass the embedder it was trained with"
            )
        self._embedder_or_none = embedder
        self._scorer = None if embedder is None else embedder.text_scorer(self._pair)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scorer": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.embedder = self._embedder_or_none  # and with it what scores text

    def win_rate(self, prompt: str) -> float:
        if self._scorer is not None:
            try:
                rate = self._scorer.win_rate(prompt)
            except (TypeError, ValueError):
                check_prompt(prompt)
                raise
            if rate == rate:  # not NaN
                if prompt[:1].isalnum() or has_words(prompt):
                    return rate
                return self.win_rate_without_words
        return super().win_rate(prompt)

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        if self._scorer is None:
            return super().win_rates(prompts)
        texts = check_prompts(prompts)
        rates = self._scorer.win_rates(texts, available_threads())
        for i in np.flatnonzero(np.isnan(rates)):
            rates[i] = super().win_rate(texts[i])
        rates[without_words(texts)] = self.win_rate_without_words
        return rates

    @property
    def is_quick(self) -> bool:
        return self.embedder is not None and self.embedder.is_quick

    def win_rate_from_embedding(self, x: Float32Array) -> float:
        """Win rate for one prompt embedding, float32[d]."""
        return _native.pair_win_rate(self._pair, x)

    def win_rates_from_embeddings(
        self, X: Float32Array, *, num_threads: int | None = None
    ) -> Float64Array:
        return _native.pair_win_rates(self._pair, X, 1 if num_threads is None else num_threads)

    @property
    def direction(self) -> Float32Array:
        """The pair's vector, float32[d]: win rate = sigmoid(direction . x). It can't be changed."""
        direction: Float32Array = self._pair.view()
        direction.flags.writeable = False
        return direction

    @property
    def vectors(self) -> Float32Array:
        """A vector a model, float32[models, d]: delta(M, q) = vectors[M] . q. A copy."""
        return self._folded.copy()

    def deltas_from_embeddings(
        self, X: Float32Array, *, num_threads: int | None = None
    ) -> Float32Array:
        """delta(M, q) of every model: float32[n, models] for embeddings float32[n, d].

        A pair's win rate is the sigmoid of the difference of two columns, so this routes between
        any number of models.
        """
        return _native.model_deltas(self._folded, X, 1 if num_threads is None else num_threads)

    @property
    def win_rate_without_signal(self) -> float:
        return 0.5  # delta is 0 for both models: there are no biases

    def _row(self, argument: str, model: str) -> int:
        try:
            return self.models.index(model)
        except ValueError:
            close = difflib.get_close_matches(model, self.models, n=3, cutoff=0.4)
            some = close or [*self.models[:5], *(["..."] if len(self.models) > 5 else [])]
            raise InvalidInputError(
                f"{argument} is {model!r}, which this router does not know; it knows "
                f"{len(self.models)} models: {', '.join(some)}"
            ) from None


def bundled_direction(embedder: Embedder) -> Float32Array | None:
    """``direction`` of the bundled router, if ``embedder`` makes the embeddings that it scores."""
    bundled = MatrixFactorizationRouter.load_default()
    same = bundled.embedder is not None and bundled.embedder.name == embedder.name
    return bundled.direction if same else None


def _check_names(path: Path, config: dict[str, Any]) -> tuple[list[str], str]:
    """The models and the embedder of an artifact, if they are names and its pair is of them."""
    models = config["models"]
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise ArtifactError(
            f"{path} has models that are not a list of names, {models!r}; download or export it "
            "again"
        )
    if len(set(models)) != len(models):
        raise ArtifactError(
            f"{path} names a model twice in {models!r}; download or export it again"
        )
    for key in ("strong_model", "weak_model"):
        if config[key] not in models:
            raise ArtifactError(
                f"{path} has {key} {config[key]!r}, which is not one of its models; "
                "download or export it again"
            )
    if not isinstance(config["embedder"], str):
        raise ArtifactError(
            f"{path} has an embedder that is not a name, {config['embedder']!r}; "
            "download or export it again"
        )
    return models, config["embedder"]


def _check_factors(path: Path, factors: list[Any], count: int) -> list[Float32Array]:
    """P, W and c of ``count`` models, if their dtypes and shapes go together, without NaN."""
    P, W, c = factors
    shapes = [list(factor.shape) for factor in factors]
    k = shapes[0][-1] if shapes[0] else 0
    if not (
        P.ndim == W.ndim == 2
        and P.shape == (count, k)
        and W.shape[0] == k
        and c.shape in ((1, k), (k,))
        and all(factor.dtype == np.float32 for factor in factors)
    ):
        raise ArtifactError(
            f"{path} has {', '.join(_FACTORS)} of {', '.join(str(f.dtype) for f in factors)} and "
            f"shapes {', '.join(map(str, shapes))} where float32 [{count}, k], [k, d] and [1, k] "
            "are needed; download or export it again"
        )
    for name, factor in zip(_FACTORS, factors, strict=True):
        if not np.isfinite(factor).all():
            raise ArtifactError(
                f"{path} has NaN or infinity in {name}; download or export it again"
            )
    return [P, W, np.ascontiguousarray(c.reshape(-1))]


def _make_mf(
    checkpoint_path: str | os.PathLike[str] | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    embedder: Embedder | None = None,
    embedder_path: str | os.PathLike[str] | None = None,
) -> MatrixFactorizationRouter:
    if checkpoint_path is None:
        if strong_model or weak_model or embedder or embedder_path:
            raise InvalidInputError(
                "strong_model, weak_model and embedder belong to a checkpoint_path; the default "
                "mf router has one generic pair and its own embedder"
            )
        return MatrixFactorizationRouter.load_default()
    if embedder_path is not None:
        if embedder is not None:
            raise InvalidInputError("give embedder or embedder_path, not both")
        from fastroute.embedders.onnx import OnnxEmbedder

        embedder = OnnxEmbedder(embedder_path)
    folder = check_folder(checkpoint_path)

    def read() -> MatrixFactorizationRouter:
        router = MatrixFactorizationRouter.load(
            folder,
            strong_model=strong_model,
            weak_model=weak_model,
            embedder=embedder or embedder_beside(folder),
        )
        if router.embedder is None:
            # Most artifacts are made with the bundled embedder, which is cheap to load.
            bundled = StaticEmbedder.load_default()
            if load_artifact(folder, only=()).config["embedder"] == bundled.name:
                router.embedder = bundled
        return router

    return read_consistently(folder, read, by_name=True)


SPEC = RouterSpec(
    "mf",
    "matrix factorization of models and prompts; the bundled default",
    _make_mf,
    trainer="fastroute.training.in_domain:mf",
    takes_pair=lambda config: "checkpoint_path" in config,
)
