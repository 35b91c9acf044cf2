"""Matrix factorisation: its gradient, what it recovers, ties, interruption, and calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.data import DataReport, GradedResult, JudgedBattle, TrainingData
from fastroute.errors import InvalidInputError
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.checkpoint_file import JOURNAL
from fastroute.training.mf.added_model import add_model, log_loss_of_router
from fastroute.training.mf.factorization import (
    NAMES,
    Settings,
    State,
    batches,
    learn,
    loss_and_gradient,
    start,
)
from fastroute.training.mf.models import pair_of, strengths, train_models
from fastroute.training.pairs import Pairs, held_out_parts, pairs_of

D = 8


def planted(
    seed: int = 0, rows: int = 1500, models: int = 5, groups: int = 2, scale: float = 2.0
) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Pairs drawn from planted vectors, embeddings with a common part, and the vectors."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, D))
    X[:, 0] = 2.0
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    truth = rng.normal(size=(models, D)) * scale
    per_row = 4
    a = rng.integers(models, size=rows * per_row)
    b = (a + rng.integers(1, models, size=len(a))) % models
    row = np.repeat(np.arange(rows), per_row)
    margin = np.einsum("nd,nd->n", X[row], truth[b] - truth[a])
    won = (rng.random(len(a)) < 1.0 / (1.0 + np.exp(-margin))).astype(np.float64)
    pairs = Pairs(
        tuple(f"m{i}" for i in range(models)), tuple(f"prompt {i}" for i in range(rows)),
        tuple(f"g{i}" for i in range(groups)), rng.integers(groups, size=rows), row, a, b, won,
        rng.uniform(0.5, 2.0, size=len(a)),
    )  # fmt: skip
    return pairs, X, truth


def test_the_gradient_is_the_losss() -> None:
    pairs, X, _ = planted(rows=12, models=3)
    settings = Settings(dimensions=2, ridge=3.0, level_ridge=2.0, batch_rows=7)
    rng = np.random.default_rng(1)
    parameters = {
        "U": rng.normal(size=(2, D)),
        "V": rng.normal(size=(3, 2)),
        "levels": rng.normal(size=(2, 3)),
    }
    rows, taken, local = next(batches(pairs, settings, 1))
    total = float(pairs.weights.sum())

    def loss(values: dict[str, np.ndarray]) -> float:
        """The formula, pair by pair, in float64."""
        U, V, levels = (values[name] for name in NAMES)
        terms = 0.0
        for n in taken:
            x, group = X[pairs.rows[n]].astype(np.float64), pairs.group_ids[pairs.rows[n]]
            z = (V[pairs.b[n]] - V[pairs.a[n]]) @ (U @ x)
            z += levels[group, pairs.b[n]] - levels[group, pairs.a[n]]
            p, y = 1.0 / (1.0 + np.exp(-z)), pairs.preference[n]
            terms -= pairs.weights[n] * (y * np.log(p) + (1.0 - y) * np.log(1.0 - p))
        ridge = 3.0 * ((U**2).sum() + (V**2).sum()) + 2.0 * (levels**2).sum()
        return float(terms / pairs.weights[taken].sum() + ridge / (2.0 * total))

    value, gradient = loss_and_gradient(
        parameters, X.astype(np.float64), pairs, rows, taken, local, settings, total
    )
    assert value == pytest.approx(loss(parameters), rel=1e-12)
    for name in NAMES:
        for index in np.ndindex(parameters[name].shape):
            moved = []
            for step in (1e-6, -1e-6):
                changed = {k: v.copy() for k, v in parameters.items()}
                changed[name][index] += step
                moved.append(loss(changed))
            slope = (moved[0] - moved[1]) / 2e-6
            assert gradient[name][index] == pytest.approx(slope, abs=1e-8)


@given(st.integers(0, 1000), st.integers(1, 5))
def test_an_epoch_takes_every_pair_once(seed: int, size: int) -> None:
    pairs, _, _ = planted(seed, rows=9, models=3)
    pairs = pairs.where(np.random.default_rng(seed).random(len(pairs)) < 0.6)
    seen = []
    for rows, taken, local in batches(pairs, Settings(batch_rows=size, seed=seed), 1):
        assert len(rows) <= size
        assert (rows[local] == pairs.rows[taken]).all()
        seen += taken.tolist()
    assert sorted(seen) == list(range(len(pairs)))


def test_planted_vectors_are_recovered() -> None:
    pairs, X, truth = planted(rows=3000, scale=4.0)
    trained = train_models(pairs, X, None, settings=Settings(dimensions=4, ridge=1.0, seed=3))
    found = trained.router.deltas_from_embeddings(X).astype(np.float64)
    wanted = X @ truth.T
    # A score common to all models is not to be had from pairs.
    found -= found.mean(axis=1, keepdims=True)
    wanted -= wanted.mean(axis=1, keepdims=True)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.97
    assert trained.figures.log_loss < trained.levels_alone.log_loss - 0.02
    assert trained.figures.calibration_error < 0.06
    assert trained.figures.apgr is not None
    assert trained.figures.apgr > 0.6
    assert trained.levels_alone.apgr == pytest.approx(0.5)


def test_centring_does_not_learn_the_dataset() -> None:
    rng = np.random.default_rng(4)
    rows = 1200
    group = rng.integers(2, size=rows)
    X = rng.normal(size=(rows, D)) * 0.3
    X[:, 0] = 2.0
    X[:, 1] += np.where(group == 0, 1.0, -1.0)  # says which dataset, and nothing else
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    a, b = np.zeros(rows, dtype=np.int64), 1 + rng.integers(2, size=rows)
    won = (rng.random(rows) < np.where(group == 0, 0.9, 0.2)).astype(np.float64)
    pairs = Pairs(
        ("x", "y", "z"), tuple(f"p{i}" for i in range(rows)), ("g", "h"), group,
        np.arange(rows), a, b, won, np.ones(rows),
    )  # fmt: skip
    gap = {}
    for centre in (False, True):
        router = train_models(
            pairs, X, None, settings=Settings(ridge=3.0), centre=centre, strong_model="y",
            weak_model="x",
        ).router  # fmt: skip
        rates = router.win_rates_from_embeddings(X)
        gap[centre] = abs(rates[group == 0].mean() - rates[group == 1].mean())
    assert gap[False] > 0.4
    assert gap[True] < 0.1


def test_a_tie_is_half_a_win_each() -> None:
    pairs, X, _ = planted(rows=300)
    tied = pairs.where(np.ones(len(pairs), dtype=bool))
    tied.preference[:] = np.where(np.arange(len(pairs)) % 3 == 0, 0.5, pairs.preference)
    # Each tie as a win and a loss of half the weight.
    is_tie = ~tied.decided
    order = np.argsort(np.r_[tied.rows, tied.rows[is_tie]], kind="stable")
    halves = Pairs(
        tied.models, tied.prompts, tied.groups, tied.group_ids,
        np.r_[tied.rows, tied.rows[is_tie]][order],
        np.r_[tied.a, tied.a[is_tie]][order],
        np.r_[tied.b, tied.b[is_tie]][order],
        np.r_[np.where(is_tie, 1.0, tied.preference), np.zeros(int(is_tie.sum()))][order],
        np.r_[np.where(is_tie, tied.weights / 2, tied.weights), tied.weights[is_tie] / 2][order],
    )  # fmt: skip
    settings = Settings(dimensions=3, epochs=3, ridge=1.0)
    states = [
        learn(start(settings, D, 5, 2), X, which, which, settings) for which in (tied, halves)
    ]
    for name in NAMES:
        np.testing.assert_allclose(states[0].arrays[name], states[1].arrays[name], atol=2e-4)
    assert strengths(tied, np.zeros(len(tied))) == pytest.approx(
        strengths(halves, np.zeros(len(halves))), abs=1e-8
    )


def test_swapping_the_sides_changes_nothing() -> None:
    pairs, X, _ = planted(rows=400)
    swapped = Pairs(
        pairs.models, pairs.prompts, pairs.groups, pairs.group_ids, pairs.rows, pairs.b, pairs.a,
        1.0 - pairs.preference, pairs.weights,
    )  # fmt: skip
    settings = Settings(epochs=3)
    one, other = (train_models(p, X, None, settings=settings).router for p in (pairs, swapped))
    np.testing.assert_allclose(
        one.deltas_from_embeddings(X), other.deltas_from_embeddings(X), atol=1e-4
    )


class InterruptedTrainingError(Exception):
    pass


def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    pairs, X, _ = planted(rows=400)
    settings = Settings(epochs=6, patience=6)

    def stop(state: State) -> None:
        if state.epoch == 2:
            raise InterruptedTrainingError

    whole = train_models(pairs, X, None, settings=settings)
    with pytest.raises(InterruptedTrainingError):
        train_models(pairs, X, None, settings=settings, journal=tmp_path, after_epoch=stop)
    resumed = train_models(pairs, X, None, settings=settings, journal=tmp_path, resume=True)
    assert whole.state is not None
    assert resumed.state is not None
    assert resumed.state.epoch == whole.state.epoch > 2
    assert resumed.state.losses == whole.state.losses
    for name, array in whole.state.arrays.items():
        assert resumed.state.arrays[name].tobytes() == array.tobytes()
    everything = [t.router.deltas_from_embeddings(X).tobytes() for t in (whole, resumed)]
    assert everything[0] == everything[1]
    with pytest.raises(InvalidInputError, match="different data, embedder or options"):
        train_models(pairs, X, None, settings=Settings(seed=1), journal=tmp_path, resume=True)
    (tmp_path / JOURNAL).write_bytes(b"torn")
    with pytest.raises(InvalidInputError, match=r"can't be read .* delete it"):
        train_models(pairs, X, None, settings=settings, journal=tmp_path, resume=True)
    (tmp_path / JOURNAL).unlink()
    with pytest.raises(InvalidInputError, match="no training to resume"):
        train_models(pairs, X, None, settings=settings, journal=tmp_path, resume=True)


def test_two_models_get_the_linear_head() -> None:
    pairs, X, truth = planted(rows=1500, models=2, scale=4.0)
    trained = train_models(pairs, X, None)
    assert trained.state is None
    wanted = X @ (truth[1] - truth[0])
    deltas = trained.router.deltas_from_embeddings(X)
    assert np.corrcoef(deltas[:, 1] - deltas[:, 0], wanted)[0, 1] > 0.95
    assert trained.figures.log_loss < trained.levels_alone.log_loss


def test_a_hundred_prompts_are_enough_without_an_option() -> None:
    pairs, X, truth = planted(rows=100, models=2, scale=4.0)
    trained = train_models(pairs, X, None, settings=Settings(seed=1))
    assert trained.held_out == pytest.approx(0.15)  # two models: all of it for the figures
    assert trained.figures.prompts >= 10
    deltas = trained.router.deltas_from_embeddings(X)
    assert np.corrcoef(deltas[:, 1] - deltas[:, 0], X @ (truth[1] - truth[0]))[0, 1] > 0.5
    many, Y, _ = planted(rows=100, models=4)
    assert train_models(many, Y, None).held_out == pytest.approx(0.3)
    plenty, Z, _ = planted(rows=1000, models=2)
    assert train_models(plenty, Z, None).held_out == 0.1


@pytest.mark.parametrize("strong", ["m0", "m1"])
def test_quantiles_of_two_models_are_of_the_strong_ones_win_rates(strong: str) -> None:
    pairs, X, _ = planted(rows=1500, models=2, scale=4.0)
    weak = "m1" if strong == "m0" else "m0"
    router = train_models(pairs, X, None, strong_model=strong, weak_model=weak).router
    rates = router.win_rates_from_embeddings(X)
    assert router.provenance.calibration is not None
    np.testing.assert_allclose(router.provenance.calibration[500], np.median(rates), atol=0.05)
    np.testing.assert_allclose(
        router.provenance.calibration[900], np.quantile(rates, 0.9), atol=0.05
    )


def test_held_out_prompts_are_split_by_their_text() -> None:
    prompts = [f"Prompt {i}!" for i in range(5000)] + [f"prompt  {i}" for i in range(5000)]
    first, second = held_out_parts(prompts, 0.2, 0)
    assert not (first & second).any()
    assert (first[:5000] == first[5000:]).all()
    assert first.mean() == pytest.approx(0.1, abs=0.02)
    assert second.mean() == pytest.approx(0.1, abs=0.02)
    assert (held_out_parts(prompts, 0.2, 1)[0] != first).any()


def test_what_can_not_be_trained_on() -> None:
    pairs, X, _ = planted(rows=60)
    with pytest.raises(InvalidInputError, match="prompts to stop by, where 10 are needed"):
        train_models(pairs, X, None, held_out=0.1)
    few, Y, _ = planted(rows=25)
    with pytest.raises(InvalidInputError, match="where 10 are needed"):
        train_models(few, Y, None)
    with pytest.raises(InvalidInputError, match="held_out must be above 0 and at most"):
        train_models(pairs, X, None, held_out=0.0)
    with pytest.raises(InvalidInputError, match="ties must be one of use, drop, got 'keep'"):
        train_models(pairs, X, None, ties="keep")  # type: ignore[arg-type] # what is refused
    with pytest.raises(InvalidInputError, match="no prompt has two models to compare"):
        train_models(pairs.where(np.zeros(len(pairs), dtype=bool)), X, None)


def test_the_default_pair() -> None:
    strength = np.array([0.0, 3.0, 1.0, 2.0])
    assert pair_of("abcd", strength) == ("b", "c")
    assert pair_of("abcd", strength, weak_model="b") == ("d", "b")
    assert pair_of("abcd", strength, strong_model="c") == ("c", "a")
    with pytest.raises(InvalidInputError, match="strong_model is 'z', which the data does not"):
        pair_of("abcd", strength, "z")
    with pytest.raises(InvalidInputError, match="are both 'a'"):
        pair_of("abcd", strength, "a", "a")


def test_pairs_of_training_data() -> None:
    scores = {f"m{i}": i / 20 for i in range(20)}
    data = TrainingData(
        (JudgedBattle("f", "", "p", "m1", "m0", 0.25),),
        (
            GradedResult("g", "d", "q", {"m0": 1.0, "m1": 1.0, "m2": 0.0}),
            GradedResult("g", "d", "alone", {"m0": 1.0}),
            GradedResult("g", "e", "r", scores),
        ),
        DataReport(),
    )
    pairs = pairs_of(data, most=10)
    names = np.array(pairs.models)
    first = pairs.of_rows(np.array([p == "p" for p in pairs.prompts]))
    assert (names[first.a[0]], names[first.b[0]], first.preference[0]) == ("m1", "m0", 0.25)
    second = pairs.of_rows(np.array([p == "q" for p in pairs.prompts]))
    assert second.preference.tolist() == [0.5, 0.0, 0.0]
    assert second.weights.sum() == pytest.approx(2.0)
    drawn = pairs.of_rows(np.array([p == "r" for p in pairs.prompts]))
    assert len(drawn) == 10
    assert drawn.weights.sum() == pytest.approx(19.0)
    assert len(set(zip(drawn.a.tolist(), drawn.b.tolist(), strict=True))) == 10
    graded = [scores[m] for m in names.tolist() if m in scores]
    assert all(
        y == float(graded[b] > graded[a])
        for a, b, y in zip(drawn.a, drawn.b, drawn.preference, strict=True)
    )
    assert "alone" not in pairs.prompts
    assert pairs_of(data, most=10).b.tolist() == pairs.b.tolist()
    assert pairs_of(data, most=10, seed=1).b.tolist() != pairs.b.tolist()


def _without(pairs: Pairs, model: str) -> Pairs:
    number = pairs.models.index(model)
    kept = pairs.where((pairs.a != number) & (pairs.b != number))
    return Pairs(
        tuple(m for m in pairs.models if m != model), kept.prompts, kept.groups, kept.group_ids,
        kept.rows, kept.a - (kept.a > number), kept.b - (kept.b > number), kept.preference,
        kept.weights,
    )  # fmt: skip


def test_a_model_is_added_and_the_others_keep_every_bit() -> None:
    pairs, X, truth = planted(rows=3000, models=8, scale=3.0)
    old = train_models(_without(pairs, "m7"), X, None, settings=Settings(ridge=3.0)).router
    few = pairs.of_rows(np.arange(3000) < 600)
    added = add_model(old, "m7", few, X)
    before, after = old.deltas_from_embeddings(X), added.router.deltas_from_embeddings(X)
    assert after[:, :7].tobytes() == before.tobytes()
    assert added.router.models == (*old.models, "m7")
    rest = X[600:]
    wanted = rest @ (truth[7] - truth[:7].mean(axis=0))
    found = after[600:, 7] - after[600:, :7].mean(axis=1)
    assert np.corrcoef(found, wanted)[0, 1] > 0.9
    assert added.log_loss < added.level_log_loss < added.prior_log_loss
    again = train_models(pairs, X, None, settings=Settings(ridge=3.0), held_out=0.2).router
    assert added.log_loss < log_loss_of_router(again, added.held_out, X) + 0.03
    assert old.provenance.trained_on is not None
    assert added.router.provenance.trained_on is not None
    assert set(old.provenance.trained_on) <= set(added.router.provenance.trained_on)


def test_models_that_can_not_be_added() -> None:
    pairs, X, _ = planted(rows=400)
    router: MatrixFactorizationRouter = train_models(_without(pairs, "m4"), X, None).router
    with pytest.raises(InvalidInputError, match="'m0' is one of the router's already"):
        add_model(router, "m0", pairs, X)
    with pytest.raises(InvalidInputError, match="'m9' is not in the data"):
        add_model(router, "m9", pairs, X)
    with pytest.raises(InvalidInputError, match="20 in all are needed"):
        add_model(router, "m4", pairs.of_rows(np.arange(400) < 8), X)
    few = X * (np.arange(400) < 8)[:, None].astype(np.float32)
    with pytest.raises(InvalidInputError, match=r"20 in all .*392 of 400 prompts have no token"):
        add_model(router, "m4", pairs, few)
    with pytest.raises(InvalidInputError, match="none of the 400 prompts has a token"):
        add_model(router, "m4", pairs, np.zeros_like(X))
    with pytest.raises(InvalidInputError, match="held_out must be above 0"):
        add_model(router, "m4", pairs, X, held_out=1.0)
