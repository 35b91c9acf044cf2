"""Writes what a tuning found: the router, a gateway's configuration, the result and the report."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from fastroute._files import write_whole
from fastroute.errors import ArtifactError
from fastroute.learning.tune.page import to_html
from fastroute.learning.tune.result import TuneResult
from fastroute.learning.tune.words import lines
from fastroute.training.heads import save_mf

#: Names of the files beside the artifact.
CONFIG, RESULT, REPORT = "gateway.toml", "result.json", "report.html"


def save_result(
    found: TuneResult, folder: str | os.PathLike[str], *, keep: bool = False
) -> TuneResult:
    """Write ``result.json`` and ``report.html``, and of a router that should be used the artifact
    and ``gateway.toml``; of another only with ``keep``.

    Returns the result with its folder, which is None where no router was written. The report is
    left out without matplotlib. Raises ArtifactError where the folder can't be written.
    """
    target = Path(folder)
    saved = found
    if found.verdict == "use" or keep:
        saved = replace(found, folder=target)
    document = saved.to_dict()
    try:
        target.mkdir(parents=True, exist_ok=True)
        if saved.folder is not None:
            card = "# A router made by fastroute tune\n\n" + "\n".join(lines(saved)) + "\n"
            save_mf(target, saved.router, training={"tune": _without_paths(document)}, card=card)
            write_whole(target / CONFIG, gateway_config(saved).encode())
        write_whole(target / RESULT, (json.dumps(document, indent=2) + "\n").encode())
        page = to_html(saved)
        if page is not None:
            write_whole(target / REPORT, page.encode())
    except OSError as error:
        raise ArtifactError(f"{target} can't be written: {error.strerror}") from error
    return saved


def _without_paths(document: dict[str, object]) -> dict[str, object]:
    """What the artifact records: no paths of this machine."""
    return {key: value for key, value in document.items() if key not in ("output", "understood")}


def gateway_config(found: TuneResult) -> str:
    """The configuration of ``fastroute serve`` for this router, as TOML."""
    strong, weak = found.router.strong_model, found.router.weak_model
    text = [
        (
            "# Written by fastroute tune. The threshold is the router's own operating point, "
            f"{found.threshold:g}."
        ),
        "",
        "[routing]",
        f"strong_model = {_toml(strong)}",
        f"weak_model = {_toml(weak)}",
        'routers = ["mf=."]  # this folder',
        "",
        "# Where the models are. By default OpenAI's API, with the key in OPENAI_API_KEY.",
        "# [endpoint]",
        '# base_url = "https://api.openai.com/v1"',
        '# api_key_env = "OPENAI_API_KEY"',
    ]
    for name, column in ((strong, found.pair.strong), (weak, found.pair.weak)):
        price = found.prices.get(column)
        if price is not None:
            text += [
                "",
                f"[models.{_toml(name)}]",
                f"input_usd_per_mtok = {float(price.input_usd_per_mtok)!r}",
                f"output_usd_per_mtok = {float(price.output_usd_per_mtok)!r}",
            ]
    return "\n".join(text) + "\n"


def _toml(text: str) -> str:
    """A basic string of TOML: JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
