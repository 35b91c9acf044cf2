"""``fastroute info``: what a bug report should contain."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fastroute.cli.options import add_flag


def configure(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "--json", "print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the facts."""
    facts = _facts()
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, entry in value.items():
                print(f"  {key:<18} {entry}")
        else:
            print(f"{name:<20} {', '.join(value) if isinstance(value, list) else value}")
    return 0


def _facts() -> dict[str, Any]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from fastroute import _native
    from fastroute.artifacts import load_artifact
    from fastroute.routers.matrix_factorization import DEFAULT_FOLDER

    dependencies = {}
    for package in ("numpy", "faiss-cpu", "onnxruntime", "tokenizers", "safetensors", "httpx2"):
        try:
            dependencies[package] = version(package)
        except PackageNotFoundError:
            dependencies[package] = "not installed"
    artifact = load_artifact(DEFAULT_FOLDER)
    size = sum(f.stat().st_size for f in DEFAULT_FOLDER.parent.rglob("*") if f.is_file())
    return {
        "version": _native.version,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "compiler": _native.compiler(),
        "simd_level": _native.simd_level(),
        "simd_levels": _native.simd_levels(),
        "dependencies": dependencies,
        "default_artifact": {
            "router": artifact.kind,
            "embedder": artifact.config["embedder"],
            "dimensions": artifact.config["dimensions"],
            "checksum": artifact.checksum,
            "bytes": size,
        },
    }
