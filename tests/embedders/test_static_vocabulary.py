"""The static embedder over a vocabulary that the core reads, and the mf router on top of it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eight_threads
import text_reference as reference
from fastroute.artifacts import save_artifact
from fastroute.controller import Controller
from fastroute.embedders.cached import CachedEmbedder
from fastroute.embedders.static import KIND, StaticEmbedder
from fastroute.embedders.vocabulary import CLASSES, Signal, Vocabulary
from fastroute.errors import ArtifactError, InvalidInputError, InvalidTypeError
from fastroute.routers import create_router
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter

PIECES = [" prove", " that", " the", " primes", "s", " prim", "e", " hello", "é", "素数", ".", "2"]
DIMENSIONS = 17
SIGNALS = (Signal("length", "one", 0.125), Signal("share:han", "one", 0.5))

PROMPTS = [
    "prove that the primes",
    "hello",
    "",
    "   \n\t ",
    "2+2 hello é nothing known here",
    "HELLO hello",
    "素数 を証明",
    "emoji 🙂 and family 👨‍👩‍👧‍👦 and flag 🇩🇪",
    "a NUL \x00 inside",
    "\u202eright to left\u202c \ufeff \u2028",
    "prove " * 500,
]


def _table(dimensions: int = DIMENSIONS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    table = rng.integers(-127, 128, size=(len(PIECES), dimensions)).astype(np.int8)
    return table, rng.uniform(0.01, 0.1, len(PIECES)).astype(np.float32)


def _vocabulary(**options: Any) -> Vocabulary:
    units = np.ones(len(CLASSES))
    units[CLASSES.index("han")] = 3.0
    return Vocabulary.of(PIECES, **{"class_units": units, "signals": SIGNALS, **options})


def _embedder(**options: Any) -> StaticEmbedder:
    return StaticEmbedder(*_table(), _vocabulary(**options), name="static:tiny")


def _save(folder: Path, **changes: Any) -> Path:
    table, scales = _table()
    vocabulary = _vocabulary()
    arrays = {"table": table, "scales": scales, **vocabulary.arrays()}
    config = {"name": "static:tiny", **vocabulary.config()}
    arrays |= changes.get("arrays", {})
    for gone in changes.get("without", ()):
        del arrays[gone]
    save_artifact(folder, kind=KIND, config=config | changes.get("config", {}), arrays=arrays)
    return folder


def _router(embedder: StaticEmbedder | None, **changes: Any) -> MatrixFactorizationRouter:
    rng = np.random.default_rng(9)
    factors = {
        "model_embeddings": rng.normal(size=(2, 5)).astype(np.float32),
        "projection": rng.normal(size=(5, DIMENSIONS + len(SIGNALS))).astype(np.float32),
        "weights": rng.normal(size=5).astype(np.float32),
    }
    pair = {"strong_model": "strong", "weak_model": "weak"}
    return MatrixFactorizationRouter(
        ["strong", "weak"], **(factors | changes), **pair, embedder=embedder
    )


def test_the_vector_is_a_direction_and_signals() -> None:
    embedder = _embedder()
    assert (embedder.dimensions, embedder.signals) == (DIMENSIONS + 2, 2)
    assert embedder.is_quick
    assert CachedEmbedder(embedder).signals == 2
    table, scales = _table()
    numbered = {piece: i for i, piece in enumerate(PIECES)}
    for prompt in PROMPTS:
        rows, _ = reference.longest_pieces(reference.normalize(prompt), numbered)
        assert embedder.token_ids(prompt).tolist() == rows
        wanted = reference.embedding(table, scales, rows)
        got = embedder.embed(prompt)
        assert (got.dtype, got.shape) == (np.float32, (DIMENSIONS + 2,))
        np.testing.assert_allclose(got[:DIMENSIONS], wanted, atol=2e-5)
        assert got[-2:].any() == wanted.any()


@pytest.mark.usefixtures("simd_level")
def test_a_batch_is_bitwise_its_prompts() -> None:
    embedder = _embedder()
    prompts = PROMPTS * 30
    X = embedder.embed_batch(prompts)
    assert X.flags.c_contiguous
    np.testing.assert_array_equal(X, np.stack([embedder.embed(p) for p in prompts]))
    assert embedder.embed_batch([]).shape == (0, DIMENSIONS + 2)
    np.testing.assert_array_equal(embedder.embed_batch(tuple(prompts)), X)


def test_without_length_is_the_direction_alone() -> None:
    embedder = _embedder()
    bare = embedder.without_length()
    assert (bare.signals, bare.dimensions) == (0, DIMENSIONS)
    assert bare.name != embedder.name
    np.testing.assert_array_equal(
        bare.embed_batch(PROMPTS), embedder.embed_batch(PROMPTS)[:, :DIMENSIONS]
    )


def test_what_is_not_text() -> None:
    embedder = _embedder()
    for router in (None, _router(embedder)):
        one: Any = embedder.embed if router is None else router.win_rate
        many: Any = embedder.embed_batch if router is None else router.win_rates
        with pytest.raises(InvalidInputError, match="prompt holds a lone surrogate at position 1"):
            one("a\udc00")
        with pytest.raises(InvalidInputError, match=r"prompts\[1\] holds a lone surrogate"):
            many(["a", "\ud800"])
        for bad in (None, 3, b"bytes", ["hello"]):
            with pytest.raises(InvalidTypeError, match="prompt must be a str"):
                one(bad)
            with pytest.raises(InvalidTypeError, match=r"prompts\[0\] must be a str"):
                many([bad])
        with pytest.raises(InvalidTypeError, match="got one string"):
            many("hello")


def test_a_vocabulary_has_its_length_in_its_signals() -> None:
    with pytest.raises(InvalidInputError, match="length_scale must be 0 with a Vocabulary"):
        StaticEmbedder(*_table(), _vocabulary(), name="tiny", length_scale=0.5)


# Saved and loaded


def test_saved_and_loaded(tmp_path: Path) -> None:
    loaded, made = StaticEmbedder.load(_save(tmp_path)), _embedder()
    assert loaded.name.startswith("static:tiny:")
    np.testing.assert_array_equal(loaded.embed_batch(PROMPTS), made.embed_batch(PROMPTS))


def test_saved_with_every_option(tmp_path: Path) -> None:
    vocabulary = _vocabulary(lowercase=True, unknown_row=4, signals=(Signal("words", "pieces", 2),))
    _save(tmp_path, config=vocabulary.config())
    made = StaticEmbedder(*_table(), vocabulary, name="tiny")
    X = StaticEmbedder.load(tmp_path).embed_batch(PROMPTS)
    np.testing.assert_array_equal(X, made.embed_batch(PROMPTS))
    assert (made.token_ids("HELLO?").tolist()) == [PIECES.index(" hello"), 4]


def test_options_that_are_left_out_have_defaults(tmp_path: Path) -> None:
    table, scales = _table()
    arrays = {"table": table, "scales": scales, **Vocabulary.of(PIECES).arrays()}
    save_artifact(tmp_path, kind=KIND, config={"name": "static:tiny"}, arrays=arrays)
    loaded = StaticEmbedder.load(tmp_path)
    assert loaded.signals == 0
    np.testing.assert_array_equal(
        loaded.embed_batch(PROMPTS), _embedder().embed_batch(PROMPTS)[:, :DIMENSIONS]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ["piece_offsets"]}, "lacks 'piece_offsets'"),
        ({"without": ["table"]}, "lacks 'table'"),
        ({"without": ["pieces"]}, r"lacks 'tokenizer\.json'"),
        ({"arrays": {"pieces": np.zeros(3, np.int8)}}, "pieces must have dtype uint8"),
        ({"arrays": {"piece_offsets": np.arange(5, dtype=np.uint32)}}, "piece_offsets must rise"),
        ({"arrays": {"class_units": np.ones(3)}}, "class_units must be 20 numbers"),
        ({"arrays": {"scales": np.ones(3, np.float32)}}, "scales has length 3"),
        ({"arrays": {"table": np.ones((3, 4), np.int8)}}, "scales has length 12"),
        ({"config": {"lowercase": 3}}, "lowercase must be a bool"),
        ({"config": {"unknown_row": 99}}, "unknown_row must be None or a row"),
        ({"config": {"signals": [["depth", 1.0]]}}, "signals has 'depth', which is not a feature"),
        ({"config": {"signals": [["length"]]}}, "signals has .'length'., which is not"),
        ({"config": {"signals": "length"}}, "signals must be a list"),
        ({"config": {"signals": 3}}, "signals must be a list"),
    ],
)
def test_artifacts_with_something_wrong(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        StaticEmbedder.load(_save(tmp_path, **changes))


def test_loading_and_embedding_need_no_tokenizers_library(tmp_path: Path) -> None:
    code = (
        "import sys; from fastroute.embedders.static import StaticEmbedder; "
        f"StaticEmbedder.load({str(_save(tmp_path))!r}).embed('prove that'); "
        "assert 'tokenizers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_copies_and_pickles_score_the_same() -> None:
    router = _router(_embedder())
    for again in (pickle.loads(pickle.dumps(router)), copy.deepcopy(router)):
        np.testing.assert_array_equal(again.win_rates(PROMPTS), router.win_rates(PROMPTS))
        assert again.win_rate(PROMPTS[0]) == router.win_rate(PROMPTS[0])


# The mf router in one call


@pytest.mark.usefixtures("simd_level")
def test_one_call_gives_what_two_give() -> None:
    embedder = _embedder()
    router = _router(embedder)
    for prompt in PROMPTS:
        x = embedder.embed(prompt)
        wanted = router.win_rate_from_embedding(x) if x.any() else router.win_rate_without_signal
        assert router.win_rate(prompt) == wanted
    rates = router.win_rates(PROMPTS * 40)
    assert rates.dtype == np.float64
    np.testing.assert_array_equal(rates, [router.win_rate(p) for p in PROMPTS * 40])
    assert router.win_rates([]).shape == (0,)


def test_another_embedder_is_scored_by_its_own_text() -> None:
    router = _router(None)
    with pytest.raises(InvalidInputError, match="this mf router has no embedder"):
        router.win_rate("hello")
    router.embedder = _embedder()
    with_vocabulary = router.win_rate("hello")
    router.embedder = CachedEmbedder(_embedder(lowercase=True))  # which has no call of its own
    assert router.win_rate("hello") == with_vocabulary
    assert router.win_rate("HELLO") != _router(_embedder()).win_rate("HELLO")
    with pytest.raises(InvalidInputError, match="makes vectors of 17 dimensions"):
        router.embedder = _embedder(signals=())


def test_a_router_finds_the_embedder_in_its_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    arrays: dict[str, np.ndarray] = {
        "P.weight": rng.normal(size=(2, 5)).astype(np.float32),
        "text_proj.0.weight": rng.normal(size=(5, DIMENSIONS + 2)).astype(np.float32),
        "classifier.0.weight": rng.normal(size=(1, 5)).astype(np.float32),
        "calibration_win_rates": np.linspace(0, 1, 1001).astype(np.float32),
        "trained_on": np.zeros(0, np.uint64),
    }
    config = {
        "models": ["strong", "weak"],
        "strong_model": "strong",
        "weak_model": "weak",
        "embedder": "static:tiny",
    }
    save_artifact(tmp_path, kind="mf", config=config, arrays=arrays)
    _save(tmp_path / "embedder")
    router = create_router("mf", checkpoint_path=tmp_path)
    assert isinstance(router, MatrixFactorizationRouter)
    x = _embedder().embed("hello")
    assert router.win_rate("hello") == router.win_rate_from_embedding(x)


def test_a_product_of_zero_is_looked_at_again() -> None:
    embedder = _embedder()
    zeros = np.zeros((5, DIMENSIONS + len(SIGNALS)), np.float32)
    router = _router(embedder, projection=zeros)
    np.testing.assert_array_equal(router.win_rates(PROMPTS), np.full(len(PROMPTS), 0.5))
    assert router.win_rate("hello") == 0.5


def test_the_controller_routes_by_one_call() -> None:
    router = _router(_embedder())
    controller = Controller([router], strong_model="strong", weak_model="weak")
    for prompt in PROMPTS:
        decision = controller.decide(prompt, "mf", 0.5)
        assert decision.win_rate == router.win_rate(prompt)
        assert controller.route(prompt, "mf", 0.5) == decision.model


def test_eight_threads_at_once() -> None:
    router = _router(_embedder())
    wanted = router.win_rates(PROMPTS * 8)
    eight_threads.check(
        lambda n: (
            np.array([router.win_rate(p) for p in PROMPTS * 8])
            if n % 2
            else router.win_rates(PROMPTS * 8)
        ),
        wanted,
        rounds=6,
    )
