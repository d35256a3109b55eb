"""A point mass in a maze: the built-in navigation task, thousands of worlds at once on any device."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.envs.torch_env import Frame, TorchVectorEnv

LAYOUTS = {
    "umaze": ("#####", "#G..#", "###.#", "#...#", "#####"),
    "medium": (
        "########",
        "#..##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#.G#",
        "########",
    ),
    "large": (
        "############",
        "#....#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#.#G#",
        "#.####.#.#.#",
        "#......#...#",
        "############",
    ),
    "fork": (
        "#############",
        "#.....#.....#",
        "#.###.#.###.#",
        "#S###...###G#",
        "#.###.#.###.#",
        "#.....#.....#",
        "#############",
    ),
}
# Mean returns of uniformly random actions and of the full-speed waypoint controller; tests/envs measures them again.
REFERENCE_RETURNS = {
    "umaze": (-171.0, -14.8),
    "medium": (-186.8, -28.0),
    "large": (-292.3, -56.9),
    "fork": (-200.0, -75.9),
}

MAX_EPISODE_STEPS = {"umaze": 200, "medium": 200, "large": 300, "fork": 200}
DRAG, ACCELERATION, HALF_WIDTH, GOAL_RADIUS = 0.8, 0.06, 0.15, 0.5
MAX_SPEED = ACCELERATION / (1 - DRAG)


class PointMazeVectorEnv(TorchVectorEnv):
    """Reach the goal cell as fast as possible.

    State: position (x to the right, y downwards, in cells) and velocity (cells per step). Dynamics per step:
    ``v ← 0.8 v + 0.06 a``, then each axis moves by v unless the body (a square of half-width 0.15) would touch a wall;
    that axis then stops. Speeds stay below 0.3 cells per step.

    - Observation ``[4]``: position scaled to [-1, 1] over the maze, velocity divided by 0.3.
    - Action ``[2]`` in [-1, 1]: acceleration.
    - Reward: −1 per step, 0 on the step that reaches the goal. It terminates there,
      within 0.5 cells (``infos["success"]``).
    - Time limit: 200 steps (large: 300). Starts at rest at a random place in a random free cell other than the goal's;
      in the fork always in one cell, from which both ways round two obstacles are equally far.

    With `energy` there are two rewards, speed against energy: the one above, and ``−½ |a|²``.

    Args:
        num_envs: worlds.
        layout: ``umaze``, ``medium``, ``large`` or ``fork``.
        device: where everything is computed.
        energy: pay for acceleration, as a second reward.
    """

    def __init__(
        self,
        num_envs: int = 1,
        layout: str = "medium",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        energy: bool = False,
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout is {layout!r}, expected one of {sorted(LAYOUTS)}")
        super().__init__(
            num_envs,
            gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
            gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
            MAX_EPISODE_STEPS[layout] if max_episode_steps is None else max_episode_steps,
            device,
            dtype,
            render_mode,
            reward_dim=2 if energy else 1,
        )
        self.layout, self.energy = layout, energy
        if not energy:
            self.reference_returns = REFERENCE_RETURNS[layout]
        rows = LAYOUTS[layout]
        self.walls = torch.tensor([[c == "#" for c in row] for row in rows], device=self.device)
        goal = next((x, y) for y, row in enumerate(rows) for x, c in enumerate(row) if c == "G")
        starts = "S" if "S" in "".join(rows) else "."
        free = [(x, y) for y, row in enumerate(rows) for x, c in enumerate(row) if c == starts]
        self.goal = torch.tensor(goal, device=self.device, dtype=dtype) + 0.5
        self._free = torch.tensor(free, device=self.device, dtype=dtype)
        self._size = torch.tensor([len(rows[0]), len(rows)], device=self.device, dtype=dtype)

    def initial_states(self, count: int) -> Tensor:
        draw: Any = {"generator": self.generator, "device": self.device}
        cells = self._free[torch.randint(len(self._free), (count,), **draw)]
        offsets = HALF_WIDTH + (1 - 2 * HALF_WIDTH) * torch.rand(count, 2, dtype=self.dtype, **draw)
        return torch.cat([cells + offsets, torch.zeros_like(cells)], -1)

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        x, y, vx, vy = states.unbind(-1)
        vx = DRAG * vx + ACCELERATION * actions[:, 0]
        vy = DRAG * vy + ACCELERATION * actions[:, 1]
        blocked = self._touches_wall(x + vx, y)
        x, vx = torch.where(blocked, x, x + vx), torch.where(blocked, 0, vx)
        blocked = self._touches_wall(x, y + vy)
        y, vy = torch.where(blocked, y, y + vy), torch.where(blocked, 0, vy)
        reached = (x - self.goal[0]).square() + (y - self.goal[1]).square() < GOAL_RADIUS**2
        rewards = reached.to(self.dtype) - 1
        if self.energy:
            rewards = torch.stack([rewards, -0.5 * actions.square().sum(-1)], -1)
        return torch.stack([x, y, vx, vy], -1), rewards, reached, {"success": reached}

    def observe(self, states: Tensor) -> Tensor:
        return torch.cat([2 * states[:, :2] / self._size - 1, states[:, 2:] / MAX_SPEED], -1)

    def states_of(self, observations: Tensor) -> Tensor:
        observations = observations.to(self.device, self.dtype)
        return torch.cat([(observations[:, :2] + 1) / 2 * self._size, observations[:, 2:] * MAX_SPEED], -1)

    def draw(self, state: Tensor) -> Frame:
        """Return the maze from above, 32 pixels a cell: walls grey, the goal green, the body red."""
        size = 32
        picture = np.full((*self.walls.shape, 3), 255, np.uint8)
        picture[self.walls.cpu().numpy()] = 90
        picture = picture.repeat(size, 0).repeat(size, 1)
        rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] / size
        (x, y), (goal_x, goal_y) = state[:2].tolist(), self.goal.tolist()
        picture[np.hypot(columns - goal_x, rows - goal_y) < GOAL_RADIUS] = (120, 200, 120)
        picture[np.maximum(abs(columns - x), abs(rows - y)) < HALF_WIDTH] = (200, 40, 40)
        return picture

    def _touches_wall(self, x: Tensor, y: Tensor) -> Tensor:
        left, right = (x - HALF_WIDTH).long(), (x + HALF_WIDTH).long()
        top, bottom = (y - HALF_WIDTH).long(), (y + HALF_WIDTH).long()
        walls = self.walls
        return walls[top, left] | walls[top, right] | walls[bottom, left] | walls[bottom, right]

    def steps_to_goal(self, closed: Sequence[tuple[int, int]] = ()) -> np.ndarray[Any, Any]:
        """Return the number of cells to the goal from every cell, breadth first; −1 in walls.

        Args:
            closed: cells ``(x, y)`` that no path leads through.
        """
        walls = self.walls.cpu().numpy()
        distances = np.full(walls.shape, -1)
        goal = tuple(self.goal.long().tolist()[::-1])
        distances[goal] = 0
        queue = deque([goal])
        while queue:
            y, x = queue.popleft()
            for cell in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if not walls[cell] and distances[cell] < 0:
                    distances[cell] = distances[y, x] + 1
                    if cell[::-1] not in closed:
                        queue.append(cell)
        return distances


make_point_maze = PointMazeVectorEnv.single
