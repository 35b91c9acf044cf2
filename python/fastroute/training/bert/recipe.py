"""From examples to the artifact of a ``bert`` router: train, calibrate, export, check, write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._files import scratch_folder
from fastroute.artifacts import hash_prompts, save_artifact
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.evaluation.metrics.baselines import losses
from fastroute.policy import calibrated
from fastroute.provenance import Provenance
from fastroute.routers.bert import KIND, BertRouter, win_rates_of_logits
from fastroute.training.bert import export
from fastroute.training.bert.calibrate import Calibration, fit_calibration, fold_in, levelled
from fastroute.training.bert.examples import Examples, split
from fastroute.training.bert.export import Difference
from fastroute.training.bert.loop import History, Progress, fine_tune
from fastroute.training.bert.network import Network, load_network, save_network
from fastroute.training.bert.quality import Quality, measure
from fastroute.training.bert.settings import DEFAULT_ENCODER, Settings
from fastroute.training.outcome import check_output

#: Folders below the output: where a training stands, and the model for transformers.
CHECKPOINT, TORCH = "checkpoint", "torch"
# Of the router that was written, on so many held-out prompts.
_ROUTER_CHECKS = 100


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a training."""

    folder: Path  #: the artifact; ``BertRouter(folder)`` loads it
    training_prompts: int  #: how many prompts were learnt from
    history: History  #: how the training went
    calibration: Calibration  #: what is folded into the model's last layer
    #: float32, int8: how far the exports are from torch, on held-out prompts.
    float32: Difference
    int8: Difference
    quality: Quality  #: of the int8 export on prompts held out from training
    #: greatest difference of a win rate between the router that was loaded from the artifact, from
    #: text, and torch, in float32.
    router_difference: float

    def warnings(self) -> list[str]:
        """What was not measured, in words."""
        if self.quality.rank_correlation is not None:
            return []
        why = "no group has 20 held-out prompts with different outcomes; give more data"
        return [f"whether this router beats the baselines was not measured: {why}"]

    def losses(self) -> list[str]:
        """The baselines that the router does not beat on held-out prompts, in words."""
        quality = self.quality
        return losses(
            quality.rank_correlation, quality.length_rank_correlation,
            measure="rank correlation", random=0.0,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def train_bert(
    examples: Examples,
    output: str | os.PathLike[str],
    *,
    encoder: str | os.PathLike[str] = DEFAULT_ENCODER,
    settings: Settings | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Fine-tune ``encoder`` and write the artifact of a router to ``output``.

    Beside the artifact, ``output``/torch has the model as transformers loads it, calibrated too.
    Interrupted, ``output``/checkpoint is left, from which ``resume`` continues.

    Args:
        examples: what to learn; 1 in 20 prompts decides when to stop, 1 in 20 calibrates and is
            reported on.
        output: a folder; a checkpoint in it is an error unless ``resume`` is asked for.
        encoder: a folder of a Hugging Face model, or its id on the hub.
        settings: see ``Settings``.
        overwrite: replace the router in ``output``.
        progress: called after every step.
        say: called with what is being done.

    Raises InvalidInputError for input that can't be used, MissingDependencyError without torch or
    transformers.
    """
    settings = settings or Settings()
    folder = Path(output).expanduser()
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise InvalidInputError(
            f"{str(checkpoint)!r} belongs to an interrupted training; resume it, or remove it"
        )
    check_output(folder, overwrite=overwrite, resume=resume)
    parts = split(examples, settings.seed)
    training, stopping, _ = parts
    network = load_network(encoder, max_tokens=settings.max_tokens, seed=settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"training on {len(training):,} prompts, stopping by {len(stopping):,}")
    history = fine_tune(
        network,
        training,
        stopping,
        settings,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    report = finish(network, parts, folder, history, settings, os.fspath(encoder), say)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return report


def finish(
    network: Network,
    parts: tuple[Examples, Examples, Examples],
    folder: Path,
    history: History,
    settings: Settings,
    encoder: str,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Calibrate, export, check and write a trained network; see ``train_bert``."""
    training, _, held_out = parts
    say(f"calibrating on {len(held_out):,} prompts")
    network.model.to("cpu")
    ids = network.token_ids(held_out.prompts)
    wanted = levelled(held_out, training)
    raw = network.logits(ids)
    calibration = fit_calibration(raw, wanted, held_out.weights)
    fold_in(network.model, calibration)
    expected = calibration.apply(raw)

    # Beside the router that may be there, which stays until this one has been checked.
    try:
        with scratch_folder(folder) as scratch:
            say("exporting to ONNX")
            files = save_network(network, scratch / TORCH)
            export.export_onnx(network, scratch)
            say("comparing with torch")
            threads = settings.num_threads
            float32 = export.difference(
                export.onnx_logits(scratch / export.FLOAT_FILE, ids, num_threads=threads), expected
            )
            export.check_export(float32)
            logits = export.onnx_logits(scratch / export.INT8_FILE, ids, num_threads=threads)
            int8 = export.difference(logits, expected)
            win_rates = win_rates_of_logits(logits)
            quality = measure(held_out, win_rates, wanted)
            hashes = hash_prompts(prompt for part in parts for prompt in part.prompts)
            write_router(
                scratch,
                folder,
                files=files,
                config={
                    "encoder": Path(encoder).name if Path(encoder).is_dir() else encoder,
                    "settings": asdict(settings),
                    "training_prompts": len(training),
                    "history": asdict(history),
                    "calibration": asdict(calibration),
                    "float32": asdict(float32),
                    "int8": asdict(int8),
                    "quality": asdict(quality),
                },
                provenance=calibrated(
                    Provenance(trained_on=hashes),
                    win_rates,
                    calibrated_on=f"{len(win_rates):,} held-out prompts",
                ),
            )
    except OSError as error:
        raise ArtifactError(f"{folder} can't be written: {error.strerror or error}") from error
    router = BertRouter(folder, precision="float32", batch_threads=1)
    some = held_out.prompts[:_ROUTER_CHECKS]
    apart = np.abs(router.win_rates(some) - win_rates_of_logits(expected[: len(some)]))
    return Report(
        folder, len(training), history, calibration, float32, int8, quality, float(apart.max())
    )


def write_router(
    made: Path,
    folder: Path,
    *,
    files: Mapping[str, bytes],
    config: Mapping[str, Any],
    provenance: Provenance,
) -> None:
    """Save the ONNX files in ``made`` and ``files`` as an artifact, and move torch/ to ``folder``.

    A router that is there already is replaced atomically. Killed while torch/ is replaced, the
    folder has the new router and no torch/, which fastroute does not read. Raises OSError besides
    what ``save_artifact`` raises.
    """
    exports = {name: (made / name).read_bytes() for name in (export.FLOAT_FILE, export.INT8_FILE)}
    save_artifact(
        folder,
        kind=KIND,
        config=config,
        arrays={},
        files={**files, **exports},
        provenance=provenance,
    )
    if (folder / TORCH).exists():
        (folder / TORCH).rename(made / f"old-{TORCH}")
    (made / TORCH).rename(folder / TORCH)
