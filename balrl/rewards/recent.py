"""The newest interaction with its true rewards, for teachers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from balrl.data.dataset import Dataset
from balrl.rollout import Step
from balrl.spaces import SpaceAdapter

COLUMNS = ("observations", "actions", "rewards", "done", "valid")


class RecentInteraction:
    """A ring of the last T vector steps of N worlds.

    Args:
        steps: T.
        num_envs: N.
        spaces: of the task.
        device: where the ring lives.
        reward_dim: how many rewards a step has.
    """

    def __init__(
        self, steps: int, num_envs: int, spaces: SpaceAdapter, device: torch.device | str = "cpu", reward_dim: int = 1
    ) -> None:
        self.steps, self.spaces = steps, spaces
        shape = (steps, num_envs)
        self.observations = torch.zeros(*shape, spaces.observation_dim, device=device)
        self.actions = torch.zeros(*shape, spaces.action_dim, device=device)
        self.rewards = torch.zeros(shape if reward_dim == 1 else (*shape, reward_dim), device=device)
        self.done, self.valid = (torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(2))
        self.taken = 0
        """Steps since the beginning."""

    def add(self, step: Step) -> None:
        """Append a vector step over the oldest; actions as the task got them."""
        row = self.taken % self.steps
        self.observations[row] = step.batch.observations
        self.actions[row] = step.batch.actions.clamp(-1, 1)
        self.rewards[row] = step.batch.rewards
        self.done[row] = step.done
        self.valid[row] = True if step.valid is None else step.valid
        self.taken += 1

    def dataset(self, env_id: str) -> Dataset:
        """Return what is recorded, world after world, cut where episodes end and where the recording does."""
        count = min(self.taken, self.steps)
        order = torch.arange(self.taken - count, self.taken) % self.steps
        columns = [getattr(self, name)[order.to(self.rewards.device)].movedim(0, 1).cpu() for name in COLUMNS]
        observations, actions, rewards, done, valid = columns
        ends = done.clone()
        ends[:, -1] = True
        ends[:, :-1] |= valid[:, :-1] & ~valid[:, 1:]
        kept = valid.flatten()
        flat = [x.flatten(0, 1)[kept].numpy() for x in (observations, actions, rewards, ends)]
        units = np.asarray(self.spaces.to_environment(flat[1]), np.float32)
        never = np.zeros(len(flat[2]), bool)
        return Dataset(flat[0], units, flat[2], flat[0], never, flat[3], "recent interaction", env_id)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the ring."""
        return {name: getattr(self, name) for name in COLUMNS} | {"taken": torch.tensor(self.taken)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name in COLUMNS:
            getattr(self, name).copy_(state[name])
        self.taken = int(state["taken"])
