"""Distillation of the static table against a float64 reference, and the command that does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from default_router.preferences import FILES, read_preferences
from default_router.router import make_embedder
from fastroute.artifacts import prompt_hash
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.routers import MatrixFactorizationRouter
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER
from fastroute.training.static import token_table
from fastroute.training.static.encoder import load_encoder
from make_default import main
from training_data import TABLE, WORDS, D, prompts, tokenizer, write_encoder, write_preferences

RECIPE = Path(__file__).parents[2] / "python" / "recipes" / "make_default.py"


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
    encoder = write_encoder(tmp_path / "encoder")
    with pytest.raises(InvalidInputError, match=r"dimensions is 256, where .* have 12"):
        make_embedder(encoder, tmp_path / "embedder")
    arrays, files = token_table.distil(
        load_encoder(encoder), tokenizer(), dimensions=D, frequency=0.02
    )
    assert json.loads(files["tokenizer.json"])["truncation"] is None
    assert b"\n" not in files["tokenizer.json"]
    made = StaticEmbedder(arrays["table"], arrays["scales"], tokenizer(), name="static:tiny")
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
        make_embedder(tmp_path, tmp_path / "out")


# The command


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's encoder has 12 dimensions where the default takes 256 of more."""
    monkeypatch.setattr(token_table.distil, "__kwdefaults__", {"dimensions": D, "frequency": 1.0})


@pytest.mark.usefixtures("small_table")
def test_the_command_writes_a_router_that_loads_the_same_bytes_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    preferences = write_preferences(tmp_path / "preferences")
    contents = []
    for run in ("one", "two"):
        out = tmp_path / run
        arguments = ["--encoder", str(encoder), "--preferences", str(preferences)]
        assert main([*arguments, "--output", str(out)]) == 0
        files = sorted(f for f in out.rglob("*") if f.is_file())
        contents.append({str(f.relative_to(out)): f.read_bytes() for f in files})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        *(f"embedder/{name}" for name in ("artifact.json", "arrays.safetensors", "tokenizer.json")),
        *(f"mf/{name}" for name in ("artifact.json", "arrays.safetensors")),
    }
    assert "wrote" in capsys.readouterr().out
    router = MatrixFactorizationRouter.load(
        out / "mf", embedder=StaticEmbedder.load(out / "embedder")
    )
    assert (router.strong_model, router.weak_model) == ("strong", "weak")
    # Prompts with "prove" were made harder.
    fresh = prompts(600, seed=77)
    rates = router.win_rates(fresh)
    harder = np.array(["prove" in prompt for prompt in fresh])
    assert rates[harder].mean() > rates[~harder].mean() + 0.02


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(RECIPE)),
            *("--encoder", str(tmp_path), "--preferences", str(tmp_path)),
            *("--output", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "difficulty_small_models.jsonl.gz can't be read" in done.stderr
    assert not (tmp_path / "out").exists()


def test_gold_labels_never_reach_the_bundled_router(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(
            [
                *("--encoder", str(tmp_path), "--gold", str(tmp_path)),
                *("--output", str(DEFAULT_FOLDER.parent)),
            ]
        )
    assert "--gold trains on MMLU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got neither"),
        (["--preferences", "p", "--gold", "g"], "got both"),
        (["--gold", "g", "--without", "zeroeval"], "--gold reads none"),
    ],
)
def test_preferences_or_gold_labels_are_trained_on(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--encoder", str(tmp_path), "--output", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("small_table")
def test_a_file_can_be_left_out_so_that_it_can_be_evaluated(tmp_path: Path) -> None:
    preferences = write_preferences(tmp_path / "preferences")
    arguments = ["--encoder", str(write_encoder(tmp_path / "encoder"))]
    arguments += ["--preferences", str(preferences), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--without", "zeroeval"]) == 0
    router = MatrixFactorizationRouter.load(tmp_path / "out" / "mf")
    seen = {
        row.file: prompt_hash(row.prompt) in router.provenance.trained_on
        for row in read_preferences(preferences)
    }
    assert not seen.pop("zeroeval.jsonl.gz")
    assert all(seen.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--without", "zero"],
            "--without 'zero' is not one of the files: difficulty_small_models,",
        ),
        (
            [f"--without={file.name.split('.')[0]}" for file in FILES],
            "--without leaves no file to train on",
        ),
        (["--without", "zeroeval", "--output", str(DEFAULT_FOLDER.parent)], "give another folder"),
    ],
)
def test_what_can_not_be_left_out(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--encoder", str(tmp_path), "--preferences", str(tmp_path)]
    with pytest.raises(SystemExit, match="2"):
        main([*common, "--output", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err
