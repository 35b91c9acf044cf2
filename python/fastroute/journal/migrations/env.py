"""What Alembic runs around the migrations: they share the transaction of ``database``."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
