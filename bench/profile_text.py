"""Where the time from text to decision goes: ``python bench/profile_text.py --data FOLDER``.

Each stage is the time to do everything up to and including it, in turns with the others; the
difference from the line above is what it adds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from environment import machine, restart_in_fair_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("FASTROUTE_EVALS"))
    parser.add_argument("--prompts", type=int, default=2000, metavar="N")
    options = parser.parse_args()
    restart_in_fair_environment()

    import numpy as np

    from data import load_prompts
    from fastroute import Controller
    from rivals import mf_fastroute
    from timing import interleaved_us

    # Each stage has a table of its own: none finds it warmed by another.
    stages: dict[str, Callable[[Any], object]] = {}
    embedder = mf_fastroute.load().embedder
    assert embedder is not None
    stages["embedder.embed"] = embedder.embed
    stages["router.win_rate"] = mf_fastroute.load().win_rate
    controller = Controller(routers=["mf"], strong_model="strong", weak_model="weak")
    stages["controller.decide"] = partial(controller.decide, router="mf", threshold=0.5)

    prompts = load_prompts(options.data, options.prompts)
    interleaved_us(stages, prompts[:200])  # warm
    times = interleaved_us(stages, prompts, rounds=5)
    print(f"{len(prompts)} prompts; {machine()}")
    before = 0.0
    for name, taken in times.items():
        median = float(np.median(taken))
        print(f"{name:<28} {median:8.2f} us  {median - before:+7.2f}")
        before = median


if __name__ == "__main__":
    main()
