"""What people see: tables, JSON, the HTML page in a browser, and figures."""

from __future__ import annotations

import asyncio
import builtins
import html
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from fakes.browser import PROGRAM, open_tab
from fastroute.errors import InvalidInputError, MissingDependencyError
from fastroute.evaluation import (
    evaluate,
    mt_bench_points,
    save_figure,
    to_dict,
    to_markdown,
    to_text,
    write_html,
)
from fastroute.evaluation.report.conclusion import conclusion
from fastroute.evaluation.results import Report
from fastroute.types import ModelPair

from .toy_routers import Numbered, toy_benchmark

LABEL = "mine <b>|&"


@pytest.fixture(scope="module")
def report() -> Report:
    benchmarks = [
        replace(toy_benchmark(80), name="mt-bench", scale=9.5, unit="judge's score, 1 to 10"),
        toy_benchmark(120, seed=1, name="a <b> & traffic.jsonl"),
    ]
    return evaluate({LABEL: Numbered(), "other": Numbered()}, benchmarks, resamples=30)


@pytest.fixture(scope="module")
def dollars() -> Report:
    toy = toy_benchmark(80, costs=True)
    return evaluate({"n": Numbered()}, [toy], axis="cost", resamples=20)


def test_text_is_aligned_and_complete(report: Report) -> None:
    text = to_text(report, points=mt_bench_points(), timings=True)
    for word in (
        "APGR", "CPT(20%)", "CPT(95%)", "saved(50%)", "AUC", "Brier", "ECE", "p(random)",
        "p(length)", "random", "oracle", "length", LABEL, "paired p =", "Unify: 8.7579 at 45.625%",
        "Martian: 8.3125", "RouteLLM's paper", "80 prompts", "embedding 0.000 s",
        "95% intervals from 30 resamples",
    ):  # fmt: skip
        assert word in text
    assert "-0.0%" not in text
    lines = text.splitlines()
    header = next(line for line in lines if line.startswith("router") and "APGR" in line)
    row = lines[lines.index(header) + 1]
    interval = lines[lines.index(header) + 2]
    column = header.index("APGR") + len("APGR")  # right-aligned, so that digits stand in line
    assert row[column - 1].isdigit()
    assert interval[column - 1] == "]"
    ends = [f"{r.benchmark.name}: {conclusion(report, r)}" for r in report.results]
    assert " ".join(text.split()).endswith(" ".join(ends))
    table = lines[lines.index(header) : lines.index("", lines.index(header))]
    assert max(map(len, table)) <= 100


def test_markdown_has_the_paper_s_columns(report: Report) -> None:
    text = to_markdown(report)
    assert len(re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)) == 2
    rows = re.findall(r"^\|.*$", text, flags=re.MULTILINE)
    header = rows[0].split(" | ")
    assert header[:5] == ["| router", "CPT(50%)", "CPT(80%)", "APGR", "improvement"]
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == len(header) + 1
    random = next(row for row in rows if row.startswith("| `random`"))
    assert random.split(" | ")[1:5] == ["50.0%", "80.0%", "0.500", "+0.0%"]


def test_json_is_plain_and_has_everything(report: Report) -> None:
    text = json.dumps(to_dict(report, points=mt_bench_points()), allow_nan=False)
    read = json.loads(text)
    first = read["benchmarks"][0]
    assert [row["name"] for row in first["routers"]] == [row.name for row in report.results[0].rows]
    row = first["routers"][0]
    assert set(row["cpt"]) == {"0.2", "0.5", "0.8", "0.95"}
    assert row["apgr"]["low"] < row["apgr"]["value"] < row["apgr"]["high"]
    assert len(row["curve"]["share"]) == len(row["curve"]["low"]) == 101
    assert row["curve"]["quality"][0] == pytest.approx(first["weak_quality"])
    assert row["curve"]["quality"][-1] == pytest.approx(first["strong_quality"])
    assert row["curve"]["cost"] is None
    assert first["comparisons"][0]["p_value"] == 1.0
    assert {p["label"] for p in read["published"]["mt_bench_points"]} == {
        "Unify", "Martian", "RouteLLM",
    }  # fmt: skip
    assert row["brier"] == report.results[0].rows[0].brier
    assert first["conclusion"] == conclusion(report, report.results[0])
    assert [p["reaches_goal"] for p in row["thresholds"]].count(True) == 1


def test_dollars_are_shown_as_dollars(dollars: Report, tmp_path: Path) -> None:
    text = to_text(dollars)
    assert "bill(50%)" in text
    assert "extra dollars" in text
    read = to_dict(dollars)["benchmarks"][0]["routers"][0]
    toy = dollars.results[0].benchmark
    assert toy.cost_weak is not None
    assert read["curve"]["cost"][0] == pytest.approx(toy.cost_weak.mean())
    assert set(read["bill_saved"]) == {"0.2", "0.5", "0.8", "0.95"}
    save_figure(dollars, tmp_path / "f.svg")
    assert "Dollars per 1,000 prompts" in (tmp_path / "f.svg").read_text()


class Page(HTMLParser):
    """What a page holds and what it would load."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._read(attributes)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._read(attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _read(self, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.references.append(value or "")


def test_page_is_well_formed_and_loads_nothing(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html(report, path, points=mt_bench_points(), command="fastroute evaluate --x '<y>'")
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.references  # the figures' own parts
    assert all(r.startswith("#") and r[1:] in page.ids for r in page.references)
    assert not re.search(r"@import|url\((?!#)|<script|<link|<iframe", text)
    assert page.tags.count("svg") == 6
    assert page.tags.count("table") == 2 * 4  # of thresholds for each router, and two of all
    for result in report.results:
        assert f"</strong> {html.escape(conclusion(report, result))}</p>" in text
    assert text.index("class='conclusion'") < text.index("<section>")
    for term in ("APGR", "CPT(x)", "saved(x)", "Brier, ECE"):
        assert f"<dt>{term}</dt>" in text
    assert "mine &lt;b&gt;|&amp;" in text
    assert "<b>" not in text
    assert "&#x27;&lt;y&gt;&#x27;" in text
    assert "Unify" in text
    with pytest.raises(InvalidInputError, match="can't be written"):
        write_html(report, tmp_path / "nowhere" / "x.html")


@pytest.mark.skipif(PROGRAM is None, reason="no chromium; install it to open the page in a browser")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 1100, 390])
def test_page_in_a_browser_shows_everything(
    report: Report, dollars: Report, tmp_path: Path, width: int, dark: bool
) -> None:
    page = tmp_path / "report.html"
    long = replace(dollars.results[0], benchmark=replace(
        dollars.results[0].benchmark, name="x" * 60 + ".jsonl",
        pair=ModelPair(strong="an-organisation/" + "big-" * 12, weak="w" * 40),
    ))  # fmt: skip
    results = (*report.results, long)
    write_html(
        replace(report, results=results), page, points=mt_bench_points(), command="evaluate " * 40
    )
    probe = """(() => {
      document.querySelectorAll('details').forEach(d => { d.open = true; });
      const right = e => e.getBoundingClientRect().right, side = innerWidth + 0.5;
      const shown = [...document.querySelectorAll('body *:not(svg *)')]
        .filter(e => e.getClientRects().length && !e.closest('thead'));
      const texts = [...document.querySelectorAll('figure text')].map(e => {
        const t = e.getBoundingClientRect(), s = e.closest('svg').getBoundingClientRect();
        return t.left >= s.left - 1 && t.right <= s.right + 1 ? '' : e.textContent; });
      const style = getComputedStyle(document.body);
      return JSON.stringify({
        scroll: document.documentElement.scrollWidth, width: innerWidth,
        outside: shown.filter(e => right(e) > side).map(e => e.outerHTML.slice(0, 80)),
        overfull: [...document.querySelectorAll('td, th')].filter(
          e => e.getClientRects().length && !e.closest('thead') && e.scrollWidth > e.clientWidth + 1
        ).map(e => e.textContent),
        headers: [...document.querySelectorAll('thead')].map(right).filter(x => x > side),
        cut: texts.filter(t => t),
        sizes: [...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect())
          .map(r => [r.width, r.height]),
        first: document.querySelector('.conclusion').getBoundingClientRect().bottom,
        ink: style.color, page: style.backgroundColor,
        loaded: performance.getEntriesByType('resource').length,
      }); })()"""

    async def look() -> dict[str, Any]:
        async with open_tab(page.as_uri(), width=width, dark=dark) as tab:
            found: dict[str, Any] = json.loads(await tab.js(probe))
            assert not tab.errors
            return found

    result = asyncio.run(look())
    assert result["width"] == width
    assert result["scroll"] <= width  # no column is cut off at the side, and nothing scrolls
    assert result["outside"] == result["overfull"] == result["headers"] == result["cut"] == []
    assert len(result["sizes"]) == 9
    assert all(w > 250 and h > 80 for w, h in result["sizes"])
    assert result["first"] < 500  # the conclusion is on the first screen
    dark_page = result["page"] == "rgb(22, 24, 28)"
    assert dark_page == dark
    assert result["ink"] != result["page"]
    assert result["loaded"] == 0


@pytest.mark.parametrize("name", ["f.png", "f.svg", "f.pdf"])
def test_figures_are_written_and_are_the_same_again(
    report: Report, tmp_path: Path, name: str
) -> None:
    save_figure(report, tmp_path / name, points=mt_bench_points())
    content = (tmp_path / name).read_bytes()
    if name == "f.png":
        pixels = imread(tmp_path / name)
        assert pixels.shape[1] == 2 * 2.4 * 300
        assert 0.02 < np.mean(pixels[:, :, :3].min(axis=2) < 0.99) < 0.5  # drawn on, not full
    if name == "f.svg":
        texts = {e.text for e in ET.fromstring(content).iter("{http://www.w3.org/2000/svg}text")}
        assert {"Unify", "Martian", "RouteLLM", "Strong calls (%)", "MT-Bench, 80 prompts"} <= texts
        assert "Strong model better" in texts
        save_figure(report, tmp_path / "again.svg", points=mt_bench_points())
        assert (tmp_path / "again.svg").read_bytes() == content
    with pytest.raises(InvalidInputError, match=r"must end in \.png, \.svg, \.pdf"):
        save_figure(report, tmp_path / "f.jpg")
    with pytest.raises(InvalidInputError, match="can't be written"):
        save_figure(report, tmp_path / "nowhere" / name)


def test_four_benchmarks_stand_in_two_rows(tmp_path: Path) -> None:
    toys = [toy_benchmark(80, seed=i, name=f"toy {i}" + " long name" * i) for i in range(4)]
    report = evaluate({"n": Numbered()}, toys, resamples=0)
    save_figure(report, tmp_path / "f.svg")
    root = ET.parse(tmp_path / "f.svg").getroot()
    width, height = (float(root.attrib[k].removesuffix("pt")) / 72 for k in ("width", "height"))
    assert math.isclose(width, 7.2, abs_tol=0.01)
    assert height > 8


def test_without_matplotlib_the_extra_is_named(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name, name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for write in (
        lambda: save_figure(report, tmp_path / "f.png"),
        lambda: write_html(report, tmp_path / "f.html"),
    ):
        with pytest.raises(MissingDependencyError, match=r"fastroute\[eval\]"):
            write()
    assert to_text(report)  # tables need nothing
