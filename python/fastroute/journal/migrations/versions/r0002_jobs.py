"""Jobs that one process at a time does for a journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "jobs",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("holder", sa.String(255)),
        sa.Column("until", sa.Double()),
        sa.Column("ended", sa.Double()),
        sa.Column("outcome", sa.String(16)),
        sa.Column("reason", sa.Text()),
        sa.Column("proposed", sa.Double()),
        sa.Column("folder", sa.Text()),
    )
