"""Prompts that resemble no battle: their nearest may lie in any list of the index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastroute.routers import SimilarityWeightedRouter


def test_the_nearest_battle_of_a_far_prompt_is_found() -> None:
    """Prompts between many clusters: most nearest ones are missed by the usual search."""
    rng = np.random.default_rng(2)
    d, count = 64, 9000
    centres = rng.standard_normal((400, d)).astype(np.float32)
    X = centres[rng.integers(0, 400, count)] + 0.6 * rng.standard_normal((count, d))
    X = X.astype(np.float32)
    a = rng.integers(0, 6, count)
    b = (a + rng.integers(1, 6, count)) % 6
    won = rng.random(count) < 1 / (1 + np.exp(0.5 * (a - b)))
    router = SimilarityWeightedRouter(
        strong_model="m0", weak_model="m5", num_tiers=4, mode="far_field"
    )
    winner = ["model_a" if w else "model_b" for w in won]
    router.fit(X, [f"m{i}" for i in a], [f"m{i}" for i in b], winner)
    far = router._state().far
    assert far is not None
    far = replace(far, index=_narrow(far.index))
    prompts = rng.standard_normal((200, d)).astype(np.float32)
    usual = replace(far, moments=replace(far.moments, floor=-1.0))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    missed = {"usual": 0, "wide": 0}
    for x in prompts:
        similar = unit @ x
        for name, model in (("usual", usual), ("wide", far)):
            near = model.near(x)
            missed[name] += bool(similar.max() - similar[near[near >= 0]].max() > 1e-3)
    assert missed["usual"] > 60
    assert missed["wide"] <= 2
    # The batch finds the same, and prompts like the battles are searched for as usual.
    rates = np.concatenate([block for _, block in far.win_rates(prompts, 1)])
    single = [far.win_rate(x) for x in prompts]
    assert [None if np.isnan(r) else r for r in rates.tolist()] == single
    like = [far.field.project(x) for x in X[:300] + 0.1 * prompts[0]]
    found = [far.index.search_scored(p[:64].copy(), 1)[1][0] for p in like]
    assert np.mean(np.array(found) < far.moments.floor) < 0.1


def _narrow(index):  # type: ignore[no-untyped-def]
    """A copy that opens two lists of its 256."""
    copy = index.extended(np.zeros((0, index.dimensions), np.float32))
    copy._tune("nprobe=2")
    return copy
