"""Behaviour cloning."""

from __future__ import annotations

from torch import Tensor

from balrl.agent import Agent, Metrics
from balrl.agents.hyperparameters import BCConfig
from balrl.batch import Batch
from balrl.checkpoint import POLICY
from balrl.optim import adam, descend
from balrl.policies import StochasticPolicy, make_policy


class BC(Agent):
    """Imitates the data: ``L = −E[log π(a|s)]``, or ``E[mean over action dimensions (π(s) − a)²]`` if deterministic.

    On the best share of the episodes only (``data.top_fraction``) this is %BC (arXiv 2106.01345).
    """

    config_type = BCConfig
    carried = (POLICY,)

    def _build(self, c: BCConfig) -> None:
        dims = (self.spaces.observation_dim, self.spaces.action_dim)
        self.policy = make_policy(c.policy, *dims, c.hidden, dropout=c.dropout)
        self.optimizers["policy"] = adam(self.policy.parameters(), c.learning_rate)

    def _update(self, batch: Batch) -> Metrics:
        loss = self.policy_loss(self.normalizer(batch.observations), batch.actions)
        descend(self.optimizers["policy"], loss)
        return {"policy/loss": loss.detach()}

    def policy_loss(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the imitation loss of normalised observations ``[B, ·]`` and actions ``[B, ·]`` in [-1, 1]."""
        if isinstance(self.policy, StochasticPolicy):
            return -self.policy.log_prob(observations, actions, dropout=self.stream).mean()
        error: Tensor = self.policy(observations, dropout=self.stream) - actions
        return error.square().mean()
