"""Optional packages: the extra that installs each, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastroute.errors import MissingDependencyError

#: Extra by the name that is imported.
_EXTRAS = {
    "aiohttp": "serve",
    "aiohttp_socks": "socks",
    "alembic": "journal",
    "backports": "serve",
    "jinja2": "train-transformers",
    "matplotlib": "eval",
    "multidict": "serve",
    "onnx": "train",
    "onnxscript": "train-transformers",
    "opentelemetry": "opentelemetry",
    "prometheus_client": "serve",
    "psycopg": "postgresql",
    "pyarrow": "scale",
    "pydantic": "serve",
    "pydantic_core": "serve",
    "ray": "ray",
    "redis": "state",
    "scipy": "train",
    "socksio": "socks",
    "sqlalchemy": "journal",
    "torch": "train-transformers",
    "transformers": "train-transformers",
    "uvloop": "serve",
    "yaml": "serve",
    "yarl": "serve",
}


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Inside, a missing package is a MissingDependencyError: what needs it, and the pip command."""
    try:
        yield
    except MissingDependencyError:
        raise
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name == "fastroute":  # our own fault, not a missing package
            raise
        if not name:  # installed, but it can't be loaded
            raise MissingDependencyError(f"{what}: {error}") from error
        extra = _EXTRAS.get(name)
        target = name if extra is None else f'"fastroute[{extra}]"'
        raise MissingDependencyError(f"{what} needs {name}: pip install {target}") from error
