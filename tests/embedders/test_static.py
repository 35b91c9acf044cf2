"""The static embedder over a tokenizer made here, against the formula; the bundled one if any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

import eight_threads
import reference
from fastroute.artifacts import save_artifact
from fastroute.embedders import static
from fastroute.embedders.cached import CachedEmbedder
from fastroute.embedders.static import DEFAULT_FOLDER, KIND, StaticEmbedder
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactTruncatedError,
    InvalidInputError,
    InvalidTypeError,
)

WORDS = ["[UNK]", "[CLS]", "[SEP]", "prove", "##s", "that", "prime", "the", "2", "+", "é", "hello"]
DIMENSIONS = 33

PROMPTS = [
    "prove that the primes",
    "hello",
    "",
    "   \n\t ",
    "2+2 hello é nothing known here",
    "HELLO hello",
    "emoji 🙂 and family 👨‍👩‍👧‍👦 and flag 🇩🇪",
    "a NUL \x00 inside",
    "\u202eright to left\u202c \ufeff \u2028",
    "prove " * 500,
]


def _tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


def _table(rows: int = len(WORDS)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    scales = rng.uniform(0.01, 0.1, rows).astype(np.float32)
    scales[0] = 0.0  # an unknown word says nothing
    return rng.integers(-127, 128, size=(rows, DIMENSIONS)).astype(np.int8), scales


def _embedder() -> StaticEmbedder:
    return StaticEmbedder(*_table(), _tokenizer(), name="tiny")


def _save(folder: Path, **changes: Any) -> Path:
    table, scales = _table()
    tokenizer = _tokenizer().to_str().encode()
    parts: dict[str, Any] = {
        "arrays": {"table": table, "scales": scales},
        "files": {"tokenizer.json": tokenizer},
        "config": {"name": "static:tiny"},
        "kind": KIND,
    }
    save_artifact(folder, **{**parts, **changes})
    return folder


@pytest.mark.usefixtures("simd_level")
def test_embeddings_are_the_formula() -> None:
    embedder, tokenizer = _embedder(), _tokenizer()
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        got = embedder.embed(prompt)
        assert (got.dtype, got.shape) == (np.float32, (DIMENSIONS,))
        np.testing.assert_allclose(got, reference.token_bag(*_table(), ids), atol=2e-5)


@pytest.mark.usefixtures("simd_level")
def test_a_batch_is_bitwise_its_prompts() -> None:
    embedder = _embedder()
    prompts = [f"{p} {'prime' * (i % 3)}" for i, p in enumerate(PROMPTS * 250)]  # some batches
    X = embedder.embed_batch(prompts)
    assert X.flags.c_contiguous
    assert (X.dtype, X.shape) == (np.float32, (len(prompts), DIMENSIONS))
    for i in [*range(40), 1022, 1023, 1024, 1025, 2047, 2048, 2049, len(prompts) - 1]:
        np.testing.assert_array_equal(X[i], embedder.embed(prompts[i]))


def test_special_tokens_are_not_added_and_unknown_words_say_nothing() -> None:
    embedder = _embedder()
    for silent in ("", "  ", "qqq", "qqq www"):
        assert not embedder.embed(silent).any()
    np.testing.assert_array_equal(embedder.embed("hello"), embedder.embed("qqq hello"))


def test_no_prompts() -> None:
    assert _embedder().embed_batch([]).shape == (0, DIMENSIONS)


def test_a_prompt_of_a_megabyte() -> None:
    embedder = _embedder()
    prompt = "hello prime " * 90_000
    assert len(prompt) > 1_000_000
    got = embedder.embed(prompt)
    np.testing.assert_allclose(got, embedder.embed("hello prime"), atol=5e-4)
    np.testing.assert_array_equal(embedder.embed_batch([prompt])[0], got)


@pytest.mark.parametrize("prompt", ["\ud800", "half a pair \udc00 here"])
def test_lone_surrogates_are_no_text(prompt: str) -> None:
    with pytest.raises(InvalidInputError, match="prompt holds a lone surrogate at position"):
        _embedder().embed(prompt)
    with pytest.raises(InvalidInputError, match=r"prompts\[1\] holds a lone surrogate"):
        _embedder().embed_batch(["hello", prompt])


def test_prompts_that_are_no_text() -> None:
    for bad in (None, 3, b"bytes", ["hello"]):
        with pytest.raises(InvalidTypeError, match="prompt must be a str"):
            _embedder().embed(bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidTypeError, match=r"prompts\[0\] must be a str"):
            _embedder().embed_batch([bad])  # type: ignore[list-item]
    with pytest.raises(InvalidTypeError, match="got one string"):
        _embedder().embed_batch("hello")


def test_eight_threads_at_once() -> None:
    embedder = _embedder()
    wanted = embedder.embed_batch(PROMPTS)
    eight_threads.check(
        lambda n: (
            np.stack([embedder.embed(p) for p in PROMPTS])
            if n % 2
            else embedder.embed_batch(PROMPTS)
        ),
        wanted,
    )


# Made from bad parts


def test_a_tokenizer_of_another_table() -> None:
    table, scales = _table(5)
    embedder = StaticEmbedder(table, scales, _tokenizer(), name="tiny")
    assert embedder.embed("prove").any()
    with pytest.raises(
        InvalidInputError, match=r"ids\[0\] is 11, which is not a row of a table of 5"
    ):
        embedder.embed("hello")
    with pytest.raises(InvalidInputError, match=r"ids\[1\] is 11, .*use the tokenizer"):
        embedder.embed_batch(["prove", "hello"])


def test_a_tokenizer_that_truncates_or_pads() -> None:
    for configure in (
        lambda t: t.enable_truncation(8),
        lambda t: t.enable_padding(),
    ):
        tokenizer = _tokenizer()
        configure(tokenizer)
        with pytest.raises(InvalidInputError, match="tokenizer must neither truncate nor pad"):
            StaticEmbedder(*_table(), tokenizer, name="tiny")


def test_bad_tables() -> None:
    table, scales = _table()
    cases: list[tuple[Any, Any, str]] = [
        (None, scales, "table must be a NumPy array of int8, got NoneType"),
        (table.astype(np.float64), scales, "table must have dtype int8, got float64"),
        (table.astype(np.float16) * np.float16(np.nan), scales, r"table\[0, 0\] is nan"),
        (np.asfortranarray(table), scales, "table must be C-contiguous"),
        (table[0], scales, "table must have 2 dimension"),
        (table, scales.astype(np.float64), "scales must have dtype float32"),
        (table, scales[:-1], "scales has length 11 where the vocabulary has 12"),
        (table, scales * np.float32(np.nan), r"scales\[0\] is nan"),
    ]
    for bad_table, bad_scales, message in cases:
        with pytest.raises(InvalidInputError, match=message):
            StaticEmbedder(bad_table, bad_scales, _tokenizer(), name="tiny")


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("storage", [np.float16, np.float32])
def test_a_table_of_floats_is_saved_loaded_and_embeds_by_the_same_formula(
    storage: type[np.floating[Any]], tmp_path: Path
) -> None:
    table, scales = _table()
    table = (table / 300.0).astype(storage)
    _save(tmp_path, arrays={"table": table, "scales": scales})
    embedder, tokenizer = StaticEmbedder.load(tmp_path), _tokenizer()
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        wanted = reference.token_bag(table, scales, ids)
        np.testing.assert_allclose(embedder.embed(prompt), wanted, atol=2e-5)
    np.testing.assert_array_equal(
        embedder.embed_batch(PROMPTS), np.stack([embedder.embed(p) for p in PROMPTS])
    )
    assert embedder.without_length().dimensions == DIMENSIONS


# Saved and loaded


def test_loading(tmp_path: Path) -> None:
    embedder = StaticEmbedder.load(_save(tmp_path))
    assert embedder.dimensions == DIMENSIONS
    assert embedder.name.startswith("static:tiny:")
    np.testing.assert_array_equal(embedder.embed_batch(PROMPTS), _embedder().embed_batch(PROMPTS))


def test_a_saved_tokenizer_that_truncates_does_not_truncate_when_loaded(tmp_path: Path) -> None:
    tokenizer = _tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=16)
    folder = _save(tmp_path, files={"tokenizer.json": tokenizer.to_str().encode()})
    embedder = StaticEmbedder.load(folder)
    np.testing.assert_array_equal(embedder.embed_batch(PROMPTS), _embedder().embed_batch(PROMPTS))


def test_another_content_is_another_name(tmp_path: Path) -> None:
    table, scales = _table()
    one = StaticEmbedder.load(_save(tmp_path / "one"))
    arrays = {"table": table, "scales": scales * np.float32(2)}
    two = StaticEmbedder.load(_save(tmp_path / "two", arrays=arrays))
    assert one.name != two.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {}}, "lacks 'tokenizer.json'"),
        ({"arrays": {"table": _table()[0]}}, "lacks 'scales'"),
        ({"config": {}}, "lacks 'name'"),
        ({"files": {"tokenizer.json": b"{"}}, "tokenizer.json' is not a tokenizer"),
        ({"files": {"tokenizer.json": b"\xff"}}, "tokenizer.json' is not a tokenizer"),
        ({"kind": "mf"}, "holds a 'mf' artifact where 'static_embedder' is needed"),
        (
            {"arrays": dict(zip(("table", "scales"), _table(5), strict=True))},
            "has a tokenizer of 12 tokens, numbered from 0 to 11, and a table of 5",
        ),
    ],
)
def test_artifacts_with_something_missing(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        StaticEmbedder.load(_save(tmp_path, **changes))


def test_damaged_artifacts(tmp_path: Path) -> None:
    file = _save(tmp_path) / "tokenizer.json"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(ArtifactTruncatedError, match=r"tokenizer\.json"):
        StaticEmbedder.load(tmp_path)
    file.write_bytes(content.replace(b"prime", b"crime"))
    with pytest.raises(ArtifactChecksumError, match=r"tokenizer\.json was altered"):
        StaticEmbedder.load(tmp_path)
    with pytest.raises(ArtifactNotFoundError):
        StaticEmbedder.load(tmp_path / "nowhere")


def test_the_length_is_an_element_of_its_own(tmp_path: Path) -> None:
    _save(tmp_path, config={"name": "static:tiny", "length_scale": 0.5})
    plain, with_length = _embedder(), StaticEmbedder.load(tmp_path)
    assert (plain.signals, with_length.signals) == (0, 1)
    assert with_length.dimensions == plain.dimensions + 1
    X = with_length.embed_batch(PROMPTS)
    np.testing.assert_array_equal(X[:, :-1], plain.embed_batch(PROMPTS))
    for prompt, row in zip(PROMPTS, X, strict=True):
        tokens = len(_tokenizer().encode(prompt, add_special_tokens=False).ids)
        assert row[-1] == pytest.approx(0.5 * np.log1p(tokens) if row[:-1].any() else 0.0)
        np.testing.assert_array_equal(with_length.embed(prompt), row)
    assert CachedEmbedder(with_length).signals == 1


@pytest.mark.parametrize("length_scale", [-1.0, float("nan"), "0.5"])
def test_a_length_scale_that_is_no_unit_is_named(length_scale: Any) -> None:
    with pytest.raises(InvalidInputError, match="length_scale must be a number"):
        StaticEmbedder(*_table(), _tokenizer(), name="tiny", length_scale=length_scale)


# The one that ships


@pytest.fixture(scope="module")
def default() -> StaticEmbedder:
    if not DEFAULT_FOLDER.is_dir():
        pytest.skip("no default artifact; python/recipes/make_default.py makes it")
    return StaticEmbedder.load_default()


def test_the_default_embeds(default: StaticEmbedder) -> None:
    X = default.embed_batch(PROMPTS)
    assert X.shape == (len(PROMPTS), default.dimensions)
    meaning = X[:, : X.shape[1] - default.signals].astype(np.float64)
    norms = np.linalg.norm(meaning, axis=1)
    assert all(abs(n - 1) < 1e-5 or n == 0 for n in norms)
    assert not X[2].any()
    for prompt, row in zip(PROMPTS, X, strict=True):
        np.testing.assert_array_equal(default.embed(prompt), row)


def test_the_default_knows_what_is_alike(default: StaticEmbedder) -> None:
    a, b, c = default.embed_batch(
        [
            "Solve the quadratic equation x^2 - 3x + 2 = 0.",
            "Find the roots of the polynomial x^2 - 5x + 6.",
            "Write a love letter to my wife in Italian.",
        ]
    )
    assert a @ b > a @ c + 0.2


def test_the_default_is_small_and_holds_no_code(default: StaticEmbedder) -> None:
    assert default.dimensions > 0
    files = [f for f in DEFAULT_FOLDER.parent.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 12 * 1024 * 1024
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".md", ".txt"}
    for manifest in DEFAULT_FOLDER.parent.rglob("artifact.json"):
        assert json.loads(manifest.read_text("utf-8"))["format"] == "fastroute-artifact"


def test_a_long_prompt_is_read_in_pieces_with_the_same_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = ["hello", "wor", " ", "\n", "!", "=", "\u0338", "\u0301", "漢", "[UNK]", "[", "]"]
    parts += ["é", "😀", "\0", "\u200b", "\u00a0", "한", "İ", "_", "\\", "'s", "ﬁ", "-", "1"]
    trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]"], show_progress=False)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator([*parts, "hello world"], trainer)
    embedder = StaticEmbedder(*_table(tokenizer.get_vocab_size()), tokenizer, name="tiny")
    assert static._safe_split(tokenizer) is not None
    rng = np.random.default_rng(3)
    prompts = ["".join(rng.choice(parts, 40)) for _ in range(200)]
    ids, X = [embedder.token_ids(p) for p in prompts], embedder.embed_batch(prompts)
    for chars in (1, 7):
        monkeypatch.setattr(static, "_CHARS_PER_PIECE", chars)
        for prompt, wanted in zip(prompts, ids, strict=True):
            np.testing.assert_array_equal(embedder.token_ids(prompt), wanted)
        np.testing.assert_array_equal(embedder.embed_batch(prompts), X)
