"""``fastroute journal prune``: deletes rows by age, caller or request, or only their texts."""

from __future__ import annotations

import argparse
import time

from fastroute.cli.journal.options import add_url, opened
from fastroute.cli.options import add_flag, add_option
from fastroute.errors import InvalidInputError


def configure(parser: argparse.ArgumentParser) -> None:
    add_url(parser)
    add_option(parser, "--older-than DAYS", "of before so many days only", float)
    add_option(parser, "--caller NAME", "of this caller only")
    add_option(parser, "--id REQUEST_ID", "of this request only")
    add_flag(parser, "--texts", "erase prompts, answers and comments, and keep the figures")


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
