"""Tables of several sizes from one encoder: what is saved, what is measured, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.data import GradedResult, read_training_data
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.training.dataset_folds import HeldOut
from fastroute.training.static import token_table
from fastroute.training.static.distillation import Distillation
from training_data import FILES, WORDS, D, prompts, tokenizer, write_encoder, write_jsonl


def graded(per_file: int = 180) -> list[GradedResult]:
    """Prompts that only the strong model answers where "prove" is in them."""
    rows = []
    for number, file in enumerate(FILES):
        for prompt in prompts(per_file, seed=number):
            hard = "prove" in prompt or "integral" in prompt
            scores = {"strong": 1.0} | {f"weak {i}": float(not hard) for i in range(3)}
            rows.append(GradedResult(file, "set", prompt, scores))
    return rows


def write_graded(folder: Path) -> Path:
    for file in FILES:
        rows = [row for row in graded() if row.file == file]
        write_jsonl(
            folder / file,
            [{"dataset": r.dataset, "prompt": r.prompt, "scores": r.scores} for r in rows],
        )
    return folder


def test_each_storage_gives_about_the_same_vectors(tmp_path: Path) -> None:
    distillation = Distillation(write_encoder(tmp_path / "encoder"), frequency=0.02)
    texts = ["prove the integral of w3", "hello w7 w7 w20", "w1 w2 w3 w4 w5 unknown"]
    exact = distillation.save(tmp_path / "float32", D, "float32").embed_batch(texts)
    for storage, error in (("float16", 1e-3), ("int8", 2e-2)):
        made = distillation.save(tmp_path / storage, D, storage)
        np.testing.assert_allclose(made.embed_batch(texts), exact, atol=error)
        assert made.name.startswith(f"static:encoder-12-{storage}:")
        assert made.signals == 1
    sizes = [(tmp_path / s / "arrays.safetensors").stat().st_size for s in
             ("int8", "float16", "float32")]  # fmt: skip
    assert sizes[1] - sizes[0] == pytest.approx(len(WORDS) * D, abs=16)
    assert sizes[2] - sizes[1] == pytest.approx(2 * len(WORDS) * D, abs=16)


def test_fidelity_is_that_of_the_definition(tmp_path: Path) -> None:
    distillation = Distillation(write_encoder(tmp_path / "encoder"), frequency=0.02)
    texts = prompts(40, seed=1)
    (few, all_of_them) = distillation.compare(
        tmp_path / "out", [(3, "float32"), (D, "float32")], prompts=texts, say=lambda _: None
    )
    assert few.cosine is not None
    assert few.cosine < all_of_them.cosine
    X = StaticEmbedder.load(all_of_them.folder).embed_batch(texts)[:, :D]
    own = distillation.encoded(texts)
    # By all axes the table is only turned, so the cosine can be taken without the axes.
    bag = np.array(
        [
            (distillation.vectors[e.ids] * distillation.weights[e.ids, None]).sum(axis=0)
            for e in distillation.tokenizer.encode_batch(texts, add_special_tokens=False)
        ]
    )
    bag /= np.linalg.norm(bag, axis=1, keepdims=True)
    assert all_of_them.cosine == pytest.approx(float(np.mean((bag * own).sum(axis=1))), abs=1e-5)
    pairs = [(i, j) for i in range(40) for j in range(i)]
    wanted = np.corrcoef([X[i] @ X[j] for i, j in pairs], [own[i] @ own[j] for i, j in pairs])
    assert all_of_them.similarity_correlation == pytest.approx(float(wanted[0, 1]), abs=1e-6)
    assert all_of_them.latency_us is not None
    assert all_of_them.latency_ratio is not None
    assert all_of_them.latency_us > 0
    assert all_of_them.latency_ratio > 1


def test_a_single_word_is_the_encoders_own(tmp_path: Path) -> None:
    distillation = Distillation(write_encoder(tmp_path / "encoder"))
    (figures,) = distillation.compare(
        tmp_path / "out", [(D, "float32")], prompts=WORDS[5:], say=lambda _: None
    )
    assert figures.cosine == pytest.approx(1.0, abs=1e-5)
    assert figures.folder == str(tmp_path / "out")


def test_counts_of_a_corpus_take_the_place_of_zipfs_law() -> None:
    texts = ["hello hello w3", "the w3 nothing"]
    counts = token_table.TokenCounts(tokenizer()).fit_partial(texts).counts
    parts = [token_table.TokenCounts(tokenizer()).fit_partial([text]) for text in texts]
    for both in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        assert np.array_equal(both.counts, counts)
    assert counts[WORDS.index("hello")] == 2
    assert counts[WORDS.index("w3")] == 2
    assert counts[WORDS.index("the")] == 1
    weights = token_table.frequency_weights(tokenizer(), 0.01, counts)
    p = (counts[5:] + 1) / (counts[5:] + 1).sum()
    np.testing.assert_allclose(weights[5:], 0.01 / (0.01 + p), rtol=1e-12)
    assert not weights[:5].any()


def test_held_out_scores_come_from_other_datasets() -> None:
    rows = graded()
    held_out = HeldOut(rows)
    assert len(np.unique(held_out.folds)) == 4
    for group in set(held_out.groups):
        assert len(set(held_out.folds[held_out.groups == group])) == 1
    # A column that tells a dataset's labels by heart, with another sign in each dataset, is of no
    # use on the next.
    signs = np.where(held_out.groups % 2 == 0, 1.0, -1.0)
    cheat = np.column_stack([np.ones(len(rows)), signs * held_out.targets]).astype(np.float32)
    honest = np.column_stack([np.ones(len(rows)), held_out.targets]).astype(np.float32)
    assert held_out.apgr(held_out.scores(honest)) > 0.75
    assert held_out.apgr(held_out.scores(cheat)) < 0.6
    with pytest.raises(InvalidInputError, match="1 datasets, of which 1 can be scored"):
        HeldOut([row for row in rows if row.file == FILES[0]])


def test_the_command_sets_sizes_side_by_side(tmp_path: Path) -> None:
    encoder, data = write_encoder(tmp_path / "encoder"), write_graded(tmp_path / "data")
    common = ["train", "static", "--encoder", encoder, "--output", tmp_path / "out"]
    ran = fastroute(
        *common, "--dimensions", "4,12", "--storage", "int8,float16", "--data", data, "--json"
    )
    assert ran.status == 0, ran.err
    figures = ran.json
    assert [(one["dimensions"], one["storage"]) for one in figures] == [
        (4, "int8"),
        (4, "float16"),
        (12, "int8"),
        (12, "float16"),
    ]
    for one in figures:
        assert Path(one["folder"]) == tmp_path / "out" / f"{one['dimensions']}-{one['storage']}"
        assert StaticEmbedder.load(one["folder"]).dimensions == one["dimensions"] + 1
        held_out = HeldOut(read_training_data([data]).graded)
        X = StaticEmbedder.load(one["folder"]).embed_batch([row.prompt for row in held_out.rows])
        assert one["apgr"] == pytest.approx(held_out.apgr(held_out.scores(X, signals=1)), abs=1e-9)
        assert one["cosine"] is not None
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("hello hello w3\n")
    again = (*common, "--dimensions", "12", "--corpus", corpus)
    assert "is not empty; name another folder, or pass overwrite" in refused(*again)
    ran = fastroute(*again, "--overwrite")
    assert ran.status == 0, ran.err
    assert "| 12 | int8 |" in ran.out
    assert StaticEmbedder.load(tmp_path / "out").dimensions == D + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dimensions", "0"], "--dimensions must be distinct numbers from 1"),
        (["--dimensions", "4,4"], "--dimensions must be distinct numbers from 1"),
        (["--dimensions", "x"], "--dimensions must be distinct numbers from 1"),
        (["--dimensions", "400"], "dimensions is 400, where the encoder's vectors have 12"),
        (["--storage", "int4"], "--storage must be any of int8, float16, float32"),
        (["--corpus", "nowhere.txt"], "nowhere.txt can't be read"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl can't be read"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    said = refused("train", "static", "--encoder", encoder, "--output", tmp_path / "o", *arguments)
    assert message in said
    assert not (tmp_path / "o").exists()


def test_what_is_compared_must_be_graded(tmp_path: Path) -> None:
    encoder, data = write_encoder(tmp_path / "encoder"), tmp_path / "data.jsonl"
    command = ["train", "static", "--encoder", encoder, "--output", tmp_path / "o", "--data", data]
    battle = json.dumps({"prompt": "p", "model_a": "x", "model_b": "y", "winner": "tie"})
    lone = json.dumps({"prompt": "q", "dataset": "d", "scores": {"x": 1}})
    for text, message in (
        (battle, "--data has battles only; scores of models are needed"),
        (f"{battle}\n{lone}", "data.jsonl, line 2: its dataset 'd' has scores of 1 model"),
    ):
        data.write_text(text)
        ran = fastroute(*command)
        assert (ran.status, ran.out) == (2, "")
        assert "left: 1 battles" in ran.err
        assert message in ran.err
    assert "1 battles can't be used here" in ran.err


def test_a_report_is_json(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    ran = fastroute(
        "train", "static", "--encoder", encoder, "--output", tmp_path / "o",
        "--dimensions", "4", "--json",
    )  # fmt: skip
    assert json.loads(ran.out)[0]["apgr"] is None
