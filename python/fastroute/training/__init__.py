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
    from fastroute.training.acceptance import AcceptanceTraining as AcceptanceTraining
    from fastroute.training.acceptance import train_acceptance as train_acceptance
    from fastroute.training.bert.recipe import train_bert as train_bert
    from fastroute.training.causal_llm.run import train_causal_llm as train_causal_llm
    from fastroute.training.label.difficulty import DifficultyJudge as DifficultyJudge
    from fastroute.training.label.difficulty import DifficultyReport as DifficultyReport
    from fastroute.training.label.difficulty import rate_difficulty as rate_difficulty
    from fastroute.training.many_models import ModelsAddition as ModelsAddition
    from fastroute.training.many_models import ModelsTraining as ModelsTraining
    from fastroute.training.many_models import add_model_to_models as add_model_to_models
    from fastroute.training.many_models import train_models as train_models
    from fastroute.training.mf.add import ModelAddition as ModelAddition
    from fastroute.training.mf.add import add_model_to_router as add_model_to_router
    from fastroute.training.mf.difficulty import DifficultyTraining as DifficultyTraining
    from fastroute.training.mf.difficulty import train_mf_on_difficulty as train_mf_on_difficulty
    from fastroute.training.mf.train import MfTraining as MfTraining
    from fastroute.training.mf.train import train_mf as train_mf
    from fastroute.training.sw_ranking import RankingTraining as RankingTraining
    from fastroute.training.sw_ranking import train_sw_ranking as train_sw_ranking
    from fastroute.training.sw_ranking_in_parts import PartsTraining as PartsTraining
    from fastroute.training.sw_ranking_in_parts import (
        train_sw_ranking_in_parts as train_sw_ranking_in_parts,
    )

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.training.acceptance": "AcceptanceTraining train_acceptance",
        "fastroute.training.bert.recipe": "train_bert",
        "fastroute.training.causal_llm.run": "train_causal_llm",
        "fastroute.training.label.difficulty": "DifficultyJudge DifficultyReport rate_difficulty",
        "fastroute.training.many_models": (
            "ModelsAddition ModelsTraining add_model_to_models train_models"
        ),
        "fastroute.training.mf.add": "ModelAddition add_model_to_router",
        "fastroute.training.mf.difficulty": "DifficultyTraining train_mf_on_difficulty",
        "fastroute.training.mf.train": "MfTraining train_mf",
        "fastroute.training.sw_ranking": "RankingTraining train_sw_ranking",
        "fastroute.training.sw_ranking_in_parts": "PartsTraining train_sw_ranking_in_parts",
    },
)
