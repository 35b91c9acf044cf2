"""``fastroute train static``: distils static embedders from a sentence encoder."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute.cli.options import add_flag, add_option
from fastroute.cli.streams import say
from fastroute.cli.train.options import (
    DATA_HELP,
    add_data,
    add_output,
    check_output,
    read_compared,
)
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.training.static.distillation import TableFigures
    from fastroute.training.static.token_table import Storage

_STORAGES: tuple[Storage, ...] = ("int8", "float16", "float32")


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--encoder FOLDER", required=True,
        help="an ONNX sentence encoder and its tokenizer.json")  # fmt: skip
    add_output(parser, "where the embedder goes; several go to FOLDER/DIMENSIONS-STORAGE")
    add_option(parser, "--dimensions D,...", default="256",
        help="sizes to make, such as 64,128,256,384 (default: 256)")  # fmt: skip
    add_option(parser, "--storage S,...", default="int8",
        help="any of int8, float16, float32 (default: int8)")  # fmt: skip
    add_option(parser, "--corpus FILE",
        help="texts to count tokens in: .jsonl, .csv or .parquet with `prompt`, else one a line "
        "(default: Zipf's law by the order of the vocabulary)")  # fmt: skip
    add_data(
        parser,
        required=False,
        english=True,
        what=f"{DATA_HELP}; graded results are needed; held-out APGR, fidelity to the encoder and "
        "latency are then measured, too",
    )
    add_flag(parser, "--json", "print JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    """Make the tables and print what each is worth."""
    sizes: list[tuple[int, Storage]] = [
        (d, s) for d in _numbers(options.dimensions) for s in _storages(options.storage)
    ]
    check_output(options)
    from fastroute.training.dataset_folds import HeldOut
    from fastroute.training.static.distillation import SAMPLE, Distillation

    # What is cheap to read and can be wrong comes before what takes time.
    rows = read_compared(options) if options.data else []
    held_out = HeldOut(rows) if rows else None
    corpus: Iterator[str] | None = None
    if options.corpus:
        corpus = _corpus(options.corpus)
        corpus = chain([next(corpus)], corpus)
    _say(f"encoding the vocabulary of {options.encoder}")
    distillation = Distillation(options.encoder, corpus=corpus)
    figures = distillation.compare(
        options.output,
        sizes,
        # Evenly through the files, and so from all of them.
        prompts=[row.prompt for row in rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]],
        held_out=held_out,
        say=_say,
    )
    if options.json:
        print(json.dumps([one._asdict() for one in figures], indent=2))
    else:
        print("\n".join(_table(figures)))
    return 0


def _numbers(value: str) -> list[int]:
    try:
        numbers = [int(word) for word in value.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 1:
        raise InvalidInputError(
            f"--dimensions must be distinct numbers from 1, with commas between, got {value!r}"
        )
    return numbers


def _storages(value: str) -> list[Storage]:
    words = value.split(",")
    found: list[Storage] = [known for word in words for known in _STORAGES if known == word]
    if len(set(words)) < len(words) or len(found) < len(words):
        raise InvalidInputError(
            f"--storage must be any of {', '.join(_STORAGES)}, with commas between, got {value!r}"
        )
    return found


def _corpus(name: str) -> Iterator[str]:
    from fastroute.data.row_files import file_kind, read_lines, read_rows

    file = Path(name)
    read = read_rows if file_kind(file) in ("jsonl", "csv", "parquet") else read_lines
    none = True
    for where, row in read(file):
        prompt = None if isinstance(row, str) else row.get("prompt")
        if not isinstance(prompt, str):
            raise InvalidInputError(
                f"--corpus {file}, {where}: {row if isinstance(row, str) else 'no text in prompt'}"
            )
        none = False
        yield prompt
    if none:
        raise InvalidInputError(f"--corpus {file} has no text")


def _say(line: str) -> None:
    if sys.stderr.isatty():
        say(line)


def _table(figures: list[TableFigures]) -> list[str]:
    names = ["dimensions", "storage", "bytes", "APGR held out", "cosine", "pair correlation"]
    names += ["us a prompt", "x tokenizer", "folder"]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for one in figures:
        cells = [
            str(one.dimensions),
            one.storage,
            f"{one.table_bytes:,}",
            *(
                "" if value is None else format(value, form)
                for value, form in (
                    (one.apgr, ".4f"),
                    (one.cosine, ".4f"),
                    (one.similarity_correlation, ".4f"),
                    (one.latency_us, ".1f"),
                    (one.latency_ratio, ".3f"),
                )
            ),
            one.folder,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
