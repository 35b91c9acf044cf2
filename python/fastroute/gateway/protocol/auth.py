"""Who may call: keys are kept as SHA-256 and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from fastroute.gateway.config.settings import KeyConfig


def hash_key(key: str) -> str:
    """What stands in the config for ``key``: 64 hexadecimal digits.

    Keys of a gateway are long and random, so a fast hash is enough; do not use it for passwords.
    """
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys that are accepted; without any, everybody is."""

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def caller(self, headers: Mapping[str, str]) -> str | None:
        """The name of the key in ``Authorization: Bearer`` or, without that header, in
        ``x-api-key``; None if it is not one of ours. Without keys the name is "anyone". Every key
        is compared, whichever fits."""
        if not self._keys:
            return "anyone"
        authorization = headers.get("authorization", f"Bearer {headers.get('x-api-key', '')}")
        scheme, _, given = authorization.partition(" ")
        digest = hashlib.sha256(given.strip().encode()).digest()
        name = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                name = key.name
        return name if scheme.lower() == "bearer" else None
