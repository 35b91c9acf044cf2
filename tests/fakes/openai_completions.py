"""A real HTTP server that speaks OpenAI's ``POST /v1/completions``, and misbehaves when told to.

The usual answer gives the labels the log-probabilities of ``logprobs_of(prompt)``, among other
tokens. Kinds of plan beside those of ``fakes.planned``: ``answer`` (``logprobs``, in place of the
usual ones), ``llama_cpp`` (the form of llama.cpp's own server, labels by id only), ``token_ids``
(vLLM's ``token_id:7`` for the usual tokens; the ids are 1000 + label).
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import AbstractContextManager
from typing import Any

from fakes import planned

FIRST_ID = 1001


def logprobs_of(prompt: Any) -> list[float]:
    """Log-probabilities of the five labels after ``prompt``, text or tokens; they sum to 0.9."""
    digest = hashlib.sha256(json.dumps(prompt).encode()).digest()
    weights = [1 + byte for byte in digest[:5]]
    return [math.log(0.9 * weight / sum(weights)) for weight in weights]


def start() -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.openai_completions")


class _Handler(planned.PlannedHandler):
    path_served = "/v1/completions"

    def usual(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        values = logprobs_of(body["prompt"])
        names = {f"[[{i}]]": value for i, value in enumerate(values, start=1)}
        logprobs: Any = {"tokens": ["[[1]]"], "top_logprobs": [names | {" the": -4.0}]}
        kind = behaviour["kind"]
        if kind == "answer":
            logprobs = behaviour["logprobs"]
        elif kind == "token_ids":
            ids = {f"token_id:{FIRST_ID + i}": value for i, value in enumerate(values)}
            logprobs["top_logprobs"] = [ids]
        elif kind == "llama_cpp":
            entries = [{"id": FIRST_ID + i, "token": "", "logprob": value}
                       for i, value in enumerate(values)]  # fmt: skip
            logprobs = {"content": [{"id": FIRST_ID, "token": "", "top_logprobs": entries}]}
        choice = {"index": 0, "text": "", "logprobs": logprobs, "finish_reason": "length"}
        return json.dumps({"object": "text_completion", "choices": [choice]}).encode()


if __name__ == "__main__":
    planned.serve(_Handler)
