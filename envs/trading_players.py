"""Who trades knowing more than an agent: the best with the regime seen, the best without, and a rule; its data."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from balrl.data.dataset import Dataset
from balrl.envs.trading import COST, LEVEL, NOISE, PULL, SWITCH, TradingVectorEnv

POSITIONS = torch.tensor([-1.0, 0.0, 1.0])
PRICES = torch.linspace(-25, 25, 121)
BELIEFS = torch.linspace(0, 1, 51)
NODES, WEIGHTS = (torch.from_numpy(x).float() for x in np.polynomial.hermite_e.hermegauss(9))
"""Of the expectation over a step's noise."""


class Player(Protocol):
    """Trades in every world, from the first step of an episode to the last."""

    def begin(self, worlds: int) -> None: ...
    def act(self, states: Tensor) -> Tensor: ...


class Best:
    """The best policy by dynamic programming on the price, the belief in the upper regime, and the position.

    ``V_n(x, b, a) = max_a' { a' E[r] − cost |a' − a| + E[ V_{n−1}(x', b', a') ] }``; b is the probability of the upper
    regime by Bayes' rule, which returns and known parameters give exactly. Optimal up to the grid, the nine nodes of
    the expectation, and the end of the episode (it plays as with `steps` to go).

    Args:
        sees_regime: b is 0 or 1, what no agent can know: an upper bound.
        cost: of trading.
        steps: n.
    """

    def __init__(self, sees_regime: bool = False, cost: float = COST, steps: int = 150) -> None:
        self.sees_regime, self.cost = sees_regime, cost
        self.beliefs = torch.tensor([0.0, 1.0]) if sees_regime else BELIEFS
        x, b = (grid.flatten() for grid in torch.meshgrid(PRICES, self.beliefs, indexing="ij"))
        expected = PULL * (LEVEL * (2 * b - 1) - x)
        value = torch.zeros(len(PRICES), len(self.beliefs), len(POSITIONS))
        paid = cost * (POSITIONS.unsqueeze(0) - POSITIONS.unsqueeze(1)).abs()
        for _ in range(steps):
            gained = expected.unsqueeze(-1) * POSITIONS + self._expectation(value, x, b)
            best = (gained.unsqueeze(-2) - paid).amax(-1)
            value = (best - best.mean()).reshape(value.shape)
        self.gained = gained.reshape(value.shape)
        """What each new position is worth ``[prices, beliefs, 3]``, what is paid for the change left out."""

    def begin(self, worlds: int) -> None:
        self.belief, self._price = torch.full((worlds,), 0.5), torch.zeros(worlds)

    def act(self, states: Tensor) -> Tensor:
        """Return positions ``[N, 1]``; of the state the price alone is looked at, and the position."""
        price, regime, position = states[:, :3].unbind(-1)
        if self.sees_regime:
            self.belief = (regime > 0).float()
        elif bool((price != self._price).any()):
            self.belief = _updated(self.belief, self._price, price)
        self._price = price
        worth = _between(self.gained, PRICES, self.beliefs, price, self.belief)
        return POSITIONS[(worth - self.cost * (POSITIONS - position.unsqueeze(-1)).abs()).argmax(-1)].unsqueeze(-1)

    def _expectation(self, value: Tensor, x: Tensor, b: Tensor) -> Tensor:
        """Return ``E[V(x', b', a')]`` ``[B, 3]`` for prices and beliefs ``[B]``."""
        total = torch.zeros(len(x), len(POSITIONS))
        for up, probability in ((1.0, b), (0.0, 1 - b)):
            for node, weight in zip(NODES, WEIGHTS / WEIGHTS.sum(), strict=True):
                new = x + PULL * (LEVEL * (2 * up - 1) - x) + NOISE * node
                if self.sees_regime:
                    stays = _between(value, PRICES, self.beliefs, new, torch.full_like(x, up))
                    moves = _between(value, PRICES, self.beliefs, new, torch.full_like(x, 1 - up))
                    following = (1 - SWITCH) * stays + SWITCH * moves
                else:
                    following = _between(value, PRICES, self.beliefs, new, _updated(b, x, new))
                total += (probability * weight).unsqueeze(-1) * following
        return total


class DualThrust:
    """The rule: long above ``open + k₁ · range``, short below ``open − k₂ · range``, else as before; flat at first.

    A day has `day` prices, one a step; the first is its open, the last its close. The range is the day before's
    ``max(highest − close, close − lowest)``; on an episode's first day nothing is done.
    """

    def __init__(self, day: int = 10, k1: float = 0.5, k2: float = 0.5) -> None:
        self.day, self.k1, self.k2 = day, k1, k2

    def begin(self, worlds: int) -> None:
        self._prices: list[Tensor] = []
        self._open, self._range = torch.zeros(worlds), torch.full((worlds,), math.inf)

    def act(self, states: Tensor) -> Tensor:
        price, position = states[:, 0], states[:, 2]
        if len(self._prices) == self.day:
            seen = torch.stack(self._prices)
            self._range = torch.maximum(seen.amax(0) - seen[-1], seen[-1] - seen.amin(0))
            self._open, self._prices = price, []
        self._prices.append(price)
        is_high = price > self._open + self.k1 * self._range
        is_low = price < self._open - self.k2 * self._range
        return torch.where(is_high, 1.0, torch.where(is_low, -1.0, position)).unsqueeze(-1)


def play(player: Player, env: TradingVectorEnv, seed: int) -> dict[str, Tensor]:
    """Return an episode of every world, each array ``[N, T, …]`` or ``[N, T]``, as data has them."""
    observations, _ = env.reset(seed=seed)
    player.begin(env.num_envs)
    names = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    columns: dict[str, list[Tensor]] = {name: [] for name in names}
    for _ in range(env.max_episode_steps):
        actions = player.act(env.states.float())
        following, rewards, terminated, truncated, infos = env.step(actions)
        row = (observations, actions, rewards, infos["final_obs"], terminated, truncated)
        for name, value in zip(names, row, strict=True):
            columns[name].append(value)
        observations = following
    return {name: torch.stack(column, 1) for name, column in columns.items()}


def rule_dataset(episodes: int = 80, seed: int = 0) -> Dataset:
    """Return episodes of the rule: demonstrations."""
    env = TradingVectorEnv(episodes)
    arrays: dict[str, Any] = {
        name: value.flatten(0, 1).numpy() for name, value in play(DualThrust(), env, seed).items()
    }
    return Dataset(**arrays, name="trading-dual-thrust", env_id="balrl/Trading-v0")


def _updated(belief: Tensor, before: Tensor, price: Tensor) -> Tensor:
    """Return the probability ``[B]`` of the upper regime after a move of the price: Bayes' rule, then the switch."""
    means = (before + PULL * (LEVEL * up - before) for up in (1.0, -1.0))
    up, down = (-0.5 * ((price - mean) / NOISE).square() for mean in means)
    after = torch.sigmoid(torch.logit(belief.clamp(1e-6, 1 - 1e-6)) + up - down)
    return after * (1 - SWITCH) + (1 - after) * SWITCH


def _between(values: Tensor, first: Tensor, second: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return values ``[X, Y, …]`` on even grids, interpolated linearly at x and y ``[B]``, clipped to the grids."""
    (i, u), (j, v) = (_place(grid, at) for grid, at in ((first, x), (second, y)))
    u, v = u.unsqueeze(-1), v.unsqueeze(-1)
    low = values[i, j] * (1 - v) + values[i, j + 1] * v
    high = values[i + 1, j] * (1 - v) + values[i + 1, j + 1] * v
    return low * (1 - u) + high * u


def _place(grid: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    scaled = ((at - grid[0]) / (grid[1] - grid[0])).clamp(0, len(grid) - 1)
    index = scaled.long().clamp(max=len(grid) - 2)
    return index, scaled - index
