"""``fakes.openai_chat`` that answers on every path that the gateway passes on.

What is no chat completion is answered by its own body, as ``{"object": "echo", "body": ...}``.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

from fakes import openai_chat, planned

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")


def start() -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.openai_any")


class _Handler(openai_chat.Handler):
    @property
    def path_served(self) -> str:
        path = self.path.partition("?")[0]
        return path if path in PATHS else PATHS[0]

    def usual(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        if behaviour["kind"] != "reply" and not self.path.startswith(PATHS[0]):
            return json.dumps({"object": "echo", "body": body}).encode()
        return super().usual(behaviour, body)


if __name__ == "__main__":
    planned.serve(_Handler)
