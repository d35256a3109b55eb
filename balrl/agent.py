"""What every agent is: a device-agnostic module with `update`, `act`, `predict` and its state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.config import Config
from balrl.execution.tracing import Metrics
from balrl.networks import Normalizer
from balrl.on_policy import Rollouts
from balrl.optim import Learner
from balrl.random_stream import RandomStream
from balrl.spaces import SpaceAdapter

Phase = Literal["offline", "online"]


class Agent(Learner, ABC):
    """Base of all agents. Knows no environment, no logger and no file.

    Args:
        observation_space: a flat box, or a goal dictionary.
        action_space: a finite box.
        config: the agent's hyperparameters; its defaults if None.
        device: where parameters live and batches are expected.

    Inside, observations are flat and actions in [-1, 1] (`update`, `act`); `predict` speaks the task's own units.
    """

    config_type: ClassVar[type[Config]]
    on_policy: ClassVar[bool] = False
    """Whether online updates learn from rollouts of the present policy in place of a replay."""
    clock: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: Config | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.config: Any = config if config is not None else self.config_type()
        if type(self.config) is not self.config_type:
            raise TypeError(
                f"{type(self).__name__} takes a {self.config_type.__name__}, got {type(self.config).__name__}"
            )
        self.device = torch.device(device)
        self.spaces = SpaceAdapter(observation_space, action_space)
        self.normalizer = Normalizer(self.spaces.observation_dim).to(self.device)
        self.stream = RandomStream(int(torch.randint(2**62, ()))).to(self.device)
        self.policy: Any = None
        self.critic: Any = None
        self.balance: Any = None
        self.phase: Phase = "offline"
        self.phase_updates = 0
        self.phase_length: int | None = None
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64, device=self.device))
        with torch.device(self.device):
            self._build(self.config)

    def set_phase(self, phase: Phase, length: int | None = None) -> None:
        """Enter a phase; `length` is its number of updates where known, for schedules over it."""
        self.phase, self.phase_updates, self.phase_length = phase, 0, length
        self.clock.zero_()

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        """Return the optional fields of `Batch` that updates in a phase need."""
        return ()

    def update(self, batch: Batch) -> Metrics:
        """Take one step on B rows and return what is worth watching, as detached scalars on the device."""
        self._count()
        return self._update(batch)

    def update_utd(self, batch: Batch, utd: int) -> Metrics:
        """Take `utd` updates on ``utd · B`` rows, each on its own B.

        Algorithms whose policy follows the critics' gradient take `utd` critic steps and then one policy step instead.
        """
        metrics: Metrics = {}
        for part in batch.split(utd):
            metrics |= self.update(part)
        return metrics

    def update_critic(self, batch: Batch) -> Metrics:
        """Take one step of the critics (and what they rest on) alone, the policy frozen.

        Raises:
            NotImplementedError: for an agent without critics.
        """
        raise NotImplementedError(f"{type(self).__name__} has no critic")

    def judge(self, rollouts: Rollouts) -> Metrics:
        """Give every step of full rollouts what `update` learns from.

        Raises:
            NotImplementedError: for an agent that learns from a replay.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from a replay, not from rollouts")

    @property
    def variant(self) -> tuple[Hashable, ...]:
        """What an update depends on that is no tensor: while it is the same, so are the update's operations."""
        return self.phase, self.phase_length, self.phase_updates % (self.balance.every if self.balance else 1)

    def _count(self) -> None:
        """Count an update, for the host in `phase_updates` and for tensors in `clock`."""
        self.phase_updates += 1
        self.clock.add_(1)

    @abstractmethod
    def _build(self, c: Any) -> None:
        """Create `policy`, the other networks and `optimizers` from the configuration; the device is set around it."""

    @abstractmethod
    def _update(self, batch: Batch) -> Metrics:
        """The algorithm, in the paper's order."""

    @torch.no_grad()
    def act(self, observations: Tensor, deterministic: bool = False, balance: float | Tensor | None = None) -> Tensor:
        """Return actions ``[B, action_dim]`` in [-1, 1] for flat raw observations ``[B, observation_dim]``.

        Args:
            deterministic: the policy's mode; otherwise a sample.
            balance: a member of the policy's family, a number or ``[B]``; by default the agent's own choice.

        Raises:
            ValueError: when a balance is asked for and the policy is no family.
        """
        if balance is not None:
            if self.balance is None or not self.balance.is_family:
                raise ValueError(
                    "this agent has one policy, not a family: train it with StateAdaptiveBalance to ask for a balance"
                )
            balance = torch.as_tensor(balance, dtype=observations.dtype, device=observations.device)
            balance = balance.expand(observations.shape[0])
        inputs = self._acting_inputs(observations, balance)
        actions = self.policy.mode(inputs) if deterministic else self.policy.sample(inputs, self.stream)[0]
        return actions.clamp(-1, 1)

    def explore(self, observations: Tensor) -> Tensor:
        """Return the actions ``[B, action_dim]`` that are taken to learn from them, for flat raw observations."""
        return self.act(observations)

    def predict(
        self,
        observation: np.ndarray[Any, Any] | Mapping[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
        balance: float | None = None,
    ) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...] | None]:
        """Return actions in the action space's bounds and the unchanged `state`; stable-baselines3's contract.

        Takes one observation or a batch of them, as numpy, a goal dictionary included. `state` and `episode_start` are
        for recurrent policies and are ignored.
        """
        flat = np.asarray(self.spaces.flatten(observation), np.float32)
        batch = torch.from_numpy(np.atleast_2d(flat)).to(self.device)
        actions = self.spaces.to_environment(self.act(batch, deterministic, balance).cpu().numpy())
        actions = actions.astype(self.spaces.action_space.dtype)
        return (actions[0] if flat.ndim == 1 else actions), state

    @torch.no_grad()
    def distribution(self, observations: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return mean and log standard deviation ``[B, action_dim]`` of the acting policy's normal distribution.

        Before the tanh, where there is one. None for a deterministic policy.
        """
        found = self.policy(self._acting_inputs(observations))
        if isinstance(found, Tensor):
            return None
        mean, log_std = found
        return mean, log_std.expand_as(mean)

    @torch.no_grad()
    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """Return Q ``[members, B]`` of raw observations and actions in [-1, 1]; None without critics."""
        return None if self.critic is None else self.critic(self.normalizer(observations), actions)

    @torch.no_grad()
    def td_target(self, batch: Batch) -> Tensor | None:
        """Return the target ``[B]`` that Q is moved to, without its randomness; None without critics."""
        return None

    def _acting_inputs(self, observations: Tensor, balance: Tensor | None = None) -> Tensor:
        """Return the policy's input for raw observations, under a balance ``[B]`` or the one that it picks to act."""
        inputs: Tensor = self.normalizer(observations)
        if self.balance is None:
            return inputs
        conditioned: Tensor = self.balance.condition(inputs, self.balance.mode(inputs) if balance is None else balance)
        return conditioned

    def progress(self) -> dict[str, Any]:
        """Return the part of the state that is not tensors, as plain JSON types."""
        return {
            "phase": self.phase,
            "phase_updates": self.phase_updates,
            "phase_length": self.phase_length,
        }

    def load_progress(self, progress: Mapping[str, Any]) -> None:
        self.phase = progress["phase"]
        self.phase_updates = progress["phase_updates"]
        self.phase_length = progress["phase_length"]

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return every optimiser's tensors, keyed by parameter name: ``"critic.head.bias:exp_avg"``."""
        names = {id(p): name for name, p in self.named_parameters()}
        return {
            f"{names[id(parameter)]}:{key}": value
            for optimizer in self.optimizers.values()
            for parameter, slots in optimizer.state.items()
            for key, value in slots.items()
        }

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Undo `optimizer_state`; parameters that it lacks keep fresh moments."""
        slots: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, slot = key.rsplit(":", 1)
            slots.setdefault(name, {})[slot] = value
        names = {id(p): name for name, p in self.named_parameters()}
        for optimizer in self.optimizers.values():
            for parameter in optimizer.param_groups[0]["params"]:
                stored = slots.get(names[id(parameter)], {})
                for key, value in optimizer.state[parameter].items():
                    value.copy_(stored.get(key, torch.zeros_like(value)))
