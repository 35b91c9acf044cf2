"""What a provider repeats of the gateway's request, its key and address, reaches no client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from fakes.gateway import Gateway
from fakes.openai_chat import event
from fakes.planned import View
from fastroute.gateway.protocol.redaction import Redaction
from fastroute.http import Endpoint

from .conftest import PROVIDER_KEY

ASK: dict[str, Any] = {"model": "weak", "messages": [{"role": "user", "content": "hi"}]}
KEY = "sk-provider-sk-0123/4567sk"  # its end is its beginning
TELLS = "you sent <authorization> to http://<host>/v1/chat/completions"


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


@pytest.mark.parametrize("stream", [False, True])
def test_a_good_answer_passes_with_its_bytes(
    gateway: Gateway, upstream: View, stream: bool
) -> None:
    text = f'ask {upstream.base_url}, and on an "error": {{...}} try again'
    raw = event(text) + "data: [DONE]\n\n"
    upstream.plan({"kind": "events", "raw": raw, "pieces": 9})
    answer = gateway.ask("POST", "/v1/chat/completions", {**ASK, "stream": stream})
    assert answer.body.decode() == raw


def test_a_client_of_openai_reads_the_error(gateway: Gateway, upstream: View) -> None:
    upstream.plan({"kind": "status", "status": 401, "message": TELLS})
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key="x", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match=r"you sent Bearer \*\*\*\*") as caught,
    ):
        client.chat.completions.create(**ASK)
    assert PROVIDER_KEY not in str(caught.value.body)


# What is masked


@pytest.mark.parametrize("text", [f"<{KEY}>", f"{KEY}-2 {KEY}", KEY.replace("/", "\\/")])
def test_a_key_is_masked(text: str) -> None:
    redaction = Redaction([Endpoint(api_key=KEY), Endpoint(api_key=f"{KEY}-2")])
    covered = redaction.error(text.encode())
    assert len(covered) == len(text)
    assert b"sk-provider" not in covered


def test_headers_of_an_error_have_neither_keys_nor_addresses() -> None:
    endpoint = Endpoint(base_url="http://llm.internal:8000/v1", api_key="local-key")
    redaction = Redaction([endpoint])
    headers = [(b"x-echo", b"Bearer local-key"), (b"location", b"http://llm.internal:8000/v1/x")]
    masked = (b"x-echo", b"Bearer *********")
    assert redaction.headers(headers) == [masked, headers[1]]
    assert redaction.headers(headers, of_error=True) == [masked, (b"location", b"*" * 27 + b"/x")]


def test_a_short_key_may_be_a_word() -> None:
    assert Redaction([Endpoint(api_key="EMPTY")]).error(b"EMPTY") == b"EMPTY"


def test_openais_own_address_is_no_secret() -> None:
    redaction = Redaction([Endpoint(api_key="sk-openai-0123456789")])
    body = b"see https://api.openai.com/v1, sk-openai-0123456789"
    assert redaction.error(body) == b"see https://api.openai.com/v1, " + b"*" * 20
    assert Redaction([]).error(body) == body
