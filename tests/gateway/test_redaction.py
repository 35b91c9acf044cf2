"""What a provider repeats of the gateway's request, its key and address, reaches no client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.gateway import Gateway
from fakes.openai_chat import event
from fakes.planned import View
from fastroute.gateway.protocol.redaction import Redaction
from fastroute.http import Endpoint

from .conftest import PROVIDER_KEY

ASK: dict[str, Any] = {"model": "weak", "messages": [{"role": "user", "content": "hi"}]}
KEY = "sk-provider-sk-0123/4567sk"  # its end is its beginning
REDACTION = Redaction([Endpoint(base_url="http://llm.internal:8000/v1?code=hidden", api_key=KEY)])
TELLS = "you sent <authorization> to http://<host>/v1/chat/completions"
ERROR = f"data: {json.dumps({'error': {'message': TELLS, 'code': 'bad_key'}})}\n\n"


def in_pieces(redaction: Redaction, pieces: list[bytes]) -> bytes:
    answer = redaction.answer()
    return b"".join([*map(answer.feed, pieces), answer.finish()])


# Through a gateway, from a provider that repeats its request


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_by_a_status_has_no_key(gateway: Gateway, upstream: View, stream: bool) -> None:
    headers = {"x-debug": "<authorization>", "x-other": "kept"}
    upstream.plan({"kind": "status", "status": 401, "message": TELLS, "headers": headers})
    answer = gateway.ask("POST", "/v1/chat/completions", {**ASK, "stream": stream})
    assert upstream.requests()[0]["headers"]["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert answer.status == 401
    assert answer.headers["x-debug"] == f"Bearer {'*' * len(PROVIDER_KEY)}"
    assert answer.headers["x-other"] == "kept"
    message = answer.json()["error"]["message"]
    assert message.startswith("you sent Bearer ****")
    assert PROVIDER_KEY not in message
    assert upstream.base_url.split("/")[2] not in message


def test_a_redirect_names_no_address(gateway: Gateway, upstream: View) -> None:
    headers = {"Location": "http://<host>/v1/chat/completions/"}
    upstream.plan({"kind": "status", "status": 307, "headers": headers})
    answer = gateway.ask("POST", "/v1/chat/completions", ASK)
    assert answer.status == 307
    assert upstream.base_url.split("/")[2] not in answer.headers["location"]


@pytest.mark.parametrize("pieces", [1, 2, 60, 500])
@pytest.mark.parametrize("before", ["", event("one ")])
def test_an_error_in_a_stream_has_no_key(
    gateway: Gateway, upstream: View, before: str, pieces: int
) -> None:
    upstream.plan({"kind": "events", "raw": before + ERROR, "pieces": pieces})
    answer = gateway.ask("POST", "/v1/chat/completions", {**ASK, "stream": True})
    assert answer.status == 200
    text = answer.body.decode()
    assert text.startswith(before)
    assert PROVIDER_KEY not in text
    assert upstream.base_url.split("/")[2] not in text
    told = json.loads(text[len(before) :].removeprefix("data: "))
    assert told["error"]["code"] == "bad_key"
    assert told["error"]["message"].startswith("you sent Bearer ****")


def test_an_answer_that_is_an_error_has_no_key(gateway: Gateway, upstream: View) -> None:
    upstream.plan({"kind": "reply", "body": {"error": {"message": TELLS}}})
    answer = gateway.ask("POST", "/v1/chat/completions", ASK)
    assert answer.status == 200
    assert PROVIDER_KEY.encode() not in answer.body
    assert upstream.base_url.split("/")[2].encode() not in answer.body
    assert answer.json()["error"]["message"].startswith("you sent Bearer ****")


def test_a_client_of_openai_reads_the_error(gateway: Gateway, upstream: View) -> None:
    upstream.plan({"kind": "events", "raw": event("one ") + ERROR, "pieces": 3})
    with openai.OpenAI(base_url=gateway.base_url, api_key="x", max_retries=0) as client:
        stream = client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(openai.APIError, match=r"you sent Bearer \*\*\*\*") as caught:
            list(stream)
    assert PROVIDER_KEY not in str(caught.value.body)


def test_a_model_may_write_of_an_address(gateway: Gateway, upstream: View) -> None:
    text = f'ask {upstream.base_url}, and on an "error": {{...}} try again'
    upstream.plan({"kind": "events", "raw": event(text) + "data: [DONE]\n\n", "pieces": 9})
    answer = gateway.ask("POST", "/v1/chat/completions", {**ASK, "stream": True})
    assert answer.body.decode() == event(text) + "data: [DONE]\n\n"


# However an answer is split

PARTS = st.sampled_from(
    [KEY, KEY[:5], KEY[:-1], "sk-provider-", "llm.internal:8000", "//llm.inter", "s", "\\", '"a"']
)
TEXTS = st.lists(PARTS | st.text(max_size=4), max_size=12).map("".join)


@given(TEXTS, st.data())
def test_a_key_is_found_in_whatever_pieces(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert in_pieces(REDACTION, pieces) == raw.replace(KEY.encode(), b"*" * len(KEY))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ['data: {"error": "', 'event: error\ndata: {"message": "'])
def test_an_address_goes_from_errors_alone_in_whatever_pieces(name: str, line_end: str) -> None:
    where = "http://llm.internal:8000/v1"
    usual = f'data: {{"content": "{where} and llm.internal:8000"}}\n\n'
    wrong = (
        f'{name}{where}/chat/completions?code=hidden, {where.replace("/", chr(92) + "/")}"}}\n\n'
    )
    raw = (usual + wrong + usual).replace("\n", line_end).encode()
    kept = usual.replace("\n", line_end).encode()
    for size in range(1, len(raw) + 1):
        found = in_pieces(REDACTION, [raw[i : i + size] for i in range(0, len(raw), size)])
        assert len(found) == len(raw)
        assert found.startswith(kept)
        assert found.endswith(kept)
        told = found[len(kept) : -len(kept)]
        assert told.startswith(name.replace("\n", line_end).encode())
        assert b"internal" not in told
        assert b"hidden" not in told


def test_json_writes_a_key_otherwise_and_it_is_found() -> None:
    written = KEY.replace("/", "\\/").encode()
    assert REDACTION.error(b"<" + written + b">") == b"<" + b"*" * len(written) + b">"


@pytest.mark.parametrize(
    "written",
    [
        "sk-+a\\/0123456789==",  # PHP
        "sk-\\u002Ba/0123456789==",  # .NET
        "sk-+a/0123456789\\u003d\\u003d",  # Gson
        "sk-%2Ba%2F0123456789%3D%3D",
        "sk-+a\\\\/0123456789==",  # JSON within JSON
    ],
)
def test_a_key_of_base64_is_found_however_it_is_written(written: str) -> None:
    redaction = Redaction([Endpoint(api_key="sk-+a/0123456789==")])
    body = written.encode()
    assert redaction.error(b"<" + body + b">") == b"<" + b"*" * len(body) + b">"


def test_an_address_is_found_however_its_query_is_written() -> None:
    redaction = Redaction([Endpoint(base_url="http://llm.internal:8000/v1?a=b&code=hidden")])
    for written in ("?a=b\\u0026code=hidden", "%3Fa%3Db%26code%3Dhidden", "?a=b&amp;code=hidden"):
        assert b"hidden" not in redaction.error(written.encode())


@pytest.mark.parametrize("text", [f"{KEY}-2", f"{KEY}-3 ", f"{KEY} {KEY}-2", f"{KEY}-{KEY}-2sk"])
def test_a_key_that_begins_another_is_found_in_whatever_pieces(text: str) -> None:
    redaction = Redaction([Endpoint(api_key=KEY), Endpoint(api_key=f"{KEY}-2")])
    raw = text.encode()
    covered = redaction.error(raw)
    for size in range(1, len(raw) + 1):
        pieces = [raw[i : i + size] for i in range(0, len(raw), size)]
        assert in_pieces(redaction, pieces) == covered


def test_headers_of_an_error_have_neither_short_keys_nor_addresses() -> None:
    redaction = Redaction(
        [Endpoint(base_url="http://llm.internal:8000/v1", api_key="local-key")],
    )
    headers = [(b"x-echo", b"Bearer local-key"), (b"location", b"http://llm.internal:8000/v1/x")]
    assert redaction.headers(headers) == headers
    covered = dict(redaction.headers(headers, of_error=True))
    assert covered == {b"x-echo": b"Bearer *********", b"location": b"*" * 27 + b"/x"}


def test_a_piece_without_a_beginning_is_handed_on_at_once() -> None:
    answer = REDACTION.answer()
    for piece in (event("one ").encode(), b'{"a": "b"', b"\n\n"):
        assert answer.feed(piece) == piece


@pytest.mark.parametrize(
    ("key", "whole", "error"),
    [
        ("EMPTY", b"EMPTY", b"EMPTY"),
        ("local-key", b"local-key", b"*" * 9),
        ("sk-0123456789abc", b"*" * 16, b"*" * 16),
    ],
)
def test_a_key_that_may_be_a_word_stays_in_answers(key: str, whole: bytes, error: bytes) -> None:
    redaction = Redaction([Endpoint(api_key=key)])
    assert in_pieces(redaction, [b"the ", key.encode()]) == b"the " + whole
    assert redaction.error(key.encode()) == error


def test_openais_own_address_is_no_secret() -> None:
    redaction = Redaction([Endpoint(api_key="sk-openai-0123456789")])
    body = b"see https://api.openai.com/v1, sk-openai-0123456789"
    assert redaction.error(body) == b"see https://api.openai.com/v1, " + b"*" * 20
    assert Redaction([]).error(body) == body
