"""Which of four differences makes CAPQL better than MO-SAC near equal weights on mo-hopper: each, one at a time.

Usage: python scripts/study_capql_gap.py OUT [--seeds 0] [--report-only]; goes on where it stopped. Beside its own runs
it reports those of study_several.py that are in docs/results/several_rewards/results.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from study_jobs import add_line, read_lines
from study_several import HERE, STYLE, evaluate, front_of, train
from torch import Tensor

from balrl.rollout import Step
from balrl.run.objectives import PreferencePlay
from balrl.studies.report import interval
from balrl.vector_critics import VectorQEnsemble, draw_preferences

KNOWN = HERE.parent / "docs" / "results" / "several_rewards" / "results.jsonl"


def in_cone(uniform: Tensor, degrees: float) -> Tensor:
    """Return preferences ``[…, m]`` of uniform numbers: the simplex, shrunk about equal weights until it fits."""
    m = uniform.shape[-1]
    shrunk = math.tan(math.radians(degrees)) / math.sqrt(m - 1)
    """A corner of the simplex is √((m − 1) / m) from its centre, which is 1 / √m from the origin."""
    return 1 / m + shrunk * (draw_preferences(uniform) - 1 / m)


def saw_and_drew(self: PreferencePlay, step: Step) -> None:
    """Play another preference at every step."""
    self.playing = self._drawn(len(step.done))


def least_components(
    self: VectorQEnsemble, observations: Tensor, actions: Tensor, members: Tensor | None = None
) -> Tensor:
    """Return ``[B, m]``, each component's least."""
    return self.vectors(observations, actions, members).amin(-3)


def run(protocol: dict[str, Any], several: dict[str, Any], arm: str, seed: int, out: Path) -> dict[str, Any]:
    """Train MO-SAC with one difference, and evaluate it as every other."""
    about, settings = several["tasks"][protocol["task"]], {}
    with ExitStack() as stack:
        if arm == "temperature":
            settings = {
                "agent.initial_temperature": protocol["temperature"],
                "agent.temperature_learning_rate": 1e-12,
            }
        elif arm == "cone":
            for module in ("balrl.agents.multi_objective", "balrl.run.objectives"):
                drawn = lambda uniform: in_cone(uniform, protocol["cone_degrees"])  # noqa: E731
                stack.enter_context(patch(f"{module}.draw_preferences", drawn))
        elif arm == "play":
            stack.enter_context(patch.object(PreferencePlay, "saw", saw_and_drew))
        else:
            stack.enter_context(patch.object(VectorQEnsemble, "least", least_components))
        path = out / f"{arm}-{seed}"
        result, seconds = train(several, f"mo-sac/{protocol['task']}", settings, seed, protocol["steps"], path)
        found = evaluate(result, several, about, preferences=several["preferences"])
    return {"preferences": found.preferences, "vectors": found.return_vectors, "seconds": seconds}


def report(protocol: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Print utilities under equal weights and expected utilities under the others."""
    print("| method | seeds | equal weights | the others | minutes |")
    print("|---|---|---|---|---|")
    for method in ("mo-sac", "capql", *protocol["arms"]):
        mine = [r for r in records if r["method"] == method and r["seed"] in protocol["seeds"]]
        if not mine:
            continue
        fronts = [front_of(r) for r in mine]
        w = fronts[0].preferences
        near = np.isclose(w, 1 / w.shape[1]).all(1)  # the one preference of the ten that is in the cone
        cells = [interval([float(f.utilities[part].mean()) for f in fronts], STYLE) for part in (near, ~near)]
        minutes = np.mean([r["seconds"] for r in mine]) / 60
        print(f"| {method} | {len(mine)} | {' | '.join(cells)} | {minutes:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", help="only these, for processes side by side with an OUT each")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    protocol = yaml.safe_load((HERE / "study_capql_gap.yaml").read_text())
    several = yaml.safe_load((HERE / "study_several.yaml").read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.out / "results.jsonl"
    records = read_lines(lines)
    known = {(r["method"], r["seed"]) for r in records}
    for seed in protocol["seeds"]:
        for arm in protocol["arms"]:
            if options.report_only or (arm, seed) in known or (options.seeds and seed not in options.seeds):
                continue
            found = run(protocol, several, arm, seed, options.out)
            records.append({"task": protocol["task"], "method": arm, "seed": seed, **found})
            add_line(lines, records[-1])
            print(f"{arm} {seed}: {found['seconds'] / 60:.1f} minutes", flush=True)
    earlier = [json.loads(line) for line in KNOWN.read_text().splitlines()]
    report(protocol, [r for r in earlier if r["task"] == protocol["task"] and r["method"] != "grid"] + records)


if __name__ == "__main__":
    main()
