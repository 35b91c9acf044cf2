"""``causal_llm``: a language model that answers how well the weak model would do.

The model's vocabulary has five label tokens, [[1]] (far worse than the strong model) to [[5]] (as
well). Softmax over their five logits at the first generated position; with a threshold of 4

    win rate = 1 - P(label >= 4),

as in RouteLLM (Ong et al. 2024, arXiv 2406.18665), which decodes six tokens to find them. Where the
model has no label to offer, the win rate is 1.0.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastroute._forking import ForkSafeLock
from fastroute._validate import check_count, check_prompt, check_prompts
from fastroute.errors import InvalidInputError, InvalidTypeError, ScoringError
from fastroute.provenance import TRAINED_ON, Provenance
from fastroute.routers.base import Router
from fastroute.routers.causal_llm.engine import LABELS, LabelEngine
from fastroute.types import Float64Array

if TYPE_CHECKING:
    from fastroute.routers.causal_llm.completions_engine import CompletionsLabelEngine

#: Beside the model: float32[1001] ``calibration``, uint64[n] ``trained_on``.
MEASURES_FILE = "fastroute_measures.safetensors"


class CausalLLMRouter(Router):
    """Win rates by a decoder with five label tokens.

    Args:
        engine: runs the model: an ``OnnxLabelEngine`` here, or a ``CompletionsLabelEngine`` where
            it is served.
        score_threshold: the least label, 2..5, at which the weak model is good enough.
        provenance: what is recorded of the model; its checksum is the engine's.

    Raises InvalidInputError, InvalidTypeError for an argument that can't be used.
    """

    name = "causal_llm"

    def __init__(
        self,
        engine: LabelEngine,
        *,
        score_threshold: int = 4,
        provenance: Provenance | None = None,
    ) -> None:
        if not isinstance(engine, LabelEngine):
            raise InvalidTypeError(
                f"engine must be a LabelEngine, got {engine!r}; call CausalLLMRouter.load(folder)"
            )
        if check_count("score_threshold", score_threshold, least=2) > LABELS:
            raise InvalidInputError(f"score_threshold must be 2 to {LABELS}, got {score_threshold}")
        self.engine = engine
        self.score_threshold = score_threshold
        self._provenance = replace(provenance or Provenance(), checksum=engine.checksum)
        self._unlabelled_count = 0
        self._lock = ForkSafeLock()

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, score_threshold: int = 4, **options: Any
    ) -> CausalLLMRouter:
        """Load a folder that ``fastroute export`` or ``fastroute train causal_llm`` wrote.

        ``options`` are those of ``OnnxLabelEngine``. Raises as it does.
        """
        from fastroute.routers.causal_llm.onnx_engine import OnnxLabelEngine

        engine = OnnxLabelEngine(folder, **options)
        known = _read_measures(Path(folder).expanduser(), score_threshold)
        return cls(engine, score_threshold=score_threshold, provenance=known)

    @classmethod
    def at_endpoint(
        cls, folder: str | os.PathLike[str], *, score_threshold: int = 4, **options: Any
    ) -> CausalLLMRouter:
        """A router whose model is served; ``folder`` has its tokenizer and template.

        ``options`` are those of ``CompletionsLabelEngine``: ``model`` and ``base_url`` at least.
        """
        from fastroute.routers.causal_llm.completions_engine import CompletionsLabelEngine

        engine: CompletionsLabelEngine = CompletionsLabelEngine(folder, **options)
        known = _read_measures(Path(folder).expanduser(), score_threshold)
        return cls(engine, score_threshold=score_threshold, provenance=known)

    @property
    def truncated_count(self) -> int:
        """How many prompts were truncated at the start to the model's limit."""
        return self.engine.truncated_count

    @property
    def unlabelled_count(self) -> int:
        """How many prompts the model had no label for, so that their win rate is 1.0."""
        return self._unlabelled_count

    def win_rate(self, prompt: str) -> float:
        """As ``Router.win_rate``. Raises ScoringError where the model can't be asked."""
        return float(self._rates([check_prompt(prompt)])[0])

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        """As ``win_rate`` of each, up to the rounding of float32 in a batch."""
        return self._rates(check_prompts(prompts))

    def close(self) -> None:
        """Close the engine's connections."""
        self.engine.close()

    def _rates(self, prompts: list[str]) -> Float64Array:
        if not prompts:
            return np.zeros(0)
        shares = self.engine.probabilities(prompts)
        rates: Float64Array = 1.0 - shares[:, self.score_threshold - 1 :].sum(axis=1)
        unlabelled = np.isnan(rates)
        if unlabelled.any():
            with self._lock:
                self._unlabelled_count += int(unlabelled.sum())
            rates[unlabelled] = 1.0
        # Five shares add up to 1 within rounding only.
        return np.clip(rates, 0.0, 1.0)


def _read_measures(folder: Path, score_threshold: int) -> Provenance:
    path = folder / MEASURES_FILE
    if not path.is_file():
        return Provenance()
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        # Quantiles are of the threshold that they were measured with.
        quantiles = arrays.get("calibration") if score_threshold == 4 else None
        return Provenance(trained_on=arrays.get(TRAINED_ON), calibration=quantiles)
    except (InvalidInputError, SafetensorError, OSError) as error:
        raise ScoringError(f"{str(path)!r} can't be read: {error}") from error
