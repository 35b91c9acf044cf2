"""Who is measured in which bench, and what their answers are held against."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from data import Battles
from rivals import (
    bert_fastroute,
    bert_torch,
    mf_fastroute,
    mf_numpy,
    mf_tokenizers,
    sw_fastroute,
    sw_numpy,
    sw_routellm,
)

BERT: tuple[ModuleType, ...] = (bert_fastroute, bert_torch)
MF: tuple[ModuleType, ...] = (mf_fastroute, mf_numpy, mf_tokenizers)
SW: tuple[ModuleType, ...] = (sw_fastroute, sw_numpy, sw_routellm)

#: Sums of a few hundred float32 products in another order, times the sigmoid's slope.
MF_TOLERANCE = 1e-5
#: float32 similarities; RouteLLM's own is wider (``sw_routellm.TOLERANCE``).
SW_TOLERANCE = 1e-7


def contenders(modules: Iterable[ModuleType], *needed: str) -> pytest.MarkDecorator:
    """Parametrise ``rival`` over those of ``modules`` that have the functions ``needed``.

    One that isn't installed is skipped, with the command that installs it.
    """
    cases = []
    for module in modules:
        if all(hasattr(module, name) for name in needed):
            why = module.missing()
            marks = [pytest.mark.skip(reason=why)] if why else []
            cases.append(pytest.param(module, id=module.NAME.replace(" ", "-"), marks=marks))
    return pytest.mark.parametrize("rival", cases)


def assert_mf_answers(rival: ModuleType, prompts: list[str], answers: Any) -> None:
    """Compare with plain NumPy; from the tokenizer alone, with its own answers one by one."""
    if rival is mf_tokenizers:
        tokenizer = mf_tokenizers.load()
        assert list(answers) == [mf_tokenizers.route_text(tokenizer, p) for p in prompts]
        assert min(answers) > 0
        return
    router = mf_numpy.load()
    wanted = [mf_numpy.route_text(router, prompt) for prompt in prompts]
    np.testing.assert_allclose(answers, wanted, rtol=0, atol=MF_TOLERANCE)


def assert_sw_answers(rival: ModuleType, battles: Battles, router: Any, answers: Any) -> None:
    """Compare answers to all queries with plain NumPy's.

    RouteLLM's are compared on the same tiers, within what its early stopping leaves.
    """
    by_numpy = sw_numpy.fit(battles, strict=True)
    tolerance = SW_TOLERANCE
    if rival is sw_routellm:
        same_tiers = sw_routellm.with_tiers(router, battles, by_numpy.model_tiers)
        answers = sw_routellm.route_embeddings(same_tiers, battles.queries)
        tolerance = sw_routellm.TOLERANCE
    wanted = sw_numpy.route_embeddings(by_numpy, battles.queries)
    np.testing.assert_allclose(answers, wanted, rtol=0, atol=tolerance)
