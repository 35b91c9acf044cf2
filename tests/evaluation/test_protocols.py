"""Protocols are enforced: nothing is scored that was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.protocols import (
    ContaminationError,
    check_untrained,
    folds,
    in_domain_win_rates,
    is_gold,
    prompt_hashes,
    scored,
)
from fastroute.evaluation.benchmarks.routellm import ROUTELLM_PAIR, Benchmark, load_mmlu
from fastroute.routers.base import Router

from .evaluation_data import real_evals


def benchmark(name: str = "mmlu", n: int = 400) -> Benchmark:
    return Benchmark(
        name=name,
        prompts=tuple(f"question {i // 2}" for i in range(n)),  # each twice
        weak=np.zeros(n),
        strong=np.ones(n),
        pair=ROUTELLM_PAIR,
        ids=tuple(str(i) for i in range(n)),
    )


def test_gold_is_fixed_and_about_a_tenth() -> None:
    prompts = [f"prompt {i}" for i in range(20_000)]
    gold = is_gold(prompts)
    assert abs(gold.mean() - 0.107) < 0.01
    # Pinned: a change would let routers trained before it be scored on their training prompts.
    assert np.flatnonzero(gold[:60]).tolist() == [8, 24, 25, 38, 49]
    assert np.array_equal(is_gold([p + " \n" for p in prompts[:100]]), gold[:100])


def test_gold_part_of_the_real_mmlu() -> None:
    gold = is_gold(load_mmlu(real_evals()).prompts)
    assert 1_350 < gold.sum() < 1_650


def test_gold_scores_only_the_rest_and_only_on_mmlu() -> None:
    mmlu = benchmark()
    rest = scored(mmlu, "gold")
    assert 0 < len(rest) < len(mmlu)
    assert not is_gold(rest.prompts).any()
    assert scored(mmlu, "zero-shot") is mmlu
    gsm8k = benchmark("gsm8k")
    assert scored(gsm8k, "gold") is gsm8k
    with pytest.raises(InvalidInputError, match="zero-shot, gold, in-domain"):
        scored(mmlu, "few-shot")  # type: ignore[arg-type]


def test_trained_prompts_are_refused_unless_gold_leaves_them_out() -> None:
    mmlu = benchmark()
    trained = prompt_hashes(
        p for p, g in zip(mmlu.prompts, is_gold(mmlu.prompts), strict=True) if g
    )
    with pytest.raises(ContaminationError, match=r"trained on \d+ of the 400 .*--protocol gold"):
        check_untrained(mmlu, trained, "mf")
    check_untrained(scored(mmlu, "gold"), trained, "mf")
    check_untrained(mmlu, None, "mf")
    check_untrained(mmlu, prompt_hashes(["something else"]), "mf")
    one = prompt_hashes([scored(mmlu, "gold").prompts[5] + "\n"])  # white space does not hide it
    with pytest.raises(ContaminationError, match="trained on 2 of the"):
        check_untrained(scored(mmlu, "gold"), one, "mf")


def test_folds_keep_equal_prompts_together_and_depend_on_the_seed() -> None:
    prompts = benchmark().prompts
    number = folds(prompts, 4)
    assert set(number.tolist()) == {0, 1, 2, 3}
    assert (number[::2] == number[1::2]).all()
    assert not np.array_equal(number, folds(prompts, 4, seed=1))
    with pytest.raises(InvalidInputError, match="folds must be in 2"):
        folds(prompts, 1)


class Remembers(Router):
    """Wins on what it was trained on, and would give away any leak."""

    name = "remembers"

    def __init__(self, seen: frozenset[str]) -> None:
        self.seen = seen

    def win_rate(self, prompt: str) -> float:
        return float(prompt in self.seen)

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return np.array([self.win_rate(p) for p in prompts])


def test_in_domain_never_scores_what_was_trained_on() -> None:
    sizes: list[int] = []

    def fit(part: Benchmark) -> Router:
        sizes.append(len(part))
        return Remembers(frozenset(part.prompts))

    rates = in_domain_win_rates(benchmark(), fit, fold_count=5)
    assert rates.tolist() == [0.0] * 400
    assert sum(400 - size for size in sizes) == 400
    with pytest.raises(InvalidInputError, match="fewer folds"):
        in_domain_win_rates(benchmark(n=2), fit, fold_count=5)
