"""Splits an export: what is learnt from, what is tested on, and the final check."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.groups import Groups, group_prompts, hashed_order
from fastroute.learning.tune.guarantee import Bools, Goal, rows_needed
from fastroute.learning.tune.seen import trained_on
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.types import Float64Array

LEARN_SHARE = 0.4
FINAL_SHARE = 0.2
#: Distinct prompts with all grades below which nothing is tried.
LEAST_PROMPTS = 40
#: Share of the prompts that the bundled router may have been trained on, to be used at all.
MOST_KNOWN = 0.2


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of the export by what they are for, and their groups.

    Attributes:
        learn, test, final: bool[n], rows to learn from, to test on, and of the final check.
        groups: near-duplicates among all rows.
        known: how many prompts of the bundled router's training are left out.
        use_default: whether the bundled router may be a candidate and a prior.
        notes: what is to be said of it.
    """

    learn: Bools
    test: Bools
    final: Bools
    groups: Groups
    known: int
    use_default: bool
    notes: tuple[str, ...]

    def counts(self, export: Export, tested: int) -> dict[str, int]:
        """``Tuning.counts`` of an export, with so many distinct prompts tested on."""
        return {
            "rows": len(export),
            "graded": int(export.has_all.sum()),
            "distinct": self.groups.count,
            "learnt_on": int(self.learn.sum()),
            "tested_on": tested,
            "left_out_known": self.known,
        }


def split_rows(export: Export, default: MatrixFactorizationRouter, seed: int) -> Split:
    """Split the rows; near-duplicates are on one side.

    Raises InvalidInputError for fewer than 40 distinct prompts with all grades.
    """
    usable = export.has_any
    notes = []
    hashes = default.provenance.trained_on
    known = np.zeros(len(export), dtype=np.bool_)
    if hashes is not None:
        known = usable & trained_on(export.prompts, hashes)
    share = float(known.sum()) / max(int(usable.sum()), 1)
    use_default = share <= MOST_KNOWN
    left_out = int(known.sum()) if use_default else 0
    if use_default and left_out:
        usable = usable & ~known
        notes.append(f"{left_out:,} prompts that the bundled router was trained on are left out.")
    elif not use_default:
        notes.append(
            f"The bundled router was trained on {share:.0%} of the prompts, so it is neither a "
            "candidate nor a prior here: its figures would flatter."
        )
    groups = group_prompts(export.prompts)
    both = usable & export.has_all
    final = np.zeros(len(export), dtype=np.bool_)
    if export.times is not None and both.any():
        moment = np.quantile(export.times[both], 1.0 - FINAL_SHARE)
        final = usable & (export.times > moment)
        earlier = np.isin(groups.ids, groups.ids[usable & ~final])
        repeated = int((final & earlier).sum())
        if repeated:
            notes.append(f"{repeated:,} prompts of the last fifth repeat earlier ones and are left "
                         "out of the final check.")  # fmt: skip
        usable, final = usable & ~final, final & ~earlier & export.has_all
        both = both & usable
    names = np.unique(groups.ids[both])
    if len(names) < LEAST_PROMPTS:
        models = "both models" if export.is_pair else f"all {len(export.models)} models"
        more = "" if export.is_pair else ", or name fewer models (--models)"
        raise InvalidInputError(
            f"{export.file}: {len(names)} distinct prompts have grades of {models}, where "
            f"{LEAST_PROMPTS} are the least to learn from and a guarantee takes some hundreds; "
            f"grade more (fastroute tune --suggest 100 says which){more}"
        )
    order = names[np.argsort(hashed_order(export.prompts, groups, seed)[names], kind="stable")]
    test_groups = order[round(LEARN_SHARE * len(order)) :]
    in_test = np.isin(groups.ids, test_groups)
    if groups.largest > 0.1 * len(export):
        notes.append(f"One group of near-duplicates has {groups.largest:,} of {len(export):,} rows;"
                     " it counts as one prompt.")  # fmt: skip
    if groups.count < len(export):
        notes.append(f"{len(export) - groups.count:,} rows are near-duplicates of others; a group "
                     "is on one side of each split and counts once.")  # fmt: skip
    return Split(
        usable & ~in_test, both & in_test, final, groups, left_out, use_default, tuple(notes)
    )


def labels_needed(goal: Goal, losses: Iterable[Float64Array], high: float) -> int | None:
    """About how many graded prompts a certificate takes at the best of several policies, of the
    losses of distinct test prompts under each; None where no number would do."""
    tested = min((rows_needed(goal, one, high) for one in losses), default=math.inf)
    return None if math.isinf(tested) else math.ceil(tested / (1.0 - LEARN_SHARE) / 10.0) * 10
