"""A real HTTP server that speaks OpenAI's ``POST /v1/embeddings``, and misbehaves when told to.

Kinds of plan beside those of ``fakes.planned``: ``reverse`` (data out of order, ``index``
right), ``dimensions`` (``dimensions``), ``fewer``, ``same_index``, ``no_index``, ``ragged``,
``value`` (``value`` in place of the first vector), ``base64``.

By itself: ``python -m fakes.openai_embeddings [DIMENSIONS]`` in the folder ``tests`` prints the
port and serves until its standard input ends.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from contextlib import AbstractContextManager
from typing import Any

from fakes import planned

DEFAULT_DIMENSIONS = 8


def vector_of(text: str, dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """The vector served for ``text``: from its SHA-256, exact in float32."""
    blocks = (hashlib.sha256(f"{i}:{text}".encode()).digest() for i in range(dimensions))
    return [(struct.unpack("<H", block[:2])[0] - 32768) / 32768 for block in blocks]


def start(dimensions: int = DEFAULT_DIMENSIONS) -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.openai_embeddings", str(dimensions))


class _Handler(planned.PlannedHandler):
    path_served = "/v1/embeddings"
    dimensions = DEFAULT_DIMENSIONS

    def special(self, _behaviour: dict[str, Any], body: dict[str, Any]) -> bool:
        refused = not all(body["input"])
        if refused:
            self.fail(400, "input must not be an empty string")
        return refused

    def usual(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        kind = behaviour["kind"]
        dimensions = behaviour.get("dimensions", body.get("dimensions", self.dimensions))
        data: list[dict[str, Any]] = []
        for i, text in enumerate(body["input"]):
            vector: Any = vector_of(text, dimensions)
            if kind == "base64" or body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            data.append({"object": "embedding", "index": i, "embedding": vector})
        if kind == "reverse":
            data.reverse()
        elif kind == "fewer":
            data.pop()
        elif kind == "same_index":
            data[-1]["index"] = 0
        elif kind == "no_index":
            del data[-1]["index"]
        elif kind == "ragged":
            data[-1]["embedding"] = data[-1]["embedding"][:-1]
        elif kind == "value":
            data[0]["embedding"] = behaviour["value"]
        return json.dumps({"object": "list", "data": data, "model": body["model"]}).encode()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _Handler.dimensions = int(sys.argv[1])
    planned.serve(_Handler)
