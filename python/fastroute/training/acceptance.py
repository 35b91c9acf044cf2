"""Trains the acceptance model of a cascade by evidence, from recorded answers with grades."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastroute.artifacts import hash_prompts
from fastroute.evaluation.benchmarks.answers import RecordedAnswers
from fastroute.evaluation.evidence_replay import AnswerTable
from fastroute.evaluation.metrics.baselines import length_apgr, losses
from fastroute.evaluation.metrics.calibration_metrics import expected_calibration_error
from fastroute.evaluation.metrics.curve import auc, curve
from fastroute.evidence.acceptance import AcceptanceModel, fit_acceptance, out_of_fold
from fastroute.evidence.signals import SIGNALS
from fastroute.provenance import OperatingPoint, Provenance
from fastroute.training.outcome import check_output
from fastroute.types import Float64Array

#: P(accept) from which a cheap answer is sent, where no threshold reaches the strong model.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class AcceptanceTraining:
    """A trained and saved acceptance model, and its figures, all out of fold.

    Attributes:
        model: fitted to all prompts; its operating point is ``threshold``.
        folder: where it was saved.
        prompts: how many it was fitted to.
        apgr: of asking the strong model in the order of P(accept), against the weak model.
        rule_apgr: of the rule of agreement.
        length_apgr: of sending longer prompts to the strong model.
        calibration_error: of P(accept), in ten bins.
        threshold: the greatest P(accept) with which the cascade's quality is at least the strong
            model's; 0.5 where there is none.
        quality, strong_share: of the cascade at that threshold.
        weak_quality, strong_quality: of the two models alone.
    """

    model: AcceptanceModel
    folder: Path
    prompts: int
    apgr: float
    rule_apgr: float
    length_apgr: float
    calibration_error: float
    threshold: float
    quality: float
    strong_share: float
    weak_quality: float
    strong_quality: float

    def losses(self) -> list[str]:
        """The baselines that the model does not beat, in words."""
        return losses(self.apgr, self.length_apgr, {"the rule of agreement": self.rule_apgr})


def train_acceptance(
    recorded: RecordedAnswers,
    output: str | os.PathLike[str],
    *,
    weak: str,
    strong: str,
    helpers: Sequence[str],
    folds: int = 5,
    seed: int = 0,
    overwrite: bool = False,
) -> AcceptanceTraining:
    """Learn P(the cheap answer is as good as the strong one's), save the model, and measure it.

    The cheap answer is that of the largest group of equal answers, and the weak model's where
    groups are equally large, as ``Cascade`` sends it.

    Args:
        recorded: answers and grades, from ``fastroute.evaluation.benchmarks.answers.read_answers``.
        output: the folder to write.
        weak, strong, helpers: models in it, the helpers in the order in which they will be asked.
        folds: the figures of a fold are of a model fitted to the others.
        seed: of the folds.
        overwrite: replace what is in ``output``.

    Raises InvalidInputError for arguments or data that can't be used.
    """
    folder = check_output(output, overwrite=overwrite)
    recorded.check_models([weak, *helpers, strong])
    w, s = recorded.pair_scores(weak, strong)
    cheap = [weak, *helpers]
    table = AnswerTable(recorded, cheap)
    first = table.served(plurality=True, model=0)
    grades = np.column_stack([recorded.scores[m] for m in cheap])
    quality = grades[np.arange(len(w)), first]
    features, accepted = table.signals(first), (quality >= s).astype(np.float64)
    count = len(cheap)
    model = fit_acceptance(features, accepted, cheap_models=count, seed=seed)
    probability, rank = out_of_fold(features, accepted, cheap_models=count, folds=folds, seed=seed)
    agreeing = features[:, SIGNALS.index("agreeing")] * (table.outcomes == "agree")
    threshold = _parity_threshold(probability, quality, s)
    asked = probability < threshold
    hashes = hash_prompts(recorded.prompts)
    point = OperatingPoint(threshold, chosen_by="parity with the strong model out of fold")
    model = replace(model, provenance=Provenance(trained_on=hashes, operating_point=point))
    result = AcceptanceTraining(
        model,
        folder,
        len(w),
        _apgr(1 - rank, quality, w, s),
        _apgr(1 - agreeing, quality, w, s),
        length_apgr(recorded.prompts, w, s),
        expected_calibration_error(probability, accepted),
        threshold,
        float(np.where(asked, s, quality).mean()),
        float(asked.mean()),
        float(w.mean()),
        float(s.mean()),
    )
    model.save(
        folder,
        training={
            "weak": weak,
            "strong": strong,
            "helpers": list(helpers),
            "prompts": len(w),
            "apgr": result.apgr,
            "rule_apgr": result.rule_apgr,
            "length_apgr": result.length_apgr,
            "calibration_error": result.calibration_error,
        },
    )
    return result


def _apgr(
    score: Float64Array, quality: Float64Array, weak: Float64Array, strong: Float64Array
) -> float:
    """Mean gap recovered, against the weak model alone, where ``quality`` is sent otherwise."""
    area = auc(curve(score, quality, strong))
    return (area - float(weak.mean())) / float(strong.mean() - weak.mean())


def _parity_threshold(p: Float64Array, quality: Float64Array, strong: Float64Array) -> float:
    """The least P(accept) at which what the cascade sends is as good as the strong model's."""
    order = np.argsort(p, kind="stable")  # asked first: the least sure
    gain = np.append(0.0, np.cumsum((strong - quality)[order])) + quality.sum()
    rising = p[order]
    apart = np.concatenate([[True], rising[1:] > rising[:-1], [True]])  # equal ones share a fate
    reached = np.flatnonzero((gain >= strong.sum() - 1e-9) & apart)
    if not len(reached) or reached[0] == len(p):
        return DEFAULT_THRESHOLD
    return float(rising[reached[0]])
