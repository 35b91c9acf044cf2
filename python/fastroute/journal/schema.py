"""The tables of a journal. Times are seconds since the Unix epoch, dollars are US dollars."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()
_JSON = JSON(none_as_null=True)

#: One row for each request that asked for an answer. ``input_tokens`` counts every input token,
#: ``cached_tokens`` and ``cache_write_tokens`` those of them from or for a prompt cache. They and
#: ``output_tokens`` are those of the answer that was sent; ``cost_usd`` is what all calls of the
#: request cost, which ``calls`` lists where there was more than one.
REQUESTS = Table(
    "requests",
    METADATA,
    Column("request_id", String(64), primary_key=True),
    Column("time", Double, nullable=False),
    Column("caller", Text),
    Column("conversation", String(64)),  # a digest of what session affinity knows it by
    Column("path", Text, nullable=False),
    Column("router", Text),
    Column("router_checksum", Text),
    Column("policy", Text),  # name and operating point
    Column("arm", String(16)),  # null, "canary" or "control"
    Column("win_rate", Double),
    Column("threshold", Double),
    Column("difficulty", Double),
    Column("candidates", _JSON),
    Column("scores", _JSON),  # {model: P(its answer is good enough)}
    Column("probabilities", _JSON),  # {model: probability under the policy that logged}
    Column("chosen", Text),
    Column("propensity", Double),  # probability of ``chosen``
    Column("explored", Boolean),
    Column("answered_by", Text),  # another than ``chosen`` after a fallback or in a cascade
    Column("stream", Boolean),
    Column("input_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("output_tokens", Integer),
    Column("tokens_are_estimates", Boolean),
    Column("cost_usd", Double),
    Column("calls", _JSON),
    Column("latency_ms", Double),
    Column("first_byte_ms", Double),
    Column("status", Integer),
    Column("error", Text),
    Column("prompt", Text),
    Column("answer", Text),
    Column("prompt_characters", Integer),
    Index("requests_by_time", "time"),
    Index("requests_by_conversation", "conversation", "time"),
)

#: Answers of other models to the same requests, which no client has seen.
SHADOWS = Table(
    "shadows",
    METADATA,
    Column("request_id", String(64), primary_key=True),
    Column("model", String(255), primary_key=True),
    Column("time", Double, nullable=False),
    Column("weight", Double, nullable=False),  # 1 / probability of having been sampled
    Column("input_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("output_tokens", Integer),
    Column("tokens_are_estimates", Boolean),
    Column("cost_usd", Double),
    Column("latency_ms", Double),
    Column("answer", Text),
    Column("error", Text),
    Index("shadows_by_time", "time"),
)

#: Grades of answers that were sent; they may come before the request's own row.
FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("request_id", String(64), primary_key=True),
    Column("source", String(16), primary_key=True),  # one of SOURCES
    Column("idempotency_key", String(255), primary_key=True),  # "" where none was sent
    Column("time", Double, nullable=False),
    Column("caller", Text),
    Column("score", Double),  # 0 to 1
    Column("winner", Text),  # a model's name, or "tie"
    Column("comment", Text),
    Index("feedback_by_time", "time"),
)
SOURCES = ("user", "application", "judge", "key", "evidence")

#: Comparisons of two answers to one request. ``judge`` is a model, "key",
#: "evidence", or "user" for a person who saw them blind.
JUDGEMENTS = Table(
    "judgements",
    METADATA,
    Column("request_id", String(64), primary_key=True),
    Column("judge", String(255), primary_key=True),
    Column("model_a", String(255), primary_key=True),
    Column("model_b", String(255), primary_key=True),
    Column("winner", Text),  # a model's name, "tie", or null where the judge gave no verdict
    Column("score_a", Double),
    Column("score_b", Double),
    Column("cost_usd", Double),
    Column("time", Double, nullable=False),
    Index("judgements_by_time", "time"),
)

#: Prices per million tokens, from ``time`` on; a row for each change that a gateway has seen.
PRICES = Table(
    "prices",
    METADATA,
    Column("model", String(255), primary_key=True),
    Column("time", Double, primary_key=True),
    Column("role", String(16)),  # "strong", "weak" or null
    Column("input_usd_per_mtok", Double),
    Column("cached_input_usd_per_mtok", Double),
    Column("cache_write_usd_per_mtok", Double),
    Column("output_usd_per_mtok", Double),
)

#: Work that one process at a time does, over all that share the journal.
JOBS = Table(
    "jobs",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("time", Double, nullable=False),  # when it last began
    Column("holder", String(255)),  # the process that does it, until ``until``
    Column("until", Double),
    Column("ended", Double),
    Column("outcome", String(16)),  # of the last run: "proposed", "not_proposed", "failed"
    Column("reason", Text),
    Column("proposed", Double),  # when there was a proposal last, and its folder
    Column("folder", Text),
)

#: What canary and drift have found: a row each, "canary" and "drift".
ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, nullable=False),  # rises with each change
    Column("state", Text),
)
