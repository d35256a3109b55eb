"""Trading one asset at a cost: a synthetic price that reverts to a level that nobody sees."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.envs.sketch import Sketch
from balrl.envs.torch_env import Frame, SingleTorchEnv, TorchVectorEnv

LEVEL = 10.0
"""In per cent of the opening price: where the log price is drawn to, above it or below."""
PULL = 0.1
"""Share of the way there that it goes in a step."""
NOISE = 1.0
"""Deviation of a step's return, in per cent."""
SWITCH = 0.02
"""Probability that the regime changes in a step: it lasts 50 on the average."""
COST = 0.1
"""Per cent of what is traded."""
BEST_RETURN = 71.5
"""Of an episode, by who does not see the regime."""


class TradingVectorEnv(TorchVectorEnv):
    """Hold a position in [-1, 1] of an asset whose price reverts to one of two levels; which one is hidden.

    The log price x (in per cent, 0 at the open) moves by a return ``r = 0.1 (10 k − x) + ε``, ε ~ N(0, 1). The regime k
    is −1 or 1, each at first with probability ½, and changes with probability 0.02 after each step.

    - Observation ``[window + 1]``: the latest `window` returns, the newest last (0 before the open), and the position.
      Neither the regime nor the price is seen; a memory can hold the price and a belief.
    - Action ``[1]`` in [-1, 1]: the position to hold for the next step.
    - Reward: ``position · r − cost · |change of position|``, in per cent. Never terminates; 250 steps.

    What is best is known by dynamic programming (`balrl.envs.trading_players`). The reward is linear in the position
    but for the cost: the best one is always −1, 1, or the old one, with a band of beliefs in which nothing is done.
    Per episode the best returns 71.5 on the average, 99.0 when it sees the regime, and the rule of dual thrust 20.4
    (20,000 episodes each, standard errors below 0.2). Scores count 0 for staying out and 100 for the best.

    Args:
        num_envs: worlds.
        device: where everything is computed.
        dtype: of observations and rewards.
        window: returns that are seen.
        cost: of trading.
        max_episode_steps: default: 250.
    """

    steps: ClassVar[int] = 250

    def __init__(
        self,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        window: int = 4,
        cost: float = COST,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1")
        if cost < 0:
            raise ValueError(f"cost is {cost}, expected at least 0")
        limits = np.array([np.inf] * window + [1.0], np.float32)
        super().__init__(
            num_envs,
            gym.spaces.Box(-limits, limits, dtype=np.float32),
            gym.spaces.Box(-1, 1, (1,), np.float32),
            self.steps if max_episode_steps is None else max_episode_steps,
            device,
            dtype,
            render_mode,
        )
        self.window, self.cost = window, cost
        if (cost, self.max_episode_steps) == (COST, self.steps):
            self.reference_returns = 0.0, BEST_RETURN

    def initial_states(self, count: int) -> Tensor:
        """x, k, the position, and the latest returns."""
        regime = 2.0 * (self._uniform(count) < 0.5) - 1
        nothing = torch.zeros(count, 1 + self.window, device=self.device, dtype=self.dtype)
        return torch.cat([torch.zeros_like(nothing[:, :1]), regime.unsqueeze(-1), nothing], -1)

    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        price, regime, before = states[:, :3].unbind(-1)
        position = actions[:, 0]
        noise = torch.randn(len(states), generator=self.generator, device=self.device, dtype=self.dtype)
        returns = PULL * (LEVEL * regime - price) + NOISE * noise
        rewards = position * returns - self.cost * (position - before).abs()
        regime = torch.where(self._uniform(len(states)) < SWITCH, -regime, regime)
        now = torch.stack([price + returns, regime, position], -1)
        states = torch.cat([now, states[:, 4:], returns.unsqueeze(-1)], -1)
        return states, rewards, torch.zeros_like(rewards, dtype=torch.bool), {}

    def observe(self, states: Tensor) -> Tensor:
        return torch.cat([states[:, 3:] / NOISE, states[:, 2:3]], -1)

    def draw(self, state: Tensor) -> Frame:
        """The price between the levels, the one that it is drawn to filled, and the position as a bar."""
        price, regime, position = state[:3].tolist()
        sketch = Sketch()
        for level in (-1, 1):
            sketch = sketch.line(
                [(-0.8, level / 2), (0.5, level / 2)], "seagreen" if level == regime else "lightgrey", 0.02
            )
        sketch = sketch.line([(0.75, 0), (0.75, position or 1e-3)], "steelblue", 0.1)
        return sketch.disk((-0.15, max(-1, min(1, price / LEVEL / 2))), 0.06, "indianred").array()

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator, device=self.device, dtype=self.dtype)


def make_trading(**kwargs: Any) -> SingleTorchEnv:
    """Return one world as an ordinary environment."""
    return TradingVectorEnv.single(**kwargs)
