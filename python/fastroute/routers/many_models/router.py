"""The ``models`` router: P(success) of many models, and a pair's win rate from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._validate import list_prompts
from fastroute.artifacts import Artifact, load_artifact, read_consistently, save_artifact
from fastroute.embedders.base import Embedder
from fastroute.embedders.beside import embedder_beside
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.provenance import Provenance
from fastroute.routers.base import EmbeddingRouter, check_embedder, check_pair
from fastroute.routers.many_models import examples
from fastroute.routers.many_models.clusters import Clusters
from fastroute.routers.many_models.estimator import Estimates, Heads, Spread, SuccessEstimator
from fastroute.routers.many_models.examples import GradedExamples, NearPrompt
from fastroute.routers.many_models.neighbors import GradedNeighbors
from fastroute.routers.spec import RouterSpec
from fastroute.types import Float32Array, Float64Array

#: Kind of the artifacts that hold one.
KIND = "models"
_HEADS = ("own", "by_cluster", "count", "level", "slope", "offset", "noise", "graded")


class ModelsRouter(EmbeddingRouter):
    """Estimates P(success) of each of many models on a prompt (``estimate``).

    As a router between two of them, the win rate is (1 + P(strong) - P(weak)) / 2: the probability
    that the strong model's answer is preferred, where equally good answers are half a win each.

    Args:
        estimator: what was learnt.
        strong_model, weak_model: the pair; by default the models of the highest and the lowest
            level. Safe to use from several threads.
        embedder: makes the prompt embeddings; needed for text only.
        provenance: what is recorded of the router.
        examples: graded prompts for explanations; None where they were not kept.

    Raises InvalidInputError for an unknown model or an embedder of another dimension.
    """

    name = "models"

    def __init__(
        self,
        estimator: SuccessEstimator,
        *,
        strong_model: str | None = None,
        weak_model: str | None = None,
        embedder: Embedder | None = None,
        provenance: Provenance | None = None,
        examples: GradedExamples | None = None,
    ) -> None:
        levels = estimator.levels
        self.estimator = estimator
        self.strong_model = strong_model or estimator.models[int(levels.argmax())]
        self.weak_model = weak_model or estimator.models[int(levels.argmin())]
        check_pair(self.strong_model, self.weak_model)
        for argument in ("strong_model", "weak_model"):
            if getattr(self, argument) not in estimator.models:
                raise InvalidInputError(
                    f"{argument} is {getattr(self, argument)!r}, which this router does not know; "
                    f"its models are {', '.join(estimator.models)}"
                )
        self._pair = estimator.select([self.strong_model, self.weak_model])
        self._provenance = provenance or Provenance()
        self.examples = examples
        self.embedder = embedder

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it was trained on."""
        return self.estimator.models

    @property
    def embedder(self) -> Embedder | None:
        """Embeds prompts; None where only embeddings will be given."""
        return self._embedder_or_none

    @embedder.setter
    def embedder(self, embedder: Embedder | None) -> None:
        check_embedder(embedder)
        if embedder is not None and embedder.dimensions != self.estimator.dimensions:
            raise InvalidInputError(
                f"embedder {embedder.name!r} makes vectors of {embedder.dimensions} dimensions "
                f"where this router needs {self.estimator.dimensions}; pass the embedder it was "
                "trained with"
            )
        self._embedder_or_none = embedder

    @property
    def is_quick(self) -> bool:
        return self.embedder is not None and self.embedder.is_quick

    def estimate(self, prompts: Sequence[str]) -> Estimates:
        """P(success) of every model on each of ``prompts``."""
        texts = list_prompts(prompts)
        if not texts:
            return self.estimator.estimate(np.empty((0, self.estimator.dimensions), np.float32))
        return self.estimator.estimate(self._embedder().embed_batch(texts))

    def nearest_graded(self, prompt: str, count: int = 5) -> tuple[NearPrompt, ...]:
        """The graded prompts nearest to ``prompt``; none where the router keeps none."""
        if self.examples is None:
            return ()
        return self.examples.nearest(self._embedder().embed(prompt), count)

    def win_rate_from_embedding(self, x: Float32Array) -> float:
        (strong, weak), *_ = self._pair.estimate_one(x)[0].tolist()
        return float((1.0 + strong - weak) / 2.0)

    def win_rates_from_embeddings(
        self,
        X: Float32Array,
        *,
        num_threads: int | None = None,  # noqa: ARG002 - of other routers
    ) -> Float64Array:
        probability = self._pair.estimate(X).probability
        return (1.0 + probability[:, 0] - probability[:, 1]) / 2.0

    @property
    def win_rate_without_signal(self) -> float:
        strong, weak = self._pair.levels.tolist()
        return float((1.0 + strong - weak) / 2.0)

    def save(
        self, folder: str | os.PathLike[str], *, training: Mapping[str, Any] | None = None
    ) -> None:
        """Write the router as an artifact of kind "models"; ``training`` is plain JSON.

        Raises ArtifactError where the folder can't be written.
        """
        estimator = self.estimator
        spread, neighbors, clusters = estimator.spread, estimator.neighbors, estimator.clusters
        arrays: dict[str, Any] = {
            **{f"heads.{name}": getattr(estimator.heads, name) for name in _HEADS},
            "shared": estimator.shared,
            "centre": estimator.centre,
            "shared_by_cluster": estimator.shared_by_cluster,
            "directions": spread.directions,
        }
        if clusters is not None:
            arrays["clusters"] = clusters.centres
        if neighbors is not None:
            arrays |= {
                "neighbors.X": neighbors.X,
                "neighbors.shared": neighbors.shared,
                "neighbors.own": neighbors.own,
            }
        files = {}
        if self.examples is not None:
            of_examples, files[examples.FILE] = self.examples.parts()
            arrays |= of_examples
        save_artifact(
            folder,
            kind=KIND,
            config={
                "models": list(estimator.models),
                "strong_model": self.strong_model,
                "weak_model": self.weak_model,
                "embedder": None if self.embedder is None else self.embedder.name,
                "shared_count": estimator.shared_count,
                "clusterings": 0 if clusters is None else clusters.clusterings,
                "nearest_clusters": 0 if clusters is None else clusters.nearest,
                "neighbors": 0 if neighbors is None else neighbors.count,
                "prompts": spread.prompts,
                "most_spread": spread.most,
                "training": dict(training or {}),
            },
            arrays=arrays,
            files=files,
            provenance=self._provenance,
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        strong_model: str | None = None,
        weak_model: str | None = None,
        embedder: Embedder | None = None,
    ) -> ModelsRouter:
        """Load a saved router, with the embedder beside it or the bundled one.

        Raises ArtifactError or a subclass for a folder that can't be used, InvalidInputError for an
        unknown model or another embedder than the router was trained with.
        """

        def read() -> tuple[Artifact, Embedder | None]:
            return load_artifact(folder, kind=KIND), embedder or embedder_beside(folder)

        artifact, found = read_consistently(Path(folder), read)
        config = artifact.config
        estimator, graded = _estimator_of(artifact)
        made_with = config.get("embedder")
        if found is None and made_with is not None:
            bundled = StaticEmbedder.load_default()
            found = bundled if bundled.name == made_with else None
        if found is not None and made_with is not None and found.name != made_with:
            raise InvalidInputError(
                f"embedder is {found.name!r} where {artifact.path} was trained with "
                f"{made_with!r}; pass that one"
            )
        return cls(
            estimator,
            strong_model=strong_model or config.get("strong_model"),
            weak_model=weak_model or config.get("weak_model"),
            embedder=found,
            provenance=artifact.provenance,
            examples=graded,
        )


def _estimator_of(artifact: Artifact) -> tuple[SuccessEstimator, GradedExamples | None]:
    config, arrays, path = artifact.config, artifact.arrays, artifact.path
    try:
        models = config["models"]
        d, k = arrays["centre"].shape[0], arrays["shared_by_cluster"].shape[0]
        m = len(models)
        wanted = {
            **{f"heads.{name}": (m,) for name in _HEADS if f"heads.{name}" in _FLOAT64},
            "heads.own": (m, d), "shared": (d,), "centre": (d,),
            "heads.by_cluster": (m, k), "shared_by_cluster": (k,),
            "directions": (len(arrays["directions"]), d),
        }  # fmt: skip
        if config["clusterings"]:
            wanted["clusters"] = (k, d)
        if config["neighbors"]:
            n = len(arrays["neighbors.X"])
            wanted |= {
                "neighbors.X": (n, d), "neighbors.shared": (n,), "neighbors.own": (n, m),
            }  # fmt: skip
        for name, shape in wanted.items():
            kind = np.float64 if name in _FLOAT64 else np.float32
            if arrays[name].shape != shape or arrays[name].dtype != kind:
                raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}")
            if name not in _MAY_BE_MISSING and np.isnan(arrays[name]).any():
                raise ValueError(f"{name} holds NaN")
        if len(set(models)) != m or not all(isinstance(name, str) for name in models):
            raise ValueError("models are not different names")
        clusters = None
        if config["clusterings"]:
            clusters = Clusters(
                arrays["clusters"], int(config["clusterings"]), int(config["nearest_clusters"])
            )
        neighbors = None
        if config["neighbors"]:
            X, shared, own = (arrays[f"neighbors.{name}"] for name in ("X", "shared", "own"))
            neighbors = GradedNeighbors(X, shared, own, int(config["neighbors"]), clusters)
        spread = Spread(arrays["directions"], int(config["prompts"]), float(config["most_spread"]))
        if not (spread.prompts > 0 and float(config["shared_count"]) > 0):
            raise ValueError("prompts and shared_count must be above 0")
        graded = None
        if examples.FILE in artifact.files:
            graded = GradedExamples.of_parts(arrays, artifact.files[examples.FILE], d)
        estimator = SuccessEstimator(
            models, Heads(*(arrays[f"heads.{name}"] for name in _HEADS)), arrays["shared"],
            arrays["centre"], clusters, arrays["shared_by_cluster"], spread, neighbors,
            float(config["shared_count"]),
        )  # fmt: skip
        return estimator, graded
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a models router ({type(error).__name__}: {error}); train it again"
        ) from error


_FLOAT64 = {f"heads.{name}" for name in _HEADS} - {"heads.own", "heads.by_cluster"}
_MAY_BE_MISSING = {"neighbors.own", "neighbors.shared"}


def _make_models(
    checkpoint_path: str | os.PathLike[str] | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    embedder: Embedder | None = None,
) -> ModelsRouter:
    if checkpoint_path is None:
        raise InvalidInputError(
            "models needs checkpoint_path: the folder that fastroute train models wrote"
        )
    return ModelsRouter.load(
        checkpoint_path, strong_model=strong_model, weak_model=weak_model, embedder=embedder
    )


SPEC = RouterSpec(
    "models",
    "P(success) of each of many models, from graded prompts",
    _make_models,
    takes_pair=lambda config: "checkpoint_path" in config,
)
