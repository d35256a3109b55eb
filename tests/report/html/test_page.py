"""The page: everything escaped, nothing fetched, no number that JSON lacks."""

from __future__ import annotations

import json
import re
from pathlib import Path

from balrl.report.compare import Block, Row
from balrl.report.html.charts import Chart, Series
from balrl.report.html.page import Picture, Section, render
from balrl.report.html.settings import Setting
from balrl.report.html.words import Sentence

EVIL = "<script>alert(1)</script>&\"'</style>"


def section(name: str = "a", pictures: tuple[Picture, ...] = ()) -> Section:
    chart = Chart(EVIL, [Series(EVIL, 0, [[0.0, 1.0], [1.0, 2.0, 1.5, 2.5]])], [(0.5, EVIL)])
    return Section(
        name, [("method", EVIL)], [Sentence("bad", EVIL)], [chart], [chart], EVIL, EVIL,
        [Setting("agent.x", EVIL, "1", EVIL), Setting("seed", "0", None, "")], EVIL, [EVIL], "", list(pictures),
        [(EVIL, EVIL)], [EVIL],
    )  # fmt: skip


def data_of(page: str) -> dict[str, dict[str, object]]:
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found: dict[str, dict[str, object]] = json.loads(text)
    return found


def test_everything_is_escaped() -> None:
    page = render(EVIL, [section(EVIL), section("b")], [Chart(EVIL, [])], [])
    assert "alert(1)</script>" not in page
    assert page.count("<script") == 2
    assert page.count("</style>") == 1
    assert data_of(page)["charts"]["shared-0"]["title"] == EVIL  # type: ignore[index]


def test_nothing_is_fetched() -> None:
    page = render("t", [section()], [], [])
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert [a for a in addresses if not a.startswith(("data:", "#"))] == []
    assert [a for a in re.findall(r"https?://[^\s\"']+", page) if a != "http://www.w3.org/2000/svg"] == []


def test_every_chart_has_its_data() -> None:
    page = render("t", [section(), section("b")], [Chart("c", [])], [])
    named = re.findall(r'data-chart="([\w-]+)"', page)
    assert sorted(named) == sorted(data_of(page)["charts"])
    assert len(named) == 5


def test_pictures_and_films_are_inside(tmp_path: Path) -> None:
    for name in ("a.png", "b.mp4"):
        (tmp_path / name).write_bytes(b"12")
    page = render("t", [section(pictures=tuple(Picture(n, tmp_path / n) for n in ("a.png", "b.mp4")))], [], [])
    assert '<img src="data:image/png;base64,MTI="' in page
    assert '<video src="data:video/mp4;base64,MTI="' in page


def test_several_runs_are_compared() -> None:
    rows = [
        Row("iql", [[1.0, 2.0]], 1.5, (1.0, 2.0), None),
        Row("sac", [[3.0, 4.0]], 3.5, (3.0, 4.0), (1.0, 0.9, 1.0)),
    ]
    page = render("t", [section(), section("b")], [], [Block("Hopper-v5", rows, {})])
    assert "P(better than iql)" in page
    assert "<td>1.00 [0.90, 1.00]</td>" in page
    assert "Side by side" in page
    alone = [Row("iql", [[1.0]], 1.0, (1.0, 1.0), None)]
    assert "<td>one seed</td>" in render("t", [section(), section("b")], [], [Block("A", alone, {})])
    assert "Side by side" not in render("t", [section()], [], [])
