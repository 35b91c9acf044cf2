"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "requests",
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("caller", sa.Text()),
        sa.Column("conversation", sa.String(64)),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("router", sa.Text()),
        sa.Column("router_checksum", sa.Text()),
        sa.Column("policy", sa.Text()),
        sa.Column("arm", sa.String(16)),
        sa.Column("win_rate", sa.Double()),
        sa.Column("threshold", sa.Double()),
        sa.Column("difficulty", sa.Double()),
        sa.Column("candidates", _JSON),
        sa.Column("scores", _JSON),
        sa.Column("probabilities", _JSON),
        sa.Column("chosen", sa.Text()),
        sa.Column("propensity", sa.Double()),
        sa.Column("explored", sa.Boolean()),
        sa.Column("answered_by", sa.Text()),
        sa.Column("stream", sa.Boolean()),
        sa.Column("input_tokens", sa.Integer()),
        sa.Column("cached_tokens", sa.Integer()),
        sa.Column("cache_write_tokens", sa.Integer()),
        sa.Column("output_tokens", sa.Integer()),
        sa.Column("tokens_are_estimates", sa.Boolean()),
        sa.Column("cost_usd", sa.Double()),
        sa.Column("calls", _JSON),
        sa.Column("latency_ms", sa.Double()),
        sa.Column("first_byte_ms", sa.Double()),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.Column("prompt", sa.Text()),
        sa.Column("answer", sa.Text()),
        sa.Column("prompt_characters", sa.Integer()),
    )
    op.create_index("requests_by_time", "requests", ["time"])
    op.create_table(
        "shadows",
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("input_tokens", sa.Integer()),
        sa.Column("cached_tokens", sa.Integer()),
        sa.Column("output_tokens", sa.Integer()),
        sa.Column("tokens_are_estimates", sa.Boolean()),
        sa.Column("cost_usd", sa.Double()),
        sa.Column("latency_ms", sa.Double()),
        sa.Column("answer", sa.Text()),
        sa.Column("error", sa.Text()),
    )
    op.create_index("shadows_by_time", "shadows", ["time"])
    op.create_table(
        "feedback",
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(16), primary_key=True),
        sa.Column("idempotency_key", sa.String(255), primary_key=True),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("caller", sa.Text()),
        sa.Column("score", sa.Double()),
        sa.Column("winner", sa.Text()),
        sa.Column("comment", sa.Text()),
    )
    op.create_index("feedback_by_time", "feedback", ["time"])
    op.create_table(
        "judgements",
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("judge", sa.String(255), primary_key=True),
        sa.Column("model_a", sa.String(255), primary_key=True),
        sa.Column("model_b", sa.String(255), primary_key=True),
        sa.Column("winner", sa.Text()),
        sa.Column("score_a", sa.Double()),
        sa.Column("score_b", sa.Double()),
        sa.Column("cost_usd", sa.Double()),
        sa.Column("time", sa.Double(), nullable=False),
    )
    op.create_index("judgements_by_time", "judgements", ["time"])
    op.create_table(
        "prices",
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("time", sa.Double(), primary_key=True),
        sa.Column("role", sa.String(16)),
        sa.Column("input_usd_per_mtok", sa.Double()),
        sa.Column("cached_input_usd_per_mtok", sa.Double()),
        sa.Column("cache_write_usd_per_mtok", sa.Double()),
        sa.Column("output_usd_per_mtok", sa.Double()),
    )
