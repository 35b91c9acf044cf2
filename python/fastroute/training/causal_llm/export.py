"""From a Hugging Face checkpoint to a folder that ``causal_llm`` loads: a decoder of five logits.

The output layer is reduced to the rows of the five labels before the export, so that one pass
computes five logits at one position and not a vocabulary of them at each.
"""

from __future__ import annotations

import inspect
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._files import scratch_folder
from fastroute.errors import InvalidInputError, ScoringError
from fastroute.routers.causal_llm.onnx_engine import OnnxLabelEngine, check_model_folder
from fastroute.routers.causal_llm.template import (
    TEMPLATE_FILE,
    LabelTemplate,
    longest_input,
    read_template,
    template_json,
)
from fastroute.routers.causal_llm.tokenizer import label_ids, open_tokenizer
from fastroute.training.causal_llm.libraries import import_libraries, load_decoder
from fastroute.types import Float64Array

#: Largest difference of a logit from torch that an export may have.
TOLERANCE = 1e-4
#: As many tokens as RouteLLM trained on; models take more, at a cost.
USUAL_MAX_TOKENS = 2048

_COPIED = ("tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja")
_OPSET = 17
_PROBES = (
    "hi",
    "What is the capital of France?",
    "Prove that there are infinitely many primes, and say where your proof uses induction.",
    "def f(x):\n    return [y for y in x if y % 2]\n\nWhat does this do?",
    "Wie heißt der höchste Berg? 最高的山叫什么",
    "word " * 120,
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made."""

    folder: Path  #: the folder that ``CausalLLMRouter.load`` takes
    #: largest difference of a label's logit from torch's, over prompts alone and in a batch, with
    #: and without the prefix's cache.
    max_difference: float
    prefix_tokens: int  #: tokens that each prompt is spared by the cache
    num_bytes: int  #: size of the ONNX file and its weights


def export_causal_llm(
    checkpoint: str | Path,
    output: str | Path,
    *,
    template: LabelTemplate | None = None,
    max_tokens: int | None = None,
    model: Any = None,
) -> Exported:
    """Export ``checkpoint`` to ``output``, and hold the result against torch.

    Args:
        checkpoint: folder of a Hugging Face causal language model with tokenizer.json, whose
            vocabulary has the label tokens. It is read as it is; no code of it runs.
        output: a folder that doesn't exist yet, or is empty.
        template: what stands around a prompt; by default what the checkpoint's files say.
        max_tokens: longest input; by default the template's, else the model's own limit or 2048,
            whichever is less.
        model: the model of the checkpoint, where it is already in memory, in float32.

    Raises:
        InvalidInputError: an argument that can't be used.
        ScoringError: the checkpoint lacks something, can't be exported, or differs from torch by
            more than 1e-4; ``output`` is then left as it was.
        MissingDependencyError: torch, transformers or onnx is not installed.
    """
    source, target = check_model_folder(checkpoint), check_output(output)
    template = template or read_template(source)
    limit = max_tokens or template.max_tokens
    longest = longest_input(source)
    if limit is None:
        limit = min(longest or USUAL_MAX_TOKENS, USUAL_MAX_TOKENS)
    elif longest is not None and limit > longest:
        raise InvalidInputError(f"max_tokens={limit}: the model takes at most {longest}")
    template = LabelTemplate(template.prefix, template.suffix, template.label_tokens, limit)
    labels = label_ids(open_tokenizer(source), template.label_tokens, source)
    decoder = load_decoder(source) if model is None else model
    rows = decoder.get_input_embeddings().weight.shape[0]
    if max(labels) >= rows:
        raise ScoringError(
            f"the labels are tokens {labels} and the model has {rows}: model and tokenizer of "
            f"{str(source)!r} do not match"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent) as made:
        folder = made / "export"
        folder.mkdir()
        for name in _COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        (folder / TEMPLATE_FILE).write_text(template_json(template), encoding="utf-8")
        _write_onnx(decoder, labels, folder / "model.onnx")
        engine = OnnxLabelEngine(folder)
        difference = _largest_difference(decoder, engine, folder)
        if not difference <= TOLERANCE:
            raise ScoringError(
                f"the export of {str(source)!r} differs from torch by {difference:.3g} in a logit, "
                f"more than {TOLERANCE:g}; it is not kept"
            )
        (folder / TEMPLATE_FILE).write_text(
            template_json(template, max_difference_from_torch=difference), encoding="utf-8"
        )
        if target.is_dir():
            target.rmdir()
        folder.rename(target)
    size = sum(path.stat().st_size for path in target.glob("model.onnx*"))
    return Exported(target, difference, engine.prefix_tokens, size)


def check_output(output: str | Path) -> Path:
    """The path of a folder that is yet to be filled. Raises InvalidInputError for any other."""
    target = Path(output).expanduser()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidInputError(
            f"output: {str(target)!r} exists and is not an empty folder; give another one, or "
            "remove it"
        )
    return target


def torch_label_logits(model: Any, inputs: list[list[int]], labels: list[int]) -> Float64Array:
    """The oracle: logits of the labels after each of ``inputs``, one by one, float64[n, 5]."""
    torch, _ = import_libraries()
    rows = []
    with torch.no_grad():
        for ids in inputs:
            logits = model(input_ids=torch.tensor([ids], device=model.device)).logits
            rows.append(logits[0, -1, labels].double().cpu().numpy())
    return np.array(rows)


def _largest_difference(decoder: Any, engine: OnnxLabelEngine, folder: Path) -> float:
    prompts: list[str] = list(_PROBES)
    inputs = [fitted.ids for fitted in engine.prompt.fit(prompts)]
    expected = torch_label_logits(decoder, inputs, engine.prompt.label_ids)
    plain = OnnxLabelEngine(folder, reuse_prefix=False)
    found = [
        np.concatenate([engine.label_logits([prompt]) for prompt in prompts]),
        engine.label_logits(prompts),
        plain.label_logits(prompts),
    ]
    return float(max(np.abs(logits - expected).max() for logits in found))


def _write_onnx(decoder: Any, labels: list[int], path: Path) -> None:
    torch, transformers = import_libraries()
    head = decoder.get_output_embeddings()
    if head is None or not hasattr(head, "weight"):
        raise ScoringError("the model has no output layer that could be reduced to the labels")
    small = torch.nn.Linear(head.weight.shape[1], len(labels), bias=head.bias is not None)
    with torch.no_grad():
        small.weight.copy_(head.weight[labels])
        if head.bias is not None:
            small.bias.copy_(head.bias[labels])
        cache = decoder(input_ids=torch.tensor([[0, 0]]), use_cache=True).past_key_values
    layers = getattr(cache, "layers", [])
    keys = [getattr(layer, "keys", None) for layer in layers]
    if not keys or any(key is None or key.ndim != 4 for key in keys):
        raise ScoringError(
            f"{type(decoder).__name__} keeps no keys and values of each layer between runs, and "
            "only such decoders can be exported"
        )

    parameters = inspect.signature(decoder.forward).parameters
    takes_positions = "position_ids" in parameters
    takes_past = "cache" if "cache" in parameters else "past_key_values"  # by transformers' age

    class Labels(torch.nn.Module):  # type: ignore[misc, name-defined] # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.decoder = decoder

        def forward(self, input_ids: Any, attention_mask: Any, *rest: Any) -> Any:
            past = rest[1:] if takes_positions else rest
            pairs = [(past[i], past[i + 1]) for i in range(0, len(past), 2)]
            named = {takes_past: transformers.DynamicCache(pairs)}
            if takes_positions:
                named["position_ids"] = rest[0]
            answer = self.decoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                use_cache=True,
                logits_to_keep=1,
                **named,
            )
            present = [t for layer in answer.past_key_values.layers
                       for t in (layer.keys, layer.values)]  # fmt: skip
            return (answer.logits[:, -1], *present)

    tokens = ["input_ids", "attention_mask", *(["position_ids"] if takes_positions else [])]
    parts = [f"{i}.{what}" for i in range(len(layers)) for what in ("key", "value")]
    past_names = [f"past_key_values.{part}" for part in parts]
    present_names = [f"present.{part}" for part in parts]
    axes = {name: {0: "batch", 1: "tokens"} for name in tokens}
    axes["attention_mask"] = {0: "batch", 1: "all_tokens"}
    axes |= {name: {0: "batch", 2: "past_tokens"} for name in past_names}
    axes |= {name: {0: "batch", 2: "all_tokens"} for name in present_names}
    axes["label_logits"] = {0: "batch"}

    # Sizes that differ from each other and from 1, which a trace could take for constants.
    n, seen, new = 2, 3, 5
    inputs = [
        torch.zeros((n, new), dtype=torch.long),
        torch.ones((n, seen + new), dtype=torch.long),
    ]
    if takes_positions:
        inputs.append(torch.arange(seen, seen + new).repeat(n, 1))
    for layer in layers:
        for tensor in (layer.keys, layer.values):
            inputs.append(torch.zeros((n, tensor.shape[1], seen, tensor.shape[3])))
    names = {"input_names": tokens + past_names, "output_names": ["label_logits", *present_names]}
    decoder.set_output_embeddings(small)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # The tracing exporter is called old, and warns of each size that it sees. What it makes
            # is held against torch below; the new one needs a further library.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Labels().eval(), tuple(inputs), str(path), dynamo=False, opset_version=_OPSET,
                dynamic_axes=axes, **names,
            )  # fmt: skip
    except Exception as error:  # the exporter's own kinds share no base but Exception
        raise ScoringError(
            f"torch can't export {type(decoder).__name__} to ONNX: {str(error)[:300]}"
        ) from error
    finally:
        decoder.set_output_embeddings(head)
    _gather_weights(path)


def _gather_weights(path: Path) -> None:
    """Put the weights of a model above 2 GB, a file each, into one file beside the graph."""
    scattered = [p for p in path.parent.iterdir() if p != path and p.name not in
                 {*_COPIED, TEMPLATE_FILE}]  # fmt: skip
    if not scattered:
        return
    import onnx

    model = onnx.load(str(path))
    for file in scattered:
        file.unlink()
    onnx.save(
        model, str(path), save_as_external_data=True, all_tensors_to_one_file=True,
        location=f"{path.name}.data",
    )  # fmt: skip
