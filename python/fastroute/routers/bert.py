"""The ``bert`` router: a sequence classifier in ONNX with three labels (Ong et al. 2024)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fastroute._validate import check_count, check_prompt, check_prompts, processors
from fastroute.artifacts import (
    ARRAYS,
    MANIFEST,
    artifact_file,
    check_folder,
    load_artifact,
    read_consistently,
)
from fastroute.errors import InvalidInputError, OnnxModelError
from fastroute.onnx_models.folder import (
    CONFIG_FILES,
    FLOAT_FILES,
    INT8_FILES,
    TOKENIZER_FILE,
    find_model_file,
    find_tokenizer_file,
    locate,
    max_tokens_of,
    read_object,
)
from fastroute.onnx_models.session import (
    CPU,
    MemoryArena,
    Provider,
    Session,
    SessionSettings,
    check_choice,
    inspect_file,
)
from fastroute.onnx_models.token_model import (
    OnTruncation,
    TokenModel,
    check_options,
    choose_max_tokens,
)
from fastroute.onnx_models.tokenizer import open_tokenizer
from fastroute.provenance import Provenance
from fastroute.routers.base import Router
from fastroute.routers.spec import RouterSpec
from fastroute.types import Float64Array

if TYPE_CHECKING:
    from tokenizers import Encoding

Precision = Literal["auto", "int8", "float32"]
#: Kind of the artifacts that ``fastroute train bert`` writes.
KIND = "bert"
#: What the three logits stand for, in their order.
LABELS = ("strong wins", "tie", "weak wins")


class BertRouter(Router):
    """win rate = 1 - (softmax[1] + softmax[2]) of the three logits: strong wins, tie, weak wins.

    Source: arXiv 2406.18665, section 4.2, and RouteLLM's published checkpoints. The model is any
    sequence classifier of transformers exported to ONNX. It takes ``input_ids`` and, if it wants,
    ``attention_mask`` and ``token_type_ids`` (int64 or int32, [batch, tokens]) and gives logits
    [batch, 3].

    **One prompt and a batch.** In float32 the win rate of a prompt does not depend on the prompts
    around it, but for rounding (1e-6 at most). Models with *dynamically quantised activations*, the
    usual int8 exports, take one scale for a whole batch, so that neighbours change a win rate (by
    0.018 at most in batches of 32 of a fine-tuned all-MiniLM-L6-v2, whose win rates spread by
    0.087). So such a model runs prompt by prompt, which makes batch and single equal to the bit,
    and is no slower: larger batches took 40 % longer. ``win_rates`` runs on several threads.

    Safe to use from several threads at once.

    Args:
        folder_or_hub_id: an artifact of ``fastroute train bert``, any folder with
            ``tokenizer.json`` and an ONNX file, or the id ``owner/name`` of a Hugging Face model.
            A folder of that name goes first. From the hub only the tokenizer, the ONNX file and
            settings are fetched; no code.
        precision: "int8" loads the quantised export (``model_int8.onnx``,
            ``model_quantized.onnx``, there or in ``onnx/``), "float32" ``model.onnx``; "auto" the
            first of these that is there.
        model_file: path of the ONNX file inside the folder, where it has another name.
        revision: branch, tag or commit on the hub.
        cache_dir: the hub's cache on disk; its own default if None.
        max_tokens: longer prompts are truncated to this many tokens, special ones included; the
            limit in the folder's files if None.
        on_truncation: "count" raises ``truncated_count``; "warn" also warns, once for this
            router; "error" raises InvalidInputError and scores nothing.
        batch_size: most prompts in one run of the model. None: 1 if activations are dynamically
            quantised, else 32. Batches are formed by length.
        num_threads: threads of onnxruntime within one run.
        batch_threads: how many batches ``win_rates`` runs at once; as many as there are processors
            if None.
        providers: onnxruntime execution providers, each a name or ``(name, options)``. A provider
            that isn't there is an error; nothing falls back to the CPU.
        spin_threads: whether idle threads of a run wait busily; see ``SessionSettings``.
        memory_arena: "keep" holds the memory of the largest run, "shrink" gives it back after each
            run, "off" allocates each tensor.

    Raises:
        InvalidInputError, InvalidTypeError: an argument that can't be used.
        OnnxModelError: a file is missing or not understood, the model has not three labels, or
            the hub can't be reached.
        ArtifactError: a damaged artifact.
        MissingDependencyError: onnxruntime or tokenizers is not installed.

    Attributes:
        model_file: the ONNX file in use.
        max_tokens: the limit in force.
        batch_size: the batch size in force.
        dynamically_quantised: whether the model quantises its activations as it runs.
    """

    name = "bert"

    model_file: Path
    max_tokens: int
    batch_size: int
    dynamically_quantised: bool

    def __init__(
        self,
        folder_or_hub_id: str | os.PathLike[str],
        *,
        precision: Precision = "auto",
        model_file: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        max_tokens: int | None = None,
        on_truncation: OnTruncation = "count",
        batch_size: int | None = None,
        num_threads: int = 1,
        batch_threads: int | None = None,
        providers: Sequence[Provider] = CPU,
        spin_threads: bool = True,
        memory_arena: MemoryArena = "keep",
    ) -> None:
        # 1. The arguments.
        check_choice("precision", precision, get_args(Precision))
        check_options(max_tokens, batch_size, on_truncation)
        if batch_threads is not None:
            check_count("batch_threads", batch_threads, least=1)
        if model_file is not None and precision != "auto":
            raise InvalidInputError(
                f"precision={precision!r} and model_file={model_file!r} both choose the ONNX "
                "file; pass one of them"
            )
        runs = SessionSettings(num_threads, providers, spin_threads, memory_arena)
        self.batch_threads = batch_threads or processors()

        # 2. The files, which a training may be replacing at this moment.
        folder, name = _find(folder_or_hub_id, precision, model_file, revision, cache_dir)

        def read() -> None:
            self._read(folder, name, runs, max_tokens, on_truncation, batch_size)

        read_consistently(folder, read, by_name=True)

    def _read(
        self,
        folder: Path,
        name: str,
        runs: SessionSettings,
        max_tokens: int | None,
        on_truncation: OnTruncation,
        batch_size: int | None,
    ) -> None:
        """Load the model of the ONNX file ``name`` in ``folder``."""
        model = artifact_file(folder, name)
        tokenizer_file = artifact_file(folder, TOKENIZER_FILE)
        if not tokenizer_file.is_file():
            tokenizer_file = find_tokenizer_file(folder, model)
        self.model_file = model
        self._check_label_count(folder)
        known = Provenance()
        if (folder / MANIFEST).is_file():
            used = {name, tokenizer_file.relative_to(folder).as_posix().split(".new-")[0]}
            known = load_artifact(folder, kind=KIND, only=used).provenance
        digest, self.dynamically_quantised = inspect_file(model)
        digest.update(tokenizer_file.read_bytes())

        # The model and its tokenizer.
        session = Session(model, runs)
        tokenizer, pad_id, tokenizer_limit = open_tokenizer(tokenizer_file)
        self._model = TokenModel(
            session,
            _choose_output(session),
            tokenizer,
            pad_id,
            max_tokens=choose_max_tokens(
                folder,
                asked=max_tokens,
                declared=max_tokens_of(folder, tokenizer_limit),
                fixed=session.fixed_tokens,
            ),
            on_truncation=on_truncation,
            batch_size=batch_size or (1 if self.dynamically_quantised else 32),
        )
        self.max_tokens, self.batch_size = self._model.max_tokens, self._model.batch_size
        self._check_logits(self._model.probe(), 1)

        # What pins every win rate. In float32 the size of a batch moves them by rounding only.
        batch = self.batch_size if self.dynamically_quantised else 0
        digest.update(json.dumps([self.max_tokens, batch]).encode())
        self._provenance = replace(known, checksum=digest.hexdigest())

    @property
    def truncated_count(self) -> int:
        """How many prompts were truncated to ``max_tokens`` since this router was made."""
        return self._model.truncated_count

    def win_rate(self, prompt: str) -> float:
        """Win rate of one prompt.

        Raises:
            InvalidInputError: the prompt is too long and ``on_truncation`` is "error".
            OnnxModelError: the model failed, or gave something other than three finite logits.
        """
        return float(self._score([check_prompt(prompt)])[0])

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        """Win rates of many prompts, float64[n], in the order given. Raises as ``win_rate``."""
        return self._score(check_prompts(prompts))

    def __repr__(self) -> str:
        return (
            f"BertRouter({str(self.model_file)!r}, max_tokens={self.max_tokens}, "
            f"batch_size={self.batch_size}, batch_threads={self.batch_threads})"
        )

    def _score(self, prompts: list[str]) -> Float64Array:
        rates = np.empty(len(prompts))
        with self._pool(len(prompts)) as pool:
            encodings = self._model.encode(prompts, pool)
            lengths = [len(e.ids) for e in encodings]
            batches = list(self._model.batches(lengths, range(len(encodings))))
            batches.reverse()  # the longest first, so that all threads end together
            each = map if pool is None else pool.map
            answers = each(lambda rows: self._run([encodings[i] for i in rows]), batches)
            for rows, answer in zip(batches, answers, strict=True):
                rates[rows] = answer
        return rates

    def _pool(self, count: int) -> AbstractContextManager[ThreadPoolExecutor | None]:
        """Threads for ``count`` prompts, or none for a single one.

        tokenizers and onnxruntime let the GIL go, and one session serves many threads.
        """
        workers = min(self.batch_threads, count)
        if workers < 2:
            return nullcontext()
        return ThreadPoolExecutor(workers, thread_name_prefix="fastroute-bert")

    def _run(self, encodings: list[Encoding]) -> Float64Array:
        """Win rates of one batch, float64[n]."""
        answer, _ = self._model.run(encodings)
        return win_rates_of_logits(self._check_logits(answer, len(encodings)))

    def _check_logits(self, answer: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
        if answer.shape != (n, len(LABELS)) or answer.dtype.kind != "f":
            raise OnnxModelError(
                f"{str(self.model_file)!r} gives {answer.dtype}{list(answer.shape)} for {n} "
                f"prompts where logits of three labels are needed, [batch, 3]: {', '.join(LABELS)};"
                " export a sequence classifier with num_labels=3"
            )
        if not np.isfinite(answer).all():
            raise OnnxModelError(f"{str(self.model_file)!r} gave NaN or infinity")
        return answer

    def _check_label_count(self, folder: Path) -> None:
        """What config.json says is said before the model is loaded, and in its words."""
        labels = read_object(folder / "config.json").get("id2label")
        if isinstance(labels, dict) and len(labels) != len(LABELS):
            raise OnnxModelError(
                f"{str(folder / 'config.json')!r} has {len(labels)} labels "
                f"({', '.join(map(str, list(labels.values())[:5]))}) where a bert router needs "
                f"three: {', '.join(LABELS)}"
            )


def win_rates_of_logits(logits: np.ndarray[Any, Any]) -> Float64Array:
    """1 - (softmax[1] + softmax[2]), float64[n], of finite logits [n, 3]."""
    z = logits.astype(np.float64)
    odds = np.exp(z - z.max(axis=1, keepdims=True))
    rates: Float64Array = 1.0 - (odds[:, 1] + odds[:, 2]) / odds.sum(axis=1)
    return rates


def _find(
    folder_or_hub_id: str | os.PathLike[str],
    precision: Precision,
    model_file: str | None,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[Path, str]:
    """The folder and the name of its ONNX file; of a hub's several files only one is fetched."""
    check_folder(folder_or_hub_id)
    choices: dict[str, list[tuple[str, ...]]] = {
        "int8": [INT8_FILES],
        "float32": [FLOAT_FILES],
        "auto": [INT8_FILES, FLOAT_FILES],
    }
    if model_file is not None:
        choices["auto"] = [(model_file,)]
    folder = Path()
    for files in choices[precision]:
        folder, _ = locate(
            folder_or_hub_id,
            model_file=model_file,
            revision=revision,
            cache_dir=cache_dir,
            model_files=files,
            config_files=(*CONFIG_FILES, MANIFEST, ARRAYS),
        )
        there = [file for file in files if artifact_file(folder, file).is_file()]
        if there:
            return folder, there[0]
    if precision == "auto":  # the only one, whatever its name, or a message about what is there
        return folder, find_model_file(folder, model_file).relative_to(folder).as_posix()
    names = sorted(p.name for place in (folder, folder / "onnx") for p in place.glob("*.onnx"))
    raise OnnxModelError(
        f"{str(folder)!r} has no {precision} export (looked for {', '.join(choices[precision][0])})"
        f"; its ONNX files: {', '.join(names) or 'none'}. Pass precision='auto' or model_file="
    )


def _choose_output(session: Session) -> str:
    if "logits" in session.outputs:
        return "logits"
    if len(session.outputs) == 1:
        return session.outputs[0]
    raise OnnxModelError(
        f"{str(session.file)!r} has the outputs {', '.join(session.outputs)} and none is called "
        "logits; export a sequence classifier"
    )


def _make_bert(
    checkpoint_path: str | os.PathLike[str] | None = None,
    num_labels: int = 3,
    **options: Any,
) -> Router:
    if checkpoint_path is None:
        raise InvalidInputError(
            "bert needs checkpoint_path: a folder with an ONNX classifier and its tokenizer.json, "
            "as `fastroute train bert` writes, or the id of one on the Hugging Face Hub"
        )
    if num_labels != 3:  # a key of RouteLLM's configs
        raise InvalidInputError(f"num_labels must be 3, got {num_labels!r}")
    return BertRouter(checkpoint_path, **options)


SPEC = RouterSpec(
    "bert",
    "a fine-tuned encoder with three labels, in ONNX",
    _make_bert,
    accepts=("fastroute.routers.bert:BertRouter",),
)
