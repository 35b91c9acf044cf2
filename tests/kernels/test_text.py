"""Text to vectors in the core, against Python's unicodedata and a dictionary of pieces."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import text_reference as reference
from fastroute import _native
from fastroute.embedders.vocabulary import CLASSES, FEATURES, Signal, Vocabulary, VocabularyReader
from fastroute.errors import InvalidInputError, InvalidTypeError

ROOT = Path(__file__).parents[2]
DIMENSIONS = 33

#: The tables are of one version of Unicode; elsewhere code points of other versions differ.
same_unicode = pytest.mark.skipif(
    unicodedata.unidata_version != _native.unicode_version,
    reason=f"unicodedata is not of Unicode {_native.unicode_version}",
)

# What is hard for a normaliser: marks of several classes, Hangul and Indic halves, characters that
# become several, white space of every kind, and what is dropped.
HARD = (
    "aAeEoOiIsS  \t\n\u00a0\u200b\u200d\u00ad\ufeff\u2581\ufffd\x00\x85"
    "\u0300\u0301\u0302\u0303\u0304\u0307\u0308\u0323\u0327\u0328\u0345\u05b0\u3099\u309a"
    "éÉệǰİıſßẞŉﬁﬃＡａ①½²㎏Å℃…\u00b4¨\u0344\u1fee"
    "\u1100\u1161\u11a8\u11c2각가힣ㄱㅏﾊﾞﾟカハ゛ガ"
    "\u09c7\u09be\u09d7\u0b47\u0b56\u0dd9\u0dcf\u0dca\u1b05\u1b35\U00011131\U00011127"
    "क़\u0915\u093cرَّﷺ豈漢字\u0f71\u0f72\u0fb5😀\U0001d11e\U0001d15e\ufe0f\U000e0101"
)
hard_text = st.text(st.sampled_from(HARD), max_size=40)
any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
ALPHABET = "ab é日\u0301 B.\n"


def normalize(text: str, lowercase: bool = False) -> str:
    return _native.normalize_text(text, lowercase)


def _vocabulary(pieces: list[str], **options: Any) -> Vocabulary:
    return Vocabulary.of(pieces, **options)


def _table(rows: int, dimensions: int = DIMENSIONS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    table = rng.integers(-127, 128, size=(rows, dimensions)).astype(np.int8)
    return table, rng.uniform(0.01, 0.1, rows).astype(np.float32)


def _reader(pieces: list[str], **options: Any) -> VocabularyReader:
    return _vocabulary(pieces, **options).reader(*_table(len(pieces)))


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece.replace("\u2581", " "): i for i, piece in enumerate(pieces)}


# Normalisation


@same_unicode
@pytest.mark.parametrize("lowercase", [False, True])
def test_every_code_point_alone_and_beside_marks(lowercase: bool) -> None:
    codes = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    # Most are alike: unassigned, private, ideographs.
    some = [c for i, c in enumerate(codes) if i % 53 == 0 or i < 0x3400 or 0xF900 <= i < 0x12000]
    for pattern in ("x{}x", "e{}\u0301x", "x{}\u0323\u0301", "x\u0301{}", "\u1100{}\u11a8"):
        text = "".join(pattern.format(c) for c in some)
        assert normalize(text, lowercase) == reference.normalize(text, lowercase=lowercase)
    text = "x".join(codes)
    assert normalize(text, lowercase) == reference.normalize(text, lowercase=lowercase)


@same_unicode
@settings(max_examples=400)
@given(hard_text, st.booleans())
def test_hard_text(text: str, lowercase: bool) -> None:
    assert normalize(text, lowercase) == reference.normalize(text, lowercase=lowercase)


@same_unicode
@settings(max_examples=100)
@given(any_text, st.booleans())
def test_any_text(text: str, lowercase: bool) -> None:
    assert normalize(text, lowercase) == reference.normalize(text, lowercase=lowercase)


@same_unicode
@settings(max_examples=50)
@given(st.lists(st.sampled_from(HARD), min_size=1, max_size=30), st.integers(3000, 5000))
def test_hard_text_across_the_end_of_a_buffer(parts: list[str], length: int) -> None:
    text = ("x" * length + "".join(parts)) * 3
    assert normalize(text) == reference.normalize(text)


@pytest.mark.parametrize("marks", [31, 32, 33, 63, 64, 65, 1000])
def test_long_runs_of_marks_are_composed_in_groups(marks: int) -> None:
    for run in ("\u0301" * marks, "\u0323\u0301" * marks, "\u0301\u0323" * marks):
        for text in (f"e{run}x", run, f" {run}", f"ê{run}{run}"):
            assert normalize(text) == reference.normalize(text, exact=False)


def test_white_space_is_one_space_and_none_at_the_ends() -> None:
    assert normalize(" \t\n a \u3000\u00a0\u200b b\u2581c \r\n") == " a b c"
    assert normalize("") == normalize(" \n\u2028 ") == normalize("\x00\u200d\ufe0f") == ""


# Pieces


@settings(max_examples=300)
@given(
    st.sets(st.text(st.sampled_from(ALPHABET.replace("\n", "")), min_size=1, max_size=5)),
    st.text(st.sampled_from(ALPHABET), max_size=60),
    st.booleans(),
)
def test_longest_pieces_from_left_to_right(pieces: set[str], text: str, has_unknown: bool) -> None:
    listed = ["", *sorted(pieces)]
    reader = _reader(listed, unknown_row=0 if has_unknown else None)
    rows, _ = reference.longest_pieces(
        reference.normalize(text), _numbered(listed), 0 if has_unknown else None
    )
    ids = reader.token_ids(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == rows


@settings(max_examples=30)
@given(
    st.sets(st.text(st.sampled_from("ab é日"), min_size=1, max_size=9), max_size=40),
    st.integers(0, 2**32 - 1),
)
def test_pieces_across_the_ends_of_buffers(pieces: set[str], seed: int) -> None:
    listed = sorted(pieces)
    rng = np.random.default_rng(seed)
    text = "".join(rng.choice(list("ab é日e\u0301"), size=int(rng.integers(3000, 13000))))
    rows, _ = reference.longest_pieces(reference.normalize(text), _numbered(listed))
    assert _reader(listed).token_ids(text).tolist() == rows


def test_a_large_vocabulary() -> None:
    rng = np.random.default_rng(8)
    pieces = sorted(
        {
            "".join(rng.choice(list("abcdefgh éü日本語 "), size=int(rng.integers(1, 9))))
            for _ in range(30_000)
        }
    )
    text = "".join(rng.choice(list("abcdefgh éü日本語 "), size=20_000))
    rows, _ = reference.longest_pieces(reference.normalize(text), _numbered(pieces))
    shuffled = list(rng.permutation(len(pieces)))
    assert _reader(pieces).token_ids(text).tolist() == rows
    mixed = _reader([pieces[i] for i in shuffled])  # rows in any order
    assert [shuffled[row] for row in mixed.token_ids(text)] == rows


def test_pieces_may_be_long_and_none_may_be_there() -> None:
    long = "a" * 255
    assert _reader([long, "a"]).token_ids("a" * 600).tolist() == [0, 0, *[1] * 90]
    assert _reader([]).token_ids("anything").tolist() == []


def test_sentencepiece_writes_its_space_as_a_block() -> None:
    assert _reader(["\u2581the", "re"]).token_ids("the there").tolist() == [0, 0, 1]


# Vectors and features

PIECES = ["<unk>", " a", "b", " é", "日", " B", ".", " ", "abab", "e"]
SIGNALS = tuple(Signal(name, "one", 0.25) for name in FEATURES)
TEXTS = [
    "a b. éb日 Bab",
    "",
    "   \n\t ",
    "nothing known here? \x00",
    "😀",
    "a\nb\nab abab 日日日",
    "a" * 5000 + " é日" * 3000,
    "\u202eright\u202c \ufeff \uff42\uff41 é",
    *(f"ab{'日' * i}.{' a' * (i % 7)}" for i in range(150)),
]


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("dimensions", [1, 7, 16, 33, 64, 100, 256])
def test_vectors_are_the_formula(dimensions: int) -> None:
    table, scales = _table(len(PIECES), dimensions)
    units = np.linspace(0.0, 2.0, len(CLASSES))
    reader = _vocabulary(PIECES, class_units=units, signals=SIGNALS).reader(table, scales)
    for text in TEXTS[:12]:
        rows, unknown = reference.longest_pieces(reference.normalize(text), _numbered(PIECES))
        wanted = reference.embedding(table, scales, rows)
        got = reader.embed(text)
        assert (got.dtype, got.shape) == (np.float32, (dimensions + len(SIGNALS),))
        np.testing.assert_allclose(got[:dimensions], wanted, atol=3e-5)
        features = reference.features(text, list(units), len(rows), unknown)
        expected = [0.25 * features[name] if wanted.any() else 0.0 for name in FEATURES]
        np.testing.assert_allclose(got[dimensions:], expected, rtol=1e-6)
        np.testing.assert_allclose(reader.features(text), list(features.values()), rtol=1e-12)
        assert reader.class_counts(text).tolist() == reference.class_counts(text)


@same_unicode
def test_every_code_point_has_its_class() -> None:
    reader = _reader(PIECES)
    assert CLASSES == reference.CLASSES
    members: dict[str, list[str]] = {name: [] for name in CLASSES}
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            members[reference.class_of(chr(code))].append(chr(code))
    for index, name in enumerate(CLASSES):
        wanted = np.zeros(len(CLASSES))
        wanted[index] = len(members[name])
        np.testing.assert_array_equal(reader.class_counts("".join(members[name])), wanted)


@given(hard_text)
def test_features_of_hard_text(text: str) -> None:
    reader = _reader(PIECES)
    rows, unknown = reference.longest_pieces(reference.normalize(text), _numbered(PIECES))
    wanted = reference.features(text, [1.0] * len(CLASSES), len(rows), unknown)
    assert tuple(wanted) == FEATURES
    np.testing.assert_allclose(reader.features(text), list(wanted.values()), rtol=1e-12)


def test_a_signal_may_be_a_product() -> None:
    reader = _reader(PIECES, signals=(Signal("length", "share:han", 3.0),))
    features = dict(zip(FEATURES, reader.features("a日日"), strict=True))
    wanted = 3.0 * features["length"] * features["share:han"]
    assert reader.embed("a日日")[-1] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.usefixtures("simd_level")
@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_a_batch_is_bitwise_its_texts(num_threads: int) -> None:
    table, scales = _table(len(PIECES))
    pair = np.random.default_rng(2).normal(size=DIMENSIONS + len(SIGNALS)).astype(np.float32)
    reader = _vocabulary(PIECES, signals=SIGNALS).reader(table, scales)
    core, scorer = reader._core, reader.scorer(pair)
    X = core.embed_batch(TEXTS, num_threads)
    rates = scorer.win_rates(TEXTS, num_threads)
    for text, row, rate in zip(TEXTS, X, rates, strict=True):
        np.testing.assert_array_equal(row, reader.embed(text))
        np.testing.assert_equal(rate, scorer.win_rate(text))
        if row.any():
            assert rate == _native.pair_win_rate(pair, row)
        else:
            assert np.isnan(rate)


@pytest.mark.parametrize("storage", [np.float16, np.float32])
def test_tables_of_floats(storage: type[np.floating[Any]]) -> None:
    table, scales = _table(len(PIECES))
    exact = _vocabulary(PIECES).reader(table, scales).embed_batch(TEXTS)
    floats = (table / 128.0).astype(storage)  # which both can hold
    reader = _vocabulary(PIECES).reader(floats, scales)
    np.testing.assert_allclose(reader.embed_batch(TEXTS), exact, atol=1e-6)


def test_sums_that_overflow_have_no_embedding() -> None:
    table = np.full((1, 4), 3e38, dtype=np.float32)
    reader = _vocabulary([" a"]).reader(table, np.full(1, 2.0, np.float32))
    with pytest.raises(InvalidInputError, match="prompt can't be embedded: the sum of the pieces'"):
        reader.embed("a")
    with pytest.raises(InvalidInputError, match="prompts can't be embedded"):
        reader.embed_batch(["b", "a"])
    assert np.isnan(reader.scorer(np.ones(4, np.float32)).win_rate("a"))


# What is not text


@pytest.mark.parametrize("prompt", ["\ud800", "half a pair \udc00 here"])
def test_lone_surrogates_are_not_text(prompt: str) -> None:
    reader = _reader(PIECES)
    for read in (reader.embed, reader.token_ids, reader.features, reader.class_counts):
        with pytest.raises(InvalidInputError, match="prompt holds a lone surrogate at position"):
            read(prompt)
    with pytest.raises(InvalidInputError, match=r"prompts\[1\] holds a lone surrogate"):
        reader.embed_batch(["hello", prompt])


@pytest.mark.parametrize("bad", [None, 3, b"bytes", ["a"]])
def test_what_is_not_a_string(bad: Any) -> None:
    reader = _reader(PIECES)
    for read in (reader.embed, reader.token_ids, reader.features, reader.class_counts):
        with pytest.raises(InvalidTypeError, match="prompt must be a str"):
            read(bad)
    with pytest.raises(InvalidTypeError, match=r"prompts\[0\] must be a str"):
        reader.embed_batch([bad])
    with pytest.raises(TypeError):
        reader.scorer(np.ones(DIMENSIONS, np.float32)).win_rates([bad], 1)


# Long texts


def _seconds(reader: VocabularyReader, text: str) -> float:
    """Processor time, so that what else runs does not count."""
    taken = []
    for _ in range(3):
        begin = time.thread_time()
        reader.embed(text)
        taken.append(time.thread_time() - begin)
    return min(taken)


@pytest.mark.parametrize("part", ["ab a", "日é ", "\u0301\u0323", "ﷺ", "  \n", "\u11a8"])
def test_time_grows_with_the_length(part: str) -> None:
    reader = _reader(PIECES)
    one = part * (250_000 // len(part))
    assert _seconds(reader, one * 8) < 8 * 4 * max(_seconds(reader, one), 1e-3)


def test_a_long_text_leaves_the_interpreter_to_other_threads() -> None:
    reader, turns, done = _reader(PIECES), 0, threading.Event()

    def read() -> None:
        reader.embed("ab a" * 8_000_000)
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    while not done.wait(0.001):
        turns += 1
    thread.join()
    assert turns > 20


INTERRUPTED = """
import _thread, sys, threading, time
import numpy as np
from fastroute.embedders.vocabulary import Vocabulary

pieces = [" a", "b", "a"]
reader = Vocabulary.of(pieces).reader(np.ones((3, 64), np.int8), np.ones(3, np.float32))
scorer = reader.scorer(np.ones(64, np.float32))
text = "ab a" * {length}
text.encode()
threading.Timer(0.05, _thread.interrupt_main).start()
begin = time.perf_counter()
try:
    {call}
except KeyboardInterrupt:
    print(time.perf_counter() - begin)
"""


@pytest.mark.parametrize(
    ("call", "length"),
    [
        ("reader.embed(text)", 40_000_000),
        ("reader.token_ids(text)", 40_000_000),
        ("scorer.win_rate(text)", 40_000_000),
        ("scorer.win_rates([text, text], 1)", 40_000_000),
        ("reader.embed_batch([text] * 400)", 100_000),
        ("scorer.win_rates([text] * 400, 2)", 100_000),
    ],
)
def test_ctrl_c_ends_a_long_text(call: str, length: int) -> None:
    code = INTERRUPTED.format(call=call, length=length)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.03 < float(done.stdout) < 1.0  # the whole takes longer, on two processors too


# Vocabularies that can't be used


def _with_pieces(pieces: bytes, offsets: list[int], **options: Any) -> Vocabulary:
    return Vocabulary(
        np.frombuffer(pieces, np.uint8), np.array(offsets, dtype=np.uint32), **options
    )


@pytest.mark.parametrize(
    ("pieces", "offsets", "message"),
    [
        (b"ab", [], "piece_offsets must rise from 0 to len"),
        (b"ab", [0, 1], "piece_offsets must rise from 0 to len"),
        (b"ab", [1, 2], "piece_offsets must rise from 0 to len"),
        (b"ab", [0, 2, 1, 2], "piece_offsets must rise from 0 to len"),
        (b"a\xff", [0, 2], "pieces is not UTF-8 at byte 1"),
        ("é".encode(), [0, 1, 2], "piece_offsets has an offset inside a code point"),
    ],
)
def test_pieces_that_are_none(pieces: bytes, offsets: list[int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _with_pieces(pieces, offsets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unknown_row": 2}, "unknown_row must be None or a row from 0 to 1"),
        ({"unknown_row": -1}, "unknown_row must be None or a row from 0 to 1"),
        ({"unknown_row": "0"}, "unknown_row must be None or a row from 0 to 1"),
        ({"lowercase": 1}, "lowercase must be a bool"),
        ({"class_units": np.ones(3)}, "class_units must be 20 numbers"),
        ({"class_units": np.full(20, np.nan)}, "class_units must be 20 numbers"),
        ({"class_units": [1.0] * 20}, "class_units must be a NumPy array"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _with_pieces(b"ab", [0, 1, 2], **options)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (["a", "b", "a"], "a piece stands twice"),
        (["a" * 256], "a piece is longer than 255 bytes"),
    ],
)
def test_pieces_that_no_trie_holds(pieces: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"the vocabulary can't be used: {message}"):
        _reader(pieces)


def test_a_table_of_another_length_and_an_unknown_feature() -> None:
    with pytest.raises(InvalidInputError, match="table has 3 rows where the vocabulary has 2"):
        _vocabulary(["a", "b"]).reader(*_table(3))
    with pytest.raises(InvalidInputError, match="signals has 'depth', which is not a feature; the"):
        _reader(["a"], signals=(Signal("depth", "one", 1.0),))


# The tables


@same_unicode
def test_the_tables_are_what_the_script_writes(tmp_path: Path) -> None:
    folder = ROOT / "csrc" / "text"
    script = tmp_path / "generate_unicode_tables.py"
    script.write_text((folder / script.name).read_text("utf-8"), "utf-8")
    subprocess.run([sys.executable, str(script)], check=True)
    made = (tmp_path / "unicode_tables.inc").read_text("utf-8")
    assert made == (folder / "unicode_tables.inc").read_text("utf-8")
