"""A decoder in ONNX, asked for five logits by one forward pass of onnxruntime."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute._validate import check_count
from fastroute.errors import InvalidInputError, OnnxModelError, ScoringError
from fastroute.onnx_models.session import (
    CPU,
    Provider,
    SessionSettings,
    inspect_file,
    open_session,
)
from fastroute.routers.causal_llm.engine import LABELS, LabelEngine, softmax
from fastroute.routers.causal_llm.prompt import LabelPrompt, OnTruncation
from fastroute.routers.causal_llm.template import longest_input, read_template
from fastroute.types import Float64Array

_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_MODEL_FILES = ("model.onnx", "onnx/model.onnx", "decoder_model.onnx")


class OnnxLabelEngine(LabelEngine):
    """Runs a decoder from a folder: an ONNX file, ``tokenizer.json`` and its template.

    The model takes ``input_ids``, ``attention_mask`` and, if it wants, ``position_ids`` (int64 or
    int32 [batch, tokens]) and ``past_key_values.<layer>.key`` and ``.value`` (float32 or float16
    [batch, heads, past tokens, dimensions]). It gives ``label_logits`` [batch, 5] at the last
    position, as ``fastroute export causal_llm`` makes it, or ``logits`` [batch, tokens or 1,
    vocabulary] as other exporters do, and ``present.<layer>.key`` and ``.value`` with the past.

    Nothing is generated: the five logits at the position after the prompt are all that is needed.
    Where the model takes past keys and values, the template's fixed prefix runs once, and every
    prompt starts from there. A batch is padded on the left, with positions that count the real
    tokens, so that a prompt's logits don't depend on its neighbours (up to float32 rounding). A
    model without ``position_ids`` would count padding: it gets batches of equal length only.

    Args:
        folder: where the files are.
        model_file: path of the ONNX file in the folder; by default model.onnx there or in onnx/.
        max_tokens: longest input, template included; the limit in the folder's files if None.
        on_truncation: as in ``LabelPrompt``.
        batch_size: most prompts in one run. None: 1 if activations are dynamically quantised (there
            a neighbour changes the scale), else 8. Batches are formed by length.
        num_threads: threads of onnxruntime within one run.
        use_arena: whether onnxruntime keeps memory between runs.
        reuse_prefix: whether the prefix runs once. False is for comparison.
        providers: onnxruntime execution providers, as in ``OnnxEmbedder``.

    Raises:
        InvalidInputError, InvalidTypeError: an argument that can't be used.
        ScoringError: a file is missing or not understood.
        MissingDependencyError: onnxruntime or tokenizers is not installed.

    Attributes:
        prompt: template, tokenizer and limit in force.
        prefix_tokens: how many tokens each prompt is spared; 0 without past keys and values.
    """

    prompt: LabelPrompt
    prefix_tokens: int

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        model_file: str | None = None,
        max_tokens: int | None = None,
        on_truncation: OnTruncation = "count",
        batch_size: int | None = None,
        num_threads: int = 1,
        use_arena: bool = True,
        reuse_prefix: bool = True,
        providers: Sequence[Provider] = CPU,
    ) -> None:
        session = SessionSettings(
            num_threads, providers, memory_arena="keep" if use_arena else "off"
        )
        if batch_size is not None:
            check_count("batch_size", batch_size, least=1)

        # 1. The files.
        path = check_model_folder(folder)
        model = _find_model(path, model_file)
        template = read_template(path)
        limit = max_tokens or template.max_tokens or longest_input(path)
        if limit is None:
            raise InvalidInputError(
                f"max_tokens: no file in {str(path)!r} says how long an input may be; pass it"
            )
        self.prompt = LabelPrompt(path, template, max_tokens=limit, on_truncation=on_truncation)

        # 2. The model.
        try:
            digest, quantised = inspect_file(model)
            self._session = open_session(model, session)
        except OnnxModelError as error:
            raise ScoringError(str(error)) from error
        self._inputs, self._past = _read_inputs(self._session, model)
        self._output = _find_output(self._session, model)
        self.batch_size = batch_size or (1 if quantised else 8)

        # 3. The prefix, once.
        self.prefix_tokens = 0
        self._prefix: dict[str, npt.NDArray[Any]] = self._empty_past()
        if self._past and reuse_prefix and self.prompt.prefix_ids:
            self._prefix = self._run_prefix(self.prompt.prefix_ids)
            self.prefix_tokens = len(self.prompt.prefix_ids)

        # 4. What decides an answer.
        digest.update((path / "tokenizer.json").read_bytes())
        settings = [template.prefix, template.suffix, template.label_tokens, limit]
        digest.update(json.dumps(settings).encode())
        self._checksum: str = digest.hexdigest()

    @property
    def truncated_count(self) -> int:
        return self.prompt.truncated_count

    @property
    def checksum(self) -> str:
        return self._checksum

    def probabilities(self, prompts: list[str]) -> Float64Array:
        return softmax(self.label_logits(prompts))

    def label_logits(self, prompts: list[str]) -> Float64Array:
        """Logits of the labels at the first generated position, float64[n, 5]."""
        inputs = [fitted.ids for fitted in self.prompt.fit(prompts)]
        logits = np.empty((len(inputs), LABELS))
        for rows, shared in self._batches(inputs):
            logits[rows] = self._run([inputs[i][shared:] for i in rows], shared)
        return logits

    def __repr__(self) -> str:
        return (
            f"OnnxLabelEngine(max_tokens={self.prompt.max_tokens}, batch_size={self.batch_size}, "
            f"prefix_tokens={self.prefix_tokens})"
        )

    def _batches(self, inputs: list[list[int]]) -> Iterator[tuple[list[int], int]]:
        """Rows that run together, and how many tokens of the prefix they start from."""
        prefix = self.prompt.prefix_ids[: self.prefix_tokens]
        padded = "position_ids" in self._inputs
        groups: dict[tuple[int, int], list[int]] = {}
        for i, ids in enumerate(inputs):
            # At least one token must be left to run.
            fits = len(ids) > len(prefix) and ids[: len(prefix)] == prefix
            key = (len(prefix) if fits else 0, 0 if padded else len(ids))
            groups.setdefault(key, []).append(i)
        for (shared, _), rows in groups.items():
            rows.sort(key=lambda i: len(inputs[i]))
            for start in range(0, len(rows), self.batch_size):
                yield rows[start : start + self.batch_size], shared

    def _run(self, inputs: list[list[int]], shared: int) -> Float64Array:
        """Run one batch that starts from ``shared`` tokens of the prefix: float64[n, 5]."""
        feeds = self._feeds(inputs, shared)
        n, width = feeds["input_ids"].shape
        try:
            answer = np.asarray(self._session.run([self._output], feeds)[0])
        except Exception as error:  # onnxruntime's own kinds share no base but Exception
            raise ScoringError(
                f"the model failed on {n} prompts of up to {shared + width} tokens: {error}; if it "
                "takes shorter input only, pass max_tokens="
            ) from error
        if self._output != "label_logits":
            if answer.ndim != 3 or answer.shape[0] != n or answer.shape[1] not in (1, width):
                raise ScoringError(
                    f"output 'logits' has shape {answer.shape} for input of shape {(n, width)}; "
                    "expected [batch, tokens, vocabulary]"
                )
            if max(self.prompt.label_ids) >= answer.shape[2]:
                raise ScoringError(
                    f"output 'logits' has {answer.shape[2]} tokens, and the labels are "
                    f"{self.prompt.label_ids}: model and tokenizer do not match"
                )
            answer = answer[:, -1, self.prompt.label_ids]
        if answer.shape != (n, LABELS):
            raise ScoringError(
                f"output {self._output!r} has shape {answer.shape}, expected {(n, LABELS)}"
            )
        if np.isnan(answer).any() or (answer == np.inf).any():
            raise ScoringError(f"output {self._output!r} holds NaN or infinity")
        return answer.astype(np.float64)

    def _feeds(self, inputs: list[list[int]], shared: int) -> dict[str, npt.NDArray[Any]]:
        n, width = len(inputs), max(map(len, inputs))
        ids = np.zeros((n, width), np.int64)
        mask = np.zeros((n, shared + width), np.int64)
        positions = np.zeros((n, width), np.int64)
        mask[:, :shared] = 1
        for row, tokens in enumerate(inputs):
            begin = width - len(tokens)
            ids[row, begin:] = tokens
            mask[row, shared + begin :] = 1
            positions[row, begin:] = np.arange(shared, shared + len(tokens))
        values = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        feeds: dict[str, npt.NDArray[Any]] = {
            name: values[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()
        }
        past = self._prefix if shared else self._empty_past()
        for name, tensor in past.items():
            feeds[name] = tensor if n == 1 else np.repeat(tensor, n, axis=0)
        return feeds

    def _empty_past(self) -> dict[str, npt.NDArray[Any]]:
        return {
            name: np.zeros((1, heads, 0, dimensions), dtype)
            for name, (heads, dimensions, dtype) in self._past.items()
        }

    def _run_prefix(self, prefix: list[int]) -> dict[str, npt.NDArray[Any]]:
        """Keys and values of the prefix, by the names of the inputs that take them."""
        names = list(self._past)
        presents = [name.replace("past_key_values", "present") for name in names]
        given = {node.name for node in self._session.get_outputs()}
        missing = [name for name in presents if name not in given]
        if missing:
            raise ScoringError(
                f"the model takes past keys and values but does not give {missing[0]!r}; pass "
                "reuse_prefix=False, or export it by `fastroute export causal_llm`"
            )
        try:
            values = self._session.run(presents, self._feeds([prefix], 0))
        except Exception as error:  # as in _run
            raise ScoringError(
                f"the model failed on the {len(prefix)} tokens before a prompt: {error}"
            ) from error
        return dict(zip(names, values, strict=True))


def check_model_folder(folder: str | os.PathLike[str]) -> Path:
    """The path of a checkpoint's folder. Raises ScoringError where there is none."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ScoringError(
            f"causal_llm: there is no folder {os.fspath(folder)!r}; download the checkpoint and "
            "convert it with `fastroute export causal_llm`"
        )
    return path


def _find_model(folder: Path, model_file: str | None) -> Path:
    names = _MODEL_FILES if model_file is None else (model_file,)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ScoringError(
        f"{str(folder)!r} has no {' or '.join(names)}; make it by `fastroute export causal_llm "
        "--checkpoint FOLDER --output FOLDER`, or pass model_file="
    )


def _read_inputs(session: Any, model: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Dtypes of the token inputs by name, and (heads, dimensions, dtype) of the past ones."""
    tokens: dict[str, Any] = {}
    past: dict[str, Any] = {}
    for node in session.get_inputs():
        if _PAST.fullmatch(node.name):
            if node.type not in _FLOATS or len(node.shape) != 4:
                raise ScoringError(
                    f"{str(model)!r}: input {node.name!r} is not a past key or value"
                )
            heads, dimensions = node.shape[1], node.shape[3]
            if not isinstance(heads, int) or not isinstance(dimensions, int):
                raise ScoringError(
                    f"{str(model)!r}: input {node.name!r} has the shape {node.shape}; its heads "
                    "and dimensions must be fixed"
                )
            past[node.name] = (heads, dimensions, _FLOATS[node.type])
        elif node.name in ("input_ids", "attention_mask", "position_ids"):
            if node.type not in _INTEGERS:
                raise ScoringError(f"{str(model)!r}: input {node.name!r} is {node.type}")
            tokens[node.name] = _INTEGERS[node.type]
        else:
            raise ScoringError(
                f"{str(model)!r} takes an input {node.name!r}, which is not supported; export it "
                "by `fastroute export causal_llm`"
            )
    needed = {"input_ids", "attention_mask"}
    if not needed <= tokens.keys():
        raise ScoringError(
            f"{str(model)!r} takes {', '.join(tokens) or 'no tokens'}; a decoder must take "
            "input_ids and attention_mask"
        )
    return tokens, past


def _find_output(session: Any, model: Path) -> str:
    names = [node.name for node in session.get_outputs()]
    for name in ("label_logits", "logits"):
        if name in names:
            return name
    raise ScoringError(
        f"{str(model)!r} gives {', '.join(names)}; a decoder must give label_logits or logits"
    )
