"""A real llama.cpp server, of PyPI's ``llama-cpp-python[server]``, on a model that a test wrote.

``FASTROUTE_LLAMA_PYTHON`` names the Python that has it, where it is another than the tests': its
requirements need not get along with ours.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PYTHON = os.environ.get("FASTROUTE_LLAMA_PYTHON", sys.executable)


def why_not() -> str | None:
    """Why no server can be started here; None if one can."""
    code = "import llama_cpp, llama_cpp.server.app"
    tried = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return None
    last = tried.stderr.strip().splitlines()[-1:] or ["no reason given"]
    return f"{PYTHON} has no llama.cpp server ({last[0]}): pip install 'llama-cpp-python[server]'"


@contextmanager
def start(model: Path) -> Iterator[str]:
    """Serve ``model`` until the block ends; gives the base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = model.with_suffix(".log")
    options = {"model": model, "host": "127.0.0.1", "port": port, "n_ctx": 512, "n_threads": 1,
               "n_threads_batch": 1, "model_alias": "tiny"}  # fmt: skip
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [PYTHON, "-m", "llama_cpp.server", *words], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s:
        if process.poll() is not None:
            break
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise RuntimeError(f"the llama.cpp server did not start:\n{log.read_text()[-2000:]}")
