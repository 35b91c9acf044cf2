"""What replicas share: values, sums and leases, kept in this process or in Valkey (Redis)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.state.leases import Ledger as Ledger
    from fastroute.state.leases import Refusal as Refusal
    from fastroute.state.leases import Reservation as Reservation
    from fastroute.state.store import Claim as Claim
    from fastroute.state.store import Grant as Grant
    from fastroute.state.store import MemoryStore as MemoryStore
    from fastroute.state.store import Store as Store
    from fastroute.state.valkey import ValkeySettings as ValkeySettings
    from fastroute.state.valkey import ValkeyStore as ValkeyStore

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.state.leases": "Ledger Refusal Reservation",
        "fastroute.state.store": "Claim Grant MemoryStore Store",
        "fastroute.state.valkey": "ValkeySettings ValkeyStore",
    },
)
