"""Any sentence-embedding model in an ONNX folder, run by onnxruntime."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from fastroute._validate import check_prompt, check_prompts
from fastroute.embedders import _sentence_folder as sentence_folder
from fastroute.embedders.base import Embedder
from fastroute.errors import EmbeddingError, InvalidInputError, OnnxModelError
from fastroute.onnx_models.folder import find_model_file, find_tokenizer_file, locate
from fastroute.onnx_models.session import (
    CPU,
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
from fastroute.types import Float32Array

if TYPE_CHECKING:
    from tokenizers import Encoding

Pooling = Literal["auto", "mean", "cls", "max", "last", "none"]

_POOLED_OUTPUTS = ("sentence_embedding", "embedding", "text_embeds")
_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")


class OnnxEmbedder(Embedder):
    """Sentence embeddings from an ONNX model and a ``tokenizer.json``.

    The model takes ``input_ids`` and, if it wants, ``attention_mask`` and ``token_type_ids``
    (int64 or int32, [batch, tokens], either axis fixed or dynamic). It gives pooled vectors
    [batch, dimensions], or token embeddings [batch, tokens, dimensions] that are pooled here over
    the attention mask.

    **One prompt and a batch.** The vector of a prompt doesn't depend on the prompts around it,
    up to float32 rounding (1e-7 in all-MiniLM-L6-v2), because padding is masked. Models with
    *dynamically quantised activations* (the usual int8 exports) are different: each layer takes
    one scale for the whole batch, so neighbours change a vector (cosines down to 0.973 between
    the two, measured in all-MiniLM-L6-v2). Such a model is recognised and by default runs prompt
    by prompt, which makes batch and single equal to the bit. On one thread that costs little:
    a batch takes as long per prompt at 90 tokens, and 40 % less at 8.

    A prompt without tokens of its own (an empty one) gets the zero vector. Safe to use from
    several threads at once.

    Args:
        folder_or_hub_id: a folder with ``tokenizer.json`` and an ONNX file, or the id
            ``owner/name`` of a Hugging Face model. A folder of that name goes first. From the hub
            only the tokenizer, the ONNX file and JSON settings are fetched; no code.
        model_file: path of the ONNX file inside the folder. Needed only if there are several and
            none is ``model.onnx`` or ``onnx/model.onnx`` (from the hub: if it has neither).
        revision: branch, tag or commit on the hub.
        cache_dir: the hub's cache on disk; its own default if None.
        output: name of the model's output to use; chosen by its usual names if None.
        pooling: how token embeddings become one vector. "auto" obeys ``1_Pooling/config.json``
            and refuses to guess without it. "none": the model pools by itself.
        normalize: scale vectors to length 1.
        query_prefix: text put before each prompt, for models trained with one ("query: ").
        max_tokens: longer prompts are truncated to this many tokens, special ones included; the
            limit in the folder's files if None.
        on_truncation: "count" raises ``truncated_count``; "warn" also warns, once for this
            embedder; "error" raises InvalidInputError and embeds nothing.
        batch_size: most prompts in one run of the model. None: 1 if activations are dynamically
            quantised, else 32. Batches are formed by length.
        num_threads: threads of onnxruntime within one run.
        providers: onnxruntime execution providers, each a name or ``(name, options)``. A provider
            that isn't there is an error; nothing falls back to the CPU.
        label: the readable part of ``name``; the folder's or the model's name if None.

    Raises:
        InvalidInputError, InvalidTypeError: an argument that can't be used.
        EmbeddingError: a file is missing or not understood, or the hub can't be reached.
        MissingDependencyError: onnxruntime or tokenizers is not installed.

    Attributes:
        max_tokens: the limit in force.
        pooling: the pooling in force, never "auto".
        batch_size: the batch size in force.
        dynamically_quantised: whether the model quantises its activations as it runs.
    """

    max_tokens: int
    pooling: Pooling
    batch_size: int
    dynamically_quantised: bool

    def __init__(
        self,
        folder_or_hub_id: str | os.PathLike[str],
        *,
        model_file: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        output: str | None = None,
        pooling: Pooling = "auto",
        normalize: bool = True,
        query_prefix: str = "",
        max_tokens: int | None = None,
        on_truncation: OnTruncation = "count",
        batch_size: int | None = None,
        num_threads: int = 1,
        providers: Sequence[Provider] = CPU,
        label: str | None = None,
    ) -> None:
        check_choice("pooling", pooling, get_args(Pooling))
        check_options(max_tokens, batch_size, on_truncation)
        self.normalize = normalize
        self.query_prefix = check_prompt(query_prefix, "query_prefix")
        self.on_truncation = on_truncation
        runs = SessionSettings(num_threads=num_threads, providers=providers)

        with _as_embedding_errors():
            # 1. The files.
            folder, short_name = locate(
                folder_or_hub_id,
                model_file=model_file,
                revision=revision,
                cache_dir=cache_dir,
                config_files=sentence_folder.CONFIG_FILES,
            )
            model = find_model_file(folder, model_file)
            tokenizer_file = find_tokenizer_file(folder, model)
            digest, self.dynamically_quantised = inspect_file(model)
            digest.update(tokenizer_file.read_bytes())

            # 2. The model: which inputs it takes, which output is the embedding.
            session = Session(model, runs)
            self._output = _choose_output(session, output, pooling)

            # 3. The tokenizer, with padding and truncation in our hands.
            tokenizer, pad_id, tokenizer_limit = open_tokenizer(tokenizer_file)
            lowercase = sentence_folder.lowercases(folder)
            self._model = TokenModel(
                session,
                self._output,
                tokenizer,
                pad_id,
                max_tokens=choose_max_tokens(
                    folder,
                    asked=max_tokens,
                    declared=sentence_folder.max_tokens_of(folder, tokenizer_limit),
                    fixed=session.fixed_tokens,
                ),
                on_truncation=on_truncation,
                batch_size=batch_size or (1 if self.dynamically_quantised else 32),
                prefix=self.query_prefix,
                lowercase=lowercase,
            )
            self.max_tokens, self.batch_size = self._model.max_tokens, self._model.batch_size

            # 4. One real run tells the shape of the answer.
            self.pooling = pooling
            probe = self._probe()
            if self.pooling == "auto":
                self.pooling = _pooling_for(probe.ndim, folder)
            pools_prefix = sentence_folder.pools_prompt_prefix(folder)
        if (self.pooling == "none") != (probe.ndim == 2):
            raise InvalidInputError(
                f"pooling={self.pooling!r} does not fit the output {self._output!r}, which has "
                f"the shape [batch, {'' if probe.ndim == 2 else 'tokens, '}dimensions]; pass "
                f"pooling={'none' if probe.ndim == 2 else 'mean'!r} or another output="
            )
        if self.query_prefix and probe.ndim == 3 and not pools_prefix:
            raise InvalidInputError(
                "query_prefix: 1_Pooling/config.json says include_prompt=false (the prefix takes "
                "no part in the pooling), which is not supported"
            )
        self._dimensions = int(probe.shape[-1])

        # 5. The name: everything that decides a vector, and nothing else.
        settings = [
            self._output,
            self.pooling,
            self.normalize,
            self.query_prefix,
            self.max_tokens,
            lowercase,
        ]
        digest.update(json.dumps(settings).encode())
        self._name = f"onnx:{short_name if label is None else label}:{digest.hexdigest()[:12]}"

    @property
    def name(self) -> str:
        """``onnx:<label>:<12 hex digits>``.

        The digits are of a SHA-256 over the ONNX file (with weights beside it in ``<file>_data``
        or ``<file>.data``), tokenizer.json and the settings that change vectors: equal digits mean
        equal vectors.
        """
        return self._name

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def truncated_count(self) -> int:
        """How many prompts were truncated to ``max_tokens`` since this embedder was made."""
        return self._model.truncated_count

    def embed(self, prompt: str) -> Float32Array:
        """Embed one prompt: float32[dimensions].

        Raises:
            InvalidInputError: the prompt is too long and ``on_truncation`` is "error".
            EmbeddingError: the model failed, or answered something that isn't a finite vector.
        """
        vector: Float32Array = self._embed([check_prompt(prompt)])[0]
        return vector

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        """Embed many prompts: float32[n, dimensions], in the order given. Raises as ``embed``."""
        return self._embed(check_prompts(prompts))

    def __repr__(self) -> str:
        return (
            f"OnnxEmbedder(name={self._name!r}, dimensions={self._dimensions}, "
            f"pooling={self.pooling!r}, max_tokens={self.max_tokens}, batch_size={self.batch_size})"
        )

    def _embed(self, prompts: list[str]) -> Float32Array:
        encodings = self._model.encode(prompts)
        X = np.zeros((len(prompts), self._dimensions), dtype=np.float32)
        said = [i for i, e in enumerate(encodings) if e.ids != self._model.empty_ids]
        for rows in self._model.batches([len(e.ids) for e in encodings], said):
            tokens, mask = self._run([encodings[i] for i in rows])
            X[rows] = self._finish(tokens, mask)
        return X

    def _run(self, encodings: list[Encoding]) -> tuple[np.ndarray[Any, Any], Any]:
        """Run the model on one batch: its output, and the attention mask bool[n, tokens]."""
        with _as_embedding_errors():
            answer, mask = self._model.run(encodings)
        if answer.ndim == 3 and answer.shape[:2] != mask.shape:
            raise EmbeddingError(
                f"output {self._output!r} has shape {answer.shape} for input of shape "
                f"{mask.shape}; expected [batch, tokens, dimensions]"
            )
        return answer, mask

    def _probe(self) -> np.ndarray[Any, Any]:
        answer = self._model.probe()
        if answer.ndim not in (2, 3) or answer.shape[0] != 1 or answer.dtype.kind != "f":
            raise EmbeddingError(
                f"output {self._output!r} is {answer.dtype}{list(answer.shape)} for one prompt; "
                "expected floats [batch, dimensions] or [batch, tokens, dimensions]: pass "
                f"output= one of {self._model.session.outputs}"
            )
        return answer

    def _finish(self, answer: np.ndarray[Any, Any], mask: Any) -> Float32Array:
        """Pool and normalise: float32[n, dimensions]."""
        X = _pool(answer, mask, self.pooling).astype(np.float32, copy=False)  # from float16 too
        if X.shape != (len(mask), self._dimensions):
            raise EmbeddingError(
                f"output {self._output!r} gave {X.shape}, expected {(len(mask), self._dimensions)}"
            )
        if not np.isfinite(X).all():
            raise EmbeddingError(f"output {self._output!r} holds NaN or infinity")
        if self.normalize:
            lengths = np.linalg.norm(X, axis=1, keepdims=True)
            X = np.divide(X, lengths, out=np.zeros_like(X), where=lengths > 0)
        return X


@contextmanager
def _as_embedding_errors() -> Iterator[None]:
    """What an ONNX folder or model does wrong, as the error that embedders raise."""
    try:
        yield
    except OnnxModelError as error:
        raise EmbeddingError(str(error)) from (error.__cause__ or error)


def _choose_output(session: Session, asked: str | None, pooling: Pooling) -> str:
    names, model = session.outputs, session.file
    if asked is not None:
        if asked not in names:
            raise InvalidInputError(
                f"output={asked!r}: {str(model)!r} has the outputs {', '.join(names)}"
            )
        return asked
    if len(names) == 1:
        return names[0]
    usual = {"auto": _POOLED_OUTPUTS + _TOKEN_OUTPUTS, "none": _POOLED_OUTPUTS}
    for name in usual.get(pooling, _TOKEN_OUTPUTS):
        if name in names:
            return name
    raise EmbeddingError(
        f"{str(model)!r} has several outputs and none with a usual name; pass output= one of: "
        f"{', '.join(names)}"
    )


def _pooling_for(ndim: int, folder: Path) -> Pooling:
    if ndim == 2:
        return "none"
    pooling = sentence_folder.pooling_of(folder)
    if pooling is None:
        raise EmbeddingError(
            f"the model gives token embeddings, and {str(folder)!r} has no 1_Pooling/config.json "
            "that says how to pool them; pass pooling='mean', 'cls', 'max' or 'last' (the model's "
            "card says which; mean is the most frequent)"
        )
    return cast(Pooling, pooling)  # pooling_of refuses any other


def _pool(answer: np.ndarray[Any, Any], mask: Any, pooling: Pooling) -> np.ndarray[Any, Any]:
    """[n, tokens, d] to [n, d] over the tokens in ``mask`` bool[n, tokens], padded at the end."""
    if pooling == "none":
        return answer
    lengths = mask.sum(axis=1)
    if pooling == "cls":
        pooled = answer[:, 0]
    elif pooling == "last":
        pooled = answer[np.arange(len(mask)), lengths - 1]
    elif pooling == "max":
        pooled = np.max(answer, axis=1, where=mask[:, :, np.newaxis], initial=-np.inf)
    else:
        # where=, not a product: padding may hold NaN.
        total = np.sum(answer, axis=1, where=mask[:, :, np.newaxis], dtype=np.float32)
        pooled = total / lengths[:, np.newaxis].astype(np.float32)
    return np.asarray(pooled)
