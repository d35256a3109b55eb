"""Preferences of people: pairs of segments as clips, a page to label them on, and the labels that come back."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from balrl.errors import UserError, did_you_mean, read_text
from balrl.rewards.preferences import Preferences
from balrl.video import FRAMES_PER_SECOND

ANSWERS = {"first": 0.0, "second": 1.0, "equal": 0.5, "skip": None}
"""What a row of ``labels.csv`` may say, and the label that it stands for."""
MOST_PICTURES = 50
"""Of a segment; they are shown 25 a second, however fast the task is: half a second of it is too short to judge."""
MARGIN, PAUSE = 24, 500
"""Pixels around and between the two segments; milliseconds for which their last pictures stand."""


def write_clips(
    preferences: Preferences,
    draw: Callable[[Tensor], list[Image.Image]],
    folder: str | Path,
    on_clip: Callable[[int], None] | None = None,
) -> Path:
    """Write ``index.html``, on which pairs are labelled by hand, and an animated WebP of each, both segments abreast.

    The page needs no server. It keeps what has been answered, and saves ``labels.csv`` for `read_labels`. Clips that
    the folder has already are left as they are: what was interrupted goes on.

    Args:
        preferences: the pairs; their labels are not shown.
        draw: pictures of the observations ``[H, observation_dim]`` of a segment.
        folder: made if need be; it must hold nothing but clips of these pairs.
        on_clip: called with each clip's number.

    Returns:
        The page's path.

    Raises:
        UserError: when there is something else in the folder, or the task cannot be drawn.
    """
    folder = Path(folder)
    names = [f"pair-{index:05d}.webp" for index in range(len(preferences))]
    facts = {"task": preferences.env_id or "", "clips": names, "id": preferences.digest}
    page = resources.files("balrl.rewards").joinpath("labelling.html").read_text(encoding="utf-8")
    page = page.replace("/* FACTS */ null", json.dumps(facts).replace("<", "\\u003c"))
    target = folder / "index.html"
    same = target.is_file() and target.read_text(encoding="utf-8") == page
    if folder.exists() and not same and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' holds something else already; name a new folder")
    for index, (name, pair) in enumerate(zip(names, preferences.observations, strict=True)):
        if on_clip is not None:
            on_clip(index)
        if (folder / name).exists():
            continue
        pictures = [_side_by_side(*two) for two in zip(*(draw(segment) for segment in pair), strict=True)]
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
        _write(pictures, folder / name)
    return target


def read_labels(path: str | Path, preferences: Preferences) -> Preferences:
    """Return the pairs that a file of labels has an opinion on, with its labels.

    The file has the columns ``pair`` (its number, from 0) and ``preferred``: ``first``, ``second``, ``equal`` or
    ``skip``. Pairs that are skipped or not in it are left out.

    Raises:
        UserError: naming the line that is not as expected; when no pair is left; when the labels are another file's.
    """
    path = Path(path)
    rows = csv.DictReader(read_text(path, "labels").splitlines())
    labels = torch.full((len(preferences),), torch.nan)
    if not {"pair", "preferred"} <= set(rows.fieldnames or ()):
        raise UserError(f"'{path}' has the columns {rows.fieldnames or []}, expected 'pair' and 'preferred'")
    for row in rows:
        where = f"'{path}' line {rows.line_num}"
        if row.get("of") not in (None, "", preferences.digest):
            raise UserError(f"{where}: these labels are of other pairs")
        number, answer = (row["pair"] or "").strip(), (row["preferred"] or "").strip().lower()
        if not (number.isdecimal() and int(number) < len(labels)):
            raise UserError(f"{where}: pair is '{number}', expected a number from 0 to {len(labels) - 1}")
        if answer not in ANSWERS:
            raise UserError(
                f"{where}: preferred is '{answer}'{did_you_mean(answer, ANSWERS)}, expected one of {', '.join(ANSWERS)}"
            )
        label = ANSWERS[answer]
        labels[int(number)] = torch.nan if label is None else label
    known = ~labels.isnan()
    if not known.any():
        raise UserError(f"'{path}' labels no pair")
    notes = {**preferences.notes, "teacher": "by hand"}
    return replace(preferences, labels=labels, notes=notes).take(known)


def count_answers(preferences: Preferences) -> str:
    """Return how often each answer was given, in words."""
    found = Counter(preferences.labels.tolist())
    return ", ".join(f"{found[label]:,} {name}" for name, label in ANSWERS.items() if label is not None)


def _write(pictures: list[Image.Image], path: Path) -> None:
    first, *rest = pictures
    durations = [round(1000 / FRAMES_PER_SECOND)] * len(rest) + [PAUSE]
    temporary = path.with_name(f".{path.name}")
    first.save(temporary, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=60, method=2)
    temporary.replace(path)


def _side_by_side(first: Image.Image, second: Image.Image) -> Image.Image:
    width, height = first.size
    sheet = Image.new("RGB", (2 * width + 3 * MARGIN, height + 2 * MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(MARGIN * 0.6)
    for name, picture, left in (("first", first, MARGIN), ("second", second, width + 2 * MARGIN)):
        sheet.paste(picture, (left, MARGIN))
        pen.text((left + width / 2, MARGIN / 2), name, "black", font, anchor="mm")
    return sheet
