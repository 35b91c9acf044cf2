"""Server-sent events, whole and in pieces."""

from __future__ import annotations

from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.chat import sse
from fastroute.chat.sse import EventDecoder, ServerSentEvent
from fastroute.errors import ProviderResponseError


def decode(*pieces: bytes) -> list[tuple[str, str]]:
    decoder = EventDecoder()
    return [tuple(event) for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\n", [("message", "a")]),
        (b"data:a\n\n", [("message", "a")]),
        (b"data:  a\n\n", [("message", " a")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("message", x) for x in "abc"]),
        (b"data: a\ndata: b\n\n", [("message", "a\nb")]),
        (b": ping\n\n:\n\ndata: a\n\n", [("message", "a")]),
        (b"event: error\ndata: {}\n\ndata: b\n\n", [("error", "{}"), ("message", "b")]),
        (b"id: 7\nretry: 10\nfoo: x\ndata: a\n\n", [("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
        (b"data\n\n", [("message", "")]),
        (b"event: x\n\n", []),
        (b"data: unfinished", []),
        ("data: äöü 日本\n\n".encode(), [("message", "äöü 日本")]),
        (b"data: \xff\n\n", [("message", "�")]),
        ("data: a\u2028b\x0b\n\n".encode(), [("message", "a\u2028b\x0b")]),
    ],
)
def test_events(raw: bytes, events: list[tuple[str, str]]) -> None:
    assert decode(raw) == events
    assert decode(*(raw[i : i + 1] for i in range(len(raw)))) == events


lines = st.sampled_from(
    [
        b"data: a",
        b"data: \xc3\xa4\xe6\x97\xa5",
        b"data:",
        b":x",
        b"event: e",
        b"id: 1",
        b"",
        b"",
        b"x",
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(lines, ends), max_size=20), st.lists(st.integers(0, 200), max_size=8))
def test_pieces_do_not_matter_and_httpx2_reads_the_same(
    written: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    raw = b"".join(line + end for line, end in written) + b":end\n"
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    ours = decode(*(raw[a:b] for a, b in pairwise(edges)))
    assert ours == decode(raw)
    # httpx2 has a decoder for whole responses; it also hands out events without data.
    response = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        content=raw,
        request=httpx2.Request("POST", "http://x"),
    )
    theirs = [(event.event, event.data) for event in httpx2.EventSource(response)]
    assert [e for e in ours if e[1]] == [e for e in theirs if e[1]]


def test_the_last_event_may_lack_its_empty_line() -> None:
    for raw in (b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r"):
        decoder = EventDecoder()
        assert decoder.feed(raw) == []
        assert decoder.finish() == ServerSentEvent("message", "[DONE]")
    assert EventDecoder().finish() is None


def test_an_endless_event_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    for piece in (b"x" * 100, b"data: " + b"x" * 90 + b"\n"):
        decoder = EventDecoder()
        with pytest.raises(ProviderResponseError, match="over 1000 bytes"):
            any(decoder.feed(piece) for _ in range(20))
    decoder = EventDecoder()
    for _ in range(100):
        assert decoder.feed(b"data: " + b"x" * 500 + b"\n\n")
