"""The example for Ray Serve: two replicas on a local Ray decide as a Decider does."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_runner import patient_ray
from fakes.ports import free_port

FOLDER = Path(__file__).parents[1] / "docs" / "deployment"
SCRIPT = """
import json, sys, urllib.error, urllib.request
import ray
from ray import serve

ray.init(num_cpus=2, log_to_driver=False, logging_level="error", include_dashboard=False)
serve.start(http_options={"port": int(sys.argv[1])}, logging_config={"log_level": "ERROR"})
from ray_serve import app

serve.run(app)
prompts = ["hello", "Prove that every finite integral domain is a field."] * 20


def ask(body):
    request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/", data=body)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


answers = [ask(json.dumps({"prompt": prompt}).encode()) for prompt in prompts]
wrong = [ask(body) for body in (b"no json", b"{}", b'{"prompt": 5}')]
with open(sys.argv[2], "w") as file:  # Ray writes lines of its own to standard output
    json.dump([answers, wrong], file)
serve.shutdown()
ray.shutdown()
"""


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or importlib.util.find_spec("fastapi") is None,
    reason='needs Ray Serve: pip install "ray[serve]"',
)
def test_replicas_decide_as_a_decider_does(tmp_path: Path) -> None:
    from fastroute.decider import Decider

    path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(free_port()), str(tmp_path / "answers.json")],
        env=environment | patient_ray(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers, wrong = json.loads((tmp_path / "answers.json").read_text())
    decider = Decider(["mf"], "strong", "weak")
    prompts = ["hello", "Prove that every finite integral domain is a field."] * 20
    for (status, said), prompt in zip(answers, prompts, strict=True):
        decision = decider.decide(prompt)
        assert status == 200
        assert (said["model"], said["win_rate"]) == (decision.model, decision.win_rate)
    assert len({said["pid"] for _, said in answers}) == 2
    assert [status for status, _ in wrong] == [400, 400, 400]
