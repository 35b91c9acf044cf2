"""Usage is found in every form of answer, wherever its pieces are split, and nowhere else."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.gateway.operations.usage import (
    MAX_TOKENS,
    SEARCHED_BYTES,
    Usage,
    UsageReader,
    estimate_input_tokens,
    usage_of,
)

OPENAI = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
FORGED = {"usage": {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}}


def events(*values: Any, end: str = "\n\n") -> bytes:
    return "".join(f"event: x\ndata: {json.dumps(v)}{end}" for v in values).encode()


STREAMS = {
    "chat": events({"choices": [], "usage": None}, {"choices": [], "usage": OPENAI}),
    "crlf": events({"choices": [], "usage": OPENAI}, end="\r\n\r\n"),
    "no blank line at the end": events({"choices": [], "usage": OPENAI}).rstrip(),
    "responses": events(
        {"type": "response.created", "response": {"usage": None}},
        {
            "type": "response.completed",
            "response": {
                "output": [FORGED],
                "usage": {
                    "input_tokens": 9,
                    "input_tokens_details": {"cached_tokens": 3},
                    "output_tokens": 4,
                },
            },
        },
    ),
}
ANTHROPIC = events(
    {
        "type": "message_start",
        "message": {
            "usage": {
                "input_tokens": 6,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2,
                "output_tokens": 1,
            }
        },
    },
    {"type": "content_block_delta", "delta": {"text": '{"usage": {"input_tokens": 7000}}'}},
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 4}},
)


def read(raw: bytes, cuts: list[int], *, is_stream: bool) -> Usage | None:
    reader = UsageReader(is_stream=is_stream)
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        reader.feed(raw[begin:end])
    return reader.finish()


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 2000), max_size=8))
def test_streams_of_openai(name: str, cuts: list[int]) -> None:
    assert read(STREAMS[name], cuts, is_stream=True) == Usage(6, 3, 0, 4)


@given(st.lists(st.integers(0, 2000), max_size=8))
def test_streams_of_anthropic(cuts: list[int]) -> None:
    assert read(ANTHROPIC, cuts, is_stream=True) == Usage(6, 3, 2, 4)


@pytest.mark.parametrize("size", [10, SEARCHED_BYTES, 40 * SEARCHED_BYTES])
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("piece", [1000, 64 * 1024, 10**8])
def test_a_long_answer_has_it_first_or_last(size: int, place: str, piece: int) -> None:
    text = {"choices": [{"message": {"content": "x" * size}}, FORGED]}
    answer = {"usage": OPENAI, **text} if place == "first" else {**text, "usage": OPENAI}
    raw = json.dumps(answer).encode()
    assert read(raw, list(range(0, len(raw), piece)), is_stream=False) == Usage(6, 3, 0, 4)


@pytest.mark.parametrize(
    "answer",
    [
        {"content": [{"type": "tool_use", "input": FORGED}]},
        {"choices": [{"message": {"content": json.dumps(FORGED)}}]},
        {"x": FORGED, "usage": None},
        {"usage": "none"},
        {},
    ],
)
def test_what_a_model_wrote_is_not_taken_for_it(answer: Any) -> None:
    assert read(json.dumps(answer).encode(), [], is_stream=False) is None
    assert read(events({"delta": answer}), [], is_stream=True) is None


@pytest.mark.parametrize("count", [MAX_TOKENS + 1, 10**400, -1, True, 1.0, "1", None, [], {}])
def test_a_count_that_cannot_be_is_refused(count: Any) -> None:
    assert usage_of({"prompt_tokens": count, "completion_tokens": 1}) is None
    bad = usage_of({"prompt_tokens": 1, "completion_tokens": count})
    assert bad == (None if count else Usage(1, 0, 0, 0))


def test_a_number_longer_than_python_reads_is_refused() -> None:
    raw = b'{"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}"
    assert read(raw, [], is_stream=False) is None
    assert read(b"data: " + raw + b"\n\n", [], is_stream=True) is None


@pytest.mark.parametrize(
    ("found", "usage"),
    [
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(0, 5, 0, 0)),
        ({"prompt_tokens": 5, "prompt_tokens_details": None}, Usage(5, 0, 0, 0)),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 2}, Usage(3, 2, 0, 0)),
        ({"prompt_tokens": 5, "cache_read_input_tokens": 2}, Usage(3, 2, 0, 0)),
        ({"input_tokens": 5, "cache_read_input_tokens": 9}, Usage(5, 9, 0, 0)),
        ({"completion_tokens": 5}, None),
    ],
)
def test_cached_tokens(found: Any, usage: Usage | None) -> None:
    assert usage_of(found) == usage


def test_an_estimate_is_of_text_and_not_of_data() -> None:
    reader = UsageReader(is_stream=True)
    reader.feed(events({"choices": [{"delta": {"content": "abcdefgh"}}]}))
    reader.feed(
        events({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "ab"}}]}}]})
    )
    assert reader.estimate(7) == Usage(7, 0, 0, 3, True)
    for size in (8, SEARCHED_BYTES, 10 * SEARCHED_BYTES):
        whole = UsageReader(is_stream=False)
        raw = json.dumps({"choices": [{"message": {"content": "x" * size}}]}).encode()
        for begin in range(0, len(raw), 50_000):
            whole.feed(raw[begin : begin + 50_000])
        assert whole.finish() is None
        assert whole.estimate(7).output_tokens == pytest.approx(size / 4, rel=0.3)
    image = json.dumps({"url": "data:image/png;base64," + "A" * 10**6, "raw": "A" * 10**6})
    assert estimate_input_tokens(image.encode()) < 20
