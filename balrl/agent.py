"""What every agent is: a device-agnostic module with `update`, `act`, `predict` and its state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from balrl.balance import Balance
from balrl.batch import Batch
from balrl.best_action import best_action, check_best_of
from balrl.checkpoint import Carried
from balrl.chunks import play_on
from balrl.config import AgentConfig
from balrl.devices import check_device
from balrl.errors import UserError
from balrl.frozen_policy import FrozenPolicy, acting_inputs
from balrl.networks import Normalizer, QEnsemble, polyak_update
from balrl.on_policy import RolloutBuffer
from balrl.optim import OptimizedModule
from balrl.policies import Policy, StochasticPolicy, normal_kl
from balrl.random_stream import RandomStream
from balrl.remembering import Memory, beginnings, forget, recalled, rewards_of_a_step
from balrl.saved_agent import load_agent, save_agent
from balrl.spaces import SpaceAdapter
from balrl.vector_critics import PreferenceNormalizer, checked_preference, with_preference

Phase = Literal["offline", "online"]
Metrics = dict[str, Tensor]


class Agent(OptimizedModule, ABC):
    """Base of all agents. Knows no environment, no logger and no file.

    Args:
        observation_space: a flat box, or a goal dictionary.
        action_space: a finite box.
        config: the agent's hyperparameters; its defaults if None.
        device: where parameters live and batches are expected.

    Inside, observations are flat and actions in [-1, 1] (`update`, `act`); `predict` speaks the task's own units.

    An agent's author writes `_build` and `_update`, names `carried`, and extends `variant` wherever an update's
    operations depend on anything else than tensors, the phase and its length, and the balance's turn: what is compiled
    or captured under a variant is repeated for all updates that have it.
    """

    config_type: ClassVar[type[AgentConfig]]
    carried: ClassVar[tuple[Carried, ...]]
    """What another run can take over from a checkpoint of this agent."""
    on_policy: ClassVar[bool] = False
    """Whether online updates learn from rollouts of the present policy in place of a replay."""
    remembers: ClassVar[bool] = False
    """Whether actions depend on more than the present observation: on a `Memory` of the running episode."""
    offline_only: ClassVar[bool] = False
    """Whether it can only learn from logged data."""
    config: AgentConfig
    policy: Policy
    critic: QEnsemble | None
    balance: Balance | None
    clock: Tensor
    averaged: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: AgentConfig | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.config = config if config is not None else self.config_type()  # type: ignore[call-arg]
        if type(self.config) is not self.config_type:
            raise TypeError(
                f"{type(self).__name__} takes a {self.config_type.__name__}, got {type(self.config).__name__}"
            )
        self.device = check_device(device)
        self.spaces = SpaceAdapter(observation_space, action_space, self.config.chunk_size)
        width, several = self.spaces.observation_dim, self.reward_dim > 1
        made = PreferenceNormalizer(width, self.reward_dim) if several else Normalizer(width)
        self.normalizer: Normalizer = made.to(self.device)
        self.stream = RandomStream(int(torch.randint(2**62, ()))).to(self.device)
        self.critic, self.balance = None, None
        self._champion: list[FrozenPolicy] = []
        self.phase: Phase = "offline"
        self.phase_updates = 0
        self.phase_length: int | None = None
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64, device=self.device))
        with torch.device(self.device):
            self._build(self.config)
        self.anchor_policy: Policy | None = None
        if self.anchor:
            self.anchor_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.averaged_policy: Policy | None = None
        if self.config.policy_average is not None:
            self.averaged_policy = copy.deepcopy(self.policy).requires_grad_(False)
            self.register_buffer("averaged", torch.zeros((), dtype=torch.int64, device=self.device))

    @classmethod
    def policy_kind(cls, config: Any) -> str:
        """Return the `kind` of policy that an agent with this configuration has."""
        return str(config.policy)

    @property
    def reward_dim(self) -> int:
        """How many rewards of a step it learns from."""
        return self.config.reward_dim

    @property
    def sequence_length(self) -> int:
        """How many consecutive steps it learns from at a time."""
        return int(getattr(self.config, "sequence_length", 1))

    @property
    def is_family(self) -> bool:
        """Whether the policy is a family, with a member for every balance."""
        return self.balance is not None and self.balance.is_family

    @property
    def anchor(self) -> float:
        """Weight of the KL to the pre-trained policy as fine-tuning begins; 0 for an agent that has none."""
        return float(getattr(self.config, "anchor", 0.0))

    @property
    def acting_policy(self) -> Policy:
        """The policy that acts: the newest, or the moving average of its weights (`policy_average`)."""
        return self.policy if self.averaged_policy is None else self.averaged_policy

    @property
    def champion(self) -> FrozenPolicy | None:
        """The frozen policy that is served in place of the newest one, if there is one.

        No submodule: it neither learns nor belongs to a population's stacks; a checkpoint has it as a group of its own.
        """
        return self._champion[0] if self._champion else None

    def crown(self, policy: FrozenPolicy | None) -> None:
        """Serve a frozen policy from now on; None: the newest."""
        self._champion = [] if policy is None else [policy]

    def freeze(self) -> FrozenPolicy:
        """Return a copy of what acts, as it is now.

        Raises:
            UserError: for an agent that remembers.
        """
        if self.remembers:
            raise UserError(
                f"agent {self.config.name} remembers the episode: no copy of it can act on single observations; "
                "evaluate or deploy it with balrl.load_agent"
            )
        return FrozenPolicy(self.normalizer, self.balance, self.acting_policy)

    @property
    def discount(self) -> float:
        """γ; 1 for an agent that has none."""
        return float(getattr(self.config, "discount", 1.0))

    def discounts(self, batch: Batch) -> float | Tensor:
        """Return what the value of a batch's next observations counts, a number or ``[B]``, termination left out.

        γ, or for action chunks γ to the number of steps that were played.
        """
        return self.config.discount if batch.discounts is None else batch.discounts  # type: ignore[attr-defined]

    @property
    def fits_normalizer(self) -> bool:
        """Whether the agent measures the statistics of its observations itself."""
        return False

    def prefer(self, preference: Sequence[float]) -> None:
        """Act under this preference over several rewards from now on, wherever none is asked for.

        Raises:
            UserError: when it is none, or the agent learned from one reward.
        """
        w = checked_preference(preference, self.reward_dim)
        assert isinstance(self.normalizer, PreferenceNormalizer)
        self.normalizer.preference.copy_(w)

    def see_returns(self, returns: np.ndarray[Any, Any], preferences: np.ndarray[Any, Any] | None) -> None:
        """See what the logged episodes returned, raw, before the first update; most agents need nothing of it.

        Args:
            returns: ``[episodes]``, or ``[episodes, m]`` of several rewards.
            preferences: of several rewards, ``[episodes, m]``, under which each ranks highest.
        """

    def set_phase(self, phase: Phase, length: int | None = None) -> None:
        """Enter a phase; `length` is its number of updates where known, for schedules over it."""
        self.phase, self.phase_updates, self.phase_length = phase, 0, length
        self.clock.zero_()
        if self.anchor_policy is not None:
            self.anchor_policy.load_state_dict(self.policy.state_dict())

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        """Return the optional fields of `Batch` that updates in a phase need."""
        return ()

    def update(self, batch: Batch) -> Metrics:
        """Take one step on B rows and return what is worth watching, as detached scalars on the device."""
        self._count()
        metrics = self._update(batch)
        self._average()
        return metrics

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

    def rollout_buffer(self, num_envs: int, batch_size: int) -> RolloutBuffer:
        """Return what an on-policy agent's interaction is kept in until it has learned from it.

        Raises:
            NotImplementedError: for an agent that learns from a replay.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from a replay, not from rollouts")

    def compute_advantages(self, rollouts: RolloutBuffer) -> Metrics:
        """Give every step of full rollouts what an on-policy agent's `update` learns from.

        Raises:
            NotImplementedError: for an agent that learns from a replay.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from a replay, not from rollouts")

    @property
    def variant(self) -> tuple[Hashable, ...]:
        """What an update depends on that is no tensor: while it is the same, so are the update's operations."""
        return self.phase, self.phase_length, self.phase_updates % (self.balance.every if self.balance else 1)

    def _count(self, utd: int = 1) -> None:
        """Count an update, for the host in `phase_updates`, and its critic steps, for tensors, in `clock`."""
        self.phase_updates += 1
        self.clock.add_(utd)
        if self.balance is not None:
            self.balance.tick(self.phase == "online", self.clock, self.phase_length)

    def anchored(self, loss: Tensor, inputs: Callable[[], Tensor]) -> Tensor:
        """Return a policy loss ``[]`` with what holds the policy near the pre-trained one in fine-tuning.

        ``w · max(0, 1 − t/T) · E[ KL(π ‖ π_0) ]``, of the normal distributions before a tanh; half the squared distance
        of the actions for a deterministic policy. t counts fine-tuning's updates, T is `anchor_updates`.

        Args:
            inputs: returns those of the policy ``[B, ·]``.
        """
        if self.anchor_policy is None or self.phase == "offline":
            return loss
        length = self.config.anchor_updates or self.phase_length  # type: ignore[attr-defined]
        left = 1.0 if length is None else (1 - (self.clock - 1).to(loss.dtype) / length).clamp(min=0)
        seen = inputs()
        now, before = self.policy(seen), self.anchor_policy(seen)
        is_mode = isinstance(now, Tensor)
        distance = 0.5 * (now - before).square().sum(-1) if is_mode else normal_kl(*now, *before)
        weight: float = self.config.anchor  # type: ignore[attr-defined]
        return loss + weight * left * distance.mean()

    def start_average(self) -> None:
        """Begin the average of the policy's weights anew, at the policy as it is."""
        if self.averaged_policy is not None:
            self.averaged_policy.load_state_dict(self.policy.state_dict())

    def _average(self) -> None:
        """Move the average of the policy's weights, if there is one: ``mean ← mean + max(1 − decay, 1/n) (θ − mean)``.

        With n the updates so far, it is the plain mean until there are as many as the decay looks back on.
        """
        if self.averaged_policy is not None:
            self.averaged.add_(1)
            floor = 1.0 - self.config.policy_average  # type: ignore[operator]
            rate = (1.0 / self.averaged.to(next(self.policy.parameters()).dtype)).clamp(min=floor)
            polyak_update(self.averaged_policy, self.policy, rate)

    @abstractmethod
    def _build(self, c: Any) -> None:
        """Create `policy`, the other networks and `optimizers` from the configuration; the device is set around it."""

    @abstractmethod
    def _update(self, batch: Batch) -> Metrics:
        """The algorithm, in the paper's order."""

    @torch.no_grad()
    def act(self, observations: Tensor, deterministic: bool = False, balance: float | Tensor | None = None) -> Tensor:
        """Return the newest policy's actions ``[B, action_dim]`` in [-1, 1] for flat raw observations ``[B, ·]``.

        Args:
            deterministic: the policy's mode; otherwise a sample.
            balance: a member of the policy's family, a number or ``[B]``; by default the agent's own choice.

        Raises:
            ValueError: when a balance is asked for and the policy is no family.
        """
        if self.remembers:
            asked = self._asked_for(observations, balance)
            return self.act_from(observations, self.empty_memory(len(observations)), deterministic, asked)[0]
        inputs = self._acting_inputs(observations, self._asked_for(observations, balance))
        policy = self.acting_policy
        actions = policy.mode(inputs) if deterministic else policy.sample(inputs, self.stream)[0]
        return actions.clamp(-1, 1)

    def serve(self, observations: Tensor, deterministic: bool = True, balance: float | Tensor | None = None) -> Tensor:
        """Return the actions of what the agent has to offer: the champion's if there is one, else those of `act`."""
        if self.champion is None:
            return self.act(observations, deterministic, balance)
        return self.champion.act(observations, deterministic, self._asked_for(observations, balance), self.stream)

    def empty_memory(self, worlds: int) -> Memory:
        """Return what an agent that remembers knows of episodes that begin.

        Raises:
            NotImplementedError: for an agent that does not remember.
        """
        raise NotImplementedError(f"{type(self).__name__} does not remember")

    def act_from(
        self, observations: Tensor, memory: Memory, deterministic: bool = False, balance: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """Return actions as `act` does, under a memory of the running episodes, and the memory that includes this step.

        Args:
            balance: a member of the policy's family ``[B]``; by default the agent's own choice.

        Raises:
            NotImplementedError: for an agent that does not remember.
        """
        raise NotImplementedError(f"{type(self).__name__} does not remember")

    def after_step(self, memory: Memory, rewards: Tensor, ended: Tensor) -> Memory:
        """Return a memory after its step's rewards ``[N]``, emptied where episodes `ended` ``[N]``."""
        return forget(memory, self.empty_memory(len(ended)), ended)

    def _asked_for(self, observations: Tensor, balance: float | Tensor | None) -> Tensor | None:
        """Return a balance that is asked for as ``[B]``."""
        if balance is None:
            return None
        if not self.is_family:
            raise ValueError(
                "this agent has one policy, not a family: train it with StateAdaptiveBalance to ask for a balance"
            )
        asked = torch.as_tensor(balance, dtype=observations.dtype, device=observations.device)
        return asked.expand(observations.shape[0])

    def explore(self, observations: Tensor, balance: Tensor | None = None) -> Tensor:
        """Return the actions ``[B, action_dim]`` that are taken to learn from them, for flat raw observations.

        Args:
            balance: members of the policy's family ``[B]``; by default the agent's own choice.
        """
        return self.act(observations, balance=balance)

    def predict(
        self,
        observation: np.ndarray[Any, Any] | Mapping[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
        balance: float | None = None,
        best_of: int = 1,
        objective: str = "wco",
        preference: Sequence[float] | np.ndarray[Any, Any] | None = None,
        reward: Any = None,
    ) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...] | None]:
        """Return actions in the action space's bounds, and `state`; stable-baselines3's contract.

        Takes one observation or a batch of them, as numpy, a dictionary included. An agent that chooses several
        steps' actions at once (`chunk_size`) keeps those that are still to be played in `state`: pass it on, and it
        looks again when they are played; leave it out, and it looks at every step. An agent that remembers keeps its
        memory there. Others return it unchanged.

        Args:
            state: what the last call returned.
            episode_start: ``[B]``, where an episode begins, and what was left of the last is dropped.
            deterministic: the policy's mode; otherwise a sample.
            balance: a member of the policy's family; by default the agent's own choice.
            best_of: take that many samples and act with the best by the critics (`balrl.best_action`).
            objective: of the critics' scores, by which it is the best; wco is their minimum.
            preference: of an agent for several rewards, ``[m]`` on the simplex or ``[B, m]``; another one at every
                step, if need be. By default the one that `prefer` said last, at first equal weights.
            reward: what the last step paid ``[B]`` or ``[B, m]``, of an agent that takes it off the return that it is
                asked for, or sees it (`previous_reward`).

        Raises:
            UserError: when the observation is not what the observation space says, or the agent has no best of several.
        """
        flat, is_single = self.spaces.observation(observation)
        batch = torch.from_numpy(flat).to(self.device)
        if preference is not None:
            batch = with_preference(batch, checked_preference(preference, self.reward_dim, len(batch)))

        def choose(observations: Tensor) -> Tensor:
            if best_of == 1:
                return self.serve(observations, deterministic, balance)
            return best_action(self, observations, best_of, objective, balance=self._asked_for(observations, balance))

        if self.remembers:
            check_best_of(self, best_of)
            asked = self._asked_for(batch, balance)
            starts = beginnings(episode_start, len(batch), self.device)
            memory = recalled(self, state, starts)
            if reward is not None:
                paid = torch.from_numpy(rewards_of_a_step(reward, len(batch), self.reward_dim)).to(self.device)
                memory = self.after_step(memory, paid, starts)
            chosen, memory = self.act_from(batch, memory, deterministic, asked)
            state = tuple(kept.cpu().numpy() for kept in memory)
        elif self.config.chunk_size == 1:
            chosen = choose(batch)
        else:
            chosen, state = play_on(choose, batch, state, episode_start, self.spaces.step_action_dim)
        actions = self.spaces.to_environment(chosen.cpu().numpy())
        actions = actions.astype(self.spaces.action_space.dtype)
        return (actions[0] if is_single else actions), state

    @torch.no_grad()
    def distribution(self, observations: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return mean and log standard deviation ``[B, action_dim]`` of the acting policy's normal distribution.

        Before the tanh, where there is one. None for a deterministic policy.
        """
        policy = self.acting_policy
        if not isinstance(policy, StochasticPolicy):
            return None
        mean, log_std = policy(self._acting_inputs(observations))
        return mean, log_std.expand_as(mean)

    @torch.no_grad()
    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor | None:
        """Return Q ``[members, B]`` of raw observations and actions in [-1, 1]; None without critics."""
        return None if self.critic is None else self.critic(self.normalizer(observations), actions)

    @torch.no_grad()
    def td_target(self, batch: Batch) -> Tensor | None:
        """Return the target ``[B]`` that Q is moved to, without its randomness; None without critics.

        ``r + γ (1 − d) min_j Q_target,j(s', mode of π(·|s'))``, unless an agent's own target is another.
        """
        target: QEnsemble | None = getattr(self, "target_critic", None)
        if target is None:
            return None
        observations = self.normalizer(batch.next_observations)
        actions = self.act(batch.next_observations, deterministic=True)
        value = target(observations, actions).amin(-2).masked_fill(batch.terminated, 0)
        following: Tensor = batch.rewards + self.discounts(batch) * value
        return following

    def _acting_inputs(self, observations: Tensor, balance: Tensor | None = None) -> Tensor:
        """Return the policy's input for raw observations, under a balance ``[B]`` or the one that it picks to act."""
        return acting_inputs(self.normalizer, self.balance, observations, balance)

    def save(self, folder: str | Path) -> Path:
        """Write the agent to a folder: parameters, optimisers, random stream, spaces, hyperparameters; nothing pickled.

        `balrl.load_agent` reads it back, and ``init.checkpoint`` starts a run from it. One that stands there is
        replaced only when the new one is complete.

        Raises:
            UserError: when the folder is a file, or holds something else.
        """
        return save_agent(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Self:
        """Return an agent of this class from `save`'s folder, a run or a checkpoint; updates go on where they stopped.

        `balrl.load_agent` does the same for an agent of any class.

        Raises:
            UserError: when there is none, or it is of another class.
        """
        return load_agent(cls, Path(folder), device)
