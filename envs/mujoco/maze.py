"""gymnasium-robotics' point in a maze."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from balrl.envs.mujoco.task import Beginning, Draw, Outcome, State, Task, Views, endless

GOAL_RADIUS = 0.45


@dataclass(frozen=True)
class PointMaze(Task):
    """Push a ball through a maze to a goal that the episode draws: 1 for every step within 0.45 of it, else 0.

    Dense: ``r = exp(−distance)``. Never terminates; succeeds where the ball is at the goal. Goal and start are distinct
    free cells, each moved by up to 0.25. Observations are the goal dictionary's ``[observation, desired_goal]``.

    Attributes:
        dense: which of the two rewards.
        cells: centres of the free cells ``[cells, 2]``; the original's.
    """

    noise: float = 0.25
    speed_limit: float | None = 5.0
    dense: bool = False
    cells: Tensor = field(default_factory=lambda: torch.zeros(0, 2))

    def bound(self, original: Any, device: torch.device) -> Self:
        cells = np.array(original.maze.unique_reset_locations, np.float32)
        return replace(self, cells=torch.from_numpy(cells).to(device))

    def begin(self, qpos: Tensor, qvel: Tensor, uniform: Draw, normal: Draw) -> Beginning:
        count = len(self.cells)

        def one_of(choices: int) -> Tensor:
            return (choices * (uniform(1).squeeze(-1) + 1) / 2).long().clamp(max=choices - 1)

        goal, start = one_of(count), one_of(count - 1)
        start = start + (start >= goal)  # any cell but the goal's
        place = self.cells[start] + self.noise * uniform(2)
        return Beginning(place, qvel.expand_as(place).clone(), self.cells[goal] + self.noise * uniform(2))

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.qpos, state.qvel, state.goal], -1)

    def outcome(self, before: State, views: Views, actions: Tensor, dt: float) -> Outcome:
        distances = self._distances(before, views)
        return endless((-distances).exp() if self.dense else (distances <= GOAL_RADIUS).to(distances))

    def success(self, before: State, views: Views) -> Tensor:
        return self._distances(before, views) <= GOAL_RADIUS

    @staticmethod
    def _distances(before: State, views: Views) -> Tensor:
        return (views["qpos"] - before.goal).norm(dim=-1)
