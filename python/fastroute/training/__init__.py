"""Training: makes routers, embedders and labels from the user's data. Needs the extra ``train``.

Each kind has a package or module of its name: ``mf``, ``sw_ranking``, ``bert``, ``causal_llm``,
``many_models`` (the ``models`` router), ``static`` (embedders), ``signals`` (cheap features beside
an embedding) and ``label`` (judges and answer keys). What several of them share: ``labels``,
``pairs`` and ``pair_outcomes`` (data as a router learns it), ``graded_battles``, ``heads`` and
``recipe`` (one head for a pair), ``folds``, ``dataset_folds`` and ``measures`` (held-out figures),
``with_tokens``, ``embedder_choice`` and ``checkpoint_file``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.training.acceptance import AcceptanceTraining, train_acceptance
    from fastroute.training.bert.recipe import train_bert
    from fastroute.training.causal_llm.run import train_causal_llm
    from fastroute.training.label.difficulty import (
        DifficultyJudge,
        DifficultyReport,
        rate_difficulty,
    )
    from fastroute.training.many_models import (
        ModelsAddition,
        ModelsTraining,
        add_model_to_models,
        train_models,
    )
    from fastroute.training.mf.add import ModelAddition, add_model_to_router
    from fastroute.training.mf.difficulty import DifficultyTraining, train_mf_on_difficulty
    from fastroute.training.mf.train import MfTraining, train_mf
    from fastroute.training.sw_ranking import RankingTraining, train_sw_ranking
    from fastroute.training.sw_ranking_in_parts import PartsTraining, train_sw_ranking_in_parts

__all__ = [
    "AcceptanceTraining",
    "DifficultyJudge",
    "DifficultyReport",
    "DifficultyTraining",
    "MfTraining",
    "ModelAddition",
    "ModelsAddition",
    "ModelsTraining",
    "PartsTraining",
    "RankingTraining",
    "add_model_to_models",
    "add_model_to_router",
    "rate_difficulty",
    "train_acceptance",
    "train_bert",
    "train_causal_llm",
    "train_mf",
    "train_mf_on_difficulty",
    "train_models",
    "train_sw_ranking",
    "train_sw_ranking_in_parts",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AcceptanceTraining": "fastroute.training.acceptance",
        "train_acceptance": "fastroute.training.acceptance",
        "DifficultyJudge": "fastroute.training.label.difficulty",
        "DifficultyReport": "fastroute.training.label.difficulty",
        "DifficultyTraining": "fastroute.training.mf.difficulty",
        "train_mf_on_difficulty": "fastroute.training.mf.difficulty",
        "rate_difficulty": "fastroute.training.label.difficulty",
        "MfTraining": "fastroute.training.mf.train",
        "ModelAddition": "fastroute.training.mf.add",
        "ModelsAddition": "fastroute.training.many_models",
        "ModelsTraining": "fastroute.training.many_models",
        "add_model_to_models": "fastroute.training.many_models",
        "train_models": "fastroute.training.many_models",
        "PartsTraining": "fastroute.training.sw_ranking_in_parts",
        "RankingTraining": "fastroute.training.sw_ranking",
        "add_model_to_router": "fastroute.training.mf.add",
        "train_bert": "fastroute.training.bert.recipe",
        "train_causal_llm": "fastroute.training.causal_llm.run",
        "train_mf": "fastroute.training.mf.train",
        "train_sw_ranking": "fastroute.training.sw_ranking",
        "train_sw_ranking_in_parts": "fastroute.training.sw_ranking_in_parts",
    },
)
