"""The bench of safe switching: no unsafe switch, and what its figures mean."""

from __future__ import annotations

import numpy as np
import pytest

from safe_switching import Outcome, lost, run, simulate


def test_only_free_switching_is_unsafe_and_it_is_the_better_informed() -> None:
    random = np.random.default_rng(1)
    conversations = [simulate(random) for _ in range(40)]
    free, safe, margin = (run(conversations, way, 1.0) for way in ("free", "safe", "margin"))
    assert free.unsafe > 50
    assert safe.unsafe == margin.unsafe == 0
    assert free.switches > safe.switches > 0
    assert safe.requests == free.requests == sum(len(c.tokens) for c in conversations)
    assert run(conversations, "free", 0.0).quality > safe.quality
    assert run(conversations, "safe", 1000.0).usd < safe.usd


def test_the_loss_is_read_at_equal_cost() -> None:
    free = [Outcome(1000, 500.0, 1.0, 0, 0), Outcome(1000, 900.0, 3.0, 0, 0)]
    other = [Outcome(1000, 600.0, 2.0, 0, 0), Outcome(1000, 950.0, 9.0, 0, 0)]
    assert lost(free, other) == [(2.0, pytest.approx(0.1))]
