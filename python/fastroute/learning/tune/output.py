"""Writes what a tuning found: the router, a gateway's configuration, the result and the report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fastroute._files import os_errors_as, write_whole
from fastroute.candidates import Candidate
from fastroute.errors import ArtifactError
from fastroute.learning.many_models.result import ModelsResult
from fastroute.learning.many_models.words import account_of
from fastroute.learning.tune.page import to_html
from fastroute.learning.tune.result import TuneResult
from fastroute.learning.tune.words import lines
from fastroute.provenance import OperatingPoint
from fastroute.training.heads import save_mf

#: Names of the files beside the artifact.
CONFIG, RESULT, REPORT = "gateway.toml", "result.json", "report.html"
CANDIDATES = "candidates.toml"
#: The folder of a cascade's acceptance model.
ACCEPTANCE = "acceptance"
_ENDPOINT = (
    "",
    "# Where the models are. By default OpenAI's API, with the key in OPENAI_API_KEY.",
    "# [endpoint]",
    '# base_url = "https://api.openai.com/v1"',
    '# api_key_env = "OPENAI_API_KEY"',
)


Result = TypeVar("Result", bound=TuneResult | ModelsResult)


def save_result(found: Result, folder: str | os.PathLike[str], *, keep: bool = False) -> Result:
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
    with os_errors_as(ArtifactError, f"{target} can't be written"):
        target.mkdir(parents=True, exist_ok=True)
        if saved.folder is not None:
            _save_router(saved, target, {"tune": _without_paths(document)})
        write_whole(target / RESULT, (json.dumps(document, indent=2) + "\n").encode())
        page = to_html(saved)
        if page is not None:
            write_whole(target / REPORT, page.encode())
    return saved


def _save_router(saved: TuneResult | ModelsResult, target: Path, training: dict[str, Any]) -> None:
    if isinstance(saved, ModelsResult):
        saved.router.save(target, training=training)
        write_whole(target / CANDIDATES, candidates_file(saved.candidates).encode())
        write_whole(target / CONFIG, models_config(saved).encode())
        return
    card = "# A router made by fastroute tune\n\n" + "\n".join(lines(account_of(saved))) + "\n"
    router = saved.router
    if saved.cascade is not None:
        saved.cascade.model.save(target / ACCEPTANCE, training=training)
        if not saved.router_certified:  # where answers can't be compared, the strong model answers
            point = OperatingPoint(0.0, None, "no threshold is certified")
            router = router.with_provenance(replace(router.provenance, operating_point=point))
    save_mf(target, router, training=training, card=card)
    write_whole(target / CONFIG, gateway_config(saved).encode())


def _without_paths(document: dict[str, object]) -> dict[str, object]:
    """What the artifact records: no paths of this machine."""
    return {key: value for key, value in document.items() if key not in ("output", "understood")}


def models_config(found: ModelsResult) -> str:
    """The configuration of ``fastroute serve`` for a choice among models, as TOML."""
    text = [
        "# Written by fastroute tune. The price of money in the policy was certified.",
        "",
        "[candidates]",
        f'file = "{CANDIDATES}"',
        "",
        "[policy]",
        f'choose = "{found.choice_policy}"',
        'router = "."  # this folder',
        *_ENDPOINT,
    ]
    return "\n".join(text) + "\n"


def candidates_file(candidates: Sequence[Candidate]) -> str:
    """Candidates as ``read_candidates`` reads them."""
    text = ["# Written by fastroute tune. Prices can be changed; the promise is of these."]
    for candidate in candidates:
        text += [
            "",
            "[[candidates]]",
            f"name = {_toml(candidate.name)}",
            f"input_usd_per_mtok = {candidate.input_usd_per_mtok!r}",
            f"output_usd_per_mtok = {candidate.output_usd_per_mtok!r}",
            f"answer_tokens = {float(candidate.answer_tokens)!r}",
        ]
    return "\n".join(text) + "\n"


def gateway_config(found: TuneResult) -> str:
    """The configuration of ``fastroute serve`` for this router, as TOML."""
    strong, weak = found.router.strong_model, found.router.weak_model
    point = found.router.provenance.operating_point
    said = "has none" if point is None else f"{point.threshold:g}"
    text = [
        f"# Written by fastroute tune. The threshold is the router's own operating point, {said}.",
        "",
        "[routing]",
        f"strong_model = {_toml(strong)}",
        f"weak_model = {_toml(weak)}",
        'routers = ["mf=."]  # this folder',
        *_cascade_section(found),
        *_ENDPOINT,
    ]
    helpers = () if found.cascade is None else found.cascade.helpers
    named = zip((weak, strong, *helpers), found.export.models, strict=False)
    for name, column in named:
        price = found.prices.get(column)
        if price is not None:
            text += [
                "",
                f"[models.{_toml(name)}]",
                f"input_usd_per_mtok = {float(price.input_usd_per_mtok)!r}",
                f"output_usd_per_mtok = {float(price.output_usd_per_mtok)!r}",
            ]
    return "\n".join(text) + "\n"


def _cascade_section(found: TuneResult) -> list[str]:
    if found.cascade is None:
        return []
    return [
        "",
        '# Clients ask for model "cascade".',
        "[cascade]",
        f"helpers = [{', '.join(map(_toml, found.cascade.helpers))}]",
        f'acceptance = "{ACCEPTANCE}"',
        f"threshold = {found.cascade.threshold!r}  # of P(accept), certified",
    ]


def _toml(text: str) -> str:
    """A basic string of TOML: JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
