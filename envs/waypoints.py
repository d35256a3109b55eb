"""A scripted controller for the point maze and the mixed-quality data it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from balrl.data.dataset import Dataset
from balrl.envs.point_maze import ACCELERATION, DRAG, LAYOUTS, MAX_SPEED, PointMazeVectorEnv


class Level(NamedTuple):
    """How well an episode is driven.

    Attributes:
        speed: share of the maximum speed that the controller aims at, in [0, 1].
        noise: standard deviation of the noise on its actions.
        random: probability of a uniformly random action instead.
        share: weight of this level among the episodes.
    """

    speed: float
    noise: float
    random: float
    share: float


OPTIMAL = Level(speed=1.0, noise=0.0, random=0.0, share=0.5)
RANDOM = Level(speed=0.0, noise=0.0, random=1.0, share=0.5)
THRIFTY = tuple(Level(speed, 0.1, 0.0, 0.2) for speed in (0.1, 0.2, 0.4, 0.7, 1.0))
MIXED = (
    Level(speed=1.0, noise=0.3, random=0.0, share=0.05),
    Level(speed=0.5, noise=0.5, random=0.1, share=0.35),
    Level(speed=0.3, noise=1.0, random=0.3, share=0.40),
    Level(speed=0.0, noise=0.0, random=1.0, share=0.20),
)


class WaypointController:
    """Steers from cell centre to cell centre along a shortest path to the goal.

    Args:
        env: the maze.
        closed: cells ``(x, y)`` that the path keeps out of.
    """

    def __init__(self, env: PointMazeVectorEnv, closed: Sequence[tuple[int, int]] = ()) -> None:
        distances = env.steps_to_goal(closed)
        targets = np.zeros((*distances.shape, 2))
        for y, x in np.argwhere(distances >= 0):
            options = [(y, x), (y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            best = min((c for c in options if distances[c] >= 0), key=lambda c: distances[c])
            targets[y, x] = best[1] + 0.5, best[0] + 0.5
        self._targets = torch.tensor(targets, device=env.device, dtype=env.dtype)

    def __call__(self, states: Tensor, speed: float | Tensor = 1.0) -> Tensor:
        """Return actions ``[N, 2]`` for states ``[N, 4]``, aiming at `speed` times the maximum speed."""
        position, velocity = states[:, :2], states[:, 2:]
        cells = position.long()
        offset = self._targets[cells[:, 1], cells[:, 0]] - position
        direction = offset / offset.abs().amax(-1, keepdim=True).clamp_min(1e-6)
        wanted = direction * MAX_SPEED * torch.as_tensor(speed).reshape(-1, 1)
        return ((wanted - DRAG * velocity) / ACCELERATION).clamp(-1, 1)


def mixed_dataset(
    transitions: int = 20_000,
    layout: str = "medium",
    levels: Sequence[Level] = MIXED,
    seed: int = 0,
    num_envs: int = 50,
    level_at: Callable[[Tensor], Tensor] | None = None,
    name: str = "point-maze-mixed",
    ways: Sequence[Sequence[tuple[int, int]]] = ((),),
    energy: bool = False,
) -> Dataset:
    """Drive `num_envs` worlds, each episode at a random level, and return what they saw.

    Args:
        transitions: how many, rounded up to a multiple of `num_envs`.
        layout: of the maze.
        levels: qualities to mix; each episode draws one.
        seed: of the worlds, the levels and the noise: the same seed gives the same data.
        num_envs: worlds driven side by side; the last episode of each is cut (truncated).
        level_at: maps states ``[N, 4]`` to indices into `levels` ``[N]``, so that quality depends on the place instead
            of on the episode.
        name: of the dataset.
        ways: cells that are closed to a driver; each episode draws one of these lists.
        energy: of the maze with two rewards.
    """
    env = PointMazeVectorEnv(num_envs, layout, energy=energy)
    controllers = [WaypointController(env, closed) for closed in ways]
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([level.share for level in levels])
    table = torch.tensor([level[:3] for level in levels])
    observations, _ = env.reset(seed=seed)
    current = torch.multinomial(shares, num_envs, True, generator=generator)
    way = torch.randint(len(ways), (num_envs,), generator=generator) if len(ways) > 1 else torch.zeros_like(current)
    worlds = torch.arange(num_envs)
    columns: dict[str, list[Tensor]] = {
        key: [] for key in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    }
    for _ in range(-(-transitions // num_envs)):
        driven = current if level_at is None else level_at(env.states)
        speed, noise, random = table[driven].unbind(-1)
        uniform = 2 * torch.rand(num_envs, 2, generator=generator) - 1
        steered = torch.stack([controller(env.states, speed) for controller in controllers])[way, worlds]
        steered = steered + noise[:, None] * torch.randn(num_envs, 2, generator=generator)
        at_random = torch.rand(num_envs, generator=generator) < random
        actions = torch.where(at_random[:, None], uniform, steered.clamp(-1, 1))
        next_observations, rewards, terminated, truncated, infos = env.step(actions)
        row = (observations, actions, rewards, infos["final_obs"], terminated, truncated)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        drawn = torch.multinomial(shares, num_envs, True, generator=generator)
        current = torch.where(terminated | truncated, drawn, current)
        if len(ways) > 1:
            another = torch.randint(len(ways), (num_envs,), generator=generator)
            way = torch.where(terminated | truncated, another, way)
        observations = next_observations
    arrays: dict[str, Any] = {key: torch.stack(column, 1).flatten(0, 1).numpy() for key, column in columns.items()}
    last = np.arange(1, num_envs + 1) * len(columns["rewards"]) - 1
    arrays["truncated"][last] |= ~arrays["terminated"][last]
    return Dataset(**arrays, name=name, env_id="balrl/PointMazeEnergy-v0" if energy else "balrl/PointMaze-v0")


def halves_dataset(transitions: int = 20_000, seed: int = 0) -> Dataset:
    """Return data of the medium maze that is optimal in its left half and uniformly random in its right half."""
    middle = len(LAYOUTS["medium"][0]) / 2
    return mixed_dataset(
        transitions,
        levels=(OPTIMAL, RANDOM),
        seed=seed,
        level_at=lambda states: (states[:, 0] >= middle).long(),
        name="point-maze-halves",
    )


def energy_dataset(transitions: int = 20_000, seed: int = 0) -> Dataset:
    """Return data of the U-shaped maze with two rewards, whose drivers are slow and thrifty, fast, and in between."""
    return mixed_dataset(transitions, "umaze", THRIFTY, seed, name="point-maze-energy", energy=True)


def fork_dataset(name: str = "point-maze-fork", transitions: int = 20_000, seed: int = 0) -> Dataset:
    """Return data of the fork, whose drivers go round each of its two obstacles on either side.

    Args:
        name: ``point-maze-fork``, of mixed quality, or ``point-maze-fork-good``, of the better two levels alone.
    """
    ways = [[(3, first), (9, second)] for first in (1, 5) for second in (1, 5)]
    levels = MIXED[:2] if name.endswith("good") else MIXED
    return mixed_dataset(transitions, "fork", levels, seed, name=name, ways=ways)
