"""The command ``fastroute``: it parses, calls the Python API, and prints."""

from __future__ import annotations

from fastroute.cli.command import main

__all__ = ["main"]
