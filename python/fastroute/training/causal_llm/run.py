"""The whole training of a ``causal_llm`` router: from a base model to a folder that is measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastroute.artifacts import hash_prompts
from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.baselines import losses
from fastroute.routers.causal_llm.onnx_engine import check_model_folder
from fastroute.routers.causal_llm.prompt import LabelPrompt
from fastroute.routers.causal_llm.router import MEASURES_FILE, CausalLLMRouter
from fastroute.routers.causal_llm.template import (
    TEMPLATE_FILE,
    LabelTemplate,
    longest_input,
    template_json,
)
from fastroute.routers.causal_llm.tokenizer import open_tokenizer
from fastroute.routers.length import LengthRouter
from fastroute.training.causal_llm import checkpoint
from fastroute.training.causal_llm.export import USUAL_MAX_TOKENS, Exported, export_causal_llm
from fastroute.training.causal_llm.fine_tune import (
    Settings,
    Trained,
    add_label_tokens,
    fine_tune,
    mean_loss,
)
from fastroute.training.causal_llm.labels import Labelled
from fastroute.training.causal_llm.libraries import load_decoder
from fastroute.training.folds import fold_numbers
from fastroute.types import Float64Array

_COPIED = ("tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Result:
    """The result."""

    trained: Trained  #: losses and time
    held_out: int  #: number of prompts that were not trained on
    #: loss_before, loss_after: mean loss on them, nats; None where none were held out.
    loss_before: float | None
    loss_after: float | None
    #: probability that of two held-out prompts, one with a label of 3 or less and one with 4 or
    #: more, the first gets the higher win rate (ties half); None without both.
    ranking: float | None
    length_ranking: float | None  #: the same of the length of the prompt
    exported: Exported | None  #: the ONNX folder; None if it was not asked for
    checkpoint: Path  #: the Hugging Face folder, for vLLM and others

    def losses(self) -> list[str]:
        """The baselines that the router does not beat on held-out prompts, in words."""
        return losses(self.ranking, self.length_ranking, measure="ranking accuracy")


def train_causal_llm(
    base: str | Path,
    data: Labelled,
    output: str | Path,
    settings: Settings,
    *,
    template: LabelTemplate,
    max_tokens: int | None = None,
    held_out_folds: int = 10,
    device: str = "cpu",
    with_onnx: bool = True,
    resume: bool = False,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Result:
    """Fine-tune ``base`` on ``data``, and write ``output``: ``checkpoint/`` and ``onnx/``.

    One of ``held_out_folds`` prompts is held out, decided by its letters and digits; on those the
    result is measured, and its calibration quantiles are taken. ``resume`` continues a run into the
    same ``output``. Raises as ``fine_tune`` and ``export_causal_llm``.
    """
    source, target = check_model_folder(base), Path(output).expanduser()
    work, finished = target / "unfinished", target / "checkpoint"
    if finished.exists() or (target.exists() and any(target.iterdir()) and not resume):
        raise InvalidInputError(
            f"output: {str(target)!r} is not empty; give another folder, or --resume to continue "
            "the training there"
        )
    folds = fold_numbers(data.prompts, held_out_folds, settings.seed)
    learnt, kept = (data.select(np.flatnonzero(chosen)) for chosen in (folds > 0, folds == 0))
    longest = longest_input(source)
    limit = max_tokens or min(longest or USUAL_MAX_TOKENS, USUAL_MAX_TOKENS)
    if longest is not None and limit > longest:
        raise InvalidInputError(f"max_tokens={limit}: the model takes at most {longest}")
    template = LabelTemplate(template.prefix, template.suffix, template.label_tokens, limit)

    model = load_decoder(source)
    work.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(source, work, template)
    prompt = LabelPrompt(work, template, max_tokens=limit)
    add_label_tokens(model, prompt.label_ids, settings.seed)
    model.to(device)
    before = mean_loss(model, prompt, kept, settings.micro_batch_size) if len(kept) else None
    trained = fine_tune(
        model, prompt, learnt, settings, checkpoints=work, resume=resume, report=report
    )
    after = mean_loss(model, prompt, kept, settings.micro_batch_size) if len(kept) else None

    model.to("cpu")
    model.save_pretrained(work)
    exported, ranking = None, None
    lengths = LengthRouter().win_rates(kept.prompts)
    length_ranking = ranking_accuracy(lengths, kept.labels >= 4)
    if with_onnx:
        made = target / "unfinished-onnx"
        # A training that was killed here leaves them; without checkpoint/ they are not finished.
        for left in (made, target / "onnx"):
            shutil.rmtree(left, ignore_errors=True)
        exported = export_causal_llm(work, made, model=model)
        rates = CausalLLMRouter.load(made).win_rates(kept.prompts)
        ranking = ranking_accuracy(rates, kept.labels >= 4)
        _write_measures(made, rates, learnt.prompts)
        shutil.copyfile(made / MEASURES_FILE, work / MEASURES_FILE)
        exported = replace(exported, folder=made.rename(target / "onnx"))
    work.rename(finished)
    checkpoint.remove(finished)
    return Result(trained, len(kept), before, after, ranking, length_ranking, exported, finished)


def ranking_accuracy(rates: Float64Array, weak_suffices: np.ndarray) -> float | None:
    """Probability that a prompt that needs the strong model gets a higher rate than one that
    doesn't; ties count half. None where one of the two kinds is missing."""
    needs, suffices = rates[~weak_suffices], rates[weak_suffices]
    if not len(needs) or not len(suffices):
        return None
    gaps = needs[:, None] - suffices[None, :]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def _write_tokenizer(source: Path, folder: Path, template: LabelTemplate) -> None:
    from tokenizers import AddedToken

    tokenizer = open_tokenizer(source)
    missing = [label for label in template.label_tokens if tokenizer.token_to_id(label) is None]
    # Not special: llama.cpp shows the text of special tokens to nobody.
    tokenizer.add_tokens([AddedToken(label, normalized=False) for label in missing])
    tokenizer.save(str(folder / "tokenizer.json"))
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    (folder / TEMPLATE_FILE).write_text(template_json(template), encoding="utf-8")


def _write_measures(folder: Path, rates: Float64Array, prompts: list[str]) -> None:
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {"trained_on": hash_prompts(prompts)}
    if len(rates):
        quantiles = np.quantile(rates, np.linspace(0.0, 1.0, 1001))
        arrays["calibration"] = quantiles.astype(np.float32)
    save_file(arrays, folder / MEASURES_FILE)
