"""Candidates: in Python, in TOML, from a price list, and reloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastroute.candidates import Candidate, CandidateSet, read_candidates, read_price_list
from fastroute.errors import InvalidInputError, InvalidTypeError

# Entries of the shape of LiteLLM's file; the numbers are made up.
PRICES: dict[str, Any] = {
    "sample_spec": {"mode": "one of: chat, embedding", "input_cost_per_token": 0.0},
    "big": {
        "max_tokens": 16384,
        "max_input_tokens": 128000,
        "max_output_tokens": 16384,
        "input_cost_per_token": 2.5e-06,
        "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 1.25e-06,
        "litellm_provider": "acme",
        "mode": "chat",
        "supports_function_calling": True,
        "supports_response_schema": True,
        "supports_vision": True,
        "supports_audio_input": False,
        "supports_system_messages": True,
    },
    "azure/small": {
        "max_tokens": 8192,
        "input_cost_per_token": "1e-07",
        "output_cost_per_token": 4e-07,
        "litellm_provider": "azure",
        "mode": "chat",
        "supports_reasoning": True,
    },
    "vectors": {"mode": "embedding", "input_cost_per_token": 1e-8, "output_cost_per_token": 0.0},
    "by-the-image": {"mode": "chat", "input_cost_per_image": 0.1},
}


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(PRICES))
    return file


def test_dollars_count_cached_tokens_at_their_own_price() -> None:
    model = Candidate("m", 2.0, 10.0, cached_usd_per_mtok=0.5, answer_tokens=100)
    assert model.dollars(1e6, 0) == pytest.approx(2.0)
    assert model.dollars(0, 1e6) == pytest.approx(10.0)
    assert model.dollars(1e6, 0, cached_tokens=4e5) == pytest.approx(0.6 * 2 + 0.4 * 0.5)
    assert model.dollars(0) == pytest.approx(100 * 10e-6)  # the expected answer
    assert Candidate("m", 2.0).dollars(1e6, 0, cached_tokens=1e6) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": " "}, "name must be"),
        ({"input_usd_per_mtok": -1.0}, "input_usd_per_mtok must be 0 or more"),
        ({"output_usd_per_mtok": float("nan")}, "output_usd_per_mtok must be 0 or more"),
        ({"cached_usd_per_mtok": float("inf")}, "cached_usd_per_mtok must be 0 or more"),
        ({"answer_tokens": True}, "answer_tokens must be a number"),
        ({"quality_prior": 1.5}, "quality_prior must be from 0 to 1"),
        ({"context_window": 0}, "context_window must be a whole number"),
        ({"max_output_tokens": 1.5}, "max_output_tokens must be a whole number"),
        ({"abilities": {"sight"}}, "unknown abilities 'sight'"),
        ({"abilities": "vision"}, "abilities must be a list of words"),
        ({"tags": [1]}, "tags must be a list of words"),
        ({"provider": None}, "provider must be a name"),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Candidate(**{"name": "m", **fields})


def test_a_price_list_gives_prices_limits_and_abilities(prices: Path) -> None:
    found = read_price_list(prices)
    assert set(found) == {"big", "azure/small"}  # no embedder, nothing without a price by token
    assert found["big"] == Candidate(
        "big", 2.5, 10.0, 1.25, 128000, 16384, frozenset({"tools", "json_schema", "vision"}),
        provider="acme",
    )  # fmt: skip
    small = found["azure/small"]
    assert small.input_usd_per_mtok == pytest.approx(0.1)  # a price that the list has as a text
    assert (small.context_window, small.max_output_tokens) == (8192, None)
    assert small.abilities == {"reasoning"}
    assert set(read_price_list(prices, ["big"])) == {"big"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "must be an object of models"),
        ('{"big": 3}', "the entry of 'big' must be an object"),
        ('{"bug": {}}', "has no model 'big'; did you mean bug"),
        ('{"big": {"input_cost_per_token": -1}}', "input_cost_per_token of 'big' must be a number"),
        ('{"big": {"max_tokens": "many"}}', "max_tokens of 'big' must be a number"),
        ('{"big": {"output_cost_per_token": NaN}}', "output_cost_per_token of 'big'"),
    ],
)
def test_a_wrong_price_list_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(content)
    with pytest.raises(InvalidInputError, match=said):
        read_price_list(file, ["big"])


def test_toml_takes_from_the_price_list_what_it_does_not_state(prices: Path) -> None:
    file = prices.parent / "models.toml"
    file.write_text(
        'price_list = "prices.json"\n'
        '[[candidates]]\nname = "big"\ninput_usd_per_mtok = 1\ntags = ["europe"]\n'
        '[[candidates]]\nname = "mine"\nlisted_as = "azure/small"\nquality_prior = 0.4\n'
        '[[candidates]]\nname = "local"\nabilities = ["tools"]\ncontext_window = 4096\n'
    )
    big, mine, local = read_candidates(file)
    assert (big.input_usd_per_mtok, big.output_usd_per_mtok) == (1.0, 10.0)
    assert big.tags == {"europe"}
    assert (mine.name, mine.provider, mine.quality_prior) == ("mine", "azure", 0.4)
    assert local == Candidate("local", abilities=frozenset({"tools"}), context_window=4096)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x", "is not TOML"),
        ("", r"has no \[\[candidates\]\]"),
        ("candidates = 3", r"has no \[\[candidates\]\]"),
        ('candidate = "x"', "unknown key 'candidate'"),
        ("[[candidates]]", r"candidates\[0\]: name must be"),
        ('[[candidates]]\nname = "a"\ncontext = 1', "unknown key 'context'"),
        ('[[candidates]]\nname = "a"\ncontext_windows = 1', "did you mean context_window"),
        ('[[candidates]]\nname = "a"\ncontext_window = -1', r"candidates\[0\]: candidate 'a'"),
        ('[[candidates]]\nname = "a"\n[[candidates]]\nname = "a"', "second candidate is named 'a'"),
        ('[[candidates]]\nname = "a"\nlisted_as = "b"', "listed_as needs a price_list"),
        ('price_list = 3\n[[candidates]]\nname = "a"', "price_list must be a path"),
        ('price_list = "none.json"\n[[candidates]]\nname = "a"', "none.json can't be read"),
        (
            'price_list = "prices.json"\n[[candidates]]\nname = "a"\nlisted_as = "bigg"',
            "has no model 'bigg'; did you mean big",
        ),
    ],
)
def test_a_wrong_toml_file_is_named(prices: Path, content: str, said: str) -> None:
    file = prices.parent / "models.toml"
    file.write_text(content)
    with pytest.raises(InvalidInputError, match=said):
        read_candidates(file)


def test_a_reload_takes_new_prices_and_a_bad_file_changes_nothing(prices: Path) -> None:
    file = prices.parent / "models.toml"
    file.write_text('price_list = "prices.json"\n[[candidates]]\nname = "big"\n')
    candidates = CandidateSet(file)
    before = candidates.current
    cheaper = {**PRICES, "big": {**PRICES["big"], "input_cost_per_token": 1e-6}}
    prices.write_text(json.dumps(cheaper))
    assert candidates.current is before
    candidates.reload()
    assert candidates.current[0].input_usd_per_mtok == pytest.approx(1.0)
    prices.write_text("{")
    with pytest.raises(InvalidInputError, match="is not JSON"):
        candidates.reload()
    assert candidates.current[0].input_usd_per_mtok == pytest.approx(1.0)
    candidates.replace([Candidate("other")])
    assert [c.name for c in candidates.current] == ["other"]


def test_a_set_needs_candidates_of_different_names() -> None:
    with pytest.raises(InvalidInputError, match="'a' twice"):
        CandidateSet([Candidate("a"), Candidate("a")])
    with pytest.raises(InvalidInputError, match="got none"):
        CandidateSet([])
    with pytest.raises(InvalidTypeError, match="must hold Candidate"):
        CandidateSet(["a"])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="not read from a file"):
        CandidateSet([Candidate("a")]).reload()
