"""Sub-interpreters, which fastroute does not support, and Ctrl-C during long work of the core."""

from __future__ import annotations

import subprocess
import sys

import pytest

MESSAGE = "fastroute does not support sub-interpreters; use threads or processes"

IN_SUB_INTERPRETER = """
import os, sys
{before}
try:
    import _interpreters as interpreters  # Python 3.13 and later
    interpreter = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    interpreter = interpreters.create(isolated=False)
code = '''
import sys, warnings
warnings.simplefilter("ignore")  # NumPy warns of sub-interpreters
sys.path[:] = PATH
try:
    import MODULE
except ImportError as error:
    print(error, flush=True)
else:
    print("imported", flush=True)
'''.replace("PATH", repr(sys.path)).replace("MODULE", "{module}")
interpreters.run_string(interpreter, code)
print("end", flush=True)
os._exit(0)  # NumPy can't be torn down in a sub-interpreter
"""


@pytest.mark.parametrize(
    "module", ["fastroute._core", "fastroute._native", "fastroute.embedders.static"]
)
@pytest.mark.parametrize("before", ["", "import fastroute._native"], ids=["first", "again"])
def test_a_sub_interpreter_refuses_the_core_at_once(module: str, before: str) -> None:
    code = IN_SUB_INTERPRETER.format(module=module, before=before)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    found, end = done.stdout.splitlines()
    assert end == "end", done.stderr
    if before and module != "fastroute._core":  # NumPy, imported first, has its own refusal
        assert found in (MESSAGE, "cannot load module more than once per process")
    else:
        assert found == MESSAGE


INTERRUPTED = """
import os, signal, threading, time
import numpy as np
from fastroute import _native

{setup}

def interrupt():
    global sent
    sent = time.process_time()  # which other processes on a busy machine do not lengthen
    os.kill(os.getpid(), signal.SIGINT)


sent = time.process_time()
threading.Timer(0.3, interrupt).start()
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", time.process_time() - sent)
else:
    print("finished", time.process_time() - sent)
"""

EVERYBODY_MET = "wins = np.ones((4000, 4000)); wins[0] = 2.0"


@pytest.mark.parametrize(
    ("setup", "call"),
    [
        (EVERYBODY_MET, "_native.fit_bradley_terry(wins)"),
        ("ratings = np.arange(4000.0) ** 2", "_native.cut_rating_tiers(ratings, 2000)"),
    ],
    ids=["fit_bradley_terry", "cut_rating_tiers"],
)
def test_ctrl_c_ends_long_work(setup: str, call: str) -> None:
    code = INTERRUPTED.format(setup=setup, call=call)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    word, seconds = done.stdout.split()
    assert word == "interrupted"  # the whole takes 10 s and more
    assert float(seconds) < 1.0


ORDERED = """
import time
import numpy as np
from fastroute import _native

wins = np.triu(np.ones((4000, 4000)), 1)  # each beats all who follow: as many groups as players
begin = time.process_time()
assert _native.rating_groups(wins).tolist() == list(range(4000))
print(time.process_time() - begin)
"""


def test_groups_of_4000_players_take_less_than_a_second() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORDERED], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) < 1.0


# The whole takes seconds of a processor.
@pytest.mark.parametrize(
    "text", ["'a proof, in words '", "'!'", "'漢'"], ids=["words", "punctuation", "Chinese"]
)
@pytest.mark.parametrize("call", ["embed(text)", "embed_batch([text])"])
def test_ctrl_c_ends_a_long_prompt(text: str, call: str) -> None:
    setup = (
        "from fastroute.embedders import StaticEmbedder\n"
        "embedder = StaticEmbedder.load_default()\n"
        f"text = {text} * (150_000_000 // len({text}))"
    )
    code = INTERRUPTED.format(setup=setup, call=f"embedder.{call}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    word, seconds = done.stdout.split()
    assert word == "interrupted"
    assert float(seconds) < 1.0
