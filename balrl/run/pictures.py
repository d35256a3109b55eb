"""Which pictures a run gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from balrl.agent import Agent
from balrl.agents.balance import StateAdaptiveBalanceModule
from balrl.data.dataset import Array
from balrl.envs import PointMazeVectorEnv
from balrl.foreign import read_json
from balrl.replay import ReplayBuffer
from balrl.report.balance_map import draw_balance_map
from balrl.report.curves import draw_curves
from balrl.report.family_plot import draw_family
from balrl.report.runs import method_of, read_runs
from balrl.report.switch_plot import draw_switch
from balrl.run.components import Components
from balrl.run.presets import TrainConfig

LAST = "curves.png"
"""The picture that is drawn last."""
FINE = 8
"""Grid points per cell of a maze, each way."""


def draw_pictures(run_dir: Path, config: TrainConfig, components: Components) -> None:
    """Draw ``curves.png``, ``switch.png`` for a run that went online, and for a family what belongs to it.

    ``balance_map.png`` in a maze, ``family.png`` where a member was chosen.
    """
    agent, env = components.agent, components.env.unwrapped
    if isinstance(env, PointMazeVectorEnv) and isinstance(agent.balance, StateAdaptiveBalanceModule):
        _draw_balance_map(run_dir / "balance_map.png", agent, agent.balance, components.offline, env)
    if (run_dir / "evaluations.json").exists():
        title = f"{method_of(config.model_dump(mode='json'))} on {config.env}, seed {config.seed}"
        chosen = read_json(run_dir / "summary.json", dict).get("selection")
        if chosen:
            label = f"{chosen['by']} in the warm-up"
            draw_family(chosen["arms"], run_dir / "family.png", title, label, chosen["winner"])
        [run] = read_runs([run_dir])
        if any("switch/online_q" in record or "switch/kl" in record for record in run.records):
            draw_switch({"run": run}, run_dir / "switch.png", title)
        normalized = any("eval/normalized_score" in record for record in run.records)
        draw_curves(run.records, run_dir / LAST, title, "normalised score" if normalized else "mean return")


def pictures_are_drawn(run_dir: Path) -> bool:
    """Whether a finished run has its pictures: a run that is killed after its summary has not."""
    last, summary = run_dir / LAST, run_dir / "summary.json"
    return last.exists() and last.stat().st_mtime_ns >= summary.stat().st_mtime_ns


def _draw_balance_map(
    path: Path, agent: Agent, balance: StateAdaptiveBalanceModule, offline: ReplayBuffer | None, env: PointMazeVectorEnv
) -> None:
    chosen = _balance_on_grid(agent, balance, env)
    coverage = np.zeros(chosen.shape)
    if offline is not None:
        positions = env.states_of(offline.transitions(torch.arange(len(offline), device=offline.device)).observations)
        cells = (positions[:, :2].cpu() * FINE).long().numpy()
        np.add.at(coverage, (cells[:, 1], cells[:, 0]), 1)
    bounds = (balance.config.minimum, balance.config.maximum)
    goal = (float(env.goal[0]), float(env.goal[1]))
    draw_balance_map(path, env.walls.cpu().numpy(), goal, chosen, coverage, bounds)


def _balance_on_grid(agent: Agent, balance: StateAdaptiveBalanceModule, env: PointMazeVectorEnv) -> Array:
    """Return the chosen balance ``[rows · FINE, columns · FINE]`` of a body at rest in every place."""
    rows, columns = env.walls.shape
    y, x = torch.meshgrid(
        (torch.arange(rows * FINE) + 0.5) / FINE, (torch.arange(columns * FINE) + 0.5) / FINE, indexing="ij"
    )
    states = torch.stack([x, y, torch.zeros_like(x), torch.zeros_like(x)], -1).reshape(-1, 4)
    with torch.no_grad():
        observations = agent.normalizer(env.observe(states.to(env.device)).to(agent.device))
        return balance.mode(observations).cpu().numpy().reshape(x.shape)
