"""The page at ``/ui/label/``: answers that were sent, and their shadows, compared blind."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

from aiohttp import web

from fastroute.gateway.protocol.proxy import caller_of
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.labelling.comparison import Pairs
from fastroute.labelling.page import Handler, data_routes, file_routes

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from fastroute.gateway.config.journal import JournalConfig
    from fastroute.gateway.operations.state import State

_PREFIX = "/ui/label/"


def label_routes(state: State) -> list[tuple[str, str, Handler, bool]]:
    """The page's paths, each with its method, its handler, and whether it needs a key."""

    def pairs_of(request: web.BaseRequest) -> Pairs:
        section = state.gateway.config.journal
        if not has_pairs(section):
            raise RefusalError(
                404,
                "no_pairs",
                "there are no pairs of answers: they need [journal] with prompts = true and "
                "answers = true, and [shadow]",
            )
        from fastroute.journal.labelling import JournalPairs

        assert section is not None
        connect = partial(_opened, section.url, section.password)
        return JournalPairs(connect, caller_of(state.gateway, request.headers))

    (root, method, page), *files = file_routes(_PREFIX)

    async def with_slash(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.partition("?")[0].endswith("/"):
            return await page(request)
        return web.Response(status=308, headers={"location": "label/"})  # its files are below it

    return [
        (root.rstrip("/"), method, with_slash, False),
        *((*route, False) for route in files),
        *((*route, True) for route in data_routes(_PREFIX, pairs_of)),
    ]


def has_pairs(section: JournalConfig | None) -> bool:
    """Whether the journal keeps what is compared."""
    return section is not None and section.prompts and section.answers


@lru_cache(maxsize=1)
def _opened(url: str, password: str | None) -> Engine:
    from fastroute.journal.database import open_journal

    return open_journal(url, password=password)
