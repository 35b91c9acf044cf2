"""``fakes.openai_chat`` that keeps its customer's bill: ``billed`` in each of its ``requests()``.

Four bytes of a request's body, or of an answer's text, are a token. A prompt with the word CACHED
is read from the cache but for 10 tokens. A request that is refused is not billed; one whose client
left is billed for what was written until then, or, if it was no stream, for the whole answer.
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from typing import Any

from fakes import openai_chat, planned

WORD = "abcd"


def start() -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.openai_billed")


class _Handler(openai_chat.Handler):
    def _bill(self, output_tokens: int) -> dict[str, Any]:
        input_tokens = -(-len(self.record["raw"]) // 4)
        cached = input_tokens - 10 if "CACHED" in self.record["raw"] else 0
        usage = {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        self.record["billed"] = usage
        return usage

    def usual(self, behaviour: dict[str, Any], _body: dict[str, Any]) -> bytes:
        words = behaviour.get("words", 100)
        message = {"role": "assistant", "content": WORD * words}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = self._bill(words)
        if behaviour.get("usage_first"):
            return json.dumps({"id": "c1", "usage": usage, "choices": choices}).encode()
        return json.dumps({"id": "c1", "choices": choices, "usage": usage}).encode()

    def special(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bool:
        if not body.get("stream"):
            return False
        time.sleep(behaviour.get("before_s", 0))
        self._begin_stream()
        usage = self._bill(0)
        for _ in range(behaviour.get("words", 100)):
            self._chunk(openai_chat.event(WORD).encode())
            usage = self._bill(usage["completion_tokens"] + 1)
            time.sleep(behaviour.get("seconds", 0))
        self._chunk(openai_chat.event(None, "stop").encode())
        if (body.get("stream_options") or {}).get("include_usage"):
            last = json.dumps({"id": "c1", "choices": [], "usage": usage})
            self._chunk(f"data: {last}\n\n".encode())
        self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        return True


if __name__ == "__main__":
    planned.serve(_Handler)
