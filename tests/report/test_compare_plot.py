from __future__ import annotations

from pathlib import Path

from PIL import Image

from balrl.report.compare import compare_runs
from balrl.report.compare_plot import LINE, LINES, draw_comparison, wrapped
from balrl.report.runs import read_runs
from tests.report.test_runs import write_run


def test_names_are_short_however_long_they_are() -> None:
    long = "famo2o-iql, " + ", ".join(f"a_very_long_setting_{i}=0.00000{i}" for i in range(9))
    lines = wrapped(long).split("\n")
    assert len(lines) == LINES
    assert max(map(len, lines)) <= LINE
    assert wrapped("wsrl") == "wsrl"


def test_a_picture_has_a_row_of_panels_for_every_task(tmp_path: Path) -> None:
    for layout in ("medium", "large"):
        for seed in (0, 1):
            settings = {"env_kwargs": f"{{layout: {layout}}}", "seed": str(seed), "dataset": "a$b$_c.hdf5"}
            write_run(tmp_path / f"{layout}{seed}", [1.0, 2.0 + seed], **settings)
    runs = read_runs([tmp_path])
    for name, blocks in (("one", compare_runs(runs)[:1]), ("all", compare_runs(runs))):
        draw_comparison(blocks, "final", tmp_path / f"{name}.png")
    one, every = (Image.open(tmp_path / f"{name}.png").size for name in ("one", "all"))
    assert one[0] == every[0]
    assert every[1] > 2.5 * one[1]
