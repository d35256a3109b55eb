"""Wrappers of environments whose observations and rewards are tensors: they stay on the device, final ones included."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorWrapper
from torch import Tensor

Stepped = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]


class RunningMoments:
    """Mean and variance of all rows seen, by Chan, Golub & LeVeque's update (1979), in float64 on the device.

    Args:
        width: of a row.
        device: of the rows.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros(width, dtype=torch.float64, device=device)

    def add(self, rows: Tensor) -> None:
        """See rows ``[N, width]``."""
        rows = rows.double()
        mean, count = rows.mean(0), self.count + rows.shape[0]
        difference = mean - self.mean
        self.squares = (
            self.squares + (rows - mean).square().sum(0) + difference.square() * (self.count * rows.shape[0] / count)
        )
        self.mean = self.mean + difference * (rows.shape[0] / count)
        self.count = count

    @property
    def variance(self) -> Tensor:
        """``[width]``, the population's; 1 before anything was seen."""
        return torch.where(self.count > 0, self.squares / self.count.clamp(min=1), 1.0)

    def state_dict(self) -> dict[str, Tensor]:
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.count, self.mean, self.squares = (state[k].to(self.mean.device) for k in ("count", "mean", "squares"))


class _TensorWrapper(VectorWrapper):
    """Base: refuses environments that are none of tensors with SAME_STEP autoreset, and adds its state to theirs."""

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        if not env.metadata.get("tensors") or env.metadata.get("autoreset_mode") != AutoresetMode.SAME_STEP:
            raise ValueError(f"{type(self).__name__} wraps environments of tensors with SAME_STEP autoreset, not {env}")
        super().__init__(env)
        self.learning = True
        """Whether the statistics follow what is seen; switch it off to evaluate."""

    @abstractmethod
    def own_state(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def load_own_state(self, state: dict[str, Tensor]) -> None: ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on."""
        name = type(self).__name__
        inner: Any = self.env
        return {**inner.state_dict(), **{f"{name}.{key}": value for key, value in self.own_state().items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        prefix = f"{type(self).__name__}."
        inner: Any = self.env
        inner.load_state_dict({key: value for key, value in state.items() if not key.startswith(prefix)})
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        self.load_own_state(own)


class NormalizeObservations(_TensorWrapper):
    """``clip((o − mean) / √(variance + ε), ± clip)`` with running moments of what was observed so far.

    Moments are of the observations that a policy acts on, all worlds together; ``infos["final_obs"]`` is normalised
    with them and is no part of them. Agents can normalise inside themselves (`Agent.normalizer`), which saved policies
    keep; this is for those that do not.

    Args:
        env: of tensors, with SAME_STEP autoreset.
        clip: largest absolute value.
        epsilon: added to the variance.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any], clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__(env)
        self.clip, self.epsilon = clip, epsilon
        space = env.single_observation_space
        width = int(space.shape[0]) if space.shape else 1
        self.single_observation_space = gym.spaces.Box(-clip, clip, (width,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, env.num_envs)
        self.moments = RunningMoments(width, env.unwrapped.device)  # type: ignore[attr-defined]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._seen(observations), infos

    def step(self, actions: Any) -> Stepped:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        observations = self._seen(observations)
        return observations, rewards, terminated, truncated, infos | {"final_obs": self._normal(infos["final_obs"])}

    def own_state(self) -> dict[str, Tensor]:
        return self.moments.state_dict()

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        self.moments.load_state_dict(state)

    def _seen(self, observations: Tensor) -> Tensor:
        if self.learning:
            self.moments.add(observations)
        return self._normal(observations)

    def _normal(self, observations: Tensor) -> Tensor:
        scale = (self.moments.variance + self.epsilon).sqrt()
        return ((observations - self.moments.mean) / scale).clamp(-self.clip, self.clip).to(observations.dtype)


class ScaleRewards(_TensorWrapper):
    """``clip(r / √(variance of the running discounted returns + ε), ± clip)`` (Engstrom et al., arXiv 2005.12729).

    Each world's return is ``R ← γ R + r``, begun anew with its episodes. Rewards are scaled, not shifted, so that their
    sign and the order of policies stay.

    Args:
        env: of tensors, with SAME_STEP autoreset.
        discount: γ.
        clip: largest absolute value.
        epsilon: added to the variance.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        discount: float = 0.99,
        clip: float = 10.0,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(env)
        self.discount, self.clip, self.epsilon = discount, clip, epsilon
        device = env.unwrapped.device  # type: ignore[attr-defined]
        self.moments = RunningMoments(1, device)
        self.returns = torch.zeros(env.num_envs, dtype=torch.float64, device=device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        self.returns = torch.zeros_like(self.returns)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> Stepped:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self.returns = self.discount * self.returns + rewards
        if self.learning:
            self.moments.add(self.returns.unsqueeze(-1))
        self.returns = self.returns.masked_fill(terminated | truncated, 0.0)
        scaled = rewards / (self.moments.variance + self.epsilon).sqrt()
        return observations, scaled.clamp(-self.clip, self.clip).to(rewards.dtype), terminated, truncated, infos

    def own_state(self) -> dict[str, Tensor]:
        return {**self.moments.state_dict(), "returns": self.returns}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        self.moments.load_state_dict(state)
        self.returns = state["returns"].to(self.returns.device)
