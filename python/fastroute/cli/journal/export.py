"""``fastroute journal export``: a file of answers with their grades, or of a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastroute.cli.journal.options import add_span, add_url, reading, span
from fastroute.cli.options import add_flag, add_option, check_new
from fastroute.cli.streams import say

_TABLES = ("answers", "requests", "shadows", "feedback", "judgements", "prices")


def configure(parser: argparse.ArgumentParser) -> None:
    add_url(parser)
    add_span(parser)
    add_option(parser, "--output FILE", "a .csv, .jsonl or .parquet file", required=True)
    add_option(parser, "--table", choices=_TABLES, default="answers",
        help="answers: a row for each answer whose prompt was kept, with its grade, for fastroute "
        "tune (default); or a table as it is")  # fmt: skip
    add_flag(parser, "--overwrite", "replace the file")


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    from fastroute.journal.export import answer_rows, table_rows, write_export
    from fastroute.journal.grades import mean_grades, on_one_scale, read_grades

    check_new(options.output, overwrite=options.overwrite)
    since, until = span(options)
    with reading(options.url) as connection:
        if options.table == "answers":
            kept, left_out = on_one_scale(read_grades(connection, since=since))
            if left_out:
                say(left_out)
            rows = answer_rows(connection, mean_grades(kept), since, until)
        else:
            rows = table_rows(connection, options.table, since, until)
        count = write_export(Path(options.output), rows)
    print(f"wrote {options.output}: {count:,} rows")
    return 0
