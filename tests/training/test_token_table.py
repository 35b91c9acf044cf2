"""Distillation of the static table against a float64 reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastroute.errors import InvalidInputError
from fastroute.training.static import token_table
from fastroute.training.static.distillation import Distillation
from fastroute.training.static.encoder import load_encoder
from training_data import TABLE, WORDS, D, tokenizer, write_encoder


def test_a_token_is_encoded_alone_between_the_special_tokens(tmp_path: Path) -> None:
    encode = load_encoder(write_encoder(tmp_path))
    vectors = token_table.token_vectors(encode, tokenizer())
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, (TABLE[2] + TABLE + TABLE[3]) / 3, atol=1e-6)


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    X = TABLE.astype(np.float64)
    _, _, axes = np.linalg.svd(X, full_matrices=False)
    got = token_table.principal_components(TABLE, 5)
    wanted = X @ axes[:5].T
    signs = np.sign((got * wanted).sum(axis=0))
    np.testing.assert_allclose(got, wanted * signs, atol=1e-9)


def test_axes_do_not_depend_on_the_sign_that_a_solver_returns() -> None:
    # The axes can be recovered, because X has full rank: X @ axes = components.
    axes = np.linalg.lstsq(
        TABLE.astype(np.float64), token_table.principal_components(TABLE, D), rcond=None
    )[0]
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(D)] > 0).all()


def test_frequency_weights_are_zipfs_law_and_special_tokens_say_nothing() -> None:
    weights = token_table.frequency_weights(tokenizer(), 0.01)
    assert not weights[:5].any()  # the four special ones and [unused0]
    p = 1 / np.arange(1, len(WORDS) - 4)
    p /= p.sum()
    np.testing.assert_allclose(weights[5:], 0.01 / (0.01 + p), rtol=1e-12)
    with pytest.raises(InvalidInputError, match="frequency must be above 0, got 0"):
        token_table.frequency_weights(tokenizer(), 0)


def test_quantised_rows_are_within_half_a_step() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 7)) * np.logspace(-3, 3, 50)[:, None]
    rows[3] = 0.0
    weights = np.linspace(0, 1, 50)
    table, scales = token_table.quantise(rows, weights)
    assert (table.dtype, scales.dtype) == (np.int8, np.float32)
    assert np.abs(table.astype(int)).max() == 127
    half_step = np.abs(rows).max(axis=1) / 127 / 2 * weights
    error = np.abs(table * scales.astype(np.float64)[:, None] - rows * weights[:, None])
    assert (error <= half_step[:, None] * (1 + 1e-4) + 1e-12).all()


def test_embeddings_of_the_artifact_are_the_reference(tmp_path: Path) -> None:
    """From the encoder's own rows to an embedding, all in float64, but for the 8-bit rounding."""
    distillation = Distillation(write_encoder(tmp_path / "encoder"), frequency=0.02)
    with pytest.raises(InvalidInputError, match=r"dimensions is 256, where .* have 12"):
        distillation.save(tmp_path / "embedder", 256, "int8")
    assert json.loads(distillation.content)["truncation"] is None
    assert b"\n" not in distillation.content
    made = distillation.save(tmp_path / "embedder", D, "int8").without_length()
    rows = (TABLE[2] + TABLE + TABLE[3]).astype(np.float64) / 3
    weights = token_table.frequency_weights(tokenizer(), 0.02)
    texts = ["prove the integral of w3", "hello w7 w7 w20", "w1 w2 w3 w4 w5 unknown"]
    X = made.embed_batch(texts).astype(np.float64)
    wanted = []
    for text in texts:
        ids = [WORDS.index(w) for w in text.split() if w in WORDS]
        s = (rows[ids] * weights[ids, None]).sum(axis=0)
        wanted.append(s / np.linalg.norm(s))
    # All axes were kept, so the projection is a rotation: inner products stay.
    np.testing.assert_allclose(X @ X.T, np.array(wanted) @ np.array(wanted).T, atol=0.03)


def test_a_tokenizer_without_special_tokens(tmp_path: Path) -> None:
    encode = load_encoder(write_encoder(tmp_path))
    with pytest.raises(InvalidInputError, match="tokenizer adds 0 special tokens"):
        token_table.token_vectors(encode, tokenizer(special=False))


def test_an_encoder_that_returns_nan() -> None:
    with pytest.raises(InvalidInputError, match="vector of token 0 is not finite"):
        token_table.token_vectors(
            lambda ids: np.full((len(ids), 3), np.nan, dtype=np.float32), tokenizer()
        )


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_an_encoder_of_tokens_is_pooled_as_its_folder_says(pooling: str, tmp_path: Path) -> None:
    """The layout of sentence-transformers, with an input that some models want."""
    (tmp_path / "onnx").mkdir()
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["types", "axis2"], ["types3"]),
            helper.make_node("Add", ["looked_up", "types3"], ["last_hidden_state"]),
        ],
        "tokens",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "token_type_ids")
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "t", D])],
        [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array([2]), "axis2")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "onnx" / "model.onnx")
    with pytest.raises(InvalidInputError, match=r"1_Pooling/config\.json is missing"):
        load_encoder(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    mode = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}.get(pooling, pooling)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    got = load_encoder(tmp_path)(np.array([[2, 9, 3], [2, 11, 3]]))
    tokens = TABLE[np.array([[2, 9, 3], [2, 11, 3]])]
    wanted = {
        "mean": tokens.mean(axis=1),
        "cls": tokens[:, 0],
        "max": tokens.max(axis=1),
        "lasttoken": tokens[:, -1],
    }[pooling]
    wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_encoder_folders_that_are_not(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"has none of model_int8\.onnx, model\.onnx"):
        load_encoder(tmp_path)
    with pytest.raises(InvalidInputError, match="are needed; export it with those names"):
        load_encoder(write_encoder(tmp_path, output="other"))
    write_encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"tokenizer\.json' is not a tokenizer"):
        Distillation(tmp_path)
