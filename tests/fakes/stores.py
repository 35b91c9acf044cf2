"""Stores on a real server, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from fastroute.state import Claim, Store, ValkeySettings, ValkeyStore


def claim(key: str, limit: int = 100, used: int = 0, **more: Any) -> Claim:
    more = {"reserved": 0, "wanted": 10, "expire_s": 60.0} | more
    return Claim(key, limit, used, **more)


async def up(store: Store, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not store.is_up:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def found(store: Store, key: str, value: bytes | None) -> None:
    """Wait until ``key`` has ``value``."""
    end = time.monotonic() + 30
    while await store.get(key, wait_s=1.0) != [value]:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def with_stores(
    count: int,
    settings: ValkeySettings,
    job: Callable[..., Awaitable[None]],
    *,
    wait_s: float = 0.5,  # this machine may be busy
    **more: Any,
) -> None:
    """Run ``job`` with stores on one server, which are up."""
    settings = replace(settings, wait_s=wait_s)

    async def run() -> None:
        stores = [ValkeyStore(settings, **more) for _ in range(count)]
        try:
            for store in stores:
                store.start()
                await up(store)
            await job(*stores)
        finally:
            for store in stores:
                await store.aclose()

    asyncio.run(run())
