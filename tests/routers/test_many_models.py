"""The ``models`` router: P(success) of many models, against truths that are known."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.artifacts import load_artifact, save_artifact
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import ArtifactError, InvalidInputError, InvalidTypeError
from fastroute.provenance import Provenance
from fastroute.routers import ModelsRouter
from fastroute.routers.many_models.add_model import add_model
from fastroute.routers.many_models.fit import Fitted, calibrate, calibrated, fit_estimator
from fastroute.types import Float32Array, Float64Array

D = 24
NAMES = ("cheap", "coder", "writer", "best")


def truth(X: Float32Array) -> Float64Array:
    """P(success) of four models: a shared difficulty, and two that are good at opposite things."""
    shared, own = X[:, 0], X[:, 1]
    logits = np.stack(
        [-0.8 + shared, 0.2 + shared + 2 * own, 0.2 + shared - 2 * own, 0.6 + shared], axis=1
    )
    probability: Float64Array = 1 / (1 + np.exp(-2.0 * logits))
    return probability


def sample(count: int, seed: int) -> tuple[Float32Array, Float64Array]:
    """Unit embeddings with a few strong directions, and grades 0 or 1."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(count, D)) * np.array([3.0, 3.0, *np.linspace(1.5, 0.5, D - 2)])
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    grades = (random.random((count, 4)) < truth(X)).astype(np.float64)
    return X, grades


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    X, grades = sample(2000, seed=0)
    grades[np.random.default_rng(1).random(grades.shape) < 0.2] = np.nan  # grades are missing
    return fit_estimator(NAMES, X, grades, np.arange(2000) % 5)


def test_probabilities_are_near_the_truth_and_better_than_levels(fitted: Fitted) -> None:
    X, grades = sample(1500, seed=9)
    estimates = fitted.estimator.estimate(X)
    error = np.abs(estimates.probability - truth(X)).mean()
    from_levels = np.abs(fitted.estimator.levels - truth(X)).mean()
    assert error < 0.06 < from_levels / 3
    assert fitted.log_loss < fitted.level_log_loss - 0.05
    for j in range(4):  # calibrated: in each tenth, what happens is what was said
        order = np.argsort(estimates.probability[:, j])
        gaps = [
            abs(grades[part, j].mean() - estimates.probability[part, j].mean())
            for part in np.array_split(order, 10)
        ]
        assert np.mean(gaps) < 0.06
    # Choosing by it beats every single model.
    best = truth(X)[np.arange(1500), estimates.probability.argmax(axis=1)].mean()
    assert best > truth(X).mean(axis=0).max() + 0.03


def test_intervals_hold_the_truth(fitted: Fitted) -> None:
    X, _ = sample(1500, seed=10)
    estimates = fitted.estimator.estimate(X)
    covered = (estimates.low <= truth(X)) & (truth(X) <= estimates.high)
    assert covered.mean() > 0.85
    assert (estimates.low <= estimates.probability).all()
    assert (estimates.probability <= estimates.high).all()
    assert (estimates.high - estimates.low).mean() < 0.5


def test_fewer_grades_give_wider_intervals() -> None:
    X, grades = sample(1200, seed=3)
    grades[300:, 0] = np.nan
    estimator = fit_estimator(NAMES, X, grades, np.arange(1200) % 5).estimator
    estimates = estimator.estimate(sample(200, seed=4)[0])
    width = (estimates.high - estimates.low).mean(axis=0)
    assert width[0] > 1.2 * width[1:].max()


def test_it_abstains_on_prompts_unlike_all_graded_ones() -> None:
    X, grades = sample(1000, seed=5)
    X[:, 12:] = 0.0  # no graded prompt looks in these directions
    estimator = fit_estimator(NAMES, X, grades, np.arange(1000) % 5).estimator
    strange = np.zeros((2, D), dtype=np.float32)
    strange[0, 20] = 1.0  # the other row is a prompt without known tokens
    estimates = estimator.estimate(np.concatenate([strange, X[:50]]))
    assert estimates.abstained[:2].all()
    assert not estimates.abstained[2:].any()
    assert estimates.probability[:2] == pytest.approx(np.tile(estimator.levels, (2, 1)))
    width = estimates.high - estimates.low
    assert width[:2].min() > 2 * width[2:].mean()


def test_one_and_many_and_every_selection_give_the_same_numbers(fitted: Fitted) -> None:
    X, _ = sample(40, seed=6)
    estimator = fitted.estimator
    many = estimator.estimate(X)
    for i in (0, 17, 39):
        assert estimator.estimate(X[i : i + 1]).probability == pytest.approx(
            many.probability[i : i + 1], abs=1e-6
        )
    part = estimator.select(["best", "cheap"]).estimate(X)
    assert part.models == ("best", "cheap")
    for name in ("probability", "low", "high"):
        assert getattr(part, name) == pytest.approx(getattr(many, name)[:, [3, 0]], abs=1e-6)


def test_a_model_without_data_has_its_prior_and_the_shared_difficulty(fitted: Fitted) -> None:
    X, _ = sample(500, seed=7)
    priors = {"new": 0.3, "best": 0.01}
    estimates = fitted.estimator.select(["new", "other", "best"], priors).estimate(X)
    known = fitted.estimator.estimate(X)
    assert estimates.probability[:, 0].mean() == pytest.approx(0.3, abs=0.05)
    assert estimates.probability[:, 1].mean() == pytest.approx(
        fitted.estimator.levels.mean(), abs=0.1
    )
    assert estimates.probability[:, 2] == pytest.approx(known.probability[:, 3], abs=1e-6)
    assert np.corrcoef(estimates.probability[:, 0], truth(X)[:, 3])[0, 1] > 0.7
    assert (estimates.high - estimates.low)[:, 0].mean() > 0.35


def test_50_grades_of_a_new_model_come_near_what_all_give() -> None:
    X, grades = sample(2000, seed=11)
    folds = np.arange(2000) % 5
    others = fit_estimator(NAMES[:2] + NAMES[3:], X, grades[:, [0, 1, 3]], folds).estimator
    few = add_model(others, "writer", X[:50], grades[:50, 2])
    assert few.models == ("cheap", "coder", "best", "writer")
    test, _ = sample(1500, seed=12)
    everything = fit_estimator(NAMES, X, grades, folds).estimator
    quality = {
        name: truth(test)[
            np.arange(1500), estimator.select(NAMES).estimate(test).probability.argmax(axis=1)
        ].mean()
        for name, estimator in (("none", others), ("few", few), ("all", everything))
    }
    assert quality["few"] > 0.9 * quality["all"]
    assert quality["few"] > quality["none"]
    before, after = others.estimate(test), few.estimate(test)
    assert after.probability[:, :3] == pytest.approx(before.probability, abs=1e-6)


def test_grades_of_the_known_models_tell_a_hard_prompt_from_a_bad_model() -> None:
    """Prompts are hard or easy beyond what their embedding says; the new model follows that."""
    random = np.random.default_rng(5)
    X, _ = sample(2000, seed=21)
    expected = truth(X)[:, [0, 1, 3, 0, 1, 3, 2]]
    item = random.choice([-0.6, 0.6], size=(2000, 1))
    grades = (random.random((2000, 7)) < np.clip(expected + item, 0, 1)).astype(np.float64)
    goal = (np.clip(expected[1000:, 6] + 0.6, 0, 1) + np.clip(expected[1000:, 6] - 0.6, 0, 1)) / 2
    folds = np.arange(1000) % 5
    estimator = fit_estimator(list("abcdef"), X[:1000], grades[:1000, :6], folds).estimator
    error = {"with": 0.0, "without": 0.0, "some": 0.0}
    for draw in range(8):
        rows = np.random.default_rng(draw).choice(1000, 50, replace=False)
        others = grades[rows, :6]
        some = np.where(np.arange(50)[:, None] < 25, others, np.nan)
        for name, given in (("with", others), ("without", None), ("some", some)):
            added = add_model(estimator, "new", X[rows], grades[rows, 6], given)
            p = added.select(["new"]).estimate(X[1000:]).probability[:, 0]
            error[name] += float(((p - goal) ** 2).mean())
    assert error["with"] < 0.8 * error["without"]
    assert error["with"] < error["some"] < error["without"]
    nothing = np.full((50, 6), np.nan)
    same = add_model(estimator, "new", X[rows], grades[rows, 6], nothing).estimate(X[:9])
    alone = add_model(estimator, "new", X[rows], grades[rows, 6]).estimate(X[:9])
    assert (same.probability == alone.probability).all()


def test_calibration_corrects_scores_that_are_too_sure() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(0.1, 0.9, size=(4000, 1))
    grades = (random.random((4000, 1)) < p).astype(np.float64)
    odds = (p / (1 - p)) ** 2.5
    sure = odds / (1 + odds)
    slope, offset = calibrate(sure, grades)
    assert slope[0] == pytest.approx(0.4, abs=0.05)
    assert np.abs(calibrated(sure, slope, offset) - p).mean() < 0.03


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda X, y: (X[:40], y[:40]), "at least 50"),
        (lambda X, y: (X, np.where(y == 1, 1.5, y)), "outside 0..1"),
        (lambda X, y: (X, np.where(np.arange(len(y))[:, None] > 0, np.nan, y)), "too few grades"),
    ],
)
def test_wrong_grades_are_named(change: Any, said: str) -> None:
    X, grades = change(*sample(100, seed=0))
    with pytest.raises(InvalidInputError, match=said):
        fit_estimator(NAMES, X, grades, np.arange(len(X)) % 5)


def test_add_model_needs_a_new_name_and_enough_grades(fitted: Fitted) -> None:
    X, grades = sample(20, seed=0)
    with pytest.raises(InvalidInputError, match="is known already"):
        add_model(fitted.estimator, "best", X, grades[:, 0])
    with pytest.raises(InvalidInputError, match="at least 10"):
        add_model(fitted.estimator, "new", X[:9], grades[:9, 0])
    with pytest.raises(InvalidInputError, match=r"must be in 0\.\.1"):
        add_model(fitted.estimator, "new", X, grades[:, 0] * 2)


@pytest.fixture(scope="module")
def router() -> ModelsRouter:
    """Two models, of which one is better at sums and the other at poems; the bundled embedder."""
    embedder = StaticEmbedder.load_default()
    nouns = ("rain", "horses", "a river", "stars", "bread", "the sea", "winter", "a train")
    prompts = [f"Write a poem about {a} and {b}." for a in nouns for b in nouns]
    prompts += [f"Compute {a} times {b} plus {a + b}." for a in range(8) for b in range(8)]
    poems = np.repeat([1.0, 0.0], 64)
    grades = np.stack([poems, 1 - poems], axis=1)
    X = embedder.embed_batch(prompts)
    estimator = fit_estimator(("poet", "sums"), X, grades, np.arange(128) % 5).estimator
    return ModelsRouter(
        estimator, strong_model="poet", weak_model="sums", embedder=embedder,
        provenance=Provenance(data=("made up",)),
    )  # fmt: skip


def test_a_pair_win_rate_follows_the_probabilities(router: ModelsRouter) -> None:
    prompts = ["Write a poem about rain and winter.", "Compute 3 times 7 plus 12.", ""]
    estimates = router.estimate(prompts)
    poet, sums = estimates.probability.T
    rates = router.win_rates(prompts)
    assert rates == pytest.approx((1 + poet - sums) / 2)
    assert rates[0] > 0.8
    assert rates[1] < 0.2
    assert estimates.abstained.tolist()[2]
    for prompt, rate in zip(prompts, rates, strict=True):
        assert router.win_rate(prompt) == pytest.approx(rate, abs=1e-6)
    assert router.is_quick
    assert router.estimate([]).probability.shape == (0, 2)


def test_text_and_its_embedding_give_the_same_numbers(router: ModelsRouter) -> None:
    estimator, embedder = router.estimator, StaticEmbedder.load_default()
    assert estimator.clusters is not None  # they tell poems from sums
    estimate = estimator.text_estimator(embedder)
    for prompt in ("Write a poem about rain.", "Compute 3 times 7.", "", "a word " * 20_000):
        found, abstained = estimate(prompt)
        wanted, wanted_abstained = estimator.estimate_one(embedder.embed(prompt))
        assert (found == wanted).all()
        assert abstained == wanted_abstained
        assert found[0] == pytest.approx(router.estimate([prompt]).probability[0])
    with pytest.raises(InvalidTypeError, match="prompt must be a str"):
        estimate(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        estimate("half a character: \ud83d")


def test_embeddings_that_can_not_be_scored_are_named(fitted: Fitted) -> None:
    estimator = fitted.estimator
    good = sample(1, seed=0)[0]
    for bad, said in (
        (good.astype(np.float64), "dtype float32"),
        (good[:, :-1].copy(), "where the router has 24"),
        (np.full_like(good, np.nan), "NaN"),
    ):
        with pytest.raises((InvalidInputError, InvalidTypeError), match=said):
            estimator.estimate(bad)
        with pytest.raises((InvalidInputError, InvalidTypeError), match=said):
            estimator.estimate_one(bad[0])


def test_it_is_saved_loaded_and_pickled_with_the_same_numbers(
    router: ModelsRouter, tmp_path: Path
) -> None:
    router.save(tmp_path / "router", training={"seed": 0})
    loaded = ModelsRouter.load(tmp_path / "router")
    prompts = ["Write a poem about snow.", "What is 3 plus 4?", "Hello"]
    for twin in (loaded, pickle.loads(pickle.dumps(router))):
        assert (twin.win_rates(prompts) == router.win_rates(prompts)).all()
        assert (twin.estimate(prompts).high == router.estimate(prompts).high).all()
    assert loaded.models == router.models
    assert loaded.provenance.data == ("made up",)
    assert loaded.provenance.checksum
    other = ModelsRouter.load(tmp_path / "router", strong_model="sums", weak_model="poet")
    assert other.win_rates(prompts) == pytest.approx(1 - router.win_rates(prompts))
    with pytest.raises(InvalidInputError, match="its models are poet, sums"):
        ModelsRouter.load(tmp_path / "router", strong_model="nobody")
    with pytest.raises(InvalidInputError, match="was trained with"):
        ModelsRouter.load(
            tmp_path / "router", embedder=StaticEmbedder.load_default().without_length()
        )


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("config", "models", None),
        ("config", "models", ["poet", "poet"]),
        ("config", "models", ["poet"]),
        ("config", "prompts", 0),
        ("config", "shared_count", "x"),
        ("arrays", "centre", None),
        ("arrays", "shared", np.zeros(3, np.float32)),
        ("arrays", "shared", np.zeros(257)),
        ("arrays", "heads.level", np.array([0.5, np.nan])),
    ],
)
def test_an_artifact_that_is_wrong_inside_is_refused(
    router: ModelsRouter, tmp_path: Path, part: str, name: str, value: Any
) -> None:
    router.save(tmp_path / "router")
    artifact = load_artifact(tmp_path / "router")
    stored: dict[str, dict[str, Any]] = {
        "config": {**artifact.config},
        "arrays": {**artifact.arrays},
    }
    stored[part][name] = value
    if value is None:
        del stored[part][name]
    save_artifact(tmp_path / "wrong", kind="models", **stored)
    with pytest.raises(ArtifactError, match="is not a models router"):
        ModelsRouter.load(tmp_path / "wrong")
