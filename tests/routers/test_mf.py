"""The mf router: RouteLLM's checkpoint layout, fastroute's own, and what is wrong with either."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import reference
import tiny_classifier
from cli_runner import fastroute
from fastroute.artifacts import save_artifact
from fastroute.embedders import OnnxEmbedder
from fastroute.embedders.base import Embedder
from fastroute.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    InvalidInputError,
    InvalidTypeError,
)
from fastroute.routers import (
    CascadeRouter,
    LengthRouter,
    MatrixFactorizationRouter,
    create_router,
    save_cascade,
)
from fastroute.routers.routellm_checkpoint import MODELS

STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
CONFIG = {"dim": 128, "num_models": 64, "text_dim": 1536, "num_classes": 1, "use_proj": True}


def _tensors(d: int = 1536, models: int = 64, k: int = 128) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        "P.weight": rng.normal(size=(models, k)).astype(np.float32),
        "text_proj.0.weight": (rng.normal(size=(k, d)) / np.sqrt(d)).astype(np.float32),
        "classifier.0.weight": rng.normal(size=(1, k)).astype(np.float32),
    }


def _write(folder: Path, tensors: dict[str, np.ndarray], config: Any = CONFIG) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def _prompts(n: int, d: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, d)).astype(np.float32)


class FakeEmbedder(Embedder):
    """Vectors from the prompt's characters; an empty prompt has none."""

    name = "fake:characters"

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def embed(self, prompt: str) -> np.ndarray:
        x = np.zeros(self._dimensions, dtype=np.float32)
        for i, character in enumerate(prompt):
            x[(i * 31 + ord(character)) % self._dimensions] += 1.0
        return x

    def embed_batch(self, prompts: Any) -> np.ndarray:
        return np.stack([self.embed(prompt) for prompt in prompts])


# RouteLLM's layout


@pytest.mark.usefixtures("simd_level")
def test_routellms_checkpoint_as_it_is(tmp_path: Path) -> None:
    tensors = _tensors()
    router = MatrixFactorizationRouter.load(_write(tmp_path, tensors))
    assert (router.strong_model, router.weak_model) == (STRONG, WEAK)
    assert router.dimensions == 1536
    P, W, c = tensors["P.weight"], tensors["text_proj.0.weight"], tensors["classifier.0.weight"][0]
    X = _prompts(20, 1536)
    wanted = [reference.mf_win_rate(P, W, c, 24, 36, x) for x in X]
    # d = 1536 products of float32: 122 * 2^-24 * sum |products|, times the sigmoid's slope.
    np.testing.assert_allclose(router.win_rates_from_embeddings(X), wanted, atol=3e-6)
    assert [router.win_rate_from_embedding(x) for x in X] == list(
        router.win_rates_from_embeddings(X, num_threads=2)
    )


def test_the_64_models_of_the_checkpoint() -> None:
    assert len(MODELS) == len(set(MODELS)) == 64
    assert list(MODELS) == sorted(MODELS)
    assert (MODELS[0], MODELS[63]) == ("RWKV-4-Raven-14B", "zephyr-7b-beta")
    assert (MODELS.index(STRONG), MODELS.index(WEAK)) == (24, 36)


def test_any_pair_of_its_models(tmp_path: Path) -> None:
    tensors = _tensors()
    folder = _write(tmp_path, tensors)
    router = MatrixFactorizationRouter.load(folder, strong_model=MODELS[5], weak_model=MODELS[60])
    P, W, c = tensors["P.weight"], tensors["text_proj.0.weight"], tensors["classifier.0.weight"][0]
    x = _prompts(1, 1536)[0]
    wanted = reference.mf_win_rate(P, W, c, 5, 60, x)
    assert router.win_rate_from_embedding(x) == pytest.approx(wanted, abs=3e-6)
    deltas = router.deltas_from_embeddings(x[None], num_threads=2)
    assert deltas.shape == (1, 64)
    assert deltas[0, 5] == pytest.approx(reference.mf_delta(P, W, c, 5, x), abs=1e-5)


def test_no_projection(tmp_path: Path) -> None:
    tensors = _tensors(d=128)
    del tensors["text_proj.0.weight"]
    config = {**CONFIG, "use_proj": False, "text_dim": 128}
    router = MatrixFactorizationRouter.load(_write(tmp_path, tensors, config))
    assert router.dimensions == 128
    P, c = tensors["P.weight"], tensors["classifier.0.weight"][0]
    for x in _prompts(5, 128):
        wanted = reference.mf_win_rate(P, np.eye(128), c, 24, 36, x)
        assert router.win_rate_from_embedding(x) == pytest.approx(wanted, abs=1e-5)


def test_other_models_and_shapes_with_a_mapping(tmp_path: Path) -> None:
    tensors = _tensors(d=20, models=3, k=5)
    folder = _write(tmp_path, tensors, {"use_proj": True})
    router = MatrixFactorizationRouter.load(
        folder, models=["a", "b", "c"], strong_model="c", weak_model="a"
    )
    x = _prompts(1, 20)[0]
    P, W, c = tensors.values()
    assert router.win_rate_from_embedding(x) == pytest.approx(
        reference.mf_win_rate(P, W, c[0], 2, 0, x), abs=1e-6
    )
    with pytest.raises(InvalidInputError, match="models must name the 3 rows"):
        MatrixFactorizationRouter.load(folder)
    with pytest.raises(InvalidInputError, match="models must name the 3 rows"):
        MatrixFactorizationRouter.load(folder, models=["a", "a", "b"], strong_model="a")


@pytest.mark.parametrize("missing", ["P.weight", "text_proj.0.weight", "classifier.0.weight"])
def test_a_missing_tensor(tmp_path: Path, missing: str) -> None:
    tensors = _tensors(d=20, models=3, k=5)
    del tensors[missing]
    with pytest.raises(ArtifactError, match=f"has no tensor '{missing}', only"):
        MatrixFactorizationRouter.load(_write(tmp_path, tensors, {}))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("P.weight", lambda t: t[0]),
        ("P.weight", lambda t: t.astype(np.float16)),
        ("P.weight", lambda t: t.sum()),
        ("text_proj.0.weight", lambda t: t.astype(np.float64)),
        ("text_proj.0.weight", lambda t: t[:4]),
        ("text_proj.0.weight", lambda t: t[None]),
        ("classifier.0.weight", lambda t: t[0]),
        ("classifier.0.weight", lambda t: np.concatenate([t, t])),
        ("classifier.0.weight", lambda t: t[:, :4]),
        ("classifier.0.weight", lambda t: t.astype(np.int32)),
    ],
)
def test_an_odd_tensor(tmp_path: Path, name: str, change: Any) -> None:
    tensors = _tensors(d=20, models=3, k=5)
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    with pytest.raises(ArtifactError, match=rf"{name}.* (has|of) shape .* expected"):
        MatrixFactorizationRouter.load(_write(tmp_path, tensors, {}))


def test_a_config_that_does_not_fit_its_tensors(tmp_path: Path) -> None:
    tensors = _tensors(d=20, models=3, k=5)
    for key in ("dim", "num_models", "text_dim"):
        folder = _write(tmp_path, tensors, {key: 7})
        with pytest.raises(ArtifactError, match=r"has shape .*, expected .*7"):
            MatrixFactorizationRouter.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff"])
def test_a_broken_config(tmp_path: Path, text: str) -> None:
    folder = _write(tmp_path, _tensors(d=20, models=3, k=5))
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"config\.json (is not JSON|must hold a JSON object)"):
        MatrixFactorizationRouter.load(folder)


def test_a_missing_config(tmp_path: Path) -> None:
    folder = _write(tmp_path, _tensors(d=20, models=3, k=5))
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactNotFoundError, match=r"config\.json is missing"):
        MatrixFactorizationRouter.load(folder)
    (folder / "config.json").mkdir()
    with pytest.raises(ArtifactError, match=r"config\.json can't be read"):
        MatrixFactorizationRouter.load(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1, -40])
def test_truncated_tensors(tmp_path: Path, keep: int) -> None:
    folder = _write(tmp_path, _tensors(d=20, models=3, k=5))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"model\.safetensors is truncated or altered"):
        MatrixFactorizationRouter.load(folder)


def test_tensors_that_are_not_finite(tmp_path: Path) -> None:
    for name in ("P.weight", "text_proj.0.weight", "classifier.0.weight"):
        tensors = _tensors()
        tensors[name][0, 3] = np.nan
        with pytest.raises(InvalidInputError, match="is nan; every element must be finite"):
            MatrixFactorizationRouter.load(_write(tmp_path, tensors))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"artifact\.json is missing"):
        MatrixFactorizationRouter.load(tmp_path)
    with pytest.raises(ArtifactNotFoundError, match=r"there is no folder .*nowhere; give the path"):
        MatrixFactorizationRouter.load(tmp_path / "nowhere")


def test_unknown_models(tmp_path: Path) -> None:
    folder = _write(tmp_path, _tensors())
    message = r"strong_model is 'gpt-4-1106-previw', .*knows 64 models: gpt-4-1106-preview"
    with pytest.raises(InvalidInputError, match=message):
        MatrixFactorizationRouter.load(folder, strong_model="gpt-4-1106-previw")
    with pytest.raises(InvalidInputError, match="weak_model is 'x'"):
        MatrixFactorizationRouter.load(folder, weak_model="x")


def test_loading_builds_no_client_and_needs_no_key(tmp_path: Path) -> None:
    _write(tmp_path, _tensors())
    code = (
        "import sys, fastroute.routers as r;"
        f"router = r.MatrixFactorizationRouter.load({str(tmp_path)!r});"
        "assert router.embedder.dimensions == 1536, router.embedder;"
        "print([m for m in ('torch', 'faiss', 'onnxruntime', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# Our own artifacts


def _save(folder: Path, **changes: Any) -> Path:
    P, W, c = _tensors(d=20, models=3, k=5).values()
    config = {
        "models": ["a", "b", "c"],
        "strong_model": "a",
        "weak_model": "b",
        "embedder": "fake:characters",
    }
    arrays = {
        "P.weight": P,
        "text_proj.0.weight": W,
        "classifier.0.weight": c,
        "calibration_win_rates": np.linspace(0, 1, 1001, dtype=np.float32),
        "trained_on": np.arange(3, dtype=np.uint64),
    }
    for key, value in changes.items():
        target = config if key in config else arrays
        if value is None:
            del target[key.replace("__", ".")]
        else:
            target[key] = value
    save_artifact(folder, kind="mf", config=config, arrays=arrays)
    return folder


def test_an_artifact(tmp_path: Path) -> None:
    router = MatrixFactorizationRouter.load(_save(tmp_path), embedder=FakeEmbedder(20))
    P, W, c = _tensors(d=20, models=3, k=5).values()
    embedder = FakeEmbedder(20)
    prompts = ["hello there", "", "a", "prove it", ""]
    wanted = [
        reference.mf_win_rate(P, W, c[0], 0, 1, embedder.embed(p)) if p else 0.0 for p in prompts
    ]
    np.testing.assert_allclose(router.win_rates(prompts), wanted, atol=1e-6)
    assert [router.win_rate(p) for p in prompts] == list(router.win_rates(prompts))
    assert router.win_rates([]).shape == (0,)
    assert list(router.win_rates(["", ""])) == [0.0, 0.0]  # the least of the calibration
    assert router.provenance.calibration is not None
    assert router.provenance.calibration.shape == (1001,)
    assert router.provenance.trained_on is not None
    assert router.provenance.checksum is not None
    assert len(router.provenance.checksum) == 64


def test_quantiles_of_one_pair_are_not_passed_off_as_those_of_another(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    assert (
        MatrixFactorizationRouter.load(folder, strong_model="a").provenance.calibration is not None
    )
    for pair in ({"strong_model": "c"}, {"strong_model": "b", "weak_model": "a"}):
        router = MatrixFactorizationRouter.load(folder, **pair)
        assert router.provenance.calibration is None
        assert router.provenance.trained_on is not None


@pytest.mark.parametrize("missing", ["models", "strong_model", "embedder", "trained_on"])
def test_an_artifact_without_something(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ArtifactError, match=f"lacks '{missing}'"):
        MatrixFactorizationRouter.load(_save(tmp_path, **{missing: None}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("models", "abc", "models that are not a list of names"),
        ("models", [1, 2, 3], "models that are not a list of names"),
        ("models", {"a": 1, "b": 2, "c": 3}, "models that are not a list of names"),
        ("models", ["a", "a", "b"], "names a model twice"),
        ("models", ["a", "b"], "are needed"),
        ("strong_model", "z", "strong_model 'z', which is not one of its models"),
        ("weak_model", 3, "weak_model 3, which is not one of its models"),
        ("embedder", ["x"], "an embedder that is not a name"),
        ("classifier.0.weight", np.ones((5, 1), np.float32), "are needed"),
        ("classifier.0.weight", np.ones((2, 5), np.float32), "are needed"),
        ("classifier.0.weight", np.ones((1, 4), np.float32), "are needed"),
        ("classifier.0.weight", np.ones((1, 5), np.float64), "are needed"),
        ("P.weight", np.float32(1), "are needed"),
        ("P.weight", np.ones((3, 5), np.int8), "are needed"),
        ("P.weight", np.full((3, 5), np.nan, np.float32), r"NaN or infinity in P\.weight"),
        ("text_proj.0.weight", np.ones((4, 20), np.float32), "are needed"),
        ("text_proj.0.weight", np.ones(20, np.float32), "are needed"),
        (
            "calibration_win_rates",
            np.full(1001, np.nan, np.float32),
            "must be at least 2 rising float32",
        ),
        (
            "calibration_win_rates",
            np.linspace(1, 0, 9, dtype=np.float32),
            "must be at least 2 rising float32",
        ),
        (
            "calibration_win_rates",
            np.linspace(0, 2, 9, dtype=np.float32),
            "must be at least 2 rising float32",
        ),
        ("calibration_win_rates", np.linspace(0, 1, 9), "must be at least 2 rising float32"),
        (
            "calibration_win_rates",
            np.zeros((1, 1001), np.float32),
            "must be at least 2 rising float32",
        ),
        ("calibration_win_rates", np.float32(0.5), "must be at least 2 rising float32"),
        ("trained_on", np.arange(3), "trained_on must be uint64 hashes"),
        ("trained_on", np.zeros((1, 3), np.uint64), "trained_on must be uint64 hashes"),
    ],
)
def test_an_artifact_with_something_odd(tmp_path: Path, key: str, value: Any, message: str) -> None:
    _save(tmp_path, **{key: np.asarray(value) if isinstance(value, np.generic) else value})
    with pytest.raises(ArtifactError, match=f"{message}.*download or export it again"):
        MatrixFactorizationRouter.load(tmp_path)


def test_folders_that_are_no_paths() -> None:
    for bad in (None, 3, b"folder"):
        with pytest.raises(InvalidTypeError, match="folder must be a str or a path, got"):
            MatrixFactorizationRouter.load(bad)  # type: ignore[arg-type]
    for text in ("a\0b", "\ud800"):
        with pytest.raises(ArtifactError, match="has a character that no path can have"):
            MatrixFactorizationRouter.load(text)
    with pytest.raises(ArtifactError, match="can't be read: File name too long"):
        MatrixFactorizationRouter.load("x" * 5000)


def test_an_artifact_with_the_wrong_embedder(tmp_path: Path) -> None:
    other = FakeEmbedder(20)
    other.name = "other:characters"
    with pytest.raises(InvalidInputError, match=r"embedder is 'other:characters' where .*'fake:"):
        MatrixFactorizationRouter.load(_save(tmp_path), embedder=other)
    with pytest.raises(
        InvalidInputError, match=r"makes vectors of 19 dimensions where .* needs 20"
    ):
        MatrixFactorizationRouter.load(tmp_path, embedder=FakeEmbedder(19))
    with pytest.raises(InvalidInputError, match=r"models must be None"):
        MatrixFactorizationRouter.load(tmp_path, models=["x", "y", "z"])


def test_an_artifact_of_another_kind(tmp_path: Path) -> None:
    save_artifact(tmp_path, kind="static_embedder", config={}, arrays={})
    with pytest.raises(ArtifactError, match="holds a 'static_embedder' artifact where 'mf'"):
        MatrixFactorizationRouter.load(tmp_path)


# The class itself


def _router(**options: Any) -> MatrixFactorizationRouter:
    P, W, c = _tensors(d=20, models=3, k=5).values()
    return MatrixFactorizationRouter(
        ["a", "b", "c"], P, W, c[0], strong_model="a", weak_model="c", **options
    )


def test_text_without_an_embedder() -> None:
    with pytest.raises(InvalidInputError, match=r"mf router has no embedder.*pass embedder="):
        _router().win_rate("hello")
    with pytest.raises(InvalidInputError, match="mf router has no embedder"):
        _router().win_rates(["hello"])


def test_bad_embeddings() -> None:
    router = _router()
    X = _prompts(4, 20)
    assert router.win_rates_from_embeddings(X[:0]).shape == (0,)
    before = X.copy()
    router.win_rates_from_embeddings(X)
    np.testing.assert_array_equal(X, before)
    with pytest.raises(InvalidTypeError, match=r"X must have dtype float32, got float64; pass X\."):
        router.win_rates_from_embeddings(X.astype(np.float64))
    with pytest.raises(InvalidInputError, match="X has 19 columns where the router has 20"):
        router.win_rates_from_embeddings(np.ones((0, 19), np.float32))
    for num_threads in (0, -1, True, 2.0):
        for call in (router.win_rates_from_embeddings, router.deltas_from_embeddings):
            with pytest.raises(InvalidInputError, match="num_threads must be an int from 1"):
                call(X, num_threads=num_threads)


def test_factors_whose_product_overflows() -> None:
    P, W, c = _tensors(d=20, models=3, k=5).values()
    with pytest.raises(InvalidInputError, match="overflows float32; scale them down"):
        MatrixFactorizationRouter(
            ["a", "b", "c"], P, W * 1e20, c[0] * 1e20, strong_model="a", weak_model="b"
        )


def test_a_model_against_its_twin_is_a_coin() -> None:
    P, W, c = _tensors(d=20, models=3, k=5).values()
    P[2] = P[1]
    router = MatrixFactorizationRouter(
        ["a", "b", "c"], P, W, c[0], strong_model="b", weak_model="c"
    )
    assert set(router.win_rates_from_embeddings(_prompts(4, 20))) == {0.5}


def test_a_model_against_itself_is_a_mistake(tmp_path: Path) -> None:
    folder = _write(tmp_path, _tensors())
    message = f"strong_model and weak_model are both '{WEAK}'; name two different models"
    for pair in ({"strong_model": WEAK, "weak_model": WEAK}, {"strong_model": WEAK}):
        with pytest.raises(InvalidInputError, match=message):
            MatrixFactorizationRouter.load(folder, **pair)
    ran = fastroute("route", "--router", f"mf={folder},strong_model=a,weak_model=a", "hello")
    assert ran.status == 2
    assert "strong_model and weak_model are both 'a'" in ran.err


def test_arguments_of_the_wrong_type() -> None:
    P, W, c = _tensors(d=20, models=3, k=5).values()

    def make(models: Any = ("a", "b", "c"), strong_model: Any = "a", embedder: Any = None) -> None:
        MatrixFactorizationRouter(
            models, P, W, c[0], strong_model=strong_model, weak_model="b", embedder=embedder
        )

    make()
    with pytest.raises(InvalidTypeError, match=r"models must be names \(str\), got \(1, 2, 3\)"):
        make(models=[1, 2, 3])
    with pytest.raises(InvalidTypeError, match=r"strong_model must be a model name .*, got None"):
        make(strong_model=None)
    with pytest.raises(InvalidTypeError, match="embedder must be an Embedder, got 'static'"):
        make(embedder="static")


def test_embedder_path_is_the_folder_of_an_onnx_encoder(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    tiny_classifier.write_tokenizer(folder)
    tiny_classifier.write_model(folder / "model.onnx", outputs=("sentence_embedding",))
    (folder / "config.json").write_text('{"max_position_embeddings": 64}')
    encoder = OnnxEmbedder(folder)
    P, W, c = _tensors(d=encoder.dimensions, models=3, k=5).values()
    made = _save(
        tmp_path / "mf", embedder=encoder.name,
        **{"P.weight": P, "text_proj.0.weight": W, "classifier.0.weight": c},
    )  # fmt: skip
    assert create_router("mf", checkpoint_path=made).embedder is None  # type: ignore[attr-defined] # mf has one
    router = create_router("mf", checkpoint_path=made, embedder_path=folder)
    prompts = ["w1 w2 w3", "w9", "w30 w2"]
    wanted = [reference.mf_win_rate(P, W, c[0], 0, 1, encoder.embed(p)) for p in prompts]
    np.testing.assert_allclose(router.win_rates(prompts), wanted, atol=1e-6)
    assert [router.win_rate(p) for p in prompts] == list(router.win_rates(prompts))
    routed = fastroute(
        "route", "--json", "--router", f"mf={made},embedder_path={folder}", prompts[0]
    )
    assert routed.json["win_rate"] == router.win_rate(prompts[0])
    # In a cascade too, where the path is kept relative to the cascade's folder.
    cascade = tmp_path / "cascade"
    member = {"router": "mf", "checkpoint_path": str(made), "embedder_path": str(folder)}
    save_cascade(
        cascade, CascadeRouter(router, LengthRouter(), band=(0.0, 1e-9)), fast=member,
        slow={"router": "length"},
    )  # fmt: skip
    loaded = create_router("cascade", checkpoint_path=cascade)
    np.testing.assert_array_equal(loaded.win_rates(prompts), router.win_rates(prompts))
    with pytest.raises(InvalidInputError, match="give embedder or embedder_path, not both"):
        create_router("mf", checkpoint_path=made, embedder=encoder, embedder_path=folder)
    with pytest.raises(InvalidInputError, match="belong to a checkpoint_path"):
        create_router("mf", embedder_path=folder)
    with pytest.raises(InvalidInputError, match="was trained with 'fake:characters'"):
        create_router("mf", checkpoint_path=_save(tmp_path / "other"), embedder_path=folder)
