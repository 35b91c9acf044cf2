"""``POST /v1/feedback``: a grade of an answer, from an application or its user."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import Field, ValidationError, field_validator, model_validator

from fastroute.errors import JournalError
from fastroute.gateway.config.section import Section, Share, Text
from fastroute.gateway.protocol.limits import read_body
from fastroute.gateway.protocol.proxy import caller_of
from fastroute.gateway.protocol.replies import RefusalError, json_response
from fastroute.gateway.request.document import read_json

if TYPE_CHECKING:
    from fastroute.gateway.operations.state import State
    from fastroute.journal.feedback import Grade, Outcome

_PATIENCE_S = 10.0
_ID = re.compile(r"[0-9a-f]{16}")


class Feedback(Section):
    """The body of the request."""

    request_id: Text
    score: Share | None = None
    winner: Annotated[Text, Field(max_length=255)] | None = None
    comment: str | None = None
    source: Literal["application", "user"] = "application"

    @field_validator("score", mode="before")
    @classmethod
    def _is_a_number(cls, score: Any) -> Any:
        return float(score) if type(score) is int else score

    @model_validator(mode="after")
    def _grades(self) -> Self:
        if self.score is None and self.winner is None:
            raise ValueError('give "score", from 0 to 1, or "winner", a model\'s name or "tie"')
        return self


class FeedbackEndpoint:
    """The handler of the path."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Keep a grade; it is in the database when this answers. Raises RefusalError."""
        state = self._state
        caller = caller_of(state.gateway, request.headers)
        if state.recorder is None:
            raise RefusalError(
                404,
                "no_journal",
                "this gateway keeps no journal: add [journal] to its configuration",
            )
        raw = await read_body(request, state.gateway.config.server)
        body = _read(raw)
        if not _ID.fullmatch(body.request_id):
            raise _unknown()
        key = request.headers.get("idempotency-key", "")
        if len(key) > 255:
            raise RefusalError(422, "invalid_feedback", "Idempotency-Key is over 255 characters")
        from fastroute.journal.feedback import Grade

        comment = state.recorder.texts.kept(body.comment)
        grade = Grade(
            body.request_id, time.time(), body.source, caller, body.score, body.winner, comment, key
        )
        outcome = await _outcome(state, grade)
        if outcome == "other_caller":
            raise _unknown()
        if outcome == "other_grade":
            raise RefusalError(
                409,
                "other_grade",
                "another grade of this request came with this Idempotency-Key; send a new key",
            )
        if outcome == "unknown_winner":
            said = 'winner must be "tie", or one of the models that the request was routed between'
            raise RefusalError(422, "invalid_feedback", said, param="winner")
        answer = {"request_id": grade.request_id, "joined": outcome == "joined"}
        return json_response(answer, 200 if outcome == "joined" else 202)


async def _outcome(state: State, grade: Grade) -> Outcome:
    assert state.recorder is not None
    future = state.recorder.writer.grade(grade)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.wrap_future(future)
    except (JournalError, TimeoutError) as error:
        raise RefusalError(
            503,
            "journal_unavailable",
            "the journal can't be written now: the grade is not kept; try again later",
            headers={"retry-after": "10"},
        ) from error


def _read(raw: bytes) -> Feedback:
    try:
        return Feedback.model_validate(read_json(raw, 0, len(raw)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        said = f'"{name}": {said}' if name else said
        raise RefusalError(422, "invalid_feedback", said, param=name or None) from error
    except ValueError as error:
        raise RefusalError(400, "invalid_json", f"the body is not JSON: {error}") from error


def _unknown() -> RefusalError:
    return RefusalError(
        404,
        "request_not_found",
        "there is no request of this key with that id; the id is in the response header "
        "x-fastroute-request-id",
        param="request_id",
    )
