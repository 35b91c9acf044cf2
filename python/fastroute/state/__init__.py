"""What replicas share: values, sums and leases, kept in this process or in Valkey (Redis)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.state.leases import Ledger, Refusal, Reservation
    from fastroute.state.store import Claim, Grant, MemoryStore, Store
    from fastroute.state.valkey import ValkeySettings, ValkeyStore

__all__ = [
    "Claim",
    "Grant",
    "Ledger",
    "MemoryStore",
    "Refusal",
    "Reservation",
    "Store",
    "ValkeySettings",
    "ValkeyStore",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Claim": "fastroute.state.store",
        "Grant": "fastroute.state.store",
        "Ledger": "fastroute.state.leases",
        "MemoryStore": "fastroute.state.store",
        "Refusal": "fastroute.state.leases",
        "Reservation": "fastroute.state.leases",
        "Store": "fastroute.state.store",
        "ValkeySettings": "fastroute.state.valkey",
        "ValkeyStore": "fastroute.state.valkey",
    },
)
