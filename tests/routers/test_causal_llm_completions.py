"""``causal_llm`` behind a completions endpoint: a real HTTP server in another process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causal_llm_models import PROMPTS, TEMPLATE, write_template, write_tokenizer
from fakes import openai_completions as mock
from fakes.planned import View
from fastroute.errors import (
    InvalidInputError,
    ProviderConnectionError,
    ProviderStatusError,
    ProviderTimeoutError,
    ScoringError,
)
from fastroute.routers import CausalLLMRouter, CompletionsLabelEngine, create_router
from fastroute.routers.causal_llm.tokenizer import open_tokenizer

KEY = "sk-test-0123456789abcdef"


PROVIDER = mock


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    write_tokenizer(made)
    write_template(made)
    return made


@pytest.fixture
def router(server: View, folder: Path) -> Iterator[CausalLLMRouter]:
    made = make(server, folder)
    yield made
    made.close()


def make(server: View, folder: Path, **options: Any) -> CausalLLMRouter:
    options = {"model": "tiny", "base_url": server.base_url, "backoff_s": 0.01} | options
    return CausalLLMRouter.at_endpoint(folder, **options)


def expected(sent: Any) -> float:
    shares = np.exp(mock.logprobs_of(sent))
    return float(1 - shares[3:].sum() / shares.sum())


# What is sent and what comes back


def test_one_prompt(server: View, folder: Path) -> None:
    router = make(server, folder, api_key=KEY, top_logprobs=12)
    rate = router.win_rate("hello")
    (request,) = server.requests()
    sent = (TEMPLATE.prefix + "hello" + TEMPLATE.suffix).removeprefix("<s>")
    wanted = {"model": "tiny", "prompt": sent, "max_tokens": 1, "temperature": 0, "logprobs": 12}
    assert {name: request[name] for name in wanted} == wanted
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert rate == pytest.approx(expected(sent), abs=1e-12)
    assert router.provenance.checksum is None
    router.close()


def test_tokens_instead_of_text(server: View, folder: Path) -> None:
    with_tokens = make(server, folder, send_as="tokens")
    rate = with_tokens.win_rate("hello")
    (request,) = server.requests()
    whole = TEMPLATE.prefix + "hello" + TEMPLATE.suffix
    assert request["prompt"] == open_tokenizer(folder).encode(whole, add_special_tokens=False).ids
    assert rate == pytest.approx(expected(request["prompt"]), abs=1e-12)
    with_tokens.close()


def test_a_batch_keeps_its_order(server: View, router: CausalLLMRouter) -> None:
    prompts = [*PROMPTS, *(f"prompt {i}" for i in range(20))]
    rates = router.win_rates(prompts)
    assert len(server.requests()) == len(prompts)
    np.testing.assert_array_equal(rates, [router.win_rate(p) for p in prompts])
    assert np.ptp(rates) > 0.1
    assert router.win_rates([]).shape == (0,)


def test_a_long_prompt_is_cut_before_it_is_sent(server: View, folder: Path) -> None:
    router = make(server, folder, max_tokens=100)
    long = " ".join(f"word {i}" for i in range(200))
    router.win_rate(long)
    sent = server.requests()[0]["prompt"]
    assert sent.startswith(TEMPLATE.prefix.removeprefix("<s>"))
    assert sent.endswith("word 199" + TEMPLATE.suffix)
    assert len(open_tokenizer(folder).encode(sent).ids) <= 100
    assert router.truncated_count == 1
    router.close()


@pytest.mark.parametrize("kind", ["llama_cpp", "token_ids"])
def test_labels_by_their_ids(
    server: View, router: CausalLLMRouter, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(router.engine, CompletionsLabelEngine)
    ids = list(range(mock.FIRST_ID, mock.FIRST_ID + 5))
    monkeypatch.setattr(router.engine.prompt, "label_ids", ids)
    server.plan({"kind": kind})
    rate = router.win_rate("hello")
    assert rate == pytest.approx(expected(server.requests()[0]["prompt"]), abs=1e-12)


# Labels that are missing


@pytest.mark.parametrize(
    ("told", "rate", "missing", "unlabelled"),
    [
        ({"[[5]]": -1.0, " no": -0.5}, 0.0, 1, 0),
        ({"[[1]]": math.log(0.3), "[[4]]": math.log(0.1), " no": -1.0}, 0.75, 1, 0),
        ({" [[2]]": -1.0, " [[4]]": -1.0}, 0.5, 1, 0),  # some show a space before
        ({" no": -0.1, "[[": -2.0, "5": -3.0}, 1.0, 1, 1),
        ({}, 1.0, 1, 1),
    ],
)
def test_labels_beyond_the_top_count_as_impossible(
    server: View, router: CausalLLMRouter, told: Any, rate: float, missing: int, unlabelled: int
) -> None:
    server.plan({"kind": "answer", "logprobs": {"top_logprobs": [told]}})
    assert router.win_rate("hello") == pytest.approx(rate, abs=1e-12)
    assert isinstance(router.engine, CompletionsLabelEngine)
    assert router.engine.missing_count == missing
    assert router.unlabelled_count == unlabelled


# Failures


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        (None, r"it has no logprobs; .*--logits_all true"),
        ({"top_logprobs": []}, "an unknown format"),
        ({"top_logprobs": [{"[[1]]": "high"}]}, "an unknown format"),
        ({"top_logprobs": None}, "an unknown format"),
        ({"content": []}, "an unknown format"),
        ({"content": [{"top_logprobs": [{"token": "[[1]]"}]}]}, "an unknown format"),
    ],
)
def test_answers_without_usable_log_probabilities(
    server: View, router: CausalLLMRouter, logprobs: Any, message: str
) -> None:
    server.plan({"kind": "answer", "logprobs": logprobs})
    with pytest.raises(ScoringError, match=message):
        router.win_rate("hello")


@pytest.mark.parametrize("raw", ["not JSON", "[]", "{}", '{"choices": []}'])
def test_answers_that_are_no_completion(server: View, router: CausalLLMRouter, raw: str) -> None:
    server.plan({"kind": "garbage", "raw": raw})
    with pytest.raises(ScoringError, match="can't be used"):
        router.win_rate("hello")


def test_too_many_requests_are_tried_again(server: View, router: CausalLLMRouter) -> None:
    server.plan({"kind": "status", "status": 429}, {"kind": "cut"})
    rate = router.win_rate("hello")
    requests = server.requests()
    assert len(requests) == 3
    assert rate == pytest.approx(expected(requests[0]["prompt"]), abs=1e-12)


@pytest.mark.parametrize(
    ("status", "attempts", "remedy"),
    [(429, 3, "lower the rate"), (400, 1, "fewer top_logprobs"), (404, 1, "must serve /compl")],
)
def test_statuses(
    server: View, router: CausalLLMRouter, status: int, attempts: int, remedy: str
) -> None:
    server.plan(*[{"kind": "status", "status": status, "message": "too much"}] * attempts)
    with pytest.raises(ScoringError, match=rf"HTTP {status} \(too much\); .*{remedy}") as caught:
        router.win_rate("hello")
    assert isinstance(caught.value.__cause__, ProviderStatusError)
    assert len(server.requests()) == attempts


@pytest.mark.parametrize(
    ("plan", "cause"),
    [
        ({"kind": "stall", "seconds": 1.0}, ProviderTimeoutError),
        ({"kind": "cut"}, ProviderConnectionError),
        ({"kind": "reset"}, ProviderConnectionError),
    ],
)
def test_exchanges_that_fail(server: View, folder: Path, plan: Any, cause: type) -> None:
    timeout_s = 0.4 if cause is ProviderTimeoutError else 60.0
    router = make(server, folder, max_retries=0, timeout_s=timeout_s)
    server.plan(plan)
    with pytest.raises(ScoringError, match="no label from 'tiny': ") as caught:
        router.win_rate("hello")
    assert isinstance(caught.value.__cause__, cause)
    router.close()


def test_a_failure_ends_a_batch(server: View, folder: Path) -> None:
    router = make(server, folder, max_retries=0, max_concurrency=1)
    server.plan({"kind": "usual"}, {"kind": "status", "status": 500})
    with pytest.raises(ScoringError, match="HTTP 500"):
        router.win_rates([f"prompt {i}" for i in range(50)])
    assert len(server.requests()) < 50
    router.close()
    with pytest.raises(ScoringError, match="its client is closed; make a new one"):
        router.win_rate("hello")


# Keys and arguments


def test_a_key_in_the_environment_goes_to_openai_only(
    server: View, router: CausalLLMRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    router.win_rate("hello")
    assert "authorization" not in server.requests()[0]["headers"]


def test_the_key_is_never_shown(server: View, folder: Path) -> None:
    router = make(server, folder, api_key=KEY, max_retries=0)
    assert KEY not in repr(router.engine)
    for plan in (
        {"kind": "status", "status": 401, "message": KEY},
        {"kind": "garbage", "raw": KEY},
    ):
        server.plan(plan)
        with pytest.raises(ScoringError) as caught:
            router.win_rate("hello")
        assert KEY not in f"{caught.value} {caught.value.__cause__}"
    router.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "model must be a name"),
        ({"send_as": "ids"}, "send_as must be 'text' or 'tokens'"),
        ({"top_logprobs": 0}, "top_logprobs must be at least 1"),
        ({"base_url": "localhost"}, "base_url must start with"),
        ({"timeout_s": 0}, "timeout_s must be finite and above 0"),
        ({"nonsense": 1}, "unexpected keyword"),
    ],
)
def test_arguments(server: View, folder: Path, options: dict[str, Any], message: str) -> None:
    config = {"model": "tiny", "base_url": server.base_url, "checkpoint_path": folder} | options
    with pytest.raises(InvalidInputError, match=message):
        create_router("causal_llm", **config)
    assert server.requests() == []
