"""What importing fastroute pulls in, measured in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    "datasets",
    "faiss",
    "httpx",
    "httpx2",
    "huggingface_hub",
    "jinja2",
    "litellm",
    "matplotlib",
    "onnxruntime",
    "openai",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "tqdm",
    "transformers",
]


def _imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_the_check_would_notice() -> None:
    assert "tokenizers" in _imported("import tokenizers")


@pytest.mark.parametrize(
    "code",
    [
        "import fastroute",
        "import fastroute; dir(fastroute); fastroute.Decision, fastroute.RoutingError",
        "import fastroute.routers, fastroute.embedders, fastroute.artifacts, fastroute.errors",
        "from fastroute.routers import RandomRouter; RandomRouter().win_rate('x')",
        "from fastroute.routers import SimilarityWeightedRouter, MatrixFactorizationRouter",
        "from fastroute.routers import BertRouter",
        "import fastroute.cli.train.bert, fastroute.training.bert.settings",
        "from fastroute.routers import CausalLLMRouter, CompletionsLabelEngine, OnnxLabelEngine",
        "import fastroute.training.causal_llm.run, fastroute.cli.train.causal_llm",
        "from fastroute.embedders import OpenAIEmbedder, StaticEmbedder, OnnxEmbedder",
        "import fastroute.cli",
        "import fastroute.cli.score; from fastroute.scoring import BatchScorer, score_files",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert not _imported(code) & set(HEAVY)


def test_the_controller_imports_no_library_of_its_routers_and_builds_no_client() -> None:
    found = _imported(
        "from fastroute import Controller\n"
        "c = Controller(routers=['random'], strong_model='s', weak_model='w')\n"
        "c.route('hello', router='random', threshold=0.5)"
    )
    assert not found & {*HEAVY, "asyncio"}
    assert not _imported("from fastroute import Controller") & set(HEAVY)
