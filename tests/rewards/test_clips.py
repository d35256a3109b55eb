"""Clips of pairs, and labels that people give them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from balrl.errors import UserError
from balrl.rewards import Preferences, RewardEnsemble, fit_ensemble
from balrl.rewards.clips import count_answers, read_labels, write_clips


def unlabelled(count: int = 4, steps: int = 3) -> Preferences:
    observations = torch.arange(count * 2 * steps * 2.0).reshape(count, 2, steps, 2)
    return Preferences(observations, torch.zeros(count, 2, steps, 1), torch.full((count,), torch.nan), "Task-v0")


def draw(segment: Tensor) -> list[Image.Image]:
    """Pictures as red as the first observation of each step."""
    return [Image.new("RGB", (40, 30), (int(row[0]) * 5, 0, 0)) for row in segment]


def labels(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_clip_shows_both_segments_of_a_pair(tmp_path: Path) -> None:
    pairs = unlabelled()
    page = write_clips(pairs, draw, tmp_path / "clips")
    assert sorted(p.name for p in page.parent.iterdir()) == [
        "index.html", *(f"pair-0000{i}.webp" for i in range(4))
    ]  # fmt: skip
    with Image.open(page.parent / "pair-00002.webp") as clip:
        assert (clip.n_frames, clip.size) == (3, (2 * 40 + 72, 30 + 48))  # type: ignore[attr-defined]
        for step in range(3):
            clip.seek(step)
            shown = clip.convert("RGB")
            for segment, x in ((0, 24 + 20), (1, 48 + 40 + 20)):
                red = shown.getpixel((x, 24 + 15))[0]  # type: ignore[index]
                assert abs(red - 5 * float(pairs.observations[2, segment, step, 0])) < 12
    text = page.read_text()
    assert f'"id": "{pairs.digest}"' in text
    assert "/* FACTS */" not in text


def test_an_interrupted_film_goes_on(tmp_path: Path) -> None:
    pairs, drawn = unlabelled(), []

    def failing(segment: Tensor) -> list[Image.Image]:
        drawn.append(segment)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw(segment)

    with pytest.raises(KeyboardInterrupt):
        write_clips(pairs, failing, tmp_path / "clips")
    assert len(list((tmp_path / "clips").iterdir())) == 2  # the page and a clip
    seen: list[int] = []
    write_clips(pairs, failing, tmp_path / "clips", seen.append)
    assert (len(drawn), seen) == (4 + 2 * 3, [0, 1, 2, 3])


def test_other_things_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="holds something else"):
        write_clips(unlabelled(), draw, tmp_path)
    with pytest.raises(UserError, match="holds something else"):
        write_clips(unlabelled(), draw, tmp_path / "a")
    write_clips(unlabelled(), draw, tmp_path / "clips")
    with pytest.raises(UserError, match="holds something else"):
        write_clips(unlabelled(5), draw, tmp_path / "clips")


def test_answers_become_labels(tmp_path: Path) -> None:
    pairs = unlabelled()
    file = labels(tmp_path / "l.csv", f"pair,preferred,of\n3,second,{pairs.digest}\n1, First ,\n2,skip,\n0,equal,\n")
    found = read_labels(file, pairs)
    assert found.labels.tolist() == [0.5, 0.0, 1.0]
    torch.testing.assert_close(found.observations, pairs.observations[[0, 1, 3]])
    assert found.notes["teacher"] == "by hand"
    assert count_answers(found) == "1 first, 1 second, 1 equal"
    assert read_labels(labels(file, "pair,preferred\n1,first\n1,second\n"), pairs).labels.tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "has the columns"),
        ("", "has the columns"),
        ("pair,preferred\n4,first\n", "line 2: pair is '4', expected a number from 0 to 3"),
        ("pair,preferred\n-1,first\n", "pair is '-1'"),
        ("pair,preferred\n0,first\n1,secnd\n", "line 3: preferred is 'secnd'.*second"),
        ("pair,preferred\n0\n", "preferred is ''"),
        ("pair,preferred,of\n0,first,abc\n", "labels are of other pairs"),
        ("pair,preferred\n0,skip\n", "labels no pair"),
    ],
)
def test_mistakes_in_labels_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(labels(tmp_path / "l.csv", text), unlabelled())


def test_missing_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_labels(tmp_path / "l.csv", unlabelled())
    (tmp_path / "l.csv").write_bytes(b"\x90\x00")
    with pytest.raises(UserError, match="is no text: the labels must be a file in UTF-8"):
        read_labels(tmp_path / "l.csv", unlabelled())
    with pytest.raises(UserError, match="4 of 4 pairs have no label yet"):
        fit_ensemble(RewardEnsemble(3, 1), unlabelled())


def test_unlabelled_pairs_survive_a_file(tmp_path: Path) -> None:
    pairs = unlabelled()
    again = Preferences.load(pairs.save(tmp_path / "p.safetensors"))
    assert again.labels.isnan().all()
    assert again.digest == pairs.digest != unlabelled(5).digest
