"""Export to ONNX, dynamic int8 quantisation, and how far each is from torch."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.onnx_models.session import Session, SessionSettings
from fastroute.routers.bert import win_rates_of_logits
from fastroute.training.bert.network import Network
from fastroute.types import Float64Array

FLOAT_FILE, INT8_FILE = "model.onnx", "model_int8.onnx"
#: What the float32 export may be off in a logit; more is a fault of the export.
MAX_FLOAT_DIFFERENCE = 1e-3
_OPSET = 18


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a model's answers are from torch's in float32."""

    prompts: int  #: of how many
    max_logit: float  #: greatest difference of a logit
    #: max_win_rate, mean_win_rate: of win rates.
    max_win_rate: float
    mean_win_rate: float


def export_onnx(network: Network, folder: Path) -> None:
    """Write ``model.onnx`` and ``model_int8.onnx`` to ``folder``, an empty one.

    The graph takes input_ids and attention_mask, int64[batch, tokens], both axes free, and gives
    logits, float32[batch, 3]. Weights are quantised to int8, one scale an output channel and 7 bits
    of 8: with 8, processors without VNNI instructions saturate. Activations are quantised as it
    runs.
    """
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = network.model.to("cpu").eval()
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2)}
    # Two prompts, the second one padded: a graph for exactly one row or one token would do.
    ids = torch.full((2, 7), network.pad_id, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with _quietly():
        program = torch.onnx.export(
            model,
            (),
            kwargs={"input_ids": ids, "attention_mask": mask},
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        exported = folder / FLOAT_FILE
        program.save(str(exported), external_data=False)
        # The exporter's notes hold paths of this machine; shapes of it would confuse quantisation.
        graph = onnx.load(exported)
        for node in graph.graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        del graph.graph.value_info[:]
        onnx.save(graph, exported)
        quantize_dynamic(
            exported,
            folder / INT8_FILE,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )


def onnx_logits(file: Path, ids: Sequence[Sequence[int]], *, num_threads: int = 1) -> Float64Array:
    """Logits of prompts given as token ids, float64[n, 3], each run by itself."""
    session = Session(file, SessionSettings(num_threads=num_threads))
    rows = []
    for row in ids:
        tokens = np.array([row], dtype=np.int64)
        feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        rows.append(session.run("logits", feeds)[0].astype(np.float64))
    return np.array(rows)


def difference(logits: Float64Array, expected: Float64Array) -> Difference:
    """Of two models' logits, float64[n, 3], on the same prompts."""
    rates = np.abs(win_rates_of_logits(logits) - win_rates_of_logits(expected))
    return Difference(
        len(logits),
        float(np.abs(logits - expected).max()),
        float(rates.max()),
        float(rates.mean()),
    )


def check_export(found: Difference) -> None:
    """Raise InvalidInputError if the float32 export is not the model that was trained."""
    if not found.max_logit <= MAX_FLOAT_DIFFERENCE:
        raise InvalidInputError(
            f"the ONNX export of this encoder differs from torch by {found.max_logit:.2g} in a "
            f"logit, where {MAX_FLOAT_DIFFERENCE:g} is the most that rounding explains; train "
            "another architecture"
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter prints and warns of what it does inside; its errors still come through."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
