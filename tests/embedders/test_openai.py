"""OpenAIEmbedder against a real HTTP server in another process."""

from __future__ import annotations

import datetime
import gc
import os
import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import openai_embeddings as mock
from fakes.planned import View
from fastroute.embedders.openai import OpenAIEmbedder
from fastroute.errors import (
    EmbeddingError,
    InvalidInputError,
    InvalidTypeError,
    ProviderConnectionError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http.retry import MAX_BACKOFF_S, backoff, is_retryable, retry_after_s

KEY = "sk-test-0123456789abcdef"


PROVIDER = mock


def make(server: View, **arguments: Any) -> OpenAIEmbedder:
    settings_ = {"base_url": server.base_url, "api_key": KEY, "backoff_s": 0.01} | arguments
    return OpenAIEmbedder(settings_.pop("model", "tiny"), **settings_)


def expected(*texts: str, dimensions: int = 8) -> np.ndarray[Any, Any]:
    return np.array([mock.vector_of(t, dimensions) for t in texts], dtype=np.float32)


# What is sent and what comes back


def test_one_prompt(server: View) -> None:
    with make(server) as embedder:
        x = embedder.embed("What is 2 + 2?")
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, expected("What is 2 + 2?")[0])
        assert embedder.dimensions == 8
    (request,) = server.requests()
    assert request["path"] == "/v1/embeddings"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert request["headers"]["content-type"] == "application/json"
    assert request["model"] == "tiny"
    assert request["input"] == ["What is 2 + 2?"]
    assert "dimensions" not in request
    assert "encoding_format" not in request


def test_a_batch_is_split_and_its_order_kept(server: View) -> None:
    prompts = [f"prompt {i} äöü 日本" for i in range(11)]
    X = make(server, max_batch=4).embed_batch(prompts)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    np.testing.assert_array_equal(X, expected(*prompts))
    assert [len(r["input"]) for r in server.requests()] == [4, 4, 3]


def test_very_long_prompts_are_spread_over_requests(server: View) -> None:
    prompts = ["a" * 100_000, "b" * 100_000, "c" * 100_000, "d" * 300_000, "e"]
    X = make(server).embed_batch(prompts)
    np.testing.assert_array_equal(X, expected(*prompts))
    assert [[t[0] for t in r["input"]] for r in server.requests()] == [
        ["a", "b"],
        ["c"],
        ["d"],
        ["e"],
    ]


@pytest.mark.parametrize("kind", ["reverse", "base64"])
def test_answers_out_of_order_and_in_base64(server: View, kind: str) -> None:
    server.plan({"kind": kind})
    prompts = ["a", "b", "c"]
    X = make(server).embed_batch(prompts)
    np.testing.assert_array_equal(X, expected(*prompts))
    assert X.flags.writeable


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_the_encoding_can_be_asked_for(server: View, encoding_format: Any) -> None:
    x = make(server, encoding_format=encoding_format).embed("a")
    np.testing.assert_array_equal(x, expected("a")[0])
    assert server.requests()[0]["encoding_format"] == encoding_format


def test_dimensions_are_asked_for_and_checked(server: View) -> None:
    embedder = make(server, dimensions=5)
    assert embedder.dimensions == 5
    assert embedder.name == "openai:tiny:5"
    np.testing.assert_array_equal(embedder.embed("a"), expected("a", dimensions=5)[0])
    assert server.requests()[0]["dimensions"] == 5
    server.plan({"kind": "dimensions", "dimensions": 8})  # an endpoint that ignores the wish
    with pytest.raises(EmbeddingError, match="have 8 dimensions, expected 5"):
        embedder.embed("b")


def test_dimensions_are_known_learned_or_an_error(server: View) -> None:
    assert OpenAIEmbedder().dimensions == 1536
    assert OpenAIEmbedder("text-embedding-3-large").dimensions == 3072
    embedder = make(server)
    with pytest.raises(EmbeddingError, match="embed a prompt first, or pass dimensions="):
        _ = embedder.dimensions
    with pytest.raises(EmbeddingError, match="not known before its first answer"):
        embedder.embed_batch([])
    embedder.embed("a")
    assert embedder.dimensions == 8
    assert embedder.embed_batch([]).shape == (0, 8)
    server.plan({"kind": "dimensions", "dimensions": 9})
    with pytest.raises(EmbeddingError, match="have 9 dimensions, expected 8"):
        embedder.embed("b")
    with pytest.raises(EmbeddingError, match="have 8 dimensions, expected 1536"):
        make(server, model="text-embedding-3-small").embed("a")


def test_names_pin_the_model_and_not_the_endpoint(server: View) -> None:
    assert OpenAIEmbedder().name == "openai:text-embedding-3-small"
    assert OpenAIEmbedder(dimensions=1536).name == "openai:text-embedding-3-small"
    assert OpenAIEmbedder(dimensions=256).name == "openai:text-embedding-3-small:256"
    assert make(server).name == "openai:tiny"


def test_blank_prompts_are_zero_and_never_sent(server: View) -> None:
    embedder = make(server)
    X = embedder.embed_batch(["", "a", " \n", "b"])
    np.testing.assert_array_equal(X[[1, 3]], expected("a", "b"))
    assert not X[[0, 2]].any()
    zeros = embedder.embed("")
    assert zeros.shape == (8,)
    assert not zeros.any()
    assert [r["input"] for r in server.requests()] == [["a", "b"]]


# The cache


def test_the_cache_saves_requests(server: View) -> None:
    embedder = make(server)
    first = embedder.embed("a")
    first_copy = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(embedder.embed("a"), first_copy)
    embedder.embed_batch(["b", "a", "b"])
    assert [r["input"] for r in server.requests()] == [["a"], ["b"]]
    assert embedder.cache_info().hits == 3
    assert embedder.cache_info().entries == 2


def test_the_cache_is_bounded_and_can_be_off(server: View) -> None:
    bounded = make(server, cache_size=2)
    bounded.embed_batch(["a", "b", "c"])
    assert bounded.cache_info().entries == 2
    off = make(server, cache_size=0)
    np.testing.assert_array_equal(off.embed_batch(["a", "b", "a"]), expected("a", "b", "a"))
    off.embed("a")
    assert len(server.requests()) == 3
    assert off.cache_info() == (0, 0, 0, 0)


def test_what_was_answered_before_a_failure_is_kept(server: View) -> None:
    embedder = make(server, max_batch=2)
    server.plan({"kind": "usual"}, {"kind": "status", "status": 400})
    with pytest.raises(EmbeddingError):
        embedder.embed_batch(["a", "b", "c"])
    np.testing.assert_array_equal(embedder.embed_batch(["a", "b", "c"]), expected("a", "b", "c"))
    assert [r["input"] for r in server.requests()] == [["a", "b"], ["c"], ["c"]]


# Keys


def test_the_environments_key_goes_to_openai_only(
    server: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    make(server, api_key=None).embed("a")
    assert "authorization" not in server.requests()[0]["headers"]
    server.plan({"kind": "status", "status": 401})
    with pytest.raises(EmbeddingError, match="OPENAI_API_KEY is used only where"):
        make(server, api_key=None).embed("b")
    # Read at first use, and sent there: no request leaves this machine, the proxy is a closed port.
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("OPENAI_API_KEY")
    embedder = OpenAIEmbedder(max_retries=0)
    with pytest.raises(EmbeddingError, match="needs a key: pass api_key= or set OPENAI_API_KEY"):
        embedder.embed("a")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(EmbeddingError, match="ConnectError"):
        embedder.embed("a")


def test_a_key_in_the_environment_that_can_not_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
    with pytest.raises(InvalidInputError, match="OPENAI_API_KEY is empty or has") as caught:
        OpenAIEmbedder().embed("a")
    assert "secret" not in str(caught.value)


def test_the_key_is_never_shown(server: View) -> None:
    embedder = make(server, max_retries=0)
    assert KEY not in repr(embedder)
    shown = []
    for plan in (
        {"kind": "status", "status": 401, "message": f"Incorrect API key provided: {KEY}"},
        {"kind": "status", "status": 500, "raw": f"you sent {KEY}"},
        {"kind": "garbage", "raw": f"hello {KEY}"},
        {"kind": "reset"},
    ):
        server.plan(plan, plan)  # a kept connection that is reset is replaced once
        with pytest.raises(EmbeddingError) as caught:
            embedder.embed("a")
        error: BaseException | None = caught.value
        while error is not None:
            shown.append(repr(error))
            error = error.__cause__
    assert len(shown) >= 8
    assert KEY not in " ".join(shown)
    assert "***" in " ".join(shown)


# Failures and retries


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_passing_failures_are_retried(server: View, status: int) -> None:
    plan = {"kind": "status", "status": status}
    server.plan(plan, plan)
    np.testing.assert_array_equal(make(server).embed("a"), expected("a")[0])
    assert len(server.requests()) == 3


@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_broken_connections_are_retried(server: View, kind: str) -> None:
    server.plan({"kind": kind})
    np.testing.assert_array_equal(make(server).embed("a"), expected("a")[0])
    assert len(server.requests()) == 2
    server.plan(*[{"kind": kind}] * 3)
    with pytest.raises(EmbeddingError, match="after 3 attempts") as caught:
        make(server).embed("a")
    assert isinstance(caught.value.__cause__, ProviderConnectionError)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "may be too long"),
        (401, "check api_key"),
        (404, "check base_url"),
        (413, "smaller max_batch"),
        (422, "may not take `dimensions`"),
        (307, "redirects are not followed"),
        (501, "the endpoint failed"),
    ],
)
def test_lasting_failures_are_not_retried(server: View, status: int, remedy: str) -> None:
    server.plan({"kind": "status", "status": status, "message": "because  of\nthis"})
    with pytest.raises(EmbeddingError, match=remedy) as caught:
        make(server).embed("a")
    message = str(caught.value)
    assert f"no embedding from 'tiny': {server.base_url}/embeddings: HTTP " in message
    assert f"HTTP {status} (because of this)" in message
    cause = caught.value.__cause__
    assert isinstance(cause, ProviderStatusError)
    assert cause.status_code == status
    assert b"because" in cause.body
    assert cause.headers["content-type"] == "application/json"
    assert len(server.requests()) == 1


def test_an_exhausted_quota_is_not_retried(server: View) -> None:
    server.plan({"kind": "status", "status": 429, "code": "insufficient_quota"})
    with pytest.raises(EmbeddingError, match="no quota left"):
        make(server).embed("a")
    assert len(server.requests()) == 1


def test_retries_end(server: View) -> None:
    server.plan(*[{"kind": "status", "status": 503}] * 5)
    with pytest.raises(EmbeddingError, match=r"HTTP 503.*after 2 attempts"):
        make(server, max_retries=1).embed("a")
    assert len(server.requests()) == 2
    server.plan({"kind": "status", "status": 503})
    with pytest.raises(EmbeddingError, match="HTTP 503"):
        make(server, max_retries=0).embed("a")


@pytest.mark.parametrize("header", [("Retry-After", "0.3"), ("retry-after-ms", "300")])
def test_retry_after_is_obeyed(server: View, header: tuple[str, str]) -> None:
    server.plan({"kind": "status", "status": 429, "headers": dict([header])})
    make(server).embed("a")
    first, second = (r["at"] for r in server.requests())
    assert 0.3 <= second - first < 5


def test_a_retry_after_beyond_the_deadline_fails_at_once(server: View) -> None:
    later = format_datetime(
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3600), usegmt=True
    )
    for value in ("3600", later):
        server.plan({"kind": "status", "status": 429, "headers": {"Retry-After": value}})
        start = time.monotonic()
        with pytest.raises(EmbeddingError, match="HTTP 429"):
            make(server, deadline_s=5).embed("a")
        assert time.monotonic() - start < 3
    assert len(server.requests()) == 2


def test_a_stall_times_out_and_is_retried(server: View) -> None:
    server.plan({"kind": "stall", "seconds": 3})
    start = time.monotonic()
    np.testing.assert_array_equal(make(server, timeout_s=0.2).embed("a"), expected("a")[0])
    assert 0.2 <= time.monotonic() - start < 2.5
    server.plan({"kind": "stall", "seconds": 3})
    with pytest.raises(EmbeddingError, match=r"no complete answer in 0\.2 s.*raise timeout") as e:
        make(server, timeout_s=0.2, max_retries=0).embed("a")
    assert isinstance(e.value.__cause__, ProviderTimeoutError)


def test_a_trickle_does_not_outlive_the_timeout(server: View) -> None:
    server.plan({"kind": "trickle", "seconds": 0.05})
    start = time.monotonic()
    with pytest.raises(EmbeddingError, match=r"no complete answer in 0\.3 s"):
        make(server, timeout_s=0.3, max_retries=0).embed("a")
    assert 0.3 <= time.monotonic() - start < 3


def test_the_deadline_bounds_all_attempts_together(server: View) -> None:
    server.plan(*[{"kind": "stall", "seconds": 9}] * 20)
    start = time.monotonic()
    with pytest.raises(EmbeddingError, match=r"deadline_s=2 leaves"):
        make(server, timeout_s=0.4, deadline_s=2, max_retries=50).embed("a")
    assert time.monotonic() - start < 6
    assert 2 <= len(server.requests()) <= 6


def test_a_wait_that_overslept_the_deadline_is_no_crash(
    server: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan({"kind": "status", "status": 500}, {"kind": "stall", "seconds": 0.5})
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds + 0.5))  # a busy machine
    with pytest.raises(EmbeddingError, match=r"deadline_s=0\.3 leaves 0 s"):
        make(server, deadline_s=0.3, max_retries=5).embed("a")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_endpoint_that_is_not_there() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    embedder = OpenAIEmbedder("tiny", base_url=url, backoff_s=0.01)
    with pytest.raises(
        EmbeddingError, match=f"{url}/embeddings: ConnectError.*after 3 attempts"
    ) as e:
        embedder.embed("a")
    assert isinstance(e.value.__cause__, ProviderConnectionError)
    assert e.value.__cause__.__cause__ is not None


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"kind": "garbage", "raw": "<html>Welcome</html>"}, "not JSON: '<html>"),
        ({"kind": "garbage", "raw": "[1]"}, "no list of objects under 'data'"),
        ({"kind": "garbage", "raw": '{"data": [1]}'}, "no list of objects under 'data'"),
        ({"kind": "fewer"}, "has 1 vectors for 2 prompts"),
        ({"kind": "same_index"}, "'index' values are not 0 to 1"),
        ({"kind": "no_index"}, "'index' values are not 0 to 1"),
        ({"kind": "ragged"}, r"different lengths: \[7, 8\]"),
        ({"kind": "value", "value": None}, "vector 0 is not a list of numbers"),
        ({"kind": "value", "value": []}, "vector 0 is not a list of numbers"),
        ({"kind": "value", "value": ["1.0"] * 8}, "vector 0 is not a list of numbers"),
        ({"kind": "value", "value": [[1.0] * 8]}, "vector 0 is not a list of numbers"),
        ({"kind": "value", "value": [[1.0], [1.0, 2.0]]}, "vector 0 can't be read"),
        ({"kind": "value", "value": "no base64!"}, "vector 0 can't be read"),
        ({"kind": "value", "value": "AAAA"}, "vector 0 can't be read"),
        ({"kind": "value", "value": [float("nan")] * 8}, "vector 0 holds NaN or infinity"),
        ({"kind": "value", "value": [1e60] * 8}, "vector 0 holds NaN or infinity"),
    ],
)
def test_answers_that_can_not_be_used(server: View, plan: Any, message: str) -> None:
    server.plan(plan)
    embedder = make(server)
    with pytest.raises(EmbeddingError, match=message) as caught:
        embedder.embed_batch(["a", "b"])
    assert "check that base_url is an OpenAI-compatible endpoint" in str(caught.value)
    assert len(server.requests()) == 1
    np.testing.assert_array_equal(embedder.embed_batch(["a", "b"]), expected("a", "b"))


# Life of the client


def test_nothing_happens_before_the_first_prompt(server: View) -> None:
    code = (
        "import sys\n"
        "from fastroute.embedders.openai import OpenAIEmbedder\n"
        "e = OpenAIEmbedder()\n"
        "print(e.name, e.dimensions)\n"
        "print(e)\n"
        "print('httpx2' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines() == [
        "openai:text-embedding-3-small 1536",
        repr(OpenAIEmbedder()),
        "False",
    ]
    assert "endpoint='https://api.openai.com/v1/embeddings'" in output
    make(server)
    assert server.requests() == []


def open_sockets() -> set[str]:
    """What /proc calls each socket that this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open descriptors")
def test_an_embedder_that_is_dropped_closes_its_connections(server: View) -> None:
    before = open_sockets()
    embedder = make(server)
    embedder.embed("a")
    assert len(open_sockets() - before) == 1
    del embedder
    gc.collect()
    assert not open_sockets() - before


def test_after_close_only_the_cache_answers(server: View) -> None:
    embedder = make(server)
    embedder.embed("a")
    embedder.close()
    embedder.close()
    np.testing.assert_array_equal(embedder.embed("a"), expected("a")[0])
    with pytest.raises(EmbeddingError, match="is closed; make a new one"):
        embedder.embed("b")


def test_threads_share_one_client_and_one_cache(server: View) -> None:
    embedder = make(server, cache_size=5)
    barrier = threading.Barrier(8)

    def work(seed: int) -> Any:
        rng = random.Random(seed)
        barrier.wait()
        for _ in range(12):
            prompts = [f"prompt {rng.randrange(10)}" for _ in range(rng.randrange(1, 6))]
            np.testing.assert_array_equal(embedder.embed_batch(prompts), expected(*prompts))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert embedder.cache_info().entries == 5
    assert 10 <= len(server.requests()) <= 96
    assert len({request["port"] for request in server.requests()}) <= 8
    embedder.close()


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": ""}, "model must be a name, got ''"),
        ({"base_url": "api.openai.com/v1"}, "must start with http:// or https://"),
        ({"base_url": "ftp://host/v1"}, "must start with http:// or https://"),
        ({"base_url": "http://host:port/v1"}, "base_url is not a valid URL"),
        ({"base_url": 3}, "base_url must be a str, got int"),
        ({"api_key": ""}, "api_key is empty"),
        ({"api_key": "two words"}, "api_key is empty or has a space"),
        ({"api_key": 3}, "api_key must be a str, got int"),
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
        ({"dimensions": True}, "dimensions must be an int, got bool"),
        ({"encoding_format": "hex"}, "encoding_format must be"),
        ({"timeout_s": 0}, "timeout_s must be finite and above 0, got 0"),
        ({"timeout_s": float("nan")}, "timeout_s must be finite"),
        ({"deadline_s": "30"}, "deadline_s must be a number of seconds, got str"),
        ({"backoff_s": -1.0}, "backoff_s must be finite and above 0"),
        ({"max_retries": -1}, "max_retries must be at least 0, got -1"),
        ({"max_batch": 0}, "max_batch must be at least 1, got 0"),
        ({"cache_size": -1}, "cache_size must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        OpenAIEmbedder(**arguments)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidInputError, match="pass api_key=") as caught:
        OpenAIEmbedder(base_url="https://user:secret@host/v1")
    assert "secret" not in str(caught.value)


def test_a_query_in_the_address_is_sent_and_not_shown(server: View) -> None:
    embedder = make(server, base_url=f"{server.base_url}/?api-version=1&sig=secret")
    embedder.embed("a")
    assert server.requests()[0]["path"] == "/v1/embeddings?api-version=1&sig=secret"
    assert "secret" not in repr(embedder)


def test_prompts_of_a_wrong_type_are_named(server: View) -> None:
    embedder = make(server)
    with pytest.raises(InvalidTypeError, match="prompt must be a str, got NoneType"):
        embedder.embed(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="got one string"):
        embedder.embed_batch("abc")
    with pytest.raises(InvalidInputError, match=r"prompts\[0\] holds a lone surrogate"):
        embedder.embed_batch(["\udfff"])
    assert server.requests() == []


# The schedule of retries

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:15 GMT"}, 10.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:15 -0000"}, 10.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@settings(max_examples=50, deadline=None, derandomize=True)
@given(attempt=st.integers(0, 5000), base_s=st.floats(0.001, 100), seed=st.integers(0, 99))
def test_backoff_stays_within_its_bound(attempt: int, base_s: float, seed: int) -> None:
    bound = base_s * 2.0**attempt if attempt < 20 else float("inf")
    assert 0 <= backoff(attempt, base_s, random.Random(seed)) <= min(MAX_BACKOFF_S, bound)


def test_backoff_doubles_on_average() -> None:
    rng = random.Random(0)
    means = [np.mean([backoff(k, 0.5, rng) for _ in range(4000)]) for k in range(4)]
    np.testing.assert_allclose(means, [0.25, 0.5, 1.0, 2.0], rtol=0.05)


def test_which_statuses_are_retried() -> None:
    retried = {s for s in range(100, 600) if is_retryable(s)}
    assert retried == {408, 409, 429, *range(500, 600)} - {501, 505}
