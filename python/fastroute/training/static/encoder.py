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

from fastroute.embedders._sentence_folder import pooling_of
from fastroute.errors import InvalidInputError, OnnxModelError
from fastroute.onnx_models.tokenizer import open_tokenizer
from fastroute.types import Float32Array, Int64Array

#: Token ids int64[n, tokens], no padding, to sentence embeddings float32[n, d].
Encoder = Callable[[Int64Array], Float32Array]

MODEL_FILES = ("model_int8.onnx", "model.onnx", "onnx/model.onnx")
#: Outputs that are sentence embeddings, and those that are token embeddings.
OUTPUTS = ("embedding", "sentence_embedding", "text_embeds")
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
_OTHER_INPUTS = {"attention_mask", "token_type_ids"}


def load_encoder(folder: str | os.PathLike[str]) -> Encoder:
    """The encoder in ``folder``, run on one thread.

    The folder holds one of MODEL_FILES. The model takes ``input_ids`` and, if it wants,
    ``attention_mask`` and ``token_type_ids``, int64[n, tokens], and gives one of OUTPUTS,
    float32[n, d], or one of TOKEN_OUTPUTS, float32[n, tokens, d], which is then pooled as
    ``1_Pooling/config.json`` says and scaled to length one.

    Raises InvalidInputError if there is no model, or it has other inputs or outputs, EmbeddingError
    for a pooling that isn't known.
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
    output = next((name for name in (*OUTPUTS, *TOKEN_OUTPUTS) if name in outputs), None)
    if not {"input_ids"} <= inputs <= {"input_ids"} | _OTHER_INPUTS or output is None:
        raise InvalidInputError(
            f"{path} has inputs {sorted(inputs)} and outputs {outputs}, where input_ids (with "
            f"attention_mask and token_type_ids or without) and {', '.join(OUTPUTS)} or one of "
            f"{', '.join(TOKEN_OUTPUTS)} are needed; export it with those names"
        )
    pooling = pooling_of(Path(folder)) if output in TOKEN_OUTPUTS else "none"
    if pooling is None:
        raise InvalidInputError(
            f"{path} gives token embeddings and {folder}/1_Pooling/config.json is missing, which "
            "defines their pooling; add it, or export the pooled embedding"
        )

    def encode(ids: Int64Array) -> Float32Array:
        feed = {"input_ids": ids}
        feed |= {"attention_mask": np.ones_like(ids)} if "attention_mask" in inputs else {}
        feed |= {"token_type_ids": np.zeros_like(ids)} if "token_type_ids" in inputs else {}
        try:
            embeddings: Float32Array = np.asarray(session.run([output], feed)[0])
        except Exception as error:  # onnxruntime's own kinds share no base but Exception
            raise InvalidInputError(
                f"{path} fails on tokens {ids.min()} to {ids.max()}: {error}; give a folder that "
                "holds an encoder and its tokenizer"
            ) from error
        return embeddings if pooling == "none" else _pooled(embeddings, pooling)

    return encode


def read_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """The ``tokenizers.Tokenizer`` in ``folder``/tokenizer.json."""
    path = Path(folder) / "tokenizer.json"
    try:
        tokenizer, _, _ = open_tokenizer(path)
    except OnnxModelError as error:
        raise InvalidInputError(str(error)) from error
    count = tokenizer.get_vocab_size()
    if count == 0 or any(tokenizer.id_to_token(i) is None for i in range(count)):
        raise InvalidInputError(
            f"the {count} tokens of {path} are not numbered from 0 to {count - 1}, or there are "
            "none; give a folder that holds an encoder and its tokenizer"
        )
    return tokenizer


def _pooled(tokens: Float32Array, pooling: str) -> Float32Array:
    """Sentence embeddings of length one, float32[n, d], from tokens', float32[n, tokens, d]."""
    if pooling == "mean":
        X = tokens.mean(axis=1)
    elif pooling == "max":
        X = tokens.max(axis=1)
    else:
        X = tokens[:, 0 if pooling == "cls" else -1]
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    unit: Float32Array = (X / np.where(norms > 0, norms, 1.0)).astype(np.float32)
    return unit


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
