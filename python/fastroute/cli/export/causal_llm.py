"""``fastroute export causal_llm``: a Hugging Face checkpoint becomes an ONNX folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fastroute.cli.label_options import add_template, template_of
from fastroute.cli.options import add_flag, add_option


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--checkpoint FOLDER", required=True,
        help="a Hugging Face checkpoint whose vocabulary has the label tokens; no code of it runs",
    )  # fmt: skip
    add_option(parser, "--output FOLDER", "a new folder for the result", required=True)
    add_template(parser)
    add_flag(parser, "--json", "print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Export, and print how far the result is from torch."""
    from fastroute.training.causal_llm.export import export_causal_llm
    from fastroute.training.causal_llm.libraries import quieten

    quieten()
    template = template_of(options, Path(options.checkpoint).expanduser())
    made = export_causal_llm(
        options.checkpoint, options.output, template=template, max_tokens=options.max_tokens
    )
    if options.json:
        facts = {
            "folder": str(made.folder),
            "max_difference": made.max_difference,
            "prefix_tokens": made.prefix_tokens,
            "bytes": made.num_bytes,
        }
        print(json.dumps(facts, indent=2))
    else:
        print(
            f"wrote {made.folder}: {made.num_bytes / 2**20:,.1f} MiB, {made.prefix_tokens} tokens "
            "of the template run once"
        )
        print(f"largest difference of a logit from torch: {made.max_difference:.3g}")
    return 0
