"""A decoder with five label tokens, exported for the router: random weights, made here."""

from __future__ import annotations

import json
from pathlib import Path

from words import COMMON_WORDS


def write_decoder(folder: Path, layers: int = 6, dimensions: int = 256) -> Path:
    """Write a Llama of so many layers to ``folder``, and return the folder of its export."""
    import torch
    import transformers
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    from fastroute.routers.causal_llm.template import LABEL_TOKENS, LabelTemplate
    from fastroute.training.causal_llm.export import export_causal_llm

    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_tokens([AddedToken(label, normalized=False) for label in LABEL_TOKENS])
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({}), "utf-8")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=dimensions,
        intermediate_size=3 * dimensions, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=1024,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(checkpoint)
    rules = " ".join(COMMON_WORDS[:60])[:280]
    template = LabelTemplate(f"{rules}\n[Question]\n", "\n[End]\n", max_tokens=1024)
    return export_causal_llm(checkpoint, folder / "onnx", template=template).folder
