"""Tiny decoders made here: a tokenizer, a random Llama, and what a test asks of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from fastroute.routers.causal_llm.template import LABEL_TOKENS, LabelTemplate, template_json

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{{ message['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SYSTEM = "You rate how well a small model would answer the question of a user."
QUESTION = "[Question]\n{question}\n[End]\nWhich label?"
TEMPLATE = LabelTemplate(
    f"<s><|system|>\n{SYSTEM}<|end|>\n<|user|>\n[Question]\n",
    "\n[End]\nWhich label?<|end|>\n<|assistant|>\n",
    max_tokens=256,
)
SPECIALS = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
PROMPTS = [
    "hi",
    "What is the capital of France?",
    "Prove that there are infinitely many primes, and then that there are infinitely many twins.",
    "",
    "  two spaces and äöü 日本\n\nnew lines ",
    "one " * 30,
]


def torch_or_skip() -> Any:
    """torch, where it and transformers are installed."""
    reason = 'torch and transformers are not installed (".[train-transformers]")'
    pytest.importorskip("transformers", reason=reason)
    torch = pytest.importorskip("torch", reason=reason)
    torch.set_num_threads(1)  # these models are too small for more
    return torch


def write_tokenizer(folder: Path, *, labels: bool = True, chat: bool = True) -> Tokenizer:
    """A byte-level BPE tokenizer that puts ``<s>`` first, with its files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([SYSTEM, QUESTION, *PROMPTS] * 3, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    if labels:
        made.add_tokens([AddedToken(label, normalized=False) for label in LABEL_TOKENS])
    made.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "model_max_length": 1e30}
    if chat:
        config["chat_template"] = CHAT_TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return made


def write_llama(folder: Path, *, labels: bool = True, seed: int = 0, **changes: Any) -> Any:
    """A random Llama of two layers with grouped keys, and its tokenizer; returns the model."""
    torch = torch_or_skip()
    import transformers

    tokenizer = write_tokenizer(folder, labels=labels)
    config = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "initializer_range": 0.2, "bos_token_id": 1,
        "eos_token_id": 2, **changes,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
    model.save_pretrained(folder)
    return model


def write_template(folder: Path, template: LabelTemplate = TEMPLATE) -> None:
    """The file that export and training write."""
    (folder / "fastroute_router.json").write_text(template_json(template), "utf-8")
