"""``fastroute journal prune``: deletes rows by age, caller or request, or only their texts."""

from __future__ import annotations

import argparse
import time

from fastroute.cli.journal.options import add_url, opened
from fastroute.cli.options import text
from fastroute.errors import InvalidInputError


def configure(parser: argparse.ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="of before so many days only"
    )
    parser.add_argument("--caller", type=text, metavar="NAME", help="of this caller only")
    parser.add_argument("--id", type=text, metavar="REQUEST_ID", help="of this request only")
    parser.add_argument(
        "--texts", action="store_true",
        help="erase prompts, answers and comments, and keep the figures",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Delete."""
    from fastroute.journal.database import writing
    from fastroute.journal.prune import delete_requests, erase_texts

    days = options.older_than
    if days is not None and not days >= 0:
        raise InvalidInputError(f"--older-than must be 0 or more, got {days}")
    if days is None and options.caller is None and options.id is None:
        raise InvalidInputError("say what to delete: --older-than, --caller or --id")
    change = erase_texts if options.texts else delete_requests
    with opened(options.url) as engine, writing(engine) as connection:
        count = change(
            connection,
            before=None if days is None else time.time() - days * 86400,
            caller=options.caller,
            request_id=options.id,
        )
    what = "rows without their texts now" if options.texts else "requests deleted"
    print(f"{count:,} {what}")
    return 0
