"""A language model behind an OpenAI-compatible completions endpoint, asked for one token."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

from fastroute._forking import ForkSafeLock
from fastroute._validate import check_count
from fastroute.errors import InvalidInputError, ScoringError
from fastroute.http.json_client import JsonClient
from fastroute.http.request import Endpoint
from fastroute.http.retry import RetryPolicy
from fastroute.routers.causal_llm.engine import LABELS, LabelEngine, softmax
from fastroute.routers.causal_llm.onnx_engine import check_model_folder
from fastroute.routers.causal_llm.prompt import Fitted, LabelPrompt, OnTruncation
from fastroute.routers.causal_llm.template import longest_input, read_template
from fastroute.types import Float64Array

SendAs = Literal["text", "tokens"]

_HINTS = {
    400: "the endpoint may allow fewer top_logprobs, or a shorter max_tokens",
    404: "the endpoint must serve /completions",
    422: "the endpoint may not take send_as='tokens'",
}


class CompletionsLabelEngine(LabelEngine):
    """Asks an OpenAI-compatible ``POST /completions`` (vLLM, llama.cpp, SGLang) for one token.

    The prompt is put into its template, and truncated where it is too long, by the checkpoint's own
    tokenizer here; the model stays where it is served. Nothing is sampled from: temperature 0, one
    token, and the log-probabilities of the ``top_logprobs`` most likely ones.

    **Labels that are missing.** An endpoint tells only the most likely tokens. A label that is not
    among them counts as impossible: its probability is at most the least one told. Where none of
    the five is there, the model answers no label, and the router says 1.0 (strong). A model that
    was trained to answer labels has all five at the top; for another one, raise ``top_logprobs``.

    Requests are retried as in ``OpenAIEmbedder``, and the key follows the same rules.

    Args:
        folder: the checkpoint's tokenizer and template; no weights are needed.
        model: the endpoint's name of the model.
        base_url: what comes before ``/completions``.
        api_key: sent as a bearer token. If None, the variable OPENAI_API_KEY is read at first use
            and sent to api.openai.com only; other hosts then get no Authorization header.
        max_tokens: longest input, template included; the limit in the folder's files if None.
        on_truncation: as in ``LabelPrompt``.
        send_as: "text", which every endpoint takes and tokenizes by itself, or "tokens": exactly
            the tokens made here, which vLLM, SGLang and llama.cpp's own server take.
        top_logprobs: how many log-probabilities to ask for. vLLM allows 20 unless it is told more.
        max_concurrency: requests at the same time, for a batch of prompts.
        timeout_s, deadline_s, max_retries, backoff_s: as in ``OpenAIEmbedder``.

    Raises:
        InvalidInputError, InvalidTypeError: an argument that can't be used.
        ScoringError: a file of the folder is missing or not understood.
        MissingDependencyError: tokenizers is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        model: str,
        base_url: str,
        api_key: str | None = None,
        max_tokens: int | None = None,
        on_truncation: OnTruncation = "count",
        send_as: SendAs = "text",
        top_logprobs: int = 20,
        max_concurrency: int = 8,
        timeout_s: float = 10.0,
        deadline_s: float = 30.0,
        max_retries: int = 2,
        backoff_s: float = 0.5,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise InvalidInputError(f"model must be a name, got {model!r}")
        if send_as not in ("text", "tokens"):
            raise InvalidInputError(f"send_as must be 'text' or 'tokens', got {send_as!r}")
        self.model, self.send_as = model, send_as
        self.top_logprobs = check_count("top_logprobs", top_logprobs, least=1)
        self.max_concurrency = check_count("max_concurrency", max_concurrency, least=1)
        self._client = JsonClient(
            Endpoint(base_url, api_key, timeout_s, max_retries=max_retries, retry_cut_answers=True),
            "/completions",
            retry=RetryPolicy(backoff_s, deadline_s, retry_late=True),
            error=ScoringError,
            wanted=f"label from {model!r}",
            hints=_HINTS,
        )
        path = check_model_folder(folder)
        template = read_template(path)
        limit = max_tokens or template.max_tokens or longest_input(path)
        if limit is None:
            raise InvalidInputError(
                f"max_tokens: no file in {str(path)!r} says how long an input may be; pass it"
            )
        self.prompt = LabelPrompt(path, template, max_tokens=limit, on_truncation=on_truncation)
        self._lock = ForkSafeLock()
        self._missing_count = 0

    @property
    def truncated_count(self) -> int:
        return self.prompt.truncated_count

    @property
    def checksum(self) -> None:
        """None: what the endpoint serves under a name is not known here."""
        return

    @property
    def missing_count(self) -> int:
        """How many answers lacked one label or more since this engine was made."""
        return self._missing_count

    def probabilities(self, prompts: list[str]) -> Float64Array:
        """As ``LabelEngine.probabilities``. Raises ScoringError where there is no usable answer.

        Its ``__cause__`` is a ProviderStatusError, ProviderTimeoutError or ProviderConnectionError
        where the HTTP exchange failed.
        """
        fitted = self.prompt.fit(prompts)
        if len(fitted) <= 1:
            rows = [self._ask(one) for one in fitted]
        else:
            with ThreadPoolExecutor(min(self.max_concurrency, len(fitted))) as pool:
                waiting = [pool.submit(self._ask, one) for one in fitted]
                try:
                    rows = [future.result() for future in waiting]
                finally:  # after a failure nothing more is sent
                    for future in waiting:
                        future.cancel()
        return softmax(np.array(rows, dtype=np.float64).reshape(-1, LABELS))

    def close(self) -> None:
        """Close the connections; scoring is then an error."""
        self._client.close()

    def __repr__(self) -> str:  # never with the key
        return f"CompletionsLabelEngine({self.model!r}, endpoint={self._client.shown!r})"

    def _ask(self, fitted: Fitted) -> list[float]:
        """Log-probabilities of the labels, -inf where one is missing."""
        as_text = self.send_as == "text"
        payload = {
            "model": self.model,
            "prompt": self.prompt.as_text(fitted.text) if as_text else fitted.ids,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": self.top_logprobs,
        }
        told = self._read(self._client.post(payload))
        labels = zip(self.prompt.template.label_tokens, self.prompt.label_ids, strict=True)
        row = [max((told[k] for k in _keys(*label) if k in told), default=-math.inf)
               for label in labels]  # fmt: skip
        if -math.inf in row:
            with self._lock:
                self._missing_count += 1
        return row

    def _read(self, answer: Any) -> dict[str, float]:
        """Log-probabilities at the first generated position, by token."""
        choices = answer.get("choices") if isinstance(answer, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(first, dict):
            raise self._client.unusable("it has no choices")
        said = first.get("logprobs")
        if not isinstance(said, dict):
            raise self._client.unusable(
                "it has no logprobs; the endpoint must be started so that it gives them "
                "(llama-cpp-python: --logits_all true)"
            )
        told = _legacy(said) if "top_logprobs" in said else _chat_like(said)
        if told is None:
            raise self._client.unusable("its logprobs have an unknown format")
        return told


def _keys(label: str, label_id: int) -> tuple[str, ...]:
    """The names under which endpoints tell a label's log-probability."""
    return (label, f" {label}", f"token_id:{label_id}", f"id {label_id}")


def _legacy(said: dict[str, Any]) -> dict[str, float] | None:
    """OpenAI's completions, vLLM, SGLang, llama-cpp-python: a list of {token: logprob}."""
    positions = said["top_logprobs"]
    if not isinstance(positions, list) or not positions or not isinstance(positions[0], dict):
        return None
    told: dict[str, float] = {}
    for token, value in positions[0].items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return None
        told[token] = float(value)
    return told


def _chat_like(said: dict[str, Any]) -> dict[str, float] | None:
    """llama.cpp's own server: {"content": [{"top_logprobs": [{"id", "token", "logprob"}]}]}."""
    content = said.get("content")
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return None
    entries = content[0].get("top_logprobs")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    told: dict[str, float] = {}
    for entry in entries:
        value = entry.get("logprob")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return None
        if isinstance(entry.get("token"), str) and entry["token"]:
            told[entry["token"]] = float(value)
        if isinstance(entry.get("id"), int):  # special tokens have an empty text there
            told[f"id {entry['id']}"] = float(value)
    return told
