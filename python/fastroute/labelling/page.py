"""The page on which a person compares answers, and a server for it on this machine.

A gateway serves the page by ``routes`` beside its own paths; ``serve_page`` is for a file.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from fastroute.errors import FastRouteError, InvalidInputError
from fastroute.labelling.comparison import KEYS, Comparison, Pairs

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Act = Callable[[Pairs, dict[str, Any]], Comparison | None]

#: What every file of a page is sent with: it loads nothing from elsewhere, and no other page has it
#: in a frame.
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_FOLDER = Path(__file__).parent / "static"
_FILES = {
    "": ("label.html", "text/html"),
    "label.css": ("label.css", "text/css"),
    "label.js": ("label.js", "text/javascript"),
}


def file_handler(path: Path, kind: str) -> Handler:
    """Serves a file of a page, which is read once."""
    body = path.read_bytes()

    async def serve(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body, headers=PAGE_HEADERS, content_type=kind, charset="utf-8")

    return serve


def file_routes(prefix: str) -> list[tuple[str, str, Handler]]:
    """Path, method and handler of the page's files, which hold nothing that is private.

    ``prefix`` ends with a slash.
    """
    return [
        (prefix + path, "GET", file_handler(_FOLDER / name, kind))
        for path, (name, kind) in _FILES.items()
    ]


def data_routes(
    prefix: str, pairs_of: Callable[[web.BaseRequest], Pairs]
) -> list[tuple[str, str, Handler]]:
    """Path, method and handler of what the page asks for.

    ``prefix`` ends with a slash. ``pairs_of`` gives the pairs of a request, and may refuse it.
    """
    one_at_a_time = asyncio.Lock()

    def answering(act: Act) -> Handler:
        async def handle(request: web.BaseRequest) -> web.Response:
            pairs = pairs_of(request)
            try:
                body = await _body(request)
                async with one_at_a_time:
                    return _json(await asyncio.to_thread(state, act, pairs, body))
            except FastRouteError as error:
                status = 400 if isinstance(error, InvalidInputError) else 500
                return _json({"error": {"message": str(error)}}, status)

        return handle

    def state(act: Act, pairs: Pairs, body: dict[str, Any]) -> Any:
        pair = act(pairs, body) or pairs.next(_skipped(body))
        graded, total = pairs.progress()
        shown = None
        if pair is not None:  # without the names of the models
            answers = [pair.answer_a, pair.answer_b]
            shown = {"id": pair.id, "prompt": pair.prompt, "answers": answers}
        return {"pair": shown, "graded": graded, "total": total}

    def grade(pairs: Pairs, body: dict[str, Any]) -> None:
        pair_id, winner = body.get("id"), KEYS.get(str(body.get("key")))
        if not isinstance(pair_id, str) or winner is None:
            raise InvalidInputError(f"a verdict needs an id, and a key of {', '.join(KEYS)}")
        pairs.grade(pair_id, winner)

    return [
        (prefix + path, "POST", answering(act))
        for path, act in (
            ("next", lambda *_: None),
            ("grade", grade),
            ("undo", lambda pairs, _: pairs.undo()),
        )
    ]


async def serve_page(pairs: Pairs, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page on 127.0.0.1 until SIGINT or SIGTERM.

    Args:
        pairs: what is graded.
        port: the port; 0 for a free one.
        ready: called once with the page's address. It has a random part: others on this machine,
            and other web pages, can't guess it.

    Raises InvalidInputError if the port is not free.
    """
    prefix = f"/{secrets.token_urlsafe(16)}/"
    application = web.Application()
    for path, method, handler in (*file_routes(prefix), *data_routes(prefix, lambda _: pairs)):
        application.router.add_route(method, path, handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidInputError(
                f"can't listen on 127.0.0.1:{port}: {reason}; give another port, or none for a "
                "free one"
            ) from error
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        host, chosen = runner.addresses[0][:2]
        ready(f"http://{host}:{chosen}{prefix}")
        await stopping.wait()
    finally:
        await runner.cleanup()


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, LookupError, web.HTTPException):
        body = None
    if not isinstance(body, dict):
        raise InvalidInputError("the body must be a JSON object")
    return body


def _skipped(body: dict[str, Any]) -> list[str]:
    given = body.get("skipped")
    return list(map(str, given)) if isinstance(given, list) else []


def _json(value: Any, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, headers={"cache-control": "no-store"})
