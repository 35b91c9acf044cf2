"""Retries, breakers, balancing, fallback, redundancy: each around a transport of the tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import (
    CircuitOpenError,
    DispatchError,
    ProviderConnectionError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http import (
    AiohttpTransport,
    AsyncHttpTransport,
    AsyncResponse,
    AsyncTransport,
    Endpoint,
    HttpTransport,
    MockTransport,
    Request,
    Transport,
)
from fastroute.http.failures import status_error
from fastroute.resilience import (
    BalancingTransport,
    BreakerTransport,
    Budget,
    FallbackTransport,
    RedundantTransport,
    RetryTransport,
)
from fastroute.resilience.hedging import MIN_SAMPLES, RecentLatencies

A, B, C = (Endpoint(f"http://127.0.0.1:{n}/v1", "k") for n in (1, 2, 3))


def ask(endpoint: Endpoint = A, **values: Any) -> Request:
    return Request(endpoint, b"{}", model="m", **values)


def status(code: int, **headers: str) -> ProviderStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status_error(ask(), code, named, b"")


class Script:
    """A transport whose answers are written down: an error, or seconds to wait before success."""

    def __init__(self, *answers: Any, usual: Any = 0.0) -> None:
        self.answers = list(answers)
        self.usual = usual
        self.sent: list[Endpoint] = []
        self.cancelled: list[Endpoint] = []
        self.closed: list[Endpoint] = []

    async def asend(self, request: Request) -> AsyncResponse:
        number = len(self.sent)
        self.sent.append(request.endpoint)
        answer = self.answers[number] if number < len(self.answers) else self.usual
        if isinstance(answer, Callable):
            answer = answer(request)
        if isinstance(answer, BaseException):
            raise answer
        try:
            await asyncio.sleep(answer)
        except asyncio.CancelledError:
            self.cancelled.append(request.endpoint)
            raise

        async def pieces() -> AsyncIterator[bytes]:
            yield str(number).encode()

        async def close() -> None:
            self.closed.append(request.endpoint)

        return AsyncResponse(200, {}, pieces(), close, request)

    async def aclose(self) -> None:
        pass


def run(transport: Any, request: Request) -> bytes:
    async def read() -> bytes:
        response = await transport.asend(request)
        return b"".join([piece async for piece in response.iter_bytes()])

    return asyncio.run(read())


async def _no_sleep(_: float) -> None:
    pass


# Retries


@pytest.mark.parametrize(
    "error", [status(500), status(503), status(429), status(408), ProviderConnectionError("x")]
)
def test_what_may_pass_is_sent_again(error: Exception) -> None:
    script = Script(error, error)
    assert run(RetryTransport(script, retries=2, sleep=_no_sleep), ask()) == b"2"


@pytest.mark.parametrize(
    "error",
    [status(400), status(401), status(501), ProviderTimeoutError("late"), CircuitOpenError("o")],
)
def test_what_may_not_pass_or_be_paid_for_is_not(error: Exception) -> None:
    script = Script(error)
    with pytest.raises(type(error)):
        run(RetryTransport(script, retries=2, sleep=_no_sleep), ask())
    assert len(script.sent) == 1


def test_retry_after_is_honoured_up_to_a_limit() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    script = Script(status(429, retry_after="3"), status(429, retry_after_ms="1500"))
    run(RetryTransport(script, retries=2, sleep=sleep), ask())
    assert waits == [3.0, 1.5]
    with pytest.raises(ProviderStatusError):
        run(RetryTransport(Script(status(429, retry_after="60")), sleep=sleep), ask())


@given(st.integers(0, 200), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_retries_stay_within_the_budget(requests: int, share: float) -> None:
    script = Script(usual=status(500))
    transport = RetryTransport(script, retries=3, budget=Budget(share), sleep=_no_sleep)

    async def all_of_them() -> None:
        for _ in range(requests):
            with pytest.raises(ProviderStatusError):
                await transport.asend(ask())

    asyncio.run(all_of_them())
    reserve = 10 if share else 0
    assert len(script.sent) - requests <= share * requests + reserve + 1e-6


# Breakers


def test_a_breaker_opens_tries_once_and_closes() -> None:
    now = [0.0]
    events: list[str] = []
    script = Script(*[status(500)] * 3)
    breaker = BreakerTransport(
        script,
        failures=2,
        open_s=10,
        clock=lambda: now[0],
        observer=lambda event, _: events.append(event),
    )
    for _ in range(2):
        with pytest.raises(ProviderStatusError):
            run(breaker, ask())
    with pytest.raises(CircuitOpenError):
        run(breaker, ask())
    assert script.sent == [A, A]  # the third was not sent
    now[0] = 10.0
    with pytest.raises(ProviderStatusError):  # the trial fails: open again
        run(breaker, ask())
    with pytest.raises(CircuitOpenError):
        run(breaker, ask())
    now[0] = 20.0
    run(breaker, ask())
    assert not breaker.is_open(A)
    assert events == ["breaker_opened", "breaker_closed"]


def test_only_one_request_tries_an_open_circuit() -> None:
    now = [0.0]
    script = Script(status(500), usual=0.05)
    breaker = BreakerTransport(script, failures=1, open_s=1, clock=lambda: now[0])

    async def both() -> list[Any]:
        with pytest.raises(ProviderStatusError):
            await breaker.asend(ask())
        now[0] = 1.0
        return await asyncio.gather(
            breaker.asend(ask()), breaker.asend(ask()), return_exceptions=True
        )

    first, second = asyncio.run(both())
    assert isinstance(first, AsyncResponse)
    assert isinstance(second, CircuitOpenError)


def test_what_another_process_found_of_an_endpoint_is_taken_over() -> None:
    now = [100.0]
    script = Script(*[status(500)] * 2)
    breaker = BreakerTransport(script, failures=3, open_s=10, clock=lambda: now[0])
    breaker.adopt(A, opened=True, ago_s=11.0)  # it has ended there, too
    assert not breaker.is_open(A)
    breaker.adopt(A, opened=True, ago_s=4.0)
    with pytest.raises(CircuitOpenError, match="failed 3 times in a row"):
        run(breaker, ask())
    assert script.sent == []
    now[0] = 106.0
    with pytest.raises(ProviderStatusError):  # one failed trial is enough
        run(breaker, ask())
    assert breaker.is_open(A)
    breaker.adopt(A, opened=False, ago_s=0.0)
    assert not breaker.is_open(A)


def test_an_own_answer_counts_more_than_what_another_process_found() -> None:
    now = [100.0]
    breaker = BreakerTransport(Script(), failures=1, open_s=10, clock=lambda: now[0])
    run(breaker, ask())
    breaker.adopt(A, opened=True, ago_s=0.5)  # before that answer
    assert not breaker.is_open(A)
    now[0] = 102.0
    breaker.adopt(A, opened=True, ago_s=0.5)
    assert breaker.is_open(A)


def test_an_own_failure_is_not_taken_back_by_another_process() -> None:
    breaker = BreakerTransport(Script(status(500)), failures=1, open_s=10)
    with pytest.raises(ProviderStatusError):
        run(breaker, ask())
    breaker.adopt(A, opened=False, ago_s=0.0)
    assert breaker.is_open(A)


def test_a_breaker_that_never_opens_takes_nothing_over() -> None:
    breaker = BreakerTransport(Script(), failures=0)
    breaker.adopt(A, opened=True, ago_s=0.0)
    assert not breaker.is_open(A)


@pytest.mark.parametrize("code", [400, 404, 429])
def test_a_bad_request_says_nothing_against_an_endpoint(code: int) -> None:
    script = Script(status(500), status(code), status(500))
    breaker = BreakerTransport(script, failures=2)
    for _ in range(3):
        with pytest.raises(ProviderStatusError):
            run(breaker, ask())
    assert not breaker.is_open(A)


def test_a_cancelled_trial_frees_its_place() -> None:
    now = [0.0]
    script = Script(status(500), 60.0)
    breaker = BreakerTransport(script, failures=1, open_s=1, clock=lambda: now[0])

    async def leave() -> None:
        with pytest.raises(ProviderStatusError):
            await breaker.asend(ask())
        now[0] = 1.0
        task = asyncio.create_task(breaker.asend(ask()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert not breaker.is_open(A)


# Balancing


def variants() -> Request:
    return ask(A, weight=2.0, variants=(ask(B), ask(C)))


def test_load_follows_weights() -> None:
    script = Script(usual=0.01)
    balancing = BalancingTransport(script, rng=random.Random(1))

    async def at_once() -> None:
        await asyncio.gather(*(balancing.asend(variants()) for _ in range(40)))

    asyncio.run(at_once())
    assert [script.sent.count(e) for e in (A, B, C)] == [20, 10, 10]


def test_a_failed_endpoint_is_avoided_until_others_fail_too() -> None:
    script = Script(status(500), usual=0.0)
    balancing = BalancingTransport(script, rng=random.Random(1), clock=lambda: 0.0)
    with pytest.raises(ProviderStatusError):
        run(balancing, variants())
    for _ in range(20):
        run(balancing, variants())
    assert script.sent.count(script.sent[0]) == 1


def test_open_circuits_are_avoided() -> None:
    script = Script()
    balancing = BalancingTransport(script, is_open=lambda endpoint: endpoint != C)
    for _ in range(5):
        run(balancing, variants())
    assert set(script.sent) == {C}


def test_a_retry_goes_to_another_endpoint_at_once() -> None:
    script = Script(status(503, retry_after="9"), status(503, retry_after="9"))
    transport = RetryTransport(BalancingTransport(script), retries=2, sleep=None)
    run(transport, variants())
    assert set(script.sent) == {A, B, C}


# Fallback


@pytest.mark.parametrize(
    "error",
    [status(500), status(429), ProviderTimeoutError("x"), ProviderConnectionError("x"),
     CircuitOpenError("x")],
)  # fmt: skip
def test_the_other_model_answers(error: Exception) -> None:
    script = Script(error)
    assert run(FallbackTransport(script), ask(A, fallback=lambda: ask(B))) == b"1"
    assert script.sent == [A, B]


@pytest.mark.parametrize("error", [status(400), status(401), DispatchError("closed")])
def test_what_another_model_cannot_mend_is_raised(error: Exception) -> None:
    script = Script(error)
    with pytest.raises(type(error)):
        run(FallbackTransport(script), ask(A, fallback=lambda: ask(B)))
    assert script.sent == [A]


def test_a_fallback_is_not_made_before_it_is_needed() -> None:
    made: list[Request] = []

    def fallback() -> Request:
        made.append(ask(B))
        return made[0]

    assert run(FallbackTransport(Script()), ask(A, fallback=fallback)) == b"0"
    assert made == []
    assert run(FallbackTransport(Script(status(503))), ask(A, fallback=fallback)) == b"1"
    assert len(made) == 1


def test_if_both_fail_the_first_error_is_told() -> None:
    with pytest.raises(ProviderStatusError) as caught:
        run(FallbackTransport(Script(status(503), status(500))), ask(A, fallback=lambda: ask(B)))
    assert caught.value.status_code == 503


# Redundancy


def redundant(script: Script, mode: Any, budget: float = 1.0, **values: Any) -> Any:
    return RedundantTransport(script, mode, budget=Budget(budget), **values)


def test_delayed_redundancy_takes_the_first_answer_and_gives_up_the_other() -> None:
    script = Script(30.0, 0.0)
    assert run(redundant(script, "delayed", delay_s=0.05), ask()) == b"1"
    assert (len(script.sent), len(script.cancelled)) == (2, 1)


def test_the_first_may_still_win() -> None:
    script = Script(0.15, 30.0)
    assert run(redundant(script, "delayed", delay_s=0.02), ask()) == b"0"
    assert len(script.cancelled) == 1


def test_relaunch_gives_up_the_first_at_once() -> None:
    script = Script(0.1, 0.3)
    assert run(redundant(script, "relaunch", delay_s=0.02), ask()) == b"1"
    assert len(script.cancelled) == 1


def test_what_is_not_late_is_sent_once() -> None:
    for mode in ("delayed", "relaunch"):
        script = Script(0.0)
        run(redundant(script, mode, delay_s=5.0), ask())
        assert len(script.sent) == 1


def test_hedging_learns_when_late_is() -> None:
    script = Script(*[0.001] * MIN_SAMPLES, 30.0, 0.001)
    transport = redundant(script, "hedge", quantile=0.9)

    async def all_of_them() -> None:
        for _ in range(MIN_SAMPLES + 1):
            await transport.asend(ask())

    asyncio.run(all_of_them())
    # It may hedge more on a machine that stalls, but the straggler was hedged.
    assert len(script.sent) >= MIN_SAMPLES + 2
    assert script.cancelled


@given(st.integers(1, 60), st.sampled_from([0.0, 0.05, 0.5]))
def test_extra_requests_stay_within_the_budget(requests: int, share: float) -> None:
    script = Script(usual=0.0005)
    transport = redundant(script, "delayed", share, delay_s=0.0)

    async def all_of_them() -> None:
        for _ in range(requests):
            await transport.asend(ask())

    asyncio.run(all_of_them())
    assert len(script.sent) - requests <= share * requests + (10 if share else 0) + 1e-6


def test_one_failure_leaves_the_other_its_chance() -> None:
    script = Script(0.15, status(500))
    assert run(redundant(script, "delayed", delay_s=0.02), ask()) == b"0"
    with pytest.raises(ProviderStatusError):
        run(redundant(Script(status(500)), "delayed", delay_s=0.02), ask())


def test_a_second_answer_that_came_all_the_same_is_closed() -> None:
    script = Script(0.03, 0.0)

    async def both() -> None:
        transport = redundant(script, "delayed", delay_s=0.03)
        await transport.asend(ask())
        await asyncio.sleep(0.1)

    asyncio.run(both())
    assert len(script.cancelled) + len(script.closed) == len(script.sent) - 1


def test_whoever_is_cancelled_cancels_both() -> None:
    script = Script(30.0, 30.0)

    async def leave() -> None:
        task = asyncio.create_task(redundant(script, "delayed", delay_s=0.01).asend(ask()))
        while len(script.sent) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert len(script.cancelled) == 2


@given(st.lists(st.floats(0, 100), min_size=MIN_SAMPLES, max_size=600), st.floats(0.5, 0.99))
def test_quantiles_are_those_of_the_last_latencies(latencies: list[float], q: float) -> None:
    recent = RecentLatencies()
    for seconds in latencies:
        recent.add(seconds)
    kept = sorted(latencies[-256:])
    assert recent.quantile(q) == kept[min(len(kept) - 1, int(q * len(kept)))]


def test_each_transport_is_whole_and_of_one_kind() -> None:
    script = Script()
    for wrapping in (
        AiohttpTransport(),
        RetryTransport(script),
        BalancingTransport(script),
        BreakerTransport(script),
        FallbackTransport(script),
        RedundantTransport(script, "hedge", budget=Budget(0.1)),
    ):
        assert isinstance(wrapping, AsyncTransport)
        assert not isinstance(wrapping, Transport)
    assert isinstance(HttpTransport(), Transport)
    assert not isinstance(HttpTransport(), AsyncTransport)
    assert isinstance(AsyncHttpTransport(), AsyncTransport)
    assert not isinstance(AsyncHttpTransport(), Transport)
    assert isinstance(MockTransport(), Transport)
    assert isinstance(MockTransport(), AsyncTransport)
