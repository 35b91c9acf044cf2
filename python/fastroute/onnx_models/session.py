"""An onnxruntime session over one ONNX file, and what the graph takes."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from fastroute._extras import needed_for
from fastroute._validate import check_count
from fastroute.errors import (
    InvalidInputError,
    InvalidTypeError,
    OnnxModelError,
)

#: An onnxruntime execution provider, with or without its options.
Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]
MemoryArena = Literal["keep", "shrink", "off"]
CPU: tuple[Provider, ...] = ("CPUExecutionProvider",)

_INPUT_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How onnxruntime runs a model."""

    num_threads: int = 1  #: threads within one run
    #: execution providers, each a name or ``(name, options)``. A provider that isn't there is an
    #: error; nothing falls back to the CPU.
    providers: Sequence[Provider] = CPU
    #: whether idle threads of a run wait busily: faster by microseconds, at a processor's time. Of
    #: no effect with one thread.
    spin_threads: bool = True
    #: "keep" holds what the largest run needed for the runs to come, "shrink" gives it back after
    #: each run, "off" asks the system for every tensor.
    memory_arena: MemoryArena = "keep"

    def __post_init__(self) -> None:
        check_count("num_threads", self.num_threads, least=1)
        check_choice("memory_arena", self.memory_arena, get_args(MemoryArena))
        if not isinstance(self.spin_threads, bool):
            raise InvalidTypeError(f"spin_threads must be a bool, got {self.spin_threads!r}")
        if isinstance(self.providers, str) or not self.providers:
            raise InvalidTypeError(
                f"providers must be a sequence of onnxruntime provider names, got "
                f"{self.providers!r}"
            )


class Session:
    """A graph that takes token ids, ready to run."""

    def __init__(self, file: Path, settings: SessionSettings) -> None:
        self.file = file  #: the ONNX file
        self._session = open_session(file, settings)
        #: fixed_rows, fixed_tokens: length of the batch and the token axis; None where it is free.
        #: inputs: dtype of each input by name.
        self.inputs, self.fixed_rows, self.fixed_tokens = _read_inputs(self._session, file)
        #: names of the outputs, in the graph's order.
        self.outputs: list[str] = [node.name for node in self._session.get_outputs()]
        self._run_options = _run_options(settings)

    def run(self, output: str, feeds: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """The output named, for arrays by input; raises whatever onnxruntime raises."""
        return np.asarray(self._session.run([output], feeds, self._run_options)[0])


def check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise InvalidInputError for a ``value`` that is not one of ``choices``."""
    if value not in choices:
        raise InvalidInputError(f"{argument} must be one of {', '.join(choices)}, got {value!r}")


def inspect_file(file: Path) -> tuple[Any, bool]:
    """A SHA-256 of a model's files, to be updated, and whether it quantises activations as it runs.

    The names of a graph's operations stand in the file as plain bytes; DynamicQuantizeLinear and
    its fused forms all hold this one. A chance hit costs speed only.
    """
    digest = hashlib.sha256()
    dynamic = False
    weights = (file.with_name(file.name + suffix) for suffix in ("_data", ".data"))
    for path in (file, *(p for p in weights if p.is_file())):
        if path.stat().st_size == 0:
            raise OnnxModelError(f"{str(path)!r} is empty; fetch it again")
        with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            digest.update(data)
            dynamic = dynamic or (path == file and data.find(b"DynamicQuantize") >= 0)
    return digest, dynamic


def open_session(file: Path, settings: SessionSettings) -> Any:
    """An onnxruntime session of ``file``. Raises OnnxModelError where it can't be loaded."""
    with needed_for("an ONNX model"):
        import onnxruntime
    providers = settings.providers
    wanted = [p if isinstance(p, str) else p[0] for p in providers]
    available = onnxruntime.get_available_providers()
    for provider in wanted:
        if provider not in available:
            raise InvalidInputError(
                f"providers: {provider!r} is not in this onnxruntime; it has {', '.join(available)}"
            )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; what is wrong for us, we say ourselves
    options.enable_cpu_mem_arena = settings.memory_arena != "off"
    if not settings.spin_threads:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    pairs = [p if isinstance(p, str) else (p[0], dict(p[1])) for p in providers]
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=pairs)
    except Exception as error:  # onnxruntime's own kinds share no base but Exception
        raise OnnxModelError(f"onnxruntime can't load {str(file)!r}: {error}") from error
    missing = [p for p in wanted if p not in session.get_providers()]
    if missing:
        raise OnnxModelError(
            f"providers: {', '.join(missing)} could not start here, and onnxruntime would use "
            "others silently; pass providers=('CPUExecutionProvider',) to run on the CPU"
        )
    return session


def _run_options(settings: SessionSettings) -> Any:
    if settings.memory_arena != "shrink":
        return None
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _read_inputs(session: Any, file: Path) -> tuple[dict[str, Any], int | None, int | None]:
    """Input names with dtypes, and the batch and token axes where they are fixed."""
    nodes = session.get_inputs()
    names = [node.name for node in nodes]
    if "input_ids" not in names or not KNOWN_INPUTS.issuperset(names):
        raise OnnxModelError(
            f"{str(file)!r} takes the inputs {', '.join(names)}; supported are input_ids "
            "(needed), attention_mask and token_type_ids"
        )
    for node in nodes:
        if node.type not in _INPUT_TYPES or len(node.shape) != 2:
            raise OnnxModelError(
                f"{str(file)!r}: input {node.name!r} is {node.type} {node.shape}; expected int64 "
                "or int32 [batch, tokens]"
            )
    rows, tokens = next(node.shape for node in nodes if node.name == "input_ids")
    return (
        {node.name: _INPUT_TYPES[node.type] for node in nodes},
        rows if isinstance(rows, int) else None,
        tokens if isinstance(tokens, int) else None,
    )
