"""``fakes.openai_chat`` that answers as a judge, and as a model, would.

A request whose model is ``judge`` gets a verdict: the longer answer is better, and equal lengths
are a tie; of two prompts the one with the greater ``hardness N`` is harder. Texts that hold certain
words change that: ``BIASED`` prefers the one shown first, ``MUMBLE`` gives no verdict. Any other
model gets "<model> says <the prompt>". Each answer takes ``seconds``, the argument of ``start``. A
plan of the kind ``usage`` says what its usage is.
"""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import AbstractContextManager
from typing import Any

from fakes import openai_chat, planned

_ANSWERS = re.compile(r"<answer_a>\n(.*)\n</answer_a>.*<answer_b>\n(.*)\n</answer_b>", re.DOTALL)
_REQUESTS = re.compile(_ANSWERS.pattern.replace("answer", "request"), re.DOTALL)
_HARDNESS = re.compile(r"hardness (\d+)")

_USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def start(seconds: float = 0.0) -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.openai_judge", str(seconds))


class _Handler(openai_chat.Handler):
    seconds = 0.0

    def usual(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        if behaviour["kind"] == "reply":
            return super().usual(behaviour, body)
        time.sleep(self.seconds)
        asked = body["messages"][-1]["content"]
        text = f"{body['model']} says {asked}" if body["model"] != "judge" else _verdict(asked)
        message = {"role": "assistant", "content": text}
        answer = {
            "object": "chat.completion",
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": behaviour.get("usage", _USAGE),
        }
        return json.dumps(answer).encode()


def _verdict(asked: str) -> str:
    found = _ANSWERS.search(asked) or _REQUESTS.search(asked)
    assert found is not None
    first, second = found.groups()
    if found.re is _REQUESTS:
        sizes = [
            int(hardness[1]) for hardness in map(_HARDNESS.search, (first, second)) if hardness
        ]
    else:
        sizes = [len(first), len(second)]
    if "MUMBLE" in first + second:
        return "Both have merits. I would say [[A]], or perhaps [[B]]; hard to tell."
    if "BIASED" in first + second:
        letter = "A"
    else:
        letter = "C" if sizes[0] == sizes[1] else "A" if sizes[0] > sizes[1] else "B"
    return f"[[B]] might be said, but I looked closely.\n\n**[[{letter}]]**\n"


if __name__ == "__main__":
    _Handler.seconds = float(sys.argv[1])
    planned.serve(_Handler)
