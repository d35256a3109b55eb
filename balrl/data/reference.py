"""D4RL's reference returns and normalised scores."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from balrl.evaluation import Reference

# Tasks whose scores papers normalise with a D4RL dataset's reference; the environments' versions differ from D4RL's.
D4RL_NAME = {
    "Hopper": "hopper-medium-v2",
    "HalfCheetah": "halfcheetah-medium-v2",
    "Walker2d": "walker2d-medium-v2",
    "AdroitHandDoor": "door-human-v1",
    "AdroitHandHammer": "hammer-human-v1",
    "AdroitHandPen": "pen-human-v1",
    "AdroitHandRelocate": "relocate-human-v1",
}


@cache
def d4rl_references() -> dict[str, Reference]:
    """Return the reference of every D4RL dataset, by name."""
    table = resources.files("balrl.data").joinpath("d4rl_ref_scores.csv")
    with table.open() as lines:
        return {
            row["dataset"]: Reference(float(row["ref_min"]), float(row["ref_max"]), row["dataset"])
            for row in csv.DictReader(lines)
        }


def task_name(env_id: str) -> str:
    """Return an environment id without namespace and version: ``balrl/Hopper-v5`` gives ``Hopper``."""
    return env_id.rsplit("/", 1)[-1].rsplit("-v", 1)[0]


def reference_for(env_id: str) -> Reference | None:
    """Return the D4RL reference that papers use for an environment id, whatever its version; None if there is none."""
    name = D4RL_NAME.get(task_name(env_id).removesuffix("Sparse"))
    return d4rl_references()[name] if name else None
