"""Checkpoints of a training: exact to the bit, atomic, and refused with a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.training.checkpoint_file import Framework, read_checkpoint, write_checkpoint

STATE = {"step": 3, "loss": None, "losses": [[1, 0.1]], "of": "\u00e9t\u00e9"}


def tensors_of(framework: Framework) -> dict[str, Any]:
    if framework == "np":
        return {"a": np.arange(6.0).reshape(2, 3), "b": np.array([7], dtype=np.int64)}
    torch = pytest.importorskip("torch")
    tied = torch.arange(6.0, requires_grad=True)
    return {
        "a": tied.reshape(2, 3).T,
        "b": tied,
        "tied": tied,
        "half": torch.ones(2, dtype=torch.bfloat16),
    }


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_what_is_written_comes_back_to_be_written_to(tmp_path: Path, framework: Framework) -> None:
    path, tensors = tmp_path / "new" / "c.safetensors", tensors_of(framework)
    assert read_checkpoint(path, framework) is None
    write_checkpoint(path, {}, {}, framework)
    write_checkpoint(path, tensors, STATE, framework)
    found = read_checkpoint(path, framework)
    assert found is not None
    assert found[1] == STATE
    assert found[0].keys() == tensors.keys()
    for name, tensor in found[0].items():
        assert tensor.dtype == tensors[name].dtype
        assert (tensor == tensors[name]).all()
        tensor += 1
    assert [file.name for file in path.parent.iterdir()] == ["c.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, tensors_of("np"), STATE, "np")
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_checkpoint(path, {"a": "no array"}, STATE, "np")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"c\.safetensors can't be written: "):
        write_checkpoint(tmp_path / "file" / "c.safetensors", {}, {}, "np")


@pytest.mark.parametrize("keep", [0, 5, -3])
def test_a_torn_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, tensors_of("np"), STATE, "np")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        InvalidInputError, match=r"can't be read as a training checkpoint .* delete it"
    ):
        read_checkpoint(path, "np")


def test_another_file_of_tensors_is_no_checkpoint(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "c.safetensors"
    save_file(tensors_of("np"), path)
    with pytest.raises(InvalidInputError, match="can't be read as a training checkpoint"):
        read_checkpoint(path, "np")
