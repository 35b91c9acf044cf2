"""Finds a conversation's requests without reading all others: canary and drift ask for them."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the index."""
    op.create_index("requests_by_conversation", "requests", ["conversation", "time"])
