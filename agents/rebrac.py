"""ReBRAC, and with a state-adaptive balance FamO2O on it."""

from __future__ import annotations

from torch import Tensor

from balrl.agent import Phase
from balrl.agents.hyperparameters import ReBRACConfig
from balrl.agents.td3bc import TD3BC
from balrl.batch import Batch


class ReBRAC(TD3BC):
    """ReBRAC (Tarasov et al., arXiv 2305.09836): TD3+BC whose critics pay for leaving the data, too.

    - Critics: TD3's, with the target
      ``r + γ (1 − d) (min_j Q_target,j(s', ã) − β₂ · Σ over action dimensions (ã − a'_data)²)``.
    - Policy: ``L_π = E[ β₁ · Σ over action dimensions (π(s) − a)² − w · min_i Q_i(s, π(s)) / mean|min_i Q_i| ]``.

    a'_data is the data's next action, ``Batch.next_actions``; online it is the one that was taken next. The weight w
    comes from the balance: ``FixedBalance(1.0)`` is ReBRAC, and a family varies w around it.
    """

    config_type = ReBRACConfig
    config: ReBRACConfig

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        return ("next_actions",)

    def _policy_q(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.critic(observations, actions).amin(-2)

    def _penalty(self, squares: Tensor) -> Tensor:
        return self.config.policy_penalty * squares.sum(-1)

    def _constrained(self, value: Tensor, actions: Tensor, batch: Batch) -> Tensor:
        if batch.next_actions is None:
            raise ValueError("ReBRAC needs Batch.next_actions, this batch has none")
        return value - self.config.critic_penalty * (actions - batch.next_actions).square().sum(-1)
