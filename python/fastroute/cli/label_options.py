"""Options that say what stands around a prompt when a decoder is asked for its label."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import add_option
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.routers.causal_llm.template import LabelTemplate


def add_template(parser: argparse.ArgumentParser) -> None:
    """Add ``--system``, ``--question``, ``--chat-template`` and ``--max-tokens``."""
    add_option(parser, "--system FILE", "text that the model is told first")
    add_option(parser, "--question FILE",
        help="text around a prompt, with {question} where the prompt goes")  # fmt: skip
    add_option(parser, "--chat-template FILE",
        help="a Jinja chat template instead of the checkpoint's own")  # fmt: skip
    add_option(parser, "--max-tokens N", type=int,
        help="longest input, template included (default: the checkpoint's, at most 2048)",
    )  # fmt: skip


def template_of(
    options: argparse.Namespace, folder: Path, *, default: bool = False
) -> LabelTemplate | None:
    """The template that options ask for; None for the checkpoint's own.

    With ``default`` a checkpoint without one gets the usual texts.
    """
    from fastroute.routers.causal_llm import template as templates
    from fastroute.routers.causal_llm.onnx_engine import check_model_folder

    check_model_folder(folder)
    texts: dict[str, Any] = {
        name: _read(name, getattr(options, name))
        for name in ("system", "question", "chat_template")
        if getattr(options, name) is not None
    }
    if texts:
        return templates.render_template(folder, **texts)
    if not default:
        return None
    if (folder / templates.TEMPLATE_FILE).is_file():
        return templates.read_template(folder)
    return templates.render_template(folder)


def _read(name: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        option = name.replace("_", "-")
        raise InvalidInputError(f"--{option}: {file!r} can't be read: {error}") from error
