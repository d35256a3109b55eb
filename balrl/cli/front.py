"""The verb that draws the Pareto front of several rewards."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from balrl.cli.arguments import non_negative, positive, weights
from balrl.cli.console import make_console
from balrl.errors import check_target


def add_front_verb(verbs: Any) -> None:
    """Add ``balrl front`` to the command line's verbs."""
    front = verbs.add_parser("front", help="draw what preferences over several rewards return, and measure the front")
    front.add_argument(
        "runs",
        metavar="RUN_OR_CHECKPOINT",
        nargs="+",
        type=Path,
        help="of an agent for several rewards; or several with data.reward_weights, each a point of one front",
    )
    front.add_argument("--env", help="Gymnasium id; default: the run's own task")
    front.add_argument("--preferences", type=positive, default=11, help="at least, spread evenly; default: 11")
    front.add_argument("--episodes", type=positive, default=10, help="of each; default: 10")
    front.add_argument("--seed", type=non_negative, default=10_000, help="of the environments; default: 10000")
    front.add_argument(
        "--reference",
        type=weights,
        metavar="A,B,…",
        help="point above which the hypervolume is measured, as in --reference=-100,0; default: the run's own",
    )
    front.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    front.add_argument(
        "--out", type=Path, action="append", metavar="FILE.png|json", help="repeat for both; default: front.png"
    )
    front.set_defaults(run=_front)


def _front(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.checkpoint import write_text
    from balrl.report.front_plot import draw_fronts
    from balrl.report.tables import front_table
    from balrl.run.fronts import fronts

    targets = [check_target(path, (".png", ".json")) for path in options.out or [Path("front.png")]]
    found = fronts(
        options.runs,
        options.env,
        episodes=options.episodes,
        preferences=options.preferences,
        seed=options.seed,
        device=options.device,
        reference=options.reference,
    )
    reference = next((e.hypervolume_reference for e in found.values() if e.hypervolume_reference), None)
    drawn = {name: result.front for name, result in found.items() if result.front is not None}
    records = {name: front.to_json(reference) for name, front in drawn.items()}
    make_console().print(front_table(records, reference))
    for target in targets:
        if target.suffix == ".png":
            draw_fronts(drawn, target, reference)
        else:
            write_text(target, json.dumps({"reference": reference, "fronts": records}, indent=2) + "\n")
        print(f"wrote {target}")
