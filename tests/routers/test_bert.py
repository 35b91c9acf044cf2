"""BertRouter against tiny classifiers built here, and a float64 NumPy reference."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from cli_runner import fastroute, refused
from fakes.hub import serve_hub
from fastroute import Controller
from fastroute.artifacts import prompt_hash, save_artifact
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactError,
    InvalidInputError,
    InvalidTypeError,
    OnnxModelError,
)
from fastroute.routers import BertRouter, create_router
from tiny_classifier import TABLE, ids_of, reference, write_folder, write_model

PROMPTS = ["w1 w2 w3", "w9", "", "w5 w4 w3 w2 w1 w0 w30 w31", "nothing known", " ", "w7 w7"]
LONG = " ".join(f"w{i}" for i in range(30))
#: Between float32 and float64, and between one prompt and a batch in float32.
TOLERANCE = 1e-6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"integer": TensorProto.INT32},
        {"inputs": ("input_ids",)},
        {"inputs": ("input_ids", "attention_mask", "token_type_ids")},
        {"batch": 1},
        {"batch": 4},
        {"tokens": 16},
        {"batch": 3, "tokens": 16},
        {"outputs": ("hidden", "logits")},
        {"outputs": ("any_name",)},
        {"scale": 300.0},  # odds far outside float32
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_win_rates_match_the_float64_reference(
    folder: Path, options: Any, batch_size: int | None
) -> None:
    write_model(folder / "model.onnx", **options)
    router = BertRouter(folder, batch_size=batch_size)
    expected = reference(PROMPTS, scale=options.get("scale", 1.0))
    # A large scale enlarges the rounding of the logits.
    atol = TOLERANCE * options.get("scale", 1.0)
    rates = router.win_rates(PROMPTS)
    assert rates.dtype == np.float64
    np.testing.assert_allclose(rates, expected, atol=atol)
    for prompt, rate in zip(PROMPTS, rates, strict=True):
        assert router.win_rate(prompt) == pytest.approx(rate, abs=atol)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 20), max_size=12),
    batch_size=st.integers(1, 5),
    batch_threads=st.integers(1, 3),
    data=st.data(),
)
def test_a_batch_equals_single_calls_in_any_order(
    lengths: list[int],
    batch_size: int,
    batch_threads: int,
    data: st.DataObject,
    tmp_path_factory: Any,
) -> None:
    place = tmp_path_factory.getbasetemp() / "any_order_bert"
    if not place.exists():
        write_folder(place)
    prompts = [" ".join(f"w{data.draw(st.integers(0, 39))}" for _ in range(n)) for n in lengths]
    router = BertRouter(place, batch_size=batch_size, batch_threads=batch_threads)
    rates = router.win_rates(prompts)
    assert rates.shape == (len(prompts),)
    np.testing.assert_allclose(rates, reference(prompts), atol=TOLERANCE)
    order = data.draw(st.permutations(range(len(prompts))))
    permuted = router.win_rates([prompts[i] for i in order])
    np.testing.assert_allclose(permuted, rates[list(order)], atol=TOLERANCE)
    assert router.truncated_count == 2 * sum(length > 14 for length in lengths)


def test_dynamic_quantisation_runs_prompt_by_prompt_unless_told_otherwise(folder: Path) -> None:
    write_model(folder / "model.onnx", quantised=True)
    router = BertRouter(folder, batch_threads=4)
    assert router.dynamically_quantised
    assert router.batch_size == 1
    prompts = [f"w{i} w{i + 1}" for i in range(30)]
    single = np.array([router.win_rate(p) for p in prompts])
    np.testing.assert_array_equal(router.win_rates(prompts), single)
    # The reason for the rule: with larger batches the neighbours change the win rates.
    batched = BertRouter(folder, batch_size=30)
    assert np.abs(batched.win_rates(prompts) - single).max() > 1e-5
    assert batched.provenance.checksum != router.provenance.checksum
    write_model(folder / "model.onnx", quantised=True, batch=4)
    np.testing.assert_array_equal(BertRouter(folder).win_rates(prompts), single)


def test_no_prompts(folder: Path) -> None:
    assert BertRouter(folder).win_rates([]).shape == (0,)


def test_threads_share_one_router(folder: Path) -> None:
    router = BertRouter(folder, batch_size=4, batch_threads=2)
    prompts = [f"w{i % 40} " * (1 + i % 7) for i in range(60)] + [LONG]
    expected = router.win_rates(prompts)

    def work(number: int) -> None:
        np.testing.assert_array_equal(router.win_rates(prompts), expected)
        i = number % len(prompts)
        assert router.win_rate(prompts[i]) == pytest.approx(expected[i], abs=TOLERANCE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    assert router.truncated_count == 25


# Precision


def test_which_file_a_precision_loads(folder: Path) -> None:
    assert BertRouter(folder).model_file.name == "model.onnx"
    with pytest.raises(OnnxModelError, match=r"no int8 export .*its ONNX files: model\.onnx"):
        BertRouter(folder, precision="int8")
    write_model(folder / "onnx" / "model_quantized.onnx", quantised=True)
    for precision, name in (
        ("auto", "model_quantized.onnx"),
        ("int8", "model_quantized.onnx"),
        ("float32", "model.onnx"),
    ):
        assert BertRouter(folder, precision=precision).model_file.name == name  # type: ignore[arg-type] - parametrised
    write_model(folder / "model_int8.onnx", quantised=True)
    assert BertRouter(folder).model_file.name == "model_int8.onnx"
    (folder / "model.onnx").rename(folder / "mine.onnx")
    assert BertRouter(folder, model_file="mine.onnx").model_file.name == "mine.onnx"
    with pytest.raises(OnnxModelError, match="no float32 export"):
        BertRouter(folder, precision="float32")
    with pytest.raises(InvalidInputError, match="pass one of them"):
        BertRouter(folder, model_file="mine.onnx", precision="int8")


def test_the_only_file_needs_no_usual_name(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "mine.onnx")
    assert BertRouter(folder).model_file.name == "mine.onnx"


# Truncation


def test_long_prompts_are_cut_and_counted(folder: Path) -> None:
    router = BertRouter(folder)
    assert router.max_tokens == 16
    assert router.win_rate(LONG) == router.win_rate(" ".join(LONG.split()[:14]))
    assert router.truncated_count == 1
    router.win_rates([LONG, "w1", LONG])
    assert router.truncated_count == 3
    assert BertRouter(folder, max_tokens=9).max_tokens == 9
    expected = reference([LONG], limit=9)[0]
    assert BertRouter(folder, max_tokens=9).win_rate(LONG) == pytest.approx(expected, abs=1e-6)


def test_long_prompts_warn_once_or_fail_if_asked_to(folder: Path) -> None:
    for ask in (lambda r: r.win_rates(["w1", LONG]), lambda r: r.win_rate(LONG)):
        router = BertRouter(folder, on_truncation="warn")
        with pytest.warns(UserWarning, match="longer than max_tokens=16") as seen:
            ask(router)
        assert seen[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ask(router)
        assert router.truncated_count == 2
    failing = BertRouter(folder, on_truncation="error")
    with pytest.raises(InvalidInputError, match=r"max_tokens=16 \(the first: prompts\[1\]"):
        failing.win_rates(["w1", LONG])


# Threads and memory


@pytest.mark.parametrize("memory_arena", ["keep", "shrink", "off"])
@pytest.mark.parametrize("spin_threads", [True, False])
def test_settings_of_onnxruntime_change_no_answer(
    folder: Path, memory_arena: Any, spin_threads: bool
) -> None:
    router = BertRouter(folder, num_threads=2, memory_arena=memory_arena, spin_threads=spin_threads)
    np.testing.assert_allclose(router.win_rates(PROMPTS), reference(PROMPTS), atol=TOLERANCE)


def test_settings_reach_onnxruntime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = onnxruntime.InferenceSession

    def spy(path: str, options: Any, **rest: Any) -> Any:
        made.append(options)
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    BertRouter(folder, num_threads=2, memory_arena="off", spin_threads=False)
    BertRouter(folder)
    assert [o.intra_op_num_threads for o in made] == [2, 1]
    assert [o.enable_cpu_mem_arena for o in made] == [False, True]
    assert made[0].get_session_config_entry("session.intra_op.allow_spinning") == "0"


# What can't be used


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_a_wrong_number_of_labels(folder: Path, labels: int) -> None:
    write_model(folder / "model.onnx", labels=labels)
    with pytest.raises(OnnxModelError, match=r"logits of three labels .*num_labels=3"):
        BertRouter(folder)
    config = {"id2label": {str(i): f"LABEL_{i}" for i in range(labels)}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(OnnxModelError, match=rf"config\.json' has {labels} labels \(LABEL_0"):
        BertRouter(folder)


def test_outputs_without_logits(folder: Path) -> None:
    write_model(folder / "model.onnx", outputs=("hidden", "pooled"))
    with pytest.raises(OnnxModelError, match="the outputs hidden, pooled and none is called"):
        BertRouter(folder)


def test_unknown_inputs(folder: Path) -> None:
    write_model(folder / "model.onnx", inputs=("input_ids", "attention_mask", "pixel_values"))
    with pytest.raises(OnnxModelError, match="takes the inputs input_ids, attention_mask, pixel"):
        BertRouter(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.onnx", "has no ONNX file"),
        ("tokenizer.json", r"has no tokenizer\.json"),
    ],
)
def test_missing_files(folder: Path, file: str, message: str) -> None:
    (folder / file).unlink()
    with pytest.raises(OnnxModelError, match=message):
        BertRouter(folder)


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"no folder '.*gone', and it is not a Hugging Face"
    ):
        BertRouter(tmp_path / "gone")
    with pytest.raises(InvalidTypeError, match="folder must be a str or a path"):
        BertRouter(None)  # type: ignore[arg-type] - what a config may hold
    with pytest.raises(InvalidInputError, match="bert needs checkpoint_path"):
        create_router("bert")


def test_values_that_are_not_finite(folder: Path) -> None:
    table = TABLE.copy()
    table[ids_of("w3")[1]] = np.nan
    write_model(folder / "model.onnx", table=table)
    router = BertRouter(folder)
    with pytest.raises(OnnxModelError, match="gave NaN or infinity"):
        router.win_rates(["w1", "w3"])


def test_a_failing_run_names_the_size(folder: Path) -> None:
    write_model(folder / "model.onnx", table=TABLE[:20])
    with pytest.raises(OnnxModelError, match="failed on 1 prompts of up to 3 tokens"):
        BertRouter(folder).win_rate("w39")
    with pytest.raises(OnnxModelError, match="failed on"):  # from a thread of the batch as well
        BertRouter(folder, batch_size=1, batch_threads=2).win_rates(["w1", "w39", "w2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp16"}, "precision must be one of auto, int8, float32"),
        ({"on_truncation": "ignore"}, "on_truncation must be one of count, warn, error"),
        ({"memory_arena": True}, "memory_arena must be one of keep, shrink, off"),
        ({"spin_threads": 1}, "spin_threads must be a bool"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_threads": 0}, "batch_threads must be at least 1, got 0"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ({"max_tokens": 2}, "leaves no room for a prompt: special tokens take 2"),
        ({"providers": ("NoSuchProvider",)}, "'NoSuchProvider' is not in this onnxruntime"),
        ({"revision": "main"}, "is for Hugging Face ids"),
        ({"num_labels": 5}, "num_labels must be 3"),
        ({"no_such": 5}, "config of router 'bert': .*no_such"),
    ],
)
def test_bad_arguments_are_named(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        create_router("bert", checkpoint_path=folder, **arguments)


def test_prompts_of_a_wrong_type_are_named(folder: Path) -> None:
    router = BertRouter(folder)
    with pytest.raises(InvalidTypeError, match="prompt must be a str, got bytes"):
        router.win_rate(b"w1")  # type: ignore[arg-type] - the point
    with pytest.raises(InvalidInputError, match=r"prompts\[1\] holds a lone surrogate"):
        router.win_rates(["w1", "\ud800"])


# The Hugging Face Hub, played by a small server here; the router runs in another process.


def test_of_a_hub_only_the_file_of_the_precision_is_fetched(folder: Path, tmp_path: Path) -> None:
    write_model(folder / "onnx" / "model_quantized.onnx", quantised=True)
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    (folder / "modeling_evil.py").write_text("raise SystemExit('remote code ran')")
    code = (
        "from fastroute.routers import BertRouter\n"
        "import sys\n"
        "r = BertRouter('someone/tiny', precision=sys.argv[1], cache_dir=sys.argv[2])\n"
        "print(r.model_file.name, r.win_rate('w1 w2'))"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    with serve_hub(folder) as (address, fetched):
        quiet = {"HF_ENDPOINT": address, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": path}
        for precision, name, file in (
            ("auto", "model_quantized.onnx", "onnx/model_quantized.onnx"),
            ("float32", "model.onnx", "model.onnx"),
        ):
            del fetched[:]
            done = subprocess.run(
                [sys.executable, "-c", code, precision, str(tmp_path / precision)],
                env=os.environ | quiet, capture_output=True, text=True, timeout=120, check=True,
            )  # fmt: skip
            found, rate = done.stdout.split()
            assert found == name
            assert float(rate) == pytest.approx(reference(["w1 w2"])[0], abs=0.02)
            assert sorted(fetched) == sorted([file, "config.json", "tokenizer.json"])


# Artifacts, and the ways in


@pytest.fixture
def artifact(folder: Path, tmp_path: Path) -> Path:
    names = ("model.onnx", "tokenizer.json", "config.json")
    target = tmp_path / "artifact"
    save_artifact(
        target,
        kind="bert",
        config={},
        arrays={
            "calibration_win_rates": np.linspace(0.1, 0.9, 1001, dtype=np.float32),
            "trained_on": np.array([prompt_hash("w1")], dtype=np.uint64),
        },
        files={name: (folder / name).read_bytes() for name in names},
    )
    return target


def test_an_artifact_brings_its_calibration_and_its_prompts(artifact: Path) -> None:
    router = BertRouter(artifact)
    assert router.provenance.calibration is not None
    assert router.provenance.calibration[500] == pytest.approx(0.5)
    assert router.provenance.trained_on is not None
    assert prompt_hash("w1") in router.provenance.trained_on
    assert router.win_rate("w9") == pytest.approx(reference(["w9"])[0], abs=TOLERANCE)


def test_a_damaged_artifact_is_refused(artifact: Path) -> None:
    model = artifact / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(ArtifactChecksumError, match=r"model\.onnx was altered"):
        BertRouter(artifact)


def test_a_file_beside_the_manifest_is_refused(artifact: Path) -> None:
    # Or another model would go under the artifact's calibration.
    shutil.copy(artifact / "model.onnx", artifact / "model_int8.onnx")
    with pytest.raises(ArtifactError, match=r"does not list model_int8\.onnx"):
        BertRouter(artifact)


def test_an_artifact_of_another_kind_is_refused(folder: Path) -> None:
    save_artifact(folder, kind="mf", config={}, arrays={"x": np.zeros(1)})
    with pytest.raises(ArtifactError, match="holds a 'mf' artifact where 'bert'"):
        BertRouter(folder)


def test_what_pins_the_win_rates(folder: Path) -> None:
    base = BertRouter(folder).provenance.checksum
    assert (
        BertRouter(folder, batch_size=3, num_threads=2, on_truncation="warn").provenance.checksum
        == base
    )
    others = {BertRouter(folder, max_tokens=8).provenance.checksum}
    write_model(folder / "model.onnx", scale=2.0)
    others.add(BertRouter(folder).provenance.checksum)
    assert len(others | {base}) == 3


def test_a_controller_routes_with_it(artifact: Path) -> None:
    controller = Controller(
        routers=["bert"],
        strong_model="s",
        weak_model="w",
        config={"bert": {"checkpoint_path": str(artifact), "num_labels": 3}},
    )
    rate = reference(["w9 w3"])[0]
    for threshold, model in ((rate - 0.01, "s"), (rate + 0.01, "w")):
        assert controller.route("w9 w3", router="bert", threshold=threshold) == model


def test_the_command_line_routes_with_it(artifact: Path, folder: Path) -> None:
    for arguments in (
        ("--router", f"bert={artifact}"),
        ("--router", f"bert,checkpoint_path={artifact},precision=float32"),
    ):
        ran = fastroute("route", "--json", *arguments, "w9 w3")
        assert ran.status == 0, ran.err
        assert ran.json["router"] == "bert"
        assert ran.json["win_rate"] == pytest.approx(reference(["w9 w3"])[0], abs=TOLERANCE)
    share = fastroute("route", "--router", f"bert={artifact}", "--strong-share", "0.2", "w1")
    assert share.status == 0, share.err
    assert "threshold 0.7400" in share.out
    assert "no folder 'nowhere'" in refused("route", "--router", "bert=nowhere", "x")
    assert "bert needs checkpoint_path" in refused("route", "--router", "bert", "x")
    assert "checkpoint_path is given twice" in refused(
        "route", "--router", f"bert={folder},checkpoint_path={folder}", "x"
    )
    (artifact / "model.onnx").unlink()
    assert "has no ONNX file" in refused("route", "--router", f"bert={artifact}", "x")


def test_the_evaluation_takes_it_and_refuses_its_training_prompts(
    artifact: Path, tmp_path: Path
) -> None:
    def write(name: str, prompts: list[str]) -> Path:
        path = tmp_path / name
        rows = [{"prompt": p, "weak": i % 2, "strong": 1} for i, p in enumerate(prompts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    fine = write("fine.jsonl", [f"w{i} w{i + 1}" for i in range(2, 30)])
    options = (
        "--router",
        f"bert={artifact},label=mine",
        "--json",
        "--resamples",
        "0",
        "--no-cache",
    )
    ran = fastroute("evaluate", "--benchmark", fine, *options)
    assert ran.status == 0, ran.err
    assert "mine" in ran.out
    seen = write("seen.jsonl", ["w1", "w2", "w3"])
    assert "trained" in refused("evaluate", "--benchmark", seen, *options)


def test_a_long_prompt_is_tokenized_up_to_its_truncation(tmp_path: Path) -> None:
    router = BertRouter(write_folder(tmp_path))
    expected = router.win_rate("w1 w2 w3 " * 50)
    begin = time.process_time()
    assert router.win_rate("w1 w2 w3 " * 4_000_000) == expected
    assert time.process_time() - begin < 2.0  # the whole takes 10 s and more, and 2 GB
    assert router.truncated_count == 2
    assert router.win_rate(" " * 300_000 + "w1") == router.win_rate("w1")
