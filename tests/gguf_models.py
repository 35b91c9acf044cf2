"""Writes a Llama of transformers, with its byte-level tokenizer, as a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_gguf(path: Path, model: Any, tokenizer_file: Path) -> None:
    """``model`` in float32 and the tokenizer of ``tokenizer_file``, for llama.cpp."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)

    # The tokenizer: byte-level BPE with GPT-2's way to part words.
    said = json.loads(tokenizer_file.read_text("utf-8"))
    added = {entry["id"]: entry for entry in said["added_tokens"]}
    names = {i: token for token, i in said["model"]["vocab"].items()}
    names |= {i: entry["content"] for i, entry in added.items()}
    kinds = [gguf.TokenType.NORMAL] * len(names)
    for i, entry in added.items():
        kinds[i] = gguf.TokenType.CONTROL if entry["special"] else gguf.TokenType.USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in said["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([names[i] for i in range(len(names))])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_add_bos_token(True)

    for name, tensor in model.state_dict().items():
        writer.add_tensor(*_tensor(name, tensor.float().numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_PLAIN = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_IN_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _tensor(name: str, values: np.ndarray, config: Any) -> tuple[str, np.ndarray]:
    stem = name.removesuffix(".weight")
    if stem in _PLAIN:
        return f"{_PLAIN[stem]}.weight", values
    _, _, layer, part = stem.split(".", 3)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    kind = _IN_LAYER[part]
    if kind in heads:
        # llama.cpp rotates neighbours where transformers rotates the two halves of a head.
        split = values.reshape(heads[kind], 2, -1, values.shape[1])
        values = np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))
    return f"blk.{layer}.{kind}.weight", values
