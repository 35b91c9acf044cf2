"""Artifacts: what is saved comes back, and what is damaged says how."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.artifacts import ARRAYS, MANIFEST, load_artifact, prompt_hash, save_artifact
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactTruncatedError,
    ArtifactVersionError,
    InvalidInputError,
)

CONFIG = {"models": ["a", "b"], "k": 3, "nested": {"x": [1, 2.5, None, True]}, "é": "\u2028"}


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "W": rng.normal(size=(3, 4)).astype(np.float32),
        "table": rng.integers(-128, 128, size=(5, 7)).astype(np.int8),
        "hashes": rng.integers(0, 2**63, 4).astype(np.uint64),
        "double": rng.normal(size=2),
        "scalar": np.array(3.5),
        "empty": np.empty((0, 4), dtype=np.float32),
        "fortran": np.asfortranarray(rng.normal(size=(3, 2))),
        "big_endian": np.arange(3, dtype=">f4"),
        "strided": np.arange(10, dtype=np.int32)[::3],
    }


def _save(folder: Path, **options: Any) -> Path:
    defaults: dict[str, Any] = {
        "kind": "mf",
        "config": CONFIG,
        "arrays": _arrays(),
        "files": {"tokenizer.json": b"{}", "MODEL_CARD.md": b""},
    }
    save_artifact(folder, **{**defaults, **options})
    return folder


def _edit_manifest(folder: Path, edit: Any, *, sign: bool = False) -> None:
    """Change the manifest; ``sign`` states its new checksum, as a forger would."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    edit(manifest)
    if sign:
        from fastroute.artifacts import _manifest_sha256

        manifest["manifest_sha256"] = _manifest_sha256(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")


def test_round_trip(tmp_path: Path) -> None:
    artifact = load_artifact(_save(tmp_path / "deep" / "er"), kind="mf")
    assert artifact.kind == "mf"
    assert artifact.config == CONFIG
    assert artifact.files == {"tokenizer.json": b"{}", "MODEL_CARD.md": b""}
    assert artifact.arrays.keys() == _arrays().keys()
    for name, array in _arrays().items():
        found = artifact.arrays[name]
        np.testing.assert_array_equal(found, array)
        assert found.shape == array.shape
        assert found.dtype == array.dtype.newbyteorder("=")
        assert found.flags.aligned


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    arrays = _arrays()
    _save(tmp_path / "a")
    _save(
        tmp_path / "b",
        arrays=dict(reversed(arrays.items())),
        config=dict(reversed(CONFIG.items())),
        files={"MODEL_CARD.md": b"", "tokenizer.json": b"{}"},
    )
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
    assert load_artifact(tmp_path / "a").checksum == load_artifact(tmp_path / "b").checksum


def test_the_checksum_pins_everything(tmp_path: Path) -> None:
    arrays = _arrays()
    arrays["W"][0, 0] = np.nextafter(arrays["W"][0, 0], np.float32(9))
    checksums = {
        load_artifact(_save(tmp_path / str(i), **change)).checksum
        for i, change in enumerate(
            [{}, {"arrays": arrays}, {"config": {}}, {"kind": "x"}, {"files": {"a": b"x"}}]
        )
    }
    assert len(checksums) == 5


def test_saving_over_another(tmp_path: Path) -> None:
    _save(tmp_path)
    _save(tmp_path, config={"new": 1})
    assert load_artifact(tmp_path).config == {"new": 1}
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted(
        [MANIFEST, ARRAYS, "tokenizer.json", "MODEL_CARD.md"]
    )


@pytest.mark.parametrize("name", [ARRAYS, "tokenizer.json"])
@pytest.mark.parametrize("keep", [0, 1, -1])
def test_a_truncated_file(tmp_path: Path, name: str, keep: int) -> None:
    file = _save(tmp_path) / name
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ArtifactTruncatedError, match=rf"{name} has \d+ bytes where .* says \d+"):
        load_artifact(tmp_path)
    file.write_bytes(file.read_bytes() + b"longer" * 1000)
    with pytest.raises(ArtifactTruncatedError, match=rf"{name} has \d+ bytes where"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("name", [ARRAYS, "tokenizer.json"])
def test_an_altered_file(tmp_path: Path, name: str) -> None:
    file = _save(tmp_path) / name
    content = bytearray(file.read_bytes())
    for position in {0, len(content) // 2, len(content) - 1}:
        altered = content.copy()
        altered[position] ^= 1
        file.write_bytes(altered)
        with pytest.raises(ArtifactChecksumError, match=f"{name} was altered"):
            load_artifact(tmp_path)


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS, "tokenizer.json"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    (_save(tmp_path) / name).unlink()
    with pytest.raises(ArtifactNotFoundError, match=f"{name} is missing"):
        load_artifact(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(ArtifactError, match=f"{name} can't be read"):
        load_artifact(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=f"there is no folder {tmp_path}/none; give"):
        load_artifact(tmp_path / "none")


def test_a_truncated_manifest_at_every_length(tmp_path: Path) -> None:
    manifest = (_save(tmp_path) / MANIFEST).read_bytes().rstrip()
    for keep in range(0, len(manifest), 7):
        (tmp_path / MANIFEST).write_bytes(manifest[:keep])
        with pytest.raises(ArtifactError, match=r"artifact\.json is not the manifest of a .*trunc"):
            load_artifact(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"", b"\xff\xfe", b"null", b"[]", b"3", b'"x"', b"{}", b'{"format": 1}'],
)
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    (_save(tmp_path) / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"artifact\.json is not the manifest"):
        load_artifact(tmp_path)


def test_an_altered_manifest(tmp_path: Path) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        manifest["config"]["models"] = ["b", "a"]

    _edit_manifest(_save(tmp_path), swap)
    with pytest.raises(ArtifactChecksumError, match=r"artifact\.json was altered"):
        load_artifact(tmp_path)
    _edit_manifest(_save(tmp_path), lambda m: m.update(kind="static_embedder"))
    with pytest.raises(ArtifactChecksumError, match=r"artifact\.json was altered"):
        load_artifact(tmp_path)
    _edit_manifest(_save(tmp_path), lambda m: m["files"].pop("tokenizer.json"))
    with pytest.raises(ArtifactChecksumError, match=r"artifact\.json was altered"):
        load_artifact(tmp_path)


def test_a_newer_artifact(tmp_path: Path) -> None:
    # Whatever else a newer schema changes, this is what must be said of it.
    _edit_manifest(_save(tmp_path), lambda m: (m.update(schema_version=2), m.pop("files")))
    with pytest.raises(ArtifactVersionError, match=r"schema version 2, newer than 1.*upgrade"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("version", [0, -1, "2", 1.0, None, True])
def test_a_schema_version_that_is_none(tmp_path: Path, version: Any) -> None:
    _edit_manifest(_save(tmp_path), lambda m: m.update(schema_version=version), sign=True)
    with pytest.raises(ArtifactError, match=r"is not the manifest .*schema_version"):
        load_artifact(tmp_path)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ArtifactError, match="can't be written"):
        _save(file)
    with pytest.raises(ArtifactError, match="can't be read: Not a directory"):
        load_artifact(file)


def test_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds a 'mf' artifact where 'static_embedder'"):
        load_artifact(_save(tmp_path), kind="static_embedder")


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\x00b", "a\\b", "c:x", "a\nb", "\ud800"],
)
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"outside")
    folder = _save(tmp_path / "artifact")
    entry = {"bytes": 7, "sha256": "0" * 64}
    _edit_manifest(folder, lambda m: m["files"].update({name: entry}), sign=True)
    with pytest.raises(ArtifactError, match="which is not a plain name"):
        load_artifact(folder)
    with pytest.raises(InvalidInputError, match="reserved or not a plain name"):
        _save(tmp_path / "new", files={name: b""})


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS])
def test_reserved_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="reserved or not a plain name"):
        _save(tmp_path, files={name: b""})


def test_arrays_that_are_no_safetensors(tmp_path: Path) -> None:
    import hashlib

    folder = _save(tmp_path)
    (folder / ARRAYS).write_bytes(b"junk")
    entry = {"bytes": 4, "sha256": hashlib.sha256(b"junk").hexdigest()}
    _edit_manifest(folder, lambda m: m["files"].update({ARRAYS: entry}), sign=True)
    with pytest.raises(ArtifactError, match="is not a safetensors file"):
        load_artifact(folder)
    _edit_manifest(folder, lambda m: m["files"].pop(ARRAYS), sign=True)
    with pytest.raises(ArtifactError, match=f"does not list {ARRAYS}"):
        load_artifact(folder)


@pytest.mark.parametrize("config", [{"x": float("nan")}, {"x": np.float32(1)}, {"x": {1, 2}}])
def test_configs_that_are_not_plain_json(tmp_path: Path, config: Any) -> None:
    with pytest.raises(InvalidInputError, match="config must be plain JSON"):
        _save(tmp_path, config=config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([{}]), np.array([1j])])
def test_arrays_that_are_not_numbers(tmp_path: Path, array: Any) -> None:
    with pytest.raises(InvalidInputError, match="arrays must be NumPy arrays of numbers"):
        _save(tmp_path, arrays={"x": array})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (_save(tmp_path) / ARRAYS).chmod(0)
    with pytest.raises(ArtifactError, match=f"{ARRAYS} can't be read: Permission denied"):
        load_artifact(tmp_path)


def test_prompt_hashes() -> None:
    assert prompt_hash(" what?\n") == prompt_hash("what?")
    assert prompt_hash("what?") != prompt_hash("What?")
    assert 0 <= prompt_hash("\ud800") < 2**64
    # Stored in artifacts, so it may never change: the first 8 bytes of SHA-256, little-endian.
    assert prompt_hash("") == int.from_bytes(bytes.fromhex("e3b0c44298fc1c14"), "little")


@pytest.mark.parametrize("length", ["Infinity", "-Infinity", "NaN", "1e400"])
def test_a_length_that_is_not_a_number_of_bytes(tmp_path: Path, length: str) -> None:
    save_artifact(tmp_path, kind="k", config={}, arrays={"x": np.zeros(2)})
    manifest = tmp_path / "artifact.json"
    manifest.write_text(re.sub(r'"bytes": \d+', f'"bytes": {length}', manifest.read_text()))
    with pytest.raises(ArtifactError, match="is not the manifest"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_arrays_of_a_dtype_that_numpy_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    header = json.dumps({"x": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(2)
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.numpy.save", lambda _: content)
        save_artifact(tmp_path, kind="k", config={}, arrays={})
    with pytest.raises(ArtifactError, match="of NumPy's dtypes"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("name", ["artifact.json", "arrays.safetensors"])
def test_a_pipe_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    save_artifact(tmp_path, kind="k", config={}, arrays={"x": np.zeros(2)})
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ArtifactError, match="not a regular file"):
        load_artifact(tmp_path)
