"""Training: makes routers, embedders and labels from the user's data. Needs the extra ``train``.

Each kind has a package or module of its name: ``mf``, ``sw_ranking``, ``bert``, ``causal_llm``,
``static`` (embedders), ``signals`` (cheap features beside an embedding) and ``label`` (judges and
answer keys). What several of them share: ``labels``, ``pairs`` and ``pair_outcomes`` (data as a
router learns it), ``graded_battles``, ``heads`` and ``recipe`` (one head for a pair), ``folds``,
``dataset_folds`` and ``measures`` (held-out figures), ``with_tokens``, ``embedder_choice`` and
``checkpoint_file``.
"""

from __future__ import annotations
