"""What a journal holds, in numbers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, case, func, select

from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, METADATA, REQUESTS, SHADOWS


def journal_stats(connection: Connection) -> dict[str, Any]:
    """Counts of rows, the time they are of, and requests by model: share, dollars, failures."""
    of = REQUESTS.c
    counts = {
        name: connection.scalar(select(func.count()).select_from(table))
        for name, table in METADATA.tables.items()
    }
    first, last = connection.execute(select(func.min(of.time), func.max(of.time))).one()
    texts = connection.execute(select(func.count(of.prompt), func.count(of.answer))).one()
    models = [
        dict(row)
        for row in connection.execute(
            select(
                of.answered_by.label("model"),
                func.count().label("requests"),
                func.sum(of.cost_usd).label("cost_usd"),
                func.avg(of.latency_ms).label("mean_latency_ms"),
                func.sum(case((of.error.is_not(None), 1), else_=0)).label("errors"),
                func.sum(case((of.explored, 1), else_=0)).label("explored"),
            )
            .group_by(of.answered_by)
            .order_by(func.count().desc())
        ).mappings()
    ]
    graded = select(func.count(func.distinct(FEEDBACK.c.request_id))).join(
        REQUESTS, of.request_id == FEEDBACK.c.request_id
    )
    return {
        "rows": counts,
        "first_time": first,
        "last_time": last,
        "prompts": texts[0],
        "answers": texts[1],
        "graded_requests": connection.scalar(graded),
        "shadow_usd": connection.scalar(select(func.sum(SHADOWS.c.cost_usd))) or 0.0,
        "judge_usd": connection.scalar(select(func.sum(JUDGEMENTS.c.cost_usd))) or 0.0,
        "models": models,
    }
