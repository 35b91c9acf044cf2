"""Schemathesis on the gateway's OpenAPI document: no answer may be a 5xx of ours.

``python bench/serve_schema.py --schemathesis PATH`` where PATH is the command ``schemathesis`` of
an environment that has it (``pip install schemathesis``).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack

from serve_clients import upstream
from serve_load import free_port, running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemathesis", default="schemathesis", metavar="PATH")
    parser.add_argument("--examples", type=int, default=200)
    options = parser.parse_args()
    with upstream() as url, ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", "fastroute", "serve", "--routers", "mf", "random"]
        command += ["--strong-model", "s", "--weak-model", "w", "--base-url", url]
        stack.enter_context(running([*command, "--port", str(port)], port, {}))
        done = subprocess.run(
            [
                *(options.schemathesis, "run", f"http://127.0.0.1:{port}/openapi.json"),
                *("--checks", "not_a_server_error", "--max-examples", str(options.examples)),
                *("--mode", "all", "--seed", "1", "--suppress-health-check", "all"),
            ],
            check=False,
        )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
