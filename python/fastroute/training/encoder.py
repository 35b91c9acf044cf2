"""A sentence encoder as a function of token ids, the same on every machine.

A dynamically quantised ONNX model is not: its activations are rounded to 8 bits, and processors
without VNNI instructions saturate the products of bytes. For all-MiniLM-L6-v2 that moves the
vector of a single token by up to 0.005 in cosine. So the graph is rewritten to float32: the 8-bit
weights stay what they are, and only the arithmetic is done in floating point.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute.errors import InvalidInputError
from fastroute.types import Float32Array

#: Token ids int64[n, tokens], no padding, to sentence embeddings float32[n, d].
Encoder = Callable[[npt.NDArray[np.int64]], Float32Array]

MODEL_FILES = ("model_int8.onnx", "model.onnx")
OUTPUT = "embedding"


def load_encoder(folder: str | os.PathLike[str]) -> Encoder:
    """The encoder in ``folder`` (``model_int8.onnx`` or ``model.onnx``), run on one thread.

    The model has inputs ``input_ids`` and ``attention_mask``, int64[n, tokens], and an output
    ``embedding``, float32[n, d]. Raises InvalidInputError if it is missing or has others.
    """
    import onnx
    import onnxruntime

    path = next((Path(folder) / f for f in MODEL_FILES if (Path(folder) / f).is_file()), None)
    if path is None:
        raise InvalidInputError(
            f"encoder folder {str(folder)!r} has none of {', '.join(MODEL_FILES)}; give a folder "
            "with an ONNX sentence encoder"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        in_floating_point(onnx.load(path)).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    inputs = {node.name for node in session.get_inputs()}
    outputs = [node.name for node in session.get_outputs()]
    if inputs != {"input_ids", "attention_mask"} or OUTPUT not in outputs:
        raise InvalidInputError(
            f"{path} has inputs {sorted(inputs)} and outputs {outputs}, where input_ids, "
            f"attention_mask and {OUTPUT} are needed; export it with those names"
        )

    def encode(ids: npt.NDArray[np.int64]) -> Float32Array:
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        embeddings: Float32Array = session.run([OUTPUT], feed)[0]
        return embeddings

    return encode


def in_floating_point(model: Any) -> Any:
    """A copy of an ONNX model in which each dynamically quantised product is a float32 MatMul.

    ``DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul(scales)``, as onnxruntime's dynamic
    quantisation writes it, becomes ``MatMul`` with the dequantised weights. Other nodes stay.
    """
    import onnx
    from onnx import helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    replaced: dict[int, Any] = {}
    dropped: set[int] = set()
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        activations, weight, _, zero_point = node.input
        (cast,) = users[node.output[0]]
        (scaled,) = users[cast.output[0]]
        scales = maker[next(name for name in scaled.input if name != cast.output[0])]
        step = next(name for name in scales.input if name in weights)
        W, zero, unit = (
            numpy_helper.to_array(weights[name]).astype(np.float32)
            for name in (weight, zero_point, step)
        )
        name = f"{weight}_in_floating_point"
        graph.initializer.append(numpy_helper.from_array((W - zero) * unit, name))
        quantise = maker[activations]
        replaced[id(node)] = helper.make_node(
            "MatMul", [quantise.input[0], name], [scaled.output[0]]
        )
        dropped |= {id(cast), id(scaled), id(scales), id(quantise)}
    nodes = [replaced.get(id(node), node) for node in graph.node if id(node) not in dropped]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result
