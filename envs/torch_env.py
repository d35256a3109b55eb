"""The base of environments written in torch: N worlds as one computation, nothing leaves the device."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from balrl.errors import UserError

Frame = NDArray[np.uint8]
"""A picture ``[height, width, 3]``."""


class TorchVectorEnv(gym.vector.VectorEnv):
    """A `gymnasium.vector.VectorEnv` whose observations, rewards and flags are tensors on its device.

    Autoreset is SAME_STEP: at the end of an episode `step` returns the new episode's first observation, and
    ``infos["final_obs"]`` holds the true last one. That tensor is dense (``[num_envs, observation_dim]``, the true next
    observation of *every* world), so that no mask has to reach the host. The time limit sets truncated, also beside
    terminated. `states` are where the worlds are, `last_states` where the last step led, autoreset left out.

    Subclasses define the state ``[num_envs, state_dim]`` and functions of it: `initial_states`, `transition`, `observe`
    and `draw`. All randomness comes from `generator`, which `reset(seed=…)` seeds.
    """

    is_capturable: ClassVar[bool] = True
    """Whether a step is nothing but operations on tensors, and can be captured as a CUDA graph."""
    stepped: ClassVar[tuple[str, ...]] = ("states", "last_states", "elapsed")
    """The tensors that a step replaces."""
    metadata = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": 25,
        "tensors": True,
    }

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.spaces.Box,
        action_space: gym.spaces.Box,
        max_episode_steps: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        render_mode: str | None = None,
        reward_dim: int = 1,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}, expected None or one of {self.metadata['render_modes']}")
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}, expected at least 1")
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}, expected at least 1")
        self.num_envs = num_envs
        if reward_dim > 1:
            self.reward_space = gym.spaces.Box(-np.inf, np.inf, (reward_dim,), np.float32)
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = gym.vector.utils.batch_space(observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(action_space, num_envs)
        self.max_episode_steps = max_episode_steps
        self.device, self.dtype, self.render_mode = torch.device(device), dtype, render_mode
        self._bounds = [torch.from_numpy(x).to(self.device, dtype) for x in (action_space.low, action_space.high)]
        self.generator = torch.Generator(self.device)
        self.generator.seed()
        self.states = self.last_states = torch.empty(0)
        self.elapsed = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    @abstractmethod
    def initial_states(self, count: int) -> Tensor:
        """Draw `count` first states ``[count, state_dim]`` from `generator`."""

    @abstractmethod
    def transition(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Return next states, rewards ``[N]``, terminated ``[N]`` and per-world infos for actions within the bounds.

        Several rewards are ``[N, m]``. Worlds whose ``infos["diverged"]`` is true, where the simulation failed, are
        truncated.
        """

    @abstractmethod
    def observe(self, states: Tensor) -> Tensor:
        """Return observations ``[N, observation_dim]``."""

    def states_of(self, observations: Tensor) -> Tensor:
        """Return states ``[B, state_dim]`` that look like observations ``[B, observation_dim]``.

        Raises:
            UserError: where observations do not show the state.
        """
        raise UserError(f"observations of {type(self).__name__.removesuffix('VectorEnv')} do not show its state")

    @classmethod
    def single(cls, render_mode: str | None = None, **kwargs: Any) -> SingleTorchEnv:
        """Return one world as an ordinary environment, for `gymnasium.make`."""
        return SingleTorchEnv(cls(1, render_mode=render_mode, **kwargs))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Start a new episode in every world; `seed` makes all that follows repeatable."""
        if seed is not None:
            self.generator.manual_seed(seed)
        self.states = self.last_states = self.initial_states(self.num_envs)
        self.elapsed = torch.zeros_like(self.elapsed)
        return self.observe(self.states), {}

    def step(self, actions: Tensor | np.ndarray[Any, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every world by one step.

        Actions ``[num_envs, action_dim]`` are clipped to the bounds; NaN acts as 0, so that a policy that has diverged
        can still be told from one that has not.
        """
        actions = torch.as_tensor(actions, dtype=self.dtype, device=self.device).nan_to_num(0.0).clamp(*self._bounds)
        states, rewards, terminated, infos = self.transition(self.states, actions)
        self.elapsed = self.elapsed + 1
        truncated = self.elapsed >= self.max_episode_steps
        if "diverged" in infos:
            truncated = truncated | infos["diverged"]
        done = terminated | truncated
        infos["final_obs"] = self.observe(states)
        self.last_states = states
        self.states = torch.where(done.unsqueeze(-1), self.initial_states(self.num_envs), states)
        self.elapsed = torch.where(done, 0, self.elapsed)
        return self.observe(self.states), rewards, terminated, truncated, infos

    @abstractmethod
    def draw(self, state: Tensor) -> Frame:
        """Return a picture of one world's state ``[state_dim]``: ``[height, width, 3]``, 8 bits each."""

    def render(self) -> tuple[Frame]:
        """Return a picture of the first world, alone of all: there may be thousands."""
        return (self.draw(self.states[0]),)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on."""
        return {"states": self.states, "elapsed": self.elapsed, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.states = self.last_states = state["states"].to(self.device)
        self.elapsed = state["elapsed"].to(self.device)
        self.generator.set_state(state["generator"].cpu())


class SingleTorchEnv(gym.Env):
    """One world of a `TorchVectorEnv` as an ordinary numpy `gymnasium.Env`, for `gymnasium.make`."""

    def __init__(self, env: TorchVectorEnv) -> None:
        self.vector, self.render_mode = env, env.render_mode
        self.metadata = {key: env.metadata[key] for key in ("render_modes", "render_fps")}
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        if hasattr(env, "reward_space"):
            self.reward_space = env.reward_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        super().reset(seed=seed)
        return self.vector.reset(seed=seed)[0][0].cpu().numpy(), {}

    def step(self, action: np.ndarray[Any, Any]) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        actions = torch.as_tensor(np.asarray(action)[None])
        _, rewards, terminated, truncated, infos = self.vector.step(actions)
        info = {key: value[0].cpu().numpy() for key, value in infos.items()}
        observation = info.pop("final_obs")
        reward = float(rewards[0]) if rewards.dim() == 1 else rewards[0].cpu().numpy()
        return observation, reward, bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Frame | None:
        return self.vector.draw(self.vector.last_states[0]) if self.render_mode else None

    def close(self) -> None:
        self.vector.close()
