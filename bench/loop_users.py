"""A simulated provider and its users, to try the loop without an API key (docs/loop.md).

``python bench/loop_users.py provider`` serves ``large``, ``small`` and ``judge`` on port 8000 until
Ctrl-C. ``large`` answers nine of ten questions; ``small`` nine of ten about everyday things, but
three of ten about mathematics. ``python bench/loop_users.py users --requests 1500`` asks a gateway
on port 6060 for the model ``fastroute``; with ``--graded 0.3`` they grade 30 % of the answers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

TOPICS = {
    "mathematics": "integral matrix theorem polynomial eigenvalue derivative proof converges prime",
    "everyday things": "birthday holiday recipe garden kitchen weather movie puppy funny friendly",
}
GOOD = {"large": (0.9, 0.9), "small": (0.3, 0.9)}
NO_ANSWER = "I am not sure."


def _answer(model: str, prompt: str) -> str:
    """The same for the same question: an answer, or that there is none."""
    if model == "judge":
        first, _, second = prompt.partition("<answer_b>")
        a, b = NO_ANSWER in first, NO_ANSWER in second
        return "[[C]]" if a == b else "[[B]]" if a else "[[A]]"
    draw = hashlib.sha256(f"{model} {prompt}".encode()).digest()[0] / 256
    topic = 0 if any(word in prompt for word in TOPICS["mathematics"].split()) else 1
    if draw >= GOOD.get(model, (0.5, 0.5))[topic]:
        return NO_ANSWER
    return "This is how it is done, step by step, with a check of the result at the end."


class Provider(BaseHTTPRequestHandler):
    """Answers chat completions; what, a subclass may say."""

    protocol_version = "HTTP/1.1"

    def answer(self, model: str, prompt: str) -> tuple[str, int, int]:
        """The text, and the tokens of prompt and text."""
        text = _answer(model, prompt)
        return text, len(prompt) // 4, len(text) // 4

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = "\n".join(message["content"] for message in body["messages"])
        text, read, written = self.answer(body["model"], prompt)
        message = {"role": "assistant", "content": text}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            },
        }
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: a line a request says nothing."""


def _serve(port: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", port), Provider) as server:
        port = server.server_address[1]
        print(f"serving large, small and judge at http://127.0.0.1:{port}/v1", flush=True)
        server.serve_forever()


def _ask(url: str, requests: int, graded: float, seed: int) -> None:
    """Each user asks one question, and some say whether the answer helped."""
    draws = random.Random(seed)
    questions = [
        (" ".join(draws.choices(words.split(), k=5)), draws.random() < graded)
        for words in draws.choices(list(TOPICS.values()), k=requests)
    ]
    with httpx2.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(8) as pool:

        def ask(question: tuple[str, bool]) -> str:
            text, is_graded = question
            prompt = f"Tell me about {text}, please."
            messages = [{"role": "user", "content": prompt}]
            body: dict[str, Any] = {"model": "fastroute", "messages": messages}
            answer = client.post("/v1/chat/completions", json=body).raise_for_status()
            if is_graded:
                good = answer.json()["choices"][0]["message"]["content"] != NO_ANSWER
                request_id = answer.headers["x-fastroute-request-id"]
                grade = {"request_id": request_id, "score": int(good), "source": "user"}
                client.post("/v1/feedback", json=grade).raise_for_status()
            return answer.headers["x-fastroute-model"]

        models = list(pool.map(ask, questions))
    print(", ".join(f"{models.count(name)} answers of {name}" for name in sorted(set(models))))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True)
    provider = kinds.add_parser("provider")
    provider.add_argument("--port", type=int, default=8000)
    users = kinds.add_parser("users")
    users.add_argument("--url", default="http://127.0.0.1:6060", help="of the gateway")
    users.add_argument("--requests", type=int, default=1500)
    users.add_argument("--graded", type=float, default=0.0, help="share of the answers")
    users.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.kind == "users":
        try:
            _ask(options.url, options.requests, options.graded, options.seed)
        except httpx2.HTTPError as error:
            sys.exit(f"{options.url}: {error}; is the gateway running, and the provider?")
        return
    with suppress(KeyboardInterrupt):
        _serve(options.port)


if __name__ == "__main__":
    main()
