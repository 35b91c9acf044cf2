"""Any sentence-embedding model in an ONNX folder, run by onnxruntime."""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np

from fastroute._prompts import check_count, check_prompt, check_prompts
from fastroute.embedders import _sentence_folder as sentence_folder
from fastroute.embedders.base import Embedder
from fastroute.errors import (
    EmbeddingError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
)
from fastroute.types import Float32Array

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Pooling = Literal["auto", "mean", "cls", "max", "last", "none"]
OnTruncation = Literal["count", "warn", "error"]
#: An onnxruntime execution provider, with or without its options.
Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]

_POOLED_OUTPUTS = ("sentence_embedding", "embedding", "text_embeds")
_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
_INPUT_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


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
        max_tokens: longer prompts are cut to this many tokens, special ones included; the limit
            in the folder's files if None.
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
        providers: Sequence[Provider] = ("CPUExecutionProvider",),
        label: str | None = None,
    ) -> None:
        _check_choice("pooling", pooling, get_args(Pooling))
        _check_choice("on_truncation", on_truncation, get_args(OnTruncation))
        self.normalize = normalize
        self.query_prefix = check_prompt(query_prefix, "query_prefix")
        self.on_truncation = on_truncation
        for argument, value in (("max_tokens", max_tokens), ("batch_size", batch_size)):
            if value is not None:
                check_count(argument, value, least=1)
        check_count("num_threads", num_threads, least=1)

        # 1. The files.
        folder, short_name = sentence_folder.locate(
            folder_or_hub_id, model_file=model_file, revision=revision, cache_dir=cache_dir
        )
        model = sentence_folder.find_model_file(folder, model_file)
        tokenizer_file = sentence_folder.find_tokenizer_file(folder, model)
        digest, self.dynamically_quantised = _inspect(model)
        digest.update(tokenizer_file.read_bytes())

        # 2. The model: which inputs it takes, which output is the embedding.
        self._session = _open_session(model, providers, num_threads)
        self._inputs, self._fixed_rows, self._fixed_tokens = _read_inputs(self._session, model)
        self._output = _choose_output(self._session, model, output, pooling)
        self.batch_size = batch_size or (1 if self.dynamically_quantised else 32)
        if self._fixed_rows is not None:
            self.batch_size = min(self.batch_size, self._fixed_rows)

        # 3. The tokenizer, with padding and truncation in our hands.
        self._tokenizer, self._pad_id, tokenizer_limit = _open_tokenizer(tokenizer_file)
        self._lowercase = sentence_folder.lowercases(folder)
        self.max_tokens = self._choose_max_tokens(folder, max_tokens, tokenizer_limit)
        self._empty_ids = self._tokenizer.encode(self.query_prefix).ids
        if self.max_tokens <= len(self._empty_ids):
            raise InvalidInputError(
                f"max_tokens={self.max_tokens} leaves no room for a prompt: special tokens and "
                f"query_prefix take {len(self._empty_ids)}"
            )
        self._tokenizer.enable_truncation(self.max_tokens)
        self._truncated_count = 0
        self._count_lock = threading.Lock()

        # 4. One real run tells the shape of the answer.
        self.pooling = pooling
        probe = self._probe()
        if self.pooling == "auto":
            self.pooling = _pooling_for(probe.ndim, folder)
        if (self.pooling == "none") != (probe.ndim == 2):
            raise InvalidInputError(
                f"pooling={self.pooling!r} does not fit the output {self._output!r}, which has "
                f"the shape {_shape_in_words(probe)}; pass pooling="
                f"{'none' if probe.ndim == 2 else 'mean'!r} or another output="
            )
        if (
            self.query_prefix
            and probe.ndim == 3
            and not sentence_folder.pools_prompt_prefix(folder)
        ):
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
            self._lowercase,
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
        """How many prompts were cut to ``max_tokens`` since this embedder was made."""
        return self._truncated_count

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
        encodings = self._encode(prompts)
        X = np.zeros((len(prompts), self._dimensions), dtype=np.float32)
        for rows in self._batches([e.ids for e in encodings]):
            tokens, mask = self._run([encodings[i] for i in rows])
            X[rows] = self._finish(tokens, mask)
        return X

    def _encode(self, prompts: list[str]) -> list[Encoding]:
        """Tokenize one by one, on this thread: encode_batch would take every core."""
        texts = (self.query_prefix + (p.lower() if self._lowercase else p) for p in prompts)
        encodings = [self._tokenizer.encode(text) for text in texts]
        # overflowing is costly to ask for, and empty below the limit.
        cut = [
            i for i, e in enumerate(encodings) if len(e.ids) >= self.max_tokens and e.overflowing
        ]
        if cut:
            self._report_truncation(cut, prompts)
        return encodings

    def _report_truncation(self, cut: list[int], prompts: list[str]) -> None:
        what = (
            f"{len(cut)} of {len(prompts)} prompts are longer than max_tokens={self.max_tokens} "
            f"(the first: prompts[{cut[0]}], {len(prompts[cut[0]])} characters)"
        )
        if self.on_truncation == "error":
            raise InvalidInputError(
                f"{what}; shorten them, raise max_tokens if the model allows it, or pass "
                "on_truncation='count'"
            )
        with self._count_lock:
            first = self._truncated_count == 0
            self._truncated_count += len(cut)
        if first and self.on_truncation == "warn":
            warnings.warn(f"{what} and are cut; see truncated_count for more of them", stacklevel=5)

    def _batches(self, ids: list[list[int]]) -> Iterator[list[int]]:
        """Positions of the prompts that run together: neighbours in length, little padding."""
        order = [i for i in range(len(ids)) if ids[i] != self._empty_ids]
        order.sort(key=lambda i: len(ids[i]))
        # Without a mask padding would count as text, so that only equal lengths go together.
        maskless = "attention_mask" not in self._inputs
        for _, group in itertools.groupby(order, lambda i: len(ids[i]) if maskless else 0):
            members = list(group)
            for start in range(0, len(members), self.batch_size):
                yield members[start : start + self.batch_size]

    def _run(self, encodings: list[Encoding]) -> tuple[np.ndarray[Any, Any], Any]:
        """Run the model on one batch: its output, and the attention mask bool[n, tokens]."""
        n = len(encodings)
        width = self._fixed_tokens or max(len(e.ids) for e in encodings)
        feeds = {name: np.zeros((n, width), dtype) for name, dtype in self._inputs.items()}
        feeds["input_ids"][:] = self._pad_id
        mask = np.zeros((n, width), dtype=np.bool_)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            feeds["input_ids"][row, :length] = encoding.ids
            mask[row, :length] = True
            if "token_type_ids" in feeds:
                feeds["token_type_ids"][row, :length] = encoding.type_ids
        if "attention_mask" in feeds:
            feeds["attention_mask"][:] = mask
        if self._fixed_rows is not None:
            # Copies of the prompts fill up: unlike zeros they are valid input, and they leave
            # the scale of dynamic quantisation as it is.
            fill = np.arange(self._fixed_rows) % n
            feeds = {name: values[fill] for name, values in feeds.items()}
        try:
            answer = np.asarray(self._session.run([self._output], feeds)[0])[:n]
        except Exception as error:  # onnxruntime's own kinds share no base but Exception
            raise EmbeddingError(
                f"the model failed on {n} prompts of up to {width} tokens: {error}; if it takes "
                "shorter input only, pass max_tokens="
            ) from error
        if answer.ndim == 3 and answer.shape[:2] != (n, width):
            raise EmbeddingError(
                f"output {self._output!r} has shape {answer.shape} for input of shape "
                f"{(n, width)}; expected [batch, tokens, dimensions]"
            )
        return answer, mask

    def _probe(self) -> np.ndarray[Any, Any]:
        encoding = self._tokenizer.encode(self.query_prefix + "a")
        answer, _ = self._run([encoding])
        if answer.ndim not in (2, 3) or answer.shape[0] != 1 or answer.dtype.kind != "f":
            raise EmbeddingError(
                f"output {self._output!r} is {answer.dtype}{list(answer.shape)} for one prompt; "
                "expected floats [batch, dimensions] or [batch, tokens, dimensions]: pass "
                f"output= one of {[o.name for o in self._session.get_outputs()]}"
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

    def _choose_max_tokens(
        self, folder: Path, asked: int | None, tokenizer_limit: int | None
    ) -> int:
        limit = asked or sentence_folder.max_tokens_of(folder, tokenizer_limit)
        if self._fixed_tokens is not None:
            if asked is not None and asked > self._fixed_tokens:
                raise InvalidInputError(
                    f"max_tokens={asked}: the model's input is fixed at {self._fixed_tokens} tokens"
                )
            limit = min(limit or self._fixed_tokens, self._fixed_tokens)
        if limit is None:
            raise InvalidInputError(
                f"max_tokens: no file in {str(folder)!r} says how long a prompt may be; pass "
                "max_tokens="
            )
        return limit


def _check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInputError(f"{argument} must be one of {', '.join(choices)}, got {value!r}")


def _inspect(model: Path) -> tuple[Any, bool]:
    """A SHA-256 of the model's files, and whether it quantises activations as it runs.

    The names of a graph's operations stand in the file as plain bytes; DynamicQuantizeLinear and
    its fused forms all hold this one. A chance hit costs speed only.
    """
    digest = hashlib.sha256()
    dynamic = False
    weights = (model.with_name(model.name + suffix) for suffix in ("_data", ".data"))
    for path in (model, *(p for p in weights if p.is_file())):
        if path.stat().st_size == 0:
            raise EmbeddingError(f"{str(path)!r} is empty; fetch it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            digest.update(data)
            dynamic = dynamic or (path == model and data.find(b"DynamicQuantize") >= 0)
    return digest, dynamic


def _open_session(model: Path, providers: Sequence[Provider], num_threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "OnnxEmbedder needs onnxruntime: pip install onnxruntime"
        ) from error
    if isinstance(providers, str) or not providers:
        raise InvalidTypeError(
            f"providers must be a sequence of onnxruntime provider names, got {providers!r}"
        )
    wanted = [p if isinstance(p, str) else p[0] for p in providers]
    available = onnxruntime.get_available_providers()
    for provider in wanted:
        if provider not in available:
            raise InvalidInputError(
                f"providers: {provider!r} is not in this onnxruntime; it has {', '.join(available)}"
            )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; what is wrong for us, we say ourselves
    pairs = [p if isinstance(p, str) else (p[0], dict(p[1])) for p in providers]
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=pairs)
    except Exception as error:  # onnxruntime's own kinds share no base but Exception
        raise EmbeddingError(f"onnxruntime can't load {str(model)!r}: {error}") from error
    missing = [p for p in wanted if p not in session.get_providers()]
    if missing:
        raise EmbeddingError(
            f"providers: {', '.join(missing)} could not start here, and running elsewhere would "
            "be silent; pass providers=('CPUExecutionProvider',) if that is meant"
        )
    return session


def _read_inputs(session: Any, model: Path) -> tuple[dict[str, Any], int | None, int | None]:
    """Input names with dtypes, and the batch and token axes where they are fixed."""
    nodes = session.get_inputs()
    known = {"input_ids", "attention_mask", "token_type_ids"}
    names = [node.name for node in nodes]
    if "input_ids" not in names or not known.issuperset(names):
        raise EmbeddingError(
            f"{str(model)!r} takes the inputs {', '.join(names)}; known here are input_ids "
            "(needed), attention_mask and token_type_ids"
        )
    for node in nodes:
        if node.type not in _INPUT_TYPES or len(node.shape) != 2:
            raise EmbeddingError(
                f"{str(model)!r}: input {node.name!r} is {node.type} {node.shape}; expected int64 "
                "or int32 [batch, tokens]"
            )
    rows, tokens = next(node.shape for node in nodes if node.name == "input_ids")
    return (
        {node.name: _INPUT_TYPES[node.type] for node in nodes},
        rows if isinstance(rows, int) else None,
        tokens if isinstance(tokens, int) else None,
    )


def _choose_output(session: Any, model: Path, asked: str | None, pooling: Pooling) -> str:
    names: list[str] = [node.name for node in session.get_outputs()]
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


def _open_tokenizer(path: Path) -> tuple[Tokenizer, int, int | None]:
    """The tokenizer without padding and truncation, its padding id, its own limit."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(
            "OnnxEmbedder needs tokenizers: pip install tokenizers"
        ) from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise EmbeddingError(f"tokenizers can't load {str(path)!r}: {error}") from error
    limit = (tokenizer.truncation or {}).get("max_length")
    pad_id = (tokenizer.padding or {}).get("pad_id")
    for token in ("[PAD]", "<pad>"):
        pad_id = tokenizer.token_to_id(token) if pad_id is None else pad_id
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, pad_id or 0, limit


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


def _shape_in_words(answer: np.ndarray[Any, Any]) -> str:
    return "[batch, dimensions]" if answer.ndim == 2 else "[batch, tokens, dimensions]"
