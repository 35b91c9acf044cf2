"""One computation in eight threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


def check(compute: Callable[[int], Any], wanted: Any, rounds: int = 10) -> None:
    """Each thread calls ``compute`` with its round's number, and always gets ``wanted``."""

    def work(_: int) -> list[Any]:
        return [compute(n) for n in range(rounds)]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(8)):
            for result in results:
                np.testing.assert_array_equal(result, wanted)
