"""What all routers share, the two baselines, and routers by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute._validate import check_prompts
from fastroute.data.battles import read_battles
from fastroute.decider import Decider
from fastroute.embedders import StaticEmbedder
from fastroute.embedders.base import Embedder
from fastroute.embedders.vocabulary import Signal, Vocabulary
from fastroute.errors import InvalidInputError, InvalidTypeError, UnknownRouterError
from fastroute.provenance import Provenance
from fastroute.routers import (
    ROUTER_NAMES,
    LengthRouter,
    MatrixFactorizationRouter,
    RandomRouter,
    Router,
    create_router,
)


@pytest.mark.parametrize("router", [LengthRouter(), RandomRouter(1)], ids=["length", "random"])
def test_prompts_must_be_text(router: Router) -> None:
    for bad in (None, 3, b"bytes", ["a list"], np.float32(1)):
        with pytest.raises(InvalidTypeError, match=r"^prompt must be a str, got"):
            router.win_rate(bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidTypeError, match=r"^prompts\[1\] must be a str, got"):
            router.win_rates(["a", bad])  # type: ignore[list-item]
    for bad in ("one string", b"bytes"):
        with pytest.raises(InvalidTypeError, match="prompts must be a sequence of str, got one"):
            router.win_rates(bad)  # type: ignore[arg-type]
    for bad in (None, 3):
        with pytest.raises(InvalidTypeError, match="prompts must be a sequence of str, got"):
            router.win_rates(bad)  # type: ignore[arg-type]
    for bad_text in ("\ud800", "a\udfff"):
        with pytest.raises(InvalidInputError, match="prompt holds a lone surrogate at position"):
            router.win_rate(bad_text)
    rates = router.win_rates([])
    assert (rates.shape, rates.dtype) == ((0,), np.float64)


@given(st.lists(st.text(max_size=50), max_size=8))
def test_longer_prompts_score_higher(prompts: list[str]) -> None:
    router = LengthRouter()
    rates = router.win_rates(prompts)
    assert list(rates) == [router.win_rate(p) for p in prompts]
    for i, a in enumerate(prompts):
        for j, b in enumerate(prompts):
            assert (len(a) < len(b)) == (rates[i] < rates[j])
    assert ((rates >= 0) & (rates < 1)).all()


def test_half_length_is_where_the_win_rate_is_a_half() -> None:
    assert LengthRouter(40).win_rate("x" * 40) == 0.5
    assert LengthRouter().win_rate("") == 0.0
    for bad in ("300", None, True):
        with pytest.raises(InvalidTypeError, match="half_length must be a number"):
            LengthRouter(bad)  # type: ignore[arg-type]
    for bad in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="half_length must be above 0 characters"):
            LengthRouter(bad)


def test_random_is_uniform_and_a_sequence_by_its_seed() -> None:
    one, many = RandomRouter(7), RandomRouter(7)
    rates = many.win_rates(["x"] * 2000)
    assert [one.win_rate(str(i)) for i in range(2000)] == list(rates)
    assert (rates[:5] != RandomRouter(8).win_rates(["x"] * 5)).all()
    assert ((rates >= 0) & (rates < 1)).all()
    # Kolmogorov-Smirnov: the largest distance to uniform passes 1.95 / sqrt(n) once in 1,000.
    assert np.abs(np.sort(rates) - np.arange(2000) / 2000).max() < 1.95 / np.sqrt(2000)
    assert many.provenance.calibration is not None
    np.testing.assert_allclose(many.provenance.calibration, np.linspace(0, 1, 1001), atol=1e-7)


# By name


def test_names() -> None:
    assert ROUTER_NAMES == (
        "mf",
        "sw_ranking",
        "bert",
        "causal_llm",
        "cascade",
        "models",
        "length",
        "random",
    )
    assert create_router("length", half_length=10).win_rate("x" * 10) == 0.5
    assert create_router("random", seed=3).win_rate("") == RandomRouter(3).win_rate("")
    for name in ("length", "random"):
        assert create_router(name).name == name


def test_a_seed_is_an_int() -> None:
    for bad in ("7", 1.5, [1], True):
        with pytest.raises(InvalidTypeError, match="seed must be an int or None"):
            RandomRouter(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "MF", "bert2", "sw-ranking", None, ["mf"]])
def test_an_unknown_name(name: Any) -> None:
    with pytest.raises(
        UnknownRouterError,
        match="the routers are mf, sw_ranking, bert, causal_llm, cascade, models, length, random",
    ):
        create_router(name)


def test_a_key_that_a_router_does_not_have() -> None:
    for name in ("mf", "random", "length"):
        with pytest.raises(InvalidInputError, match=f"config of router '{name}'.*'colour'"):
            create_router(name, colour=1)
    with pytest.raises(InvalidInputError, match="belong to a checkpoint_path"):
        create_router("mf", strong_model="gpt-4")
    with pytest.raises(InvalidInputError, match="sw_ranking needs battles"):
        create_router("sw_ranking")


# Battles from a file


def _line(**changes: Any) -> dict[str, Any]:
    row = {"model_a": "x", "model_b": "y", "winner": "tie"}
    return {"prompt": "a prompt of more than 16 characters", **row, **changes}


def _file(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "battles.jsonl"
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows]
    path.write_bytes("\n".join(lines).encode("utf-8"))
    return path


def test_reading_battles(tmp_path: Path) -> None:
    separators = "line\u2028separator\x85 and\x7f more"
    path = _file(
        tmp_path,
        _line(extra=1),
        "",
        _line(prompt="short  " + " " * 20),
        json.dumps(_line(prompt=separators, winner="model_b"), ensure_ascii=False) + "\r",
        _line(prompt="x" * 16, winner="model_a"),
    )
    battles = read_battles(path)
    assert [len(b.prompt) for b in battles] == [35, len(separators), 16]
    assert [b.winner for b in battles] == ["tie", "model_b", "model_a"]
    assert battles[0].model_a == "x"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        (_line(winner="A"), "line 2: 'winner' is 'A'; it must be one of 'model_a'"),
        (_line(prompt=3), "line 2: 'prompt' must be a string, got 3"),
        ({"prompt": "x"}, "line 2: 'model_a' must be a string, got None"),
    ],
)
def test_malformed_battles(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_battles(_file(tmp_path, _line(), row))


def test_no_battles(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="has no battle with a prompt of at least 16"):
        read_battles(_file(tmp_path, _line(prompt="hi")))
    with pytest.raises(InvalidInputError, match="can't be read"):
        read_battles(tmp_path / "nowhere.jsonl")
    path = tmp_path / "latin1.jsonl"
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidInputError, match="line 1: not UTF-8 text"):
        read_battles(path)


def test_options_reach_the_router(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"config of router 'sw_ranking'.*'colour'"):
        create_router("sw_ranking", battles=_file(tmp_path, _line()), embedder=object(), colour=1)


BLANK = [
    "",
    " ",
    "\n\t",
    "\U0001f44d",
    "\U0001f389 \u2764\ufe0f",
    "???",
    "_",
    "\u3002\u2026",
    "\u0301",
]
SAID = ["a", "1", "\u00e9", "\u8bc1", "\U0001f44d ok", "x+y", "\u0967", "why?"]


class Counted(Embedder):
    """The same vector for every text; none where there is no character."""

    name, dimensions = "counted", 2

    def embed(self, prompt: str) -> Any:
        return self.embed_batch([prompt])[0]

    def embed_batch(self, prompts: Any) -> Any:
        return np.array(
            [[1.0, 0.5] if p else [0.0, 0.0] for p in check_prompts(prompts)], dtype=np.float32
        )


def _linear(calibration: Any) -> MatrixFactorizationRouter:
    eye = np.eye(2, dtype=np.float32)
    return MatrixFactorizationRouter(
        ["a", "b"], eye, eye, np.ones(2, np.float32), strong_model="a", weak_model="b",
        embedder=Counted(), provenance=Provenance(calibration=calibration),
    )  # fmt: skip


def _native(calibration: Any) -> MatrixFactorizationRouter:
    """A router that goes from text to a win rate in the core, which knows marks and emoji."""
    pieces = sorted({*"\U0001f44d\U0001f389?_a1ox", " "}, key=lambda piece: piece.encode())
    joined = [piece.encode() for piece in pieces]
    vocabulary = Vocabulary(
        np.frombuffer(b"".join(joined), dtype=np.uint8),
        np.cumsum([0, *map(len, joined)]).astype(np.uint32),
        signals=(Signal("one", "one", 1.0),),
    )
    rows = len(pieces)
    embedder = StaticEmbedder(
        np.ones((rows, 2), np.int8), np.ones(rows, np.float32), vocabulary, name="marks"
    )
    half = np.full((1, 3), 0.3, dtype=np.float32)
    return MatrixFactorizationRouter(
        ["a", "b"], np.eye(2, dtype=np.float32), np.concatenate([half, -half]),
        np.ones(2, np.float32), strong_model="a", weak_model="b", embedder=embedder,
        provenance=Provenance(calibration=calibration),
    )  # fmt: skip


@pytest.mark.parametrize("make", [_linear, _native])
def test_a_prompt_without_a_letter_or_digit_is_the_easiest(make: Any) -> None:
    router = make(np.linspace(0.25, 0.75, 11, dtype=np.float32))
    assert router.win_rates(BLANK).tolist() == [0.25] * len(BLANK)
    assert [router.win_rate(prompt) for prompt in BLANK] == [0.25] * len(BLANK)
    together = router.win_rates([*SAID, *BLANK])
    assert together.tolist() == [router.win_rate(prompt) for prompt in [*SAID, *BLANK]]
    assert (together[: len(SAID)] != 0.25).all()
    decider = Decider([router], "big", "small")
    for threshold in (None, 0.26, 0.75):
        decision = decider.decide("\U0001f44d", threshold=threshold)
        assert (decision.model, decision.difficulty) == ("small", 0.0)
    for bad in ("\ud800", "?\ud800"):
        with pytest.raises(InvalidInputError, match="lone surrogate"):
            router.win_rate(bad)


def test_without_calibration_nothing_is_known_of_such_a_prompt() -> None:
    router = _linear(None)
    assert router.win_rate("") == router.win_rate_without_signal == 0.5
    assert router.win_rate("???") == 0.5
    assert router.win_rates(["", "???", "a"])[:2].tolist() == [0.5, 0.5]
