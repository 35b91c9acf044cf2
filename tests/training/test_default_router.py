"""The router that ships with fastroute: its size, its card, and that it is not nonsense."""

from __future__ import annotations

import numpy as np
import pytest

from fastroute.artifacts import load_artifact
from fastroute.embedders.static import DEFAULT_FOLDER as EMBEDDER
from fastroute.routers import MatrixFactorizationRouter
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER as MF

CARD = MF.parent / "MODEL_CARD.md"


@pytest.fixture(scope="module")
def router() -> MatrixFactorizationRouter:
    return MatrixFactorizationRouter.load_default()


def test_both_artifacts_verify() -> None:
    head = load_artifact(MF, kind="mf")
    table = load_artifact(EMBEDDER, kind="static_embedder")
    assert head.config["embedder"] == f"{table.config['name']}:{table.checksum[:12]}"
    assert table.arrays["table"].dtype == np.int8
    assert table.arrays["table"].shape[1] == 256
    assert table.config["length_scale"] > 0
    assert head.config["dimensions"] == 257


def test_it_is_small() -> None:
    # Files may be compressed in a wheel; they fit as they are.
    size = sum(f.stat().st_size for f in MF.parent.rglob("*") if f.is_file())
    assert size <= 9.5e6


def test_the_card_is_of_these_artifacts() -> None:
    text = CARD.read_text("utf-8")
    for folder in (MF, EMBEDDER):
        assert load_artifact(folder).checksum in text, f"the card is not of this {folder.name}"


def test_it_knows_its_calibration_and_its_training(router: MatrixFactorizationRouter) -> None:
    assert router.provenance.calibration is not None
    assert router.provenance.calibration.shape == (1001,)
    assert (np.diff(router.provenance.calibration) >= 0).all()
    assert 0.0 < router.provenance.calibration[0] < router.provenance.calibration[-1] < 1.0
    assert router.provenance.trained_on is not None
    assert len(router.provenance.trained_on) > 20_000
    assert (np.diff(router.provenance.trained_on) > 0).all()


def test_mathematics_scores_above_a_greeting(router: MatrixFactorizationRouter) -> None:
    hard = [
        "Prove that there are infinitely many primes.",
        "Compute the integral of x^2 e^{-x} from 0 to infinity.",
        "Let G be a group of order 15. Prove that G is cyclic.",
    ]
    assert router.win_rates(hard).mean() > router.win_rate("Hello!")
    assert router.win_rates(hard).min() > router.win_rate("What is the capital of France?")
