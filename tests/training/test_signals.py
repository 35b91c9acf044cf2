"""Cheap signals, the benefit-cost selection among them, and the command that reports it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_runner import fastroute
from fastroute.artifacts import save_artifact
from fastroute.data import GradedResult
from fastroute.embedders.static import KIND, StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.training.signals import candidates
from fastroute.training.signals.benefit_cost import rescaled, select
from fastroute.training.signals.selection import select_signals
from training_data import FILES, WORDS, prompts, tokenizer, write_jsonl


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("digits", "What is 1234 times 5678?", "What is the capital of France?"),
        ("code", "```def f(x): return x == 1;```", "Please write me a friendly letter."),
        ("mathematics", "Prove that $\\frac{a}{b} = \\sqrt{2}$.", "Who wrote this old poem?"),
        ("english", "Where is the house that we were in?", "Wo liegt das schoene Haus heute?"),
        ("script", "\u4f60\u597d\u4e16\u754c", "hello world"),
    ],
)
def test_signals_tell_what_they_are_called_after(name: str, more: str, less: str) -> None:
    signal = candidates.SIGNALS[name]
    assert signal(more) > signal(less)


@given(st.text(max_size=500))
def test_signals_are_numbers_for_any_text(text: str) -> None:
    for signal in candidates.SIGNALS.values():
        assert 0.0 <= signal(text) < 1e6


def test_costs_near_zero_are_raised_and_differences_rescaled() -> None:
    assert rescaled({"a": -3.0, "b": 0.0, "c": 2.0}, 1.0, 10.0) == {"a": 1.0, "b": 1.0, "c": 2.0}
    got = rescaled({"a": 1.0, "b": 100.0, "c": 10_000.0}, 0.1, 100.0)
    assert got == pytest.approx({"a": 1.0, "b": 10.0, "c": 100.0})
    for least, ratio, message in ((0.0, 2.0, "least_cost"), (1.0, 0.5, "most_ratio")):
        with pytest.raises(InvalidInputError, match=message):
            rescaled({"a": 1.0}, least, ratio)


@given(
    costs=st.lists(st.floats(0, 1e9), min_size=1, max_size=8),
    least=st.floats(1e-3, 10),
    ratio=st.floats(1, 1e3),
)
def test_rescaling_keeps_order_and_bounds(costs: list[float], least: float, ratio: float) -> None:
    got = rescaled({str(i): cost for i, cost in enumerate(costs)}, least, ratio)
    values = [got[str(i)] for i in range(len(costs))]
    assert min(values) >= least
    assert max(values) <= min(values) * ratio * (1 + 1e-9)
    for i, a in enumerate(costs):
        for j, b in enumerate(costs):
            assert a > b or values[i] <= values[j] * (1 + 1e-9)


def _gain(names: tuple[str, ...]) -> float:
    """Two features say the same, one is cheap noise."""
    strong = 0.10 if "dear" in names or "same" in names else 0.0
    return 0.5 + strong + 0.03 * ("cheap" in names) + 0.001 * ("noise" in names)


COSTS = {"noise": 0.001, "cheap": 1.0, "dear": 20.0, "same": 40.0}


def test_the_plain_ratio_takes_cheap_noise_and_the_safeguards_do_not() -> None:
    plain = select(_gain, COSTS, exponent=1.0, least_benefit=lambda _: 0.0)
    assert plain[0].taken == "noise"  # 0.001 / 0.001 is the best ratio of all
    costs = rescaled(COSTS, 0.5, 10.0)
    steps = select(_gain, costs, exponent=0.5, least_benefit=lambda _: 0.005)
    assert [step.taken for step in steps] == ["dear", "cheap", None]
    assert {one.name for one in steps[-1].candidates} == {"noise", "same"}
    # The exponent trades off: the benefit alone, or more weight for the cost.
    assert select(_gain, COSTS, exponent=0.0, least_benefit=lambda _: 0.0)[0].taken == "dear"
    assert select(_gain, costs, exponent=1.0, least_benefit=lambda _: 0.005)[0].taken == "cheap"


def test_what_noise_gains_is_asked_beside_what_was_taken() -> None:
    asked = []

    def least(taken: tuple[str, ...]) -> float:
        asked.append(taken)
        return 0.005

    select(_gain, COSTS, exponent=0.0, least_benefit=least)
    assert asked == [(), ("dear",), ("dear", "cheap")]
    with pytest.raises(InvalidInputError, match="exponent must be 0 or more, got -1"):
        select(_gain, COSTS, exponent=-1, least_benefit=least)


# On prompts whose difficulty only a signal tells


def _rows() -> list[GradedResult]:
    rng = np.random.default_rng(2)
    rows = []
    for number, file in enumerate(FILES):
        for prompt in prompts(170, seed=number):
            hard = rng.random() < 0.4
            # The tokenizer made here knows no mark: the embedding can't see them.
            text = f"{prompt} {{;}} == {{;}} ->" if hard else prompt
            scores = {"strong": 1.0} | {f"weak {i}": float(not hard) for i in range(3)}
            rows.append(GradedResult(file, "set", text, scores))
    return rows


def _embedder_folder(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    table = rng.integers(-127, 128, size=(len(WORDS), 16)).astype(np.int8)
    scales = np.full(len(WORDS), 0.01, dtype=np.float32)
    scales[:5] = 0.0
    save_artifact(
        folder,
        kind=KIND,
        config={"name": "static:tiny", "length_scale": 1 / 32},
        arrays={"table": table, "scales": scales},
        files={"tokenizer.json": tokenizer().to_str().encode()},
    )
    return folder


def test_the_signal_that_tells_is_kept_and_noise_is_not(tmp_path: Path) -> None:
    embedder = StaticEmbedder.load(_embedder_folder(tmp_path / "e"))
    tried = []
    report = select_signals(_rows(), embedder, progress=tried.append)
    assert report.kept[0] in ("code", "length", "mathematics")  # == is a mark of both
    assert len(report.kept) <= 2
    assert report.apgr[-1] > report.base + 0.2
    assert report.apgr[0] == report.base
    assert report.steps[-1].taken is None or len(report.kept) == 6
    assert set(report.costs_us) == {"embedder", "length", *candidates.SIGNALS}
    assert all(cost > 0 for cost in report.rescaled_costs.values())
    assert len(tried) > 20
    with pytest.raises(InvalidInputError, match="embedder has no element for the length"):
        select_signals(_rows(), embedder.without_length())


def test_the_command_prints_and_writes_the_report(tmp_path: Path) -> None:
    for file in FILES:
        rows = [row for row in _rows() if row.file == file]
        write_jsonl(
            tmp_path / "data" / file,
            [{"dataset": r.dataset, "prompt": r.prompt, "scores": r.scores} for r in rows],
        )
    arguments = ["train", "signals", "--data", tmp_path / "data"]
    arguments += ["--embedder", _embedder_folder(tmp_path / "e")]
    ran = fastroute(*arguments, "--output", tmp_path / "report.md")
    assert ran.status == 0, ran.err
    assert (tmp_path / "report.md").read_text() == ran.out
    assert "left: 0 battles and" in ran.err
    assert "| (embedder) |" in ran.out
    assert "best of 20 of noise" in ran.out
    assert "| the embedding alone |" in ran.out
    ran = fastroute(*arguments, "--exponent", "-1")
    assert ran.status == 2
    assert "exponent must be 0 or more" in ran.err
