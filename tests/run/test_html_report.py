"""Reports of real runs: what is in them, and what is said of what is not."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import balrl
from balrl.errors import UserError
from tests.run.small import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run"
    balrl.train(balrl.load_config("famo2o-iql/point-maze", settings={**SMALL, "agent.expectile": 0.8}), run_dir=path)
    return path


def test_a_run_with_its_film(run: Path, tmp_path: Path) -> None:
    here = shutil.copytree(run, tmp_path / "run")
    page = balrl.write_report([here], tmp_path / "a.html", film=True).read_text()
    assert "famo2o-iql on balrl/PointMaze-v0" in page
    assert "agent.expectile=0.8" in page
    assert "arXiv" in page  # sources
    assert "transitions checked: nothing found" in page
    assert "data:video/mp4" in page
    assert "balance map" in page
    assert page.count("<img") == 1  # the map: curves and switch are drawn anew
    assert page.count("<video") == 1
    assert "It is not finished" not in page
    assert len(page) < 2_000_000
    before = (here / "film.mp4").stat().st_mtime_ns
    balrl.write_report([here], tmp_path / "a.html", film=True)
    assert (here / "film.mp4").stat().st_mtime_ns == before


def test_several_runs(run: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        here = shutil.copytree(run, tmp_path / "runs" / str(seed))
        text = (here / "config.yaml").read_text()
        (here / "config.yaml").write_text(text.replace("seed: 0", f"seed: {seed}"))
    page = balrl.write_report([tmp_path / "runs"], tmp_path / "a.html", lint=False).read_text()
    assert "2 runs: balrl/PointMaze-v0" in page
    assert "famo2o-iql, seed 0" in page
    assert "famo2o-iql, seed 1" in page
    assert page.count("Not checked.") == 2


def test_what_is_not_there_is_said(run: Path, tmp_path: Path) -> None:
    here = shutil.copytree(run, tmp_path / "run")
    (here / "summary.json").unlink()
    text = (here / "config.yaml").read_text()
    text = text.replace("preset: famo2o-iql/point-maze", "preset: null")
    shutil.rmtree(here / "checkpoints")
    (here / "config.yaml").write_text(text.replace("dataset: point-maze-mixed", "dataset: /gone.hdf5"))
    Image.effect_noise((2000, 2000), 100).save(here / "large.png")
    page = balrl.write_report([here], tmp_path / "a.html", film=True).read_text()
    assert "Not checked: no dataset file at" in page
    assert "balrl train --config" in page
    assert "balrl train --resume" in page
    assert "No film: " in page
    large = (here / "large.png").stat().st_size
    assert ("is left out" in page) == (large * 4 // 3 > 5_000_000)


def test_runs_that_broke_or_have_just_begun(run: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(run, tmp_path / "runs" / "broken")
    evaluations = json.loads((broken / "evaluations.json").read_text())
    (broken / "evaluations.json").write_text(json.dumps([*evaluations[:-1], {**evaluations[-1], "score": None}]))
    (broken / "summary.json").write_text(json.dumps({"findings": 3, "wall_seconds": {"a": None}, "versions": 1}))
    shutil.copytree(run, tmp_path / "runs" / "begun")
    (tmp_path / "runs" / "begun" / "evaluations.json").write_text("[]")
    page = balrl.write_report([tmp_path / "runs"], tmp_path / "a.html", lint=False).read_text()
    assert "not a number" in page
    assert "Left out: " in page
    assert "has no evaluation yet" in page
    for name in ("a", "b", "c"):
        shutil.copytree(run, tmp_path / name / "run")
    paths = [tmp_path / name / "run" for name in ("a", "b", "c")]
    page = balrl.write_report(paths, tmp_path / "b.html", lint=False).read_text()
    assert page.count('<section class="run"') == 3


def test_pictures_are_the_runs_own_files(run: Path, tmp_path: Path) -> None:
    here = shutil.copytree(run, tmp_path / "run")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (here / "x.png").symlink_to(tmp_path / "secret.png")
    (here / ".film.mp4").write_bytes(b"half")
    (here / "folder.png").mkdir()
    page = balrl.write_report([here], tmp_path / "a.html", lint=False).read_text()
    assert "c2VjcmV0" not in page
    assert "<video" not in page


@pytest.mark.slow
def test_a_browser_draws_it(run: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium")
    page = balrl.write_report([run], tmp_path / "a.html", lint=False)
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([browser, *words, page.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.count("<svg") == page.read_text().count("data-chart=") > 5
    assert done.stdout.count("<polyline") >= done.stdout.count("<svg")


def test_what_would_be_too_large_is_left_out(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balrl.run.html_report.MOST_BYTES", 1000)
    page = balrl.write_report([run], tmp_path / "a.html", lint=False).read_text()
    assert "is left out: it would make this file too large" in page.replace("&#39;", "'")
    assert "data:image" not in page.split("</style>")[1]


def test_mistakes(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no balrl run"):
        balrl.write_report([tmp_path], tmp_path / "a.html")
    with pytest.raises(UserError, match=r"ends in \.html"):
        balrl.write_report([run], tmp_path / "a.pdf")
    here = shutil.copytree(run, tmp_path / "none")
    (here / "evaluations.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match="has no evaluation yet"):
        balrl.write_report([here], tmp_path / "a.html")
