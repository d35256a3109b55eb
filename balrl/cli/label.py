"""``balrl reward film`` and ``label``: preferences of people."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balrl.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image


def add_label_verbs(actions: Any) -> None:
    """Add ``film`` and ``label`` to the actions of ``balrl reward``."""
    film = actions.add_parser("film", help="clips of pairs, and a page on which to label them by hand")
    film.add_argument("preferences", metavar="PREFERENCES", type=Path)
    film.add_argument("folder", metavar="FOLDER", type=Path, help="to write; open its index.html in a browser")
    film.add_argument("--env", help="the task; default: the one the preferences name")
    film.set_defaults(run=_film)

    label = actions.add_parser("label", help="give pairs the labels that were saved on the page")
    label.add_argument("preferences", metavar="PREFERENCES", type=Path)
    label.add_argument("labels", metavar="LABELS", type=Path, help="labels.csv: pair, preferred")
    label.add_argument("--out", type=Path, required=True, help="a .safetensors file to write: the labelled pairs")
    label.set_defaults(run=_label)


def _film(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.cli.console import make_console
    from balrl.envs.observed import draw_observations, drawing_task
    from balrl.rewards import Preferences
    from balrl.rewards.clips import MOST_PICTURES, write_clips
    from balrl.run.registry import make_drawn_env
    from balrl.video import draw_or_explain, small_picture

    preferences = Preferences.load(options.preferences, options.env)
    task = options.env or preferences.env_id
    if task is None:
        raise UserError(f"'{options.preferences}' names no task; give --env ID")
    env = make_drawn_env(drawing_task(task))
    env.reset(seed=0)
    every = math.ceil(preferences.steps / MOST_PICTURES)

    def draw(observations: torch.Tensor) -> list[Image.Image]:
        frames = draw_or_explain(lambda: draw_observations(env, observations, every))
        return [small_picture(frame) for frame in frames]

    with make_console().status("starting") as status:
        page = write_clips(
            preferences, draw, options.folder, lambda i: status.update(f"drawing pair {i:,} of {len(preferences):,}")
        )
    env.close()
    print(f"wrote {page}: open it in a browser, label the {len(preferences):,} pairs, save labels.csv, then")
    print(f"balrl reward label {options.preferences} labels.csv --out LABELLED.safetensors")


def _label(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.errors import check_target
    from balrl.rewards import Preferences
    from balrl.rewards.clips import count_answers, read_labels

    check_target(options.out, (".safetensors",))
    preferences = Preferences.load(options.preferences)
    labelled = read_labels(options.labels, preferences)
    labelled.save(options.out)
    print(f"wrote {options.out}: {len(labelled):,} of {len(preferences):,} pairs, preferred: {count_answers(labelled)}")
