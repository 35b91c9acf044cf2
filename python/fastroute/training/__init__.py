"""Training: makes routers from preference data. Nothing below evaluation imports it.

Three modules are commands: ``python -m fastroute.training`` makes the router that ships with
fastroute, ``python -m fastroute.training.selection`` compares recipes of it, and
``python -m fastroute.training.battles`` makes battles for ``sw_ranking``.

``fastroute train`` trains routers on the user's data, each kind by the package of its name: ``mf``,
``bert``, ``causal_llm``, ``static``, ``signals``, and ``sw_ranking`` in one file. ``data`` reads
that data, and ``augment`` makes more of it. ``default`` is the router that ships.

The rest is what several of them share: ``preferences``, ``labels``, ``pairs`` and ``pair_outcomes``
(data as a router learns it), ``heads`` and their ``recipe``, ``measures`` and ``dataset_folds``
(figures on what was held out), ``with_tokens`` (prompts that say nothing), ``embedder_choice``,
``checkpoint_file`` and ``jsonl``.
"""

from __future__ import annotations
