"""Without an optional package, a command is one line that names the extra to install."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastroute
from fastroute._extras import _EXTRAS

ROOT = Path(__file__).parents[2]
PACKAGE = Path(fastroute.__file__).parent
#: Imported names of the packages that the default install has.
DEFAULT = {"faiss", "httpx2", "huggingface_hub", "numpy", "onnxruntime", "safetensors"}
DEFAULT |= {"tokenizers", "tqdm"}

PAIR = ["--weak", "weak", "--strong", "strong"]
COMMANDS = [
    ("pydantic", "serve", ["serve", "--strong-model", "a", "--weak-model", "b"]),
    ("aiohttp", "serve", ["serve", "--strong-model", "a", "--weak-model", "b", "--port", "0"]),
    ("aiohttp", "serve", ["serve", "--strong-model", "a", "--weak-model", "b", "--check"]),
    ("prometheus_client", "serve", ["serve", "--strong-model", "a", "--weak-model", "b"]),
    ("yaml", "serve", ["serve", "--config", "gateway.yaml"]),
    ("sqlalchemy", "journal", ["serve", "--config", "gateway.toml"]),
    ("sqlalchemy", "journal", ["journal", "stats"]),
    ("alembic", "journal", ["journal", "savings"]),
    ("sqlalchemy", "journal", ["journal", "prune", "--older-than", "3"]),
    ("sqlalchemy", "journal", ["learn", "--journal", "sqlite:///j.db", "--output", "r"]),
    ("alembic", "journal", ["replay", "--journal", "sqlite:///j.db", "--policy", "logged"]),
    ("sqlalchemy", "journal", ["tune", "sqlite:///j.db?table=graded", "--dry-run"]),
    ("psycopg", "postgresql", ["journal", "stats", "postgresql://user@127.0.0.1/none"]),
    ("psycopg", "postgresql", ["tune", "postgresql://user@127.0.0.1/none?table=g", "--dry-run"]),
    ("pyarrow", "scale", ["score", "--input", "rows.csv", "--output", "scores"]),
    ("pyarrow", "scale", ["evaluate", "--benchmark", "rows.parquet"]),
    ("ray", "ray", ["score", "--input", "rows.csv", "--output", "scores", "--engine", "ray"]),
    ("matplotlib", "eval", ["evaluate", "--benchmark", "rows.csv", "--plot", "f.png"]),
    ("aiohttp", "serve", ["label", "rows.csv", *PAIR, "--output", "v.jsonl", "--page"]),
]  # fmt: skip


@pytest.mark.parametrize(("package", "extra", "words"), COMMANDS)
def test_a_command_names_the_extra(
    package: str, extra: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "gateway.yaml").write_text("strong_model: a\nweak_model: b\n")
    (tmp_path / "gateway.toml").write_text(
        '[routing]\nstrong_model = "a"\nweak_model = "b"\n[journal]\n'
    )
    (tmp_path / "rows.csv").write_text(
        "prompt,weak,strong,answer_weak,answer_strong\nHello,0.5,0.7,Hi,Hey\n"
    )
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from fastroute.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, ""), done
    line = done.stderr
    assert line.startswith("fastroute: ")
    assert line.endswith(f' needs {package}: pip install "fastroute[{extra}]"\n')
    assert line.count("\n") == 1


def test_every_optional_import_has_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = DEFAULT | set(sys.stdlib_module_names) | {"fastroute"}
    optional = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            optional |= {name.partition(".")[0] for name in names} - known
    assert optional - set(_EXTRAS) == set()
    assert set(_EXTRAS.values()) <= set(project["optional-dependencies"])
