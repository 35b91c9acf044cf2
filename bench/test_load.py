"""What a service pays before its first decision: imports, and loading the default router."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from contenders import MF, MF_TOLERANCE, SW, assert_sw_answers, contenders
from data import Battles
from rivals import mf_numpy, mf_tokenizers

PROMPT = "Prove that there are infinitely many primes."


@contenders(MF, "load")
def test_load(benchmark: Any, rival: ModuleType) -> None:
    benchmark.group = "load: the default router, in a process that has loaded it before"
    router = benchmark.pedantic(rival.load, rounds=5)
    _assert_answer(rival, rival.route_text(router, PROMPT))


@contenders(MF, "load")
def test_import_load_and_route_one(benchmark: Any, rival: ModuleType) -> None:
    benchmark.group = "load: a new process: import, load, route one prompt"
    code = f"from {rival.__name__} import load, route_text\nprint(route_text(load(), {PROMPT!r}))"
    environment = dict(os.environ)
    bench = Path(__file__).parent
    path = [str(bench), str(bench.parent / "tests"), environment.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE
        )
        return done.stdout.decode()

    _assert_answer(rival, float(benchmark.pedantic(run, rounds=5)))


@contenders(SW, "load_saved")
def test_load_sw_ranking(
    benchmark: Any, rival: ModuleType, battles: Battles, tmp_path: Path
) -> None:
    benchmark.group = f"load: a saved sw_ranking, {len(battles)}x{battles.dimensions}"
    rival.save(rival.fit(battles, strict=True), battles, tmp_path)
    router = benchmark.pedantic(rival.load_saved, (tmp_path,), rounds=3)
    assert_sw_answers(rival, battles, router, rival.route_embeddings(router, battles.queries))


def _assert_answer(rival: ModuleType, answer: float) -> None:
    if rival is mf_tokenizers:
        assert 5 <= answer <= 20
    else:
        assert abs(answer - mf_numpy.route_text(mf_numpy.load(), PROMPT)) <= MF_TOLERANCE
