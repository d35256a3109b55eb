"""The verb that looks at a policy's family."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from balrl.cli.arguments import non_negative, positive
from balrl.cli.console import make_console
from balrl.errors import check_target


def add_family_verb(verbs: Any) -> None:
    """Add ``balrl family`` to the command line's verbs."""
    family = verbs.add_parser("family", help="play every member of a policy's family, beside what its critics expect")
    family.add_argument("path", metavar="RUN_OR_CHECKPOINT", type=Path)
    family.add_argument("--env", help="Gymnasium id; default: the run's own task")
    family.add_argument("--episodes", type=positive, default=20, help="of each member; default: 20")
    family.add_argument("--members", type=positive, default=8, help="beside the model's own choice; default: 8")
    family.add_argument("--seed", type=non_negative, default=10_000, help="of the environments; default: 10000")
    family.add_argument("--dataset", help="for the offline estimates; default: the run's own, if it is there")
    family.add_argument(
        "--offline-updates", type=non_negative, default=5_000, help="of fitted Q evaluation; 0: none; default: 5000"
    )
    family.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    family.add_argument(
        "--out", type=Path, action="append", metavar="FILE.png|json", help="repeat for both; default: family.png"
    )
    family.set_defaults(run=_family)


def _family(options: argparse.Namespace, _: list[str]) -> None:
    from balrl.checkpoint import write_text
    from balrl.report.family_plot import draw_family
    from balrl.report.tables import family_table
    from balrl.run.family_curve import rank_correlations
    from balrl.run.trained import family

    targets = [check_target(path, (".png", ".json")) for path in options.out or [Path("family.png")]]
    records = family(
        options.path,
        options.env,
        episodes=options.episodes,
        members=options.members,
        seed=options.seed,
        device=options.device,
        dataset=options.dataset,
        offline_updates=options.offline_updates,
    )
    found = rank_correlations(records)
    make_console().print(family_table(records, found))
    for target in targets:
        if target.suffix == ".png":
            draw_family(records, target, str(options.path), "return")
        else:
            write_text(target, json.dumps({"members": records, "rank_correlations": found}, indent=2) + "\n")
        print(f"wrote {target}")
