"""The sw_ranking router against the whole formula in float64, and everything it refuses."""

from __future__ import annotations

import gc
import gzip
import inspect
import json
import re
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eight_threads
import reference
from battle_factory import SyntheticBattles, make_battles
from fastroute.errors import InvalidInputError, InvalidTypeError, NotFittedError, RatingError
from fastroute.routers import SimilarityWeightedRouter

# What the owner asks for; float32 similarities leave 1e-9 to 5e-9 on these data.
WIN_RATE_TOLERANCE = 1e-8


def _router(data: SyntheticBattles, **options: Any) -> SimilarityWeightedRouter:
    pair = {"strong_model": data.strong, "weak_model": data.weak}
    return SimilarityWeightedRouter(**{**pair, **options})


def _fit(data: SyntheticBattles, **options: Any) -> SimilarityWeightedRouter:
    return _router(data, **options).fit(data.embeddings, data.model_a, data.model_b, data.winner)


def _reference(
    data: SyntheticBattles, num_tiers: int, *, strict: bool
) -> reference.SimilarityWeightedRanking:
    return reference.SimilarityWeightedRanking(
        data.by_number, len(data.names), num_tiers, strict=strict
    )


def test_the_signature_is_the_published_one() -> None:
    parameters = inspect.signature(SimilarityWeightedRouter).parameters
    defaults = {name: p.default for name, p in parameters.items()}
    assert {k: defaults[k] for k in ("num_tiers", "strict", "mode")} == {
        "num_tiers": 10,
        "strict": False,
        "mode": "auto",  # which is "exact" up to thousands of battles
    }
    assert SimilarityWeightedRouter(num_tiers=10, strict=False, mode="exact").mode == "exact"
    assert {"strong_model", "weak_model"} < set(parameters)
    fit = inspect.signature(SimilarityWeightedRouter.fit).parameters.values()
    positional = [p.name for p in fit if p.kind is not p.KEYWORD_ONLY]
    assert positional == ["self", "embeddings", "model_a", "model_b", "winner"]


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("strict", [False, True])
def test_win_rates_are_the_formula(battles: SyntheticBattles, strict: bool) -> None:
    router = _fit(battles, strict=strict)
    wanted = _reference(battles, 10, strict=strict)
    last = len(battles.names) - 1
    for x in battles.prompts:
        error = abs(router.win_rate_from_embedding(x) - wanted.win_rate(x, 0, last))
        assert error <= WIN_RATE_TOLERANCE
    equal = wanted.win_rate_at_equal_weights(0, last)
    assert router.win_rate_without_signal == pytest.approx(equal, abs=1e-10)


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("num_tiers", [1, 2, 4, 8])
def test_other_numbers_of_tiers(
    small_battles: SyntheticBattles, num_tiers: int, strict: bool
) -> None:
    router = _fit(small_battles, num_tiers=num_tiers, strict=strict)
    wanted = _reference(small_battles, num_tiers, strict=strict)
    for strong, weak in ((0, 7), (3, 5), (7, 0)):
        router = _fit(
            small_battles,
            num_tiers=num_tiers,
            strict=strict,
            strong_model=small_battles.names[strong],
            weak_model=small_battles.names[weak],
        )
        for x in small_battles.prompts[:3]:
            error = abs(router.win_rate_from_embedding(x) - wanted.win_rate(x, strong, weak))
            assert error <= WIN_RATE_TOLERANCE


def test_ratings_and_tiers_of_the_models(battles: SyntheticBattles) -> None:
    router = _fit(battles)
    wanted = _reference(battles, 10, strict=False)
    # The reference's ratings are free up to a constant that its pseudo-inverse chooses: mean 0.
    assert list(router.model_ratings_) == [
        battles.names[i] for i in np.argsort(-wanted.model_elo, kind="stable")
    ]
    for i, name in enumerate(battles.names):
        assert router.model_ratings_[name] == pytest.approx(wanted.model_elo[i], abs=1e-7)
        assert router.model_tiers_[name] == wanted.model_tiers[i]
    ratings = wanted.ratings(np.ones(len(battles.winner)))
    np.testing.assert_allclose(router.tier_ratings_, reference.elo(ratings), atol=1e-7)


def test_ratings_are_shifted_to_the_anchor(small_battles: SyntheticBattles) -> None:
    renamed = SyntheticBattles(
        small_battles.by_number,
        ["llama-2-70b-chat" if i == 3 else name for i, name in enumerate(small_battles.names)],
        small_battles.prompts,
    )
    plain, anchored = _fit(small_battles, num_tiers=4), _fit(renamed, num_tiers=4)
    assert anchored.model_ratings_["llama-2-70b-chat"] == pytest.approx(1082.0)
    shift = 1082.0 - plain.model_ratings_[small_battles.names[3]]
    assert anchored.model_ratings_[small_battles.strong] == pytest.approx(
        plain.model_ratings_[small_battles.strong] + shift
    )
    x = small_battles.prompts[0]
    assert anchored.win_rate_from_embedding(x) == pytest.approx(
        plain.win_rate_from_embedding(x), abs=1e-12
    )


@pytest.mark.usefixtures("simd_level")
def test_a_batch_is_bitwise_its_prompts_for_any_number_of_threads(
    battles: SyntheticBattles,
) -> None:
    router = _fit(battles)
    X = battles.prompts
    one = [router.win_rate_from_embedding(x) for x in X]
    for num_threads in (None, 1, 2, 5):
        np.testing.assert_array_equal(
            router.win_rates_from_embeddings(X, num_threads=num_threads), one
        )
    np.testing.assert_array_equal(_fit(battles, num_threads=2).win_rates_from_embeddings(X), one)
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(router.win_rates_from_embeddings(X[order]), np.array(one)[order])


def test_no_prompts(small_battles: SyntheticBattles) -> None:
    router = _fit(small_battles, num_tiers=4)
    rates = router.win_rates_from_embeddings(small_battles.prompts[:0])
    assert (rates.shape, rates.dtype) == ((0,), np.float64)


def test_eight_threads_at_once(battles: SyntheticBattles) -> None:
    router = _fit(battles, num_threads=2)
    wanted = router.win_rates_from_embeddings(battles.prompts)
    eight_threads.check(lambda _: router.win_rates_from_embeddings(battles.prompts), wanted)


def test_a_refit_while_others_score(small_battles: SyntheticBattles) -> None:
    router = _fit(small_battles, num_tiers=4)
    wanted = router.win_rates_from_embeddings(small_battles.prompts)
    stop = threading.Event()
    wrong: list[Any] = []

    def score() -> None:
        while not stop.is_set():
            rates = router.win_rates_from_embeddings(small_battles.prompts)
            if not np.array_equal(rates, wanted):
                wrong.append(rates)

    thread = threading.Thread(target=score)
    thread.start()
    for _ in range(30):
        router.fit(
            small_battles.embeddings,
            small_battles.model_a,
            small_battles.model_b,
            small_battles.winner,
        )
        gc.collect()
    stop.set()
    thread.join()
    assert not wrong


def test_the_vectors_outlive_what_they_were_made_from(small_battles: SyntheticBattles) -> None:
    wanted = _fit(small_battles, num_tiers=4).win_rates_from_embeddings(small_battles.prompts)
    embeddings = small_battles.embeddings.copy()
    router = _router(small_battles, num_tiers=4)
    router.fit(embeddings, small_battles.model_a, small_battles.model_b, small_battles.winner)
    embeddings[...] = np.nan
    del embeddings
    gc.collect()
    junk = [np.full((600, 17), np.nan, dtype=np.float32) for _ in range(20)]
    np.testing.assert_array_equal(router.win_rates_from_embeddings(small_battles.prompts), wanted)
    assert len(junk) == 20


def test_embeddings_are_not_modified(small_battles: SyntheticBattles) -> None:
    before = small_battles.embeddings.copy()
    before.flags.writeable = False
    router = _router(small_battles, num_tiers=4).fit(
        before, small_battles.model_a, small_battles.model_b, small_battles.winner
    )
    prompts = small_battles.prompts.copy()
    prompts.flags.writeable = False
    router.win_rates_from_embeddings(prompts)
    np.testing.assert_array_equal(before, small_battles.embeddings)


def test_fitting_again(small_battles: SyntheticBattles) -> None:
    other = make_battles(seed=9, count=400, dimensions=33, models=8)
    router = _fit(small_battles, num_tiers=4)
    router.fit(other.embeddings, other.model_a, other.model_b, other.winner)
    np.testing.assert_array_equal(
        router.win_rates_from_embeddings(other.prompts),
        _fit(other, num_tiers=4).win_rates_from_embeddings(other.prompts),
    )
    with pytest.raises(InvalidInputError, match="X has 17 columns where the router has 33"):
        router.win_rates_from_embeddings(small_battles.prompts)


def test_a_failed_fit_leaves_the_last_one(small_battles: SyntheticBattles) -> None:
    router = _fit(small_battles, num_tiers=4)
    wanted = router.win_rates_from_embeddings(small_battles.prompts)
    bad = small_battles.embeddings.copy()
    bad[599, 16] = np.nan
    with pytest.raises(InvalidInputError):
        router.fit(bad, small_battles.model_a, small_battles.model_b, small_battles.winner)
    np.testing.assert_array_equal(router.win_rates_from_embeddings(small_battles.prompts), wanted)


def test_the_same_embedding_for_every_battle(small_battles: SyntheticBattles) -> None:
    same = np.tile(small_battles.embeddings[:1], (600, 1))
    router = _router(small_battles, num_tiers=4).fit(
        same, small_battles.model_a, small_battles.model_b, small_battles.winner
    )
    # Equal weights, whatever the prompt.
    assert router.win_rate_from_embedding(same[0].copy()) == pytest.approx(
        router.win_rate_without_signal, abs=1e-10
    )


def test_a_single_tied_battle_is_a_coin() -> None:
    router = SimilarityWeightedRouter(strong_model="a", weak_model="b", num_tiers=2)
    router.fit(np.ones((1, 3), np.float32), ["a"], ["b"], ["tie"])
    assert router.win_rate_from_embedding(np.ones(3, np.float32)) == pytest.approx(0.5)
    with pytest.raises(RatingError, match="only won, only lost or never met"):
        router.fit(np.ones((1, 3), np.float32), ["a"], ["b"], ["model_a"])


def test_no_similar_battle(small_battles: SyntheticBattles) -> None:
    ahead = np.abs(small_battles.embeddings)
    behind = -np.ones(17, np.float32)
    names = small_battles.model_a, small_battles.model_b, small_battles.winner
    router = _router(small_battles, num_tiers=4).fit(ahead, *names)
    assert router.win_rate_from_embedding(behind) == router.win_rate_without_signal
    strict = _router(small_battles, num_tiers=4, strict=True).fit(ahead, *names)
    with pytest.raises(RatingError, match="no battle has a positive similarity to it"):
        strict.win_rate_from_embedding(behind)


def test_not_fitted(small_battles: SyntheticBattles) -> None:
    router = _router(small_battles)
    for call in (
        lambda: router.win_rate_from_embedding(small_battles.prompts[0]),
        lambda: router.win_rates_from_embeddings(small_battles.prompts),
        lambda: router.win_rate_without_signal,
        lambda: router.win_rates([]),
    ):
        with pytest.raises(NotFittedError, match=r"call fit\(embeddings, model_a, model_b, winner"):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tiers": 0}, "num_tiers must be an int from 1 to 180, got 0"),
        ({"num_tiers": 181}, "num_tiers must be an int from 1 to 180, got 181"),
        ({"num_tiers": 2.0}, "num_tiers must be an int from 1 to 180, got 2.0"),
        ({"num_tiers": True}, "num_tiers must be an int from 1 to 180, got True"),
        ({"mode": "far"}, "mode must be one of auto, exact, far_field, got 'far'"),
        ({"num_threads": 0}, "num_threads must be an int from 1 to 1024, got 0"),
        ({"mode": "exact", "max_error": 0.01}, "max_error is 0.01 with mode='exact', which has no"),
        ({"index": "HNSW1"}, "index must have from 2 to 1024 links a vector after HNSW"),
        ({"index_parameters": ""}, "index_parameters must be names and numbers"),
        ({"index_parameters": 3}, "index_parameters must be a str for faiss.ParameterSpace"),
        ({"strong_model": None}, "strong_model must be a model name (str), got None"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        SimilarityWeightedRouter(**options)


def test_options_of_the_wrong_type() -> None:
    with pytest.raises(InvalidTypeError, match="strict must be True or False, got 'no'"):
        SimilarityWeightedRouter(strict="no")  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="embedder must be an Embedder, got 'static'"):
        SimilarityWeightedRouter(embedder="static")  # type: ignore[arg-type]


def _refuses(
    message: str,
    small: SyntheticBattles,
    *,
    error: type[Exception] = InvalidInputError,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    arguments = {
        "embeddings": small.embeddings,
        "model_a": small.model_a,
        "model_b": small.model_b,
        "winner": small.winner,
        **changes,
    }
    with pytest.raises(error, match=message):
        _router(small, num_tiers=4, **(options or {})).fit(**arguments)


def _with(values: Sequence[Any], index: int, value: Any) -> list[Any]:
    changed = list(values)
    changed[index] = value
    return changed


def test_bad_names_and_outcomes(small_battles: SyntheticBattles) -> None:
    s = small_battles
    for value in ("A", "model_c", "", "Tie"):
        _refuses(
            rf"winner\[5\] is '{value}'; it must be one of 'model_a', 'model_b', 'tie', 'tie",
            s,
            winner=_with(s.winner, 5, value),
        )
    for value in (None, 1, ["tie"], b"tie"):
        for name in ("winner", "model_a", "model_b"):
            _refuses(
                rf"{name}\[5\] must be a str, got",
                s,
                error=InvalidTypeError,
                **{name: _with(getattr(s, name), 5, value)},
            )
    for value in (None, 3, "model_a"):
        for name in ("winner", "model_a", "model_b"):
            _refuses(
                f"{name} must be a sequence of str", s, error=InvalidTypeError, **{name: value}
            )
    _refuses(
        "battle 7 is of 'model-02' with itself; drop",
        s,
        model_a=_with(s.model_a, 7, "model-02"),
        model_b=_with(s.model_b, 7, "model-02"),
    )
    _refuses("must have the same length, at least 1, got 600, 599", s, model_a=s.model_a[1:])
    _refuses("must have the same length, at least 1, got 600, 600, 600 and 0", s, winner=[])
    nothing = np.empty((0, 17), np.float32)
    _refuses("at least 1, got 0, 0, 0", s, embeddings=nothing, model_a=[], model_b=[], winner=[])


def test_names_that_differ_by_a_nul(small_battles: SyntheticBattles) -> None:
    s = small_battles
    for name in ("model_a", "model_b", "winner"):
        value = getattr(s, name)[5] + "\0"
        _refuses(
            rf"{name}\[5\] is '.*', which has a NUL",
            s,
            **{name: _with(getattr(s, name), 5, value)},
        )
    _refuses("is in no battle", s, options={"strong_model": s.strong + "\0"})


@pytest.mark.parametrize("mode", ["exact", "far_field"])
def test_how_many_are_explained(small_battles: SyntheticBattles, mode: str) -> None:
    router = _fit(small_battles, num_tiers=4, mode=mode)
    x = small_battles.prompts[0]
    for count in (3, np.int64(3), np.uint8(3)):
        assert len(router.explain_from_embedding(x, count).nearest) == 3  # type: ignore[arg-type]
    for count in (True, 2.0, np.float64(2), "3", None, np.int64(0), np.bool_(True)):
        with pytest.raises(InvalidInputError, match="count must be an int of at least 1, got"):
            router.explain_from_embedding(x, count)  # type: ignore[arg-type]
    most = 128 if mode == "far_field" else 600
    assert len(router.explain_from_embedding(x, 10_000).nearest) == most


def test_bad_embeddings_at_fit(small_battles: SyntheticBattles) -> None:
    s = small_battles
    E = s.embeddings
    for bad in (None, E.tolist(), E.astype(np.float64), E.astype(">f4"), E.astype(np.int32)):
        _refuses("^embeddings must (be|have)", s, error=InvalidTypeError, embeddings=bad)
    for bad in (E[0], E[:, ::2], np.asfortranarray(E), E[None], np.float32(1) + np.zeros(())):
        _refuses("^embeddings must (be|have)", s, embeddings=bad)
    for value, word in ((np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")):
        bad = E.copy()
        bad[599, 16] = value
        _refuses(rf"^embeddings\[599, 16\] is {word}; every element", s, embeddings=bad)
    bad = E.copy()
    bad[300] = 0.0
    _refuses(r"^embeddings\[300\] is the zero vector", s, embeddings=bad)


def test_a_model_against_itself_is_a_mistake() -> None:
    message = "strong_model and weak_model are both 'x'; name two different models"
    with pytest.raises(InvalidInputError, match=message):
        SimilarityWeightedRouter(strong_model="x", weak_model="x")


def test_models_that_do_not_fit_the_pair_or_the_tiers(small_battles: SyntheticBattles) -> None:
    _refuses(
        "strong_model is 'gpt-9', which is in no battle; the battles are between model-00, ",
        small_battles,
        options={"strong_model": "gpt-9"},
    )
    _refuses(
        "weak_model is 'gpt-9', which is in no", small_battles, options={"weak_model": "gpt-9"}
    )
    with pytest.raises(InvalidInputError, match=r"num_tiers is 10, more than the 8 models"):
        _fit(small_battles)


def test_models_without_finite_ratings(small_battles: SyntheticBattles) -> None:
    s = small_battles
    never_met = [*s.model_a, "island-1"], [*s.model_b, "island-2"]
    E = np.concatenate([s.embeddings, s.embeddings[:1]])
    _refuses(
        r"no finite ratings: .*island-\d.*drop the battles of those models or add",
        s,
        error=RatingError,
        embeddings=E,
        model_a=never_met[0],
        model_b=never_met[1],
        winner=[*s.winner, "tie"],
    )
    _refuses(
        "no finite ratings: .*island-1 only won, only lost or never met",
        s,
        error=RatingError,
        embeddings=E,
        model_a=[*s.model_a, "island-1"],
        model_b=[*s.model_b, s.names[0]],
        winner=[*s.winner, "model_a"],
    )


@pytest.mark.parametrize("many", [False, True])
def test_bad_prompt_embeddings(small_battles: SyntheticBattles, many: bool) -> None:
    router = _fit(small_battles, num_tiers=4)
    good = small_battles.prompts[:2].copy()

    def score(x: np.ndarray) -> None:
        if many:
            router.win_rates_from_embeddings(np.stack([good[0], x]))
        else:
            router.win_rate_from_embedding(x)

    def refuse(x: np.ndarray, message: str, error: type[Exception] = InvalidInputError) -> None:
        with pytest.raises(error, match=message) as caught:
            score(x)
        assert "incompatible function" not in str(caught.value)

    start = r"^X\[1\]: x" if many else "^x"
    for value in (np.nan, np.inf):
        bad = good[1].copy()
        bad[16] = value
        refuse(bad, rf"{start}\[16\] is (nan|inf)")
    refuse(good[1] * 0, f"{start} is the zero vector")
    refuse(good[1] * np.float32(1e-30), f"{start} has length .*too small or too large for float32")
    if not many:
        refuse(good[1].astype(np.float64), "^x must have dtype float32", InvalidTypeError)
        refuse(good[1][:5].copy(), "^x has length 5 where the router has 17")
    else:
        for bad in (good.astype(np.float64), good.tolist(), None):
            with pytest.raises(InvalidTypeError, match=r"^X must"):
                router.win_rates_from_embeddings(bad)  # type: ignore[arg-type]
        for bad in (good[0], np.asfortranarray(good), good[:, :5].copy()):
            with pytest.raises(InvalidInputError, match=r"^X (must|has 5 columns)"):
                router.win_rates_from_embeddings(bad)
        for num_threads in (0, -3, True, 1.5):
            with pytest.raises(InvalidInputError, match="num_threads must be an int from 1"):
                router.win_rates_from_embeddings(good, num_threads=num_threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("strict", [False, True])
def test_real_battles(shared_data: Path, strict: bool) -> None:
    """952 prompts judged in the wild, with hashed words for embeddings."""
    E: list[np.ndarray] = []
    a: list[str] = []
    b: list[str] = []
    winner: list[str] = []
    with gzip.open(shared_data / "data/preferences/openassistant_battles.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            x = np.zeros(96, dtype=np.float32)
            for word in row["prompt"].split():
                x[zlib.crc32(word.lower().encode()) % 96] += 1.0
            for first, second, second_preferred in row["battles"]:
                E.append(x)
                a.append(first)
                b.append(second)
                winner.append({0.0: "model_a", 0.5: "tie", 1.0: "model_b"}[second_preferred])
    names = sorted({*a, *b})
    numbers = {name: i for i, name in enumerate(names)}
    outcome = np.array([{"model_a": 1, "tie": 0, "model_b": -1}[w] for w in winner])
    by_number = reference.Battles(
        np.stack(E), np.array([numbers[m] for m in a]), np.array([numbers[m] for m in b]), outcome
    )
    wanted = reference.SimilarityWeightedRanking(by_number, len(names), 4, strict=strict)
    router = SimilarityWeightedRouter(
        strong_model=names[0], weak_model=names[-1], num_tiers=4, strict=strict, mode="exact"
    ).fit(by_number.embeddings, a, b, winner)
    for x in by_number.embeddings[:: len(E) // 5]:
        error = abs(router.win_rate_from_embedding(x) - wanted.win_rate(x, 0, len(names) - 1))
        assert error <= WIN_RATE_TOLERANCE
