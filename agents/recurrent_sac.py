"""Soft actor-critic that remembers the episode, and imitates demonstrations where they are better."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from balrl.agent import Metrics, Phase
from balrl.agents.recurrent_hyperparameters import RecurrentSACConfig
from balrl.agents.sac import SAC
from balrl.batch import Batch
from balrl.optim import descend
from balrl.recurrent import RecurrentPolicy, RecurrentQEnsemble, StateMemory
from balrl.remembering import Memory


class RecurrentSAC(SAC):
    """Recurrent soft actor-critic (after Ni, Eysenbach and Salakhutdinov, arXiv 2110.05038), with imitation.

    - Memory: policy and critics have a GRU of their own each, over ``x_t = [o_t, a_{t−1}, r_{t−1}]``, the reward by
      choice, both 0 before the first step. A state is ``s_t = [h_t, o_t]``, and that of o' one step of ``[o', a_t,
      r_t]`` after s_t.
    - Windows of L steps begin with h = 0. The first K warm it up: no loss is taken there, and no gradient goes back
      into them; but for windows that begin an episode, whose h is 0 indeed. Steps behind an episode's end do not count.
      Losses are means over the steps that do.
    - Critics: SAC's, on s.
    - Policy: ``L_π = E[ α log π(a|s) − min_i Q_i(s, a) + c(s) f ‖π(s) − a_demo‖² ]``, π(s) the mode; f is 1 in rows of
      the logged data where ``Q(s, a_demo) > Q(s, π(s))`` (the Q-filter of arXiv 1709.10089), else 0.

    ``c = 1/β`` comes from the balance: ``FixedBalance(β)`` is a constant weight, as in iRDPG (AAAI 2020) and QTNet
    (arXiv 2312.15730). With a state-adaptive one the policy is a family over β, and β(s) is chosen by what is
    remembered. The balance model learns at as many steps as a batch has windows, drawn from those that count.
    """

    config_type = RecurrentSACConfig
    remembers = True
    config: RecurrentSACConfig
    policy: RecurrentPolicy
    critic: RecurrentQEnsemble
    target_critic: RecurrentQEnsemble

    @classmethod
    def policy_kind(cls, config: Any) -> str:
        return RecurrentPolicy.kind

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        return ("timesteps",) if self.config.imitation == "none" else ("timesteps", "logged")

    @property
    def state_dim(self) -> int:
        return self.config.memory + self.normalizer.output_dim

    def _make_policy(self, c: Any, input_dim: int, settings: dict[str, Any]) -> RecurrentPolicy:
        return RecurrentPolicy(self._make_memory(), input_dim, self.spaces.action_dim, c.hidden, **settings)

    def _make_critic(self, c: Any, gain: float) -> RecurrentQEnsemble:
        hidden, norm = c.critic_hidden or c.hidden, c.layer_norm
        return RecurrentQEnsemble(
            self._make_memory(), self.spaces.action_dim, hidden, c.critics, norm, gain, c.activation
        )

    def _make_memory(self) -> StateMemory:
        width = self.normalizer.output_dim
        return StateMemory(width, width + self.spaces.action_dim + self.config.previous_reward, self.config.memory)

    def seen(self, observations: Tensor, actions: Tensor, rewards: Tensor) -> Tensor:
        """Return what memories see ``[…, ·]``: raw observations and the actions and rewards ``[…]`` before them."""
        before = [actions, rewards.unsqueeze(-1)] if self.config.previous_reward else [actions]
        return torch.cat([self.normalizer(observations), *before], -1)

    def windows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what memories see at each step of windows ``[B, L, ·]``, and at what each step led to."""
        actions, rewards = (
            torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1) for x in (batch.actions, batch.rewards)
        )
        return self.seen(batch.observations, actions, rewards), self.seen(
            batch.next_observations, batch.actions, batch.rewards
        )

    def learned(self, batch: Batch) -> Tensor:
        """Return 1 for the steps of windows that losses look at, and 0 for the others ``[B, L]``."""
        assert batch.played is not None
        assert batch.timesteps is not None
        is_warm = torch.arange(batch.played.shape[1], device=batch.played.device) >= self.config.burn_in
        return batch.played * (is_warm | (batch.timesteps[:, :1] == 0))

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        seen, following = self.windows(batch)
        states = self.critic.memory(seen, self.config.burn_in).flatten(0, 1)
        target = self.td(batch, seen, following).flatten()
        q = self.critic(states, batch.actions.flatten(0, 1))
        weights = self.learned(batch).flatten()
        loss = _mean((target - q).square(), weights).sum(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": _mean(q.detach(), weights).mean(-1)}

    @torch.no_grad()
    def td(self, batch: Batch, seen: Tensor, following: Tensor) -> Tensor:
        """Return the critics' target ``[B, L]`` for what memories see at the steps of windows, and after them."""
        of_policy, of_critic = (
            m.after(m(seen), following).flatten(0, 1) for m in (self.policy.memory, self.target_critic.memory)
        )
        actions, log_prob = self._sample(self._conditioned(of_policy))
        members = self._random_members(self.config.target_subset)
        value = self.target_critic(of_critic, self._perturbed(actions), members).amin(-2)
        if self.config.backup_entropy:
            value = value - self.temperature * log_prob
        value = value.unflatten(0, batch.rewards.shape).masked_fill(batch.terminated, 0)
        return batch.rewards + self.config.discount * value

    def update_policy(self, batch: Batch) -> Metrics:
        seen, _ = self.windows(batch)
        weights = self.learned(batch).flatten()
        states = self.policy.memory(seen, self.config.burn_in).flatten(0, 1)
        with torch.no_grad():
            of_critic = self.critic.memory(seen).flatten(0, 1)
        balance = self.balance.sample(states, self.phase == "online", self.stream)
        balance_metrics = self._update_balance(states.detach(), of_critic, weights, len(seen))
        loss, log_prob, imitation = self.policy_loss(states, of_critic, weights, balance, batch)
        descend(self.optimizers["policy"], loss)
        descend(self.optimizers["temperature"], self.temperature_loss(log_prob))
        return {
            "policy/loss": loss.detach(),
            "policy/entropy": -log_prob,
            "policy/temperature": self.temperature,
            **imitation,
            **balance_metrics,
        }

    def policy_loss(  # type: ignore[override]
        self, states: Tensor, of_critic: Tensor, weights: Tensor, balance: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor, Metrics]:
        """Return the policy loss ``[]``, its actions' mean log-probability ``[]``, and what was imitated.

        Args:
            states, of_critic: of all steps ``[B L, ·]``, as policy and critics remember them.
            weights: 1 for the steps that count ``[B L]``.
            balance: β of each ``[B L]``.
        """
        inputs = self.balance.condition(states, balance)
        actions, log_prob = self._sample(inputs)
        loss = self.temperature * log_prob - self._policy_q(of_critic, actions)
        metrics: Metrics = {}
        if self.config.imitation != "none":
            mode, shown = self.policy.mode(inputs), batch.actions.flatten(0, 1)
            is_better = self._is_better(of_critic, shown, mode.detach(), batch)
            loss = loss + is_better * (mode - shown).square().sum(-1) / self.balance.weight(balance)
            metrics["policy/imitated"] = _mean(is_better, weights)
        return _mean(loss, weights), _mean(log_prob.detach(), weights), metrics

    @torch.no_grad()
    def _is_better(self, of_critic: Tensor, shown: Tensor, mode: Tensor, batch: Batch) -> Tensor:
        """Return f ``[B L]``: 1 for steps of the logged data whose action is to be imitated."""
        assert batch.logged is not None
        logged = batch.logged.flatten()
        if self.config.imitation == "all":
            return logged
        return logged * (self._policy_q(of_critic, shown) > self._policy_q(of_critic, mode))

    def _update_balance(self, states: Tensor, of_critic: Tensor, weights: Tensor, count: int) -> Metrics:
        """Take one step of the balance model where it is due, at `count` steps drawn from those that count."""
        if not self.is_family or self.phase_updates % self.balance.every:
            return {}
        ranked = weights.argsort(descending=True, stable=True)
        drawn = self.stream.integers(weights.sum().long().clamp(min=1), count)
        at, of_critic = (x.index_select(0, ranked.index_select(0, drawn)) for x in (states, of_critic))

        def improvement(balance: Tensor) -> Tensor:
            return self.critic(of_critic, self._sample(self.balance.condition(at, balance))[0])

        return self.balance.update(at, improvement, self.stream)

    def empty_memory(self, worlds: int) -> Memory:
        """The policy's h ``[N, memory]``, the last action ``[N, action_dim]`` and, where it is seen, reward ``[N]``."""
        made: dict[str, Any] = {"device": self.device, "dtype": self.log_temperature.dtype}
        reward = (torch.zeros(worlds, **made),) if self.config.previous_reward else ()
        widths = self.config.memory, self.spaces.action_dim
        return (*(torch.zeros(worlds, width, **made) for width in widths), *reward)

    @torch.no_grad()
    def act_from(
        self, observations: Tensor, memory: Memory, deterministic: bool = False, balance: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        policy, (h, before, *rewards) = self.acting_policy, memory
        assert isinstance(policy, RecurrentPolicy)
        reward = rewards[0] if rewards else torch.zeros_like(h[:, 0])
        states = policy.memory.step(self.seen(observations, before, reward), h)
        inputs = self.balance.condition(states, self.balance.mode(states) if balance is None else balance)
        actions = (policy.mode(inputs) if deterministic else policy.sample(inputs, self.stream)[0]).clamp(-1, 1)
        return actions, (policy.memory.hidden(states), actions, *map(torch.zeros_like, rewards))

    def after_step(self, memory: Memory, rewards: Tensor, ended: Tensor) -> Memory:
        if self.config.previous_reward:
            memory = (*memory[:2], rewards.reshape(memory[2].shape).to(memory[2].dtype))
        return super().after_step(memory, rewards, ended)

    @torch.no_grad()
    def distribution(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """As if episodes began with these observations."""
        policy = self.acting_policy
        assert isinstance(policy, RecurrentPolicy)
        states = self._first(policy.memory, observations)
        mean, log_std = policy(self.balance.condition(states, self.balance.mode(states)))
        return mean, log_std

    @torch.no_grad()
    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """As if episodes began with these observations."""
        found: Tensor = self.critic(self._first(self.critic.memory, observations), actions)
        return found

    @torch.no_grad()
    def td_target(self, batch: Batch) -> Tensor:
        """Of single transitions, as if episodes began with them."""
        following = self.seen(batch.next_observations, batch.actions, batch.rewards)
        of_policy, of_critic = (
            m.step(following, m.hidden(self._first(m, batch.observations)))
            for m in (self.policy.memory, self.target_critic.memory)
        )
        actions = self.policy.mode(self.balance.condition(of_policy, self.balance.mode(of_policy)))
        value = self.target_critic(of_critic, actions).amin(-2).masked_fill(batch.terminated, 0)
        target: Tensor = batch.rewards + self.config.discount * value
        return target

    def _first(self, memory: StateMemory, observations: Tensor) -> Tensor:
        """Return the states ``[B, ·]`` of episodes that begin with raw observations ``[B, ·]``."""
        nothing = observations.new_zeros(len(observations), self.spaces.action_dim)
        return memory.step(self.seen(observations, nothing, nothing[:, 0]), memory.blank(observations))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean ``[…]`` of values ``[…, N]`` over those rows whose weight ``[N]`` is 1."""
    return (values * weights).sum(-1) / weights.sum(-1).clamp(min=1)
