"""The examples for Ray Serve, each with two replicas on a local Ray: decisions, and the gateway."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_runner import patient_ray, wait_for
from fakes import openai_any
from fakes.ports import free_port
from gateway.conftest import CONFIG

FOLDER = Path(__file__).parents[1] / "docs" / "deployment"
SCRIPT = """
import http.client, json, sys
import ray
from ray import serve

port = int(sys.argv[1])
ray.init(num_cpus=4, log_to_driver=False, logging_level="error", include_dashboard=False)
serve.start(http_options={"port": port}, logging_config={"log_level": "ERROR"})
import ray_gateway, ray_serve

serve.run(ray_serve.app, name="decisions", route_prefix="/")
serve.run(ray_gateway.app, name="gateway", route_prefix="/gateway")


def ask(path, body, lines=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body if isinstance(body, str) else json.dumps(body))
    answer = connection.getresponse()
    said = answer.read() if lines is None else b"".join(answer.readline() for _ in range(lines))
    connection.close()
    return answer.status, dict(answer.getheaders()), said.decode()


prompts = ["hello", "Prove that every finite integral domain is a field."] * 20
decided = [ask("/", {"prompt": prompt}) for prompt in prompts]
wrong = [ask("/", body) for body in ("no json", {}, {"prompt": 5})]
chat = {"model": "fastroute", "messages": [{"role": "user", "content": "hello"}]}
answered = [ask("/gateway/v1/chat/completions", chat) for _ in range(20)]
refused = ask("/gateway/v1/chat/completions", "{")
begun = ask("/gateway/v1/chat/completions", chat | {"model": "weak", "stream": True}, lines=3)
with open(sys.argv[2], "w") as file:  # Ray writes lines of its own to standard output
    json.dump([decided, wrong, answered, refused, begun], file)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or importlib.util.find_spec("fastapi") is None,
    reason='needs Ray Serve: pip install "ray[serve]"',
)
def test_both_deployments(tmp_path: Path) -> None:
    from fastroute.decider import Decider

    path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    out = tmp_path / "answers.json"
    config = tmp_path / "gateway.toml"
    environment = {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "PROVIDER_KEY": "sk-key"}
    environment |= {"FASTROUTE_CONFIG": str(config)} | patient_ray()
    with openai_any.start() as upstream, (tmp_path / "errors").open("w+") as errors:
        config.write_text(CONFIG.format(base_url=upstream.base_url))
        upstream.plan(*[{"kind": "usual"}] * 20, {"kind": "endless", "seconds": 0.05})
        script = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(free_port()), str(out)],
            env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=errors,
        )  # fmt: skip
        try:
            while not out.exists() or not out.read_text().endswith("]"):
                assert script.poll() is None, (tmp_path / "errors").read_text()[-3000:]
                time.sleep(0.1)
            # Its client left an endless stream.
            wait_for(lambda: upstream.requests()[-1]["gave_up"])
            script.communicate(timeout=120)
        finally:
            script.kill()
            script.wait()
        asked = upstream.requests()
    decided, wrong, answered, refused, begun = json.loads(out.read_text())
    decider = Decider(["mf"], "strong", "weak")
    prompts = ["hello", "Prove that every finite integral domain is a field."] * 20
    said = [json.loads(body) for _, _, body in decided]
    for prompt, found in zip(prompts, said, strict=True):
        decision = decider.decide(prompt)
        assert (found["model"], found["win_rate"]) == (decision.model, decision.win_rate)
    assert len({found["pid"] for found in said}) == 2
    assert [status for status, _, _ in wrong] == [400, 400, 400]
    for status, headers, body in answered:
        assert (status, headers["x-fastroute-model"]) == (200, "weak")
        assert json.loads(body)["choices"][0]["message"]["content"] == "echo: hello"
    assert len({request["port"] for request in asked[:20]}) == 2  # a connection of each replica
    assert (refused[0], json.loads(refused[2])["error"]["code"]) == (400, "invalid_json")
    assert begun[2].startswith("data: ")
    assert len(asked) == 21
