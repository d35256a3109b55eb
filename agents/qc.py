"""Q-chunking: a flow of the data's action chunks, of which the best of several samples by the critics acts."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from balrl.agent import Metrics
from balrl.agents.flow_agent import FlowAgent
from balrl.agents.hyperparameters import QCConfig
from balrl.batch import Batch
from balrl.checkpoint import CRITIC, POLICY, TARGET_CRITIC, Carried
from balrl.errors import UserError
from balrl.flows import FlowPolicy, flow_matching_loss
from balrl.frozen_policy import FrozenPolicy
from balrl.optim import adam, descend
from balrl.random_stream import RandomStream


class QC(FlowAgent):
    """Q-chunking with an implicit constraint (Li, Zhou and Levine, arXiv 2507.07969).

    - Flow: ``L_v = E[ m (v(s, (1 − t) x₀ + t a, t) − (a − x₀))² ]``, ``x₀ ~ N(0, I)``, ``t ~ U(0, 1)``, over chunks
      ``a = (a_t … a_{t+h−1})``; m is 0 where the episode had ended.
    - Policy: of n samples of the flow the one with the highest ``mean_i Q_i(s, a)``.
    - Critics: ``L_Q = Σ_i E[ (Σ_{j<h} γ^j r_j + γ^h (1 − d) mean_k Q_target,k(s_{t+h}, π(s_{t+h})) − Q_i(s, a))² ]``.

    The only way to improve on the data is to choose among its own actions. With `chunk_size` 1 this is the best of n
    samples of behaviour, one step at a time. A deterministic policy draws the same n noises in every state.
    """

    config_type: ClassVar[type[QCConfig]] = QCConfig
    carried: ClassVar[tuple[Carried, ...]] = (POLICY, CRITIC, TARGET_CRITIC)
    config: QCConfig
    policy: FlowPolicy

    @classmethod
    def policy_kind(cls, config: Any) -> str:
        return FlowPolicy.kind

    def _build(self, c: QCConfig) -> None:
        self.policy = FlowPolicy(
            self.spaces.observation_dim, self.spaces.action_dim, c.hidden, c.flow_steps, c.policy_layer_norm
        )
        self.optimizers = {"policy": adam(self.policy.parameters(), c.policy_learning_rate)}
        self._build_critics(c)

    def _step_policy(self, batch: Batch) -> Metrics:
        observations = self.normalizer(batch.observations)
        loss = flow_matching_loss(self.policy.field, observations, batch.actions, self.stream, batch.played).mean()
        descend(self.optimizers["policy"], loss)
        return {"policy/loss": loss.detach()}

    def next_actions(self, observations: Tensor) -> Tensor:
        return self.best_sample(observations, self.stream)

    @torch.no_grad()
    def best_sample(self, inputs: Tensor, stream: RandomStream, same_noise: bool = False) -> Tensor:
        """Return the best of several actions of the flow ``[B, action_dim]`` for normalised observations ``[B, ·]``.

        Args:
            same_noise: for all rows.
        """
        count, rows = self.config.samples, len(inputs)
        noise = stream.normal(count, 1 if same_noise else rows, self.spaces.action_dim, dtype=inputs.dtype)
        repeated = inputs.expand(count, *inputs.shape).flatten(0, 1)
        actions = self.policy(repeated, noise.expand(count, rows, -1).flatten(0, 1))
        scores = self.critic(repeated, actions).mean(-2).view(count, rows)
        return actions.view(count, rows, -1)[scores.argmax(0), torch.arange(rows, device=inputs.device)]

    def act(self, observations: Tensor, deterministic: bool = False, balance: float | Tensor | None = None) -> Tensor:
        self._asked_for(observations, balance)
        stream = RandomStream(0).to(self.device) if deterministic else self.stream
        return self.best_sample(self.normalizer(observations), stream, same_noise=deterministic)

    def freeze(self) -> FrozenPolicy:
        """Refuse: what acts is the flow together with the critics.

        Raises:
            UserError: always.
        """
        raise UserError(
            "Q-chunking acts by its critics' choice and has no policy without them: it can neither be exported nor be "
            "served frozen (finetune.serve=champion); FQL with agent.chunk_size can"
        )
