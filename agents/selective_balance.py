"""SSAR's balance: a constraint that is tighter where the policy strays from trusted data."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from balrl.agent import Metrics
from balrl.agents.hyperparameters import SelectiveBalance
from balrl.balance import Balance, Improvement, Slack
from balrl.networks import MLP, Linear
from balrl.optim import adam, descend
from balrl.random_stream import RandomStream

PUBLISHED_UPDATES = 1_000_000
"""Of the paper's offline phase, for a schedule over a phase whose length is not known."""


class SelectiveBalanceModule(Balance):
    """The selective state-adaptive regularisation of SSAR (arXiv 2505.19923).

    The constraint, a distance from the data's actions or a penalty on others, is multiplied by
    ``β(s) = 1.5 · β₀ · sigmoid(f(s))`` with ``β₀ = 1/coefficient``, Q by 1. Offline f takes steps on
    ``L = E[ slack(n) · β(s) · m ]``: β falls where the policy is within the bound n, rises where it is not, and rows
    that are not trusted (m = 0) say nothing. While the trusted rows' mean slack is not above 0, n grows by a tenth of
    its range, at most `bound_steps` times in the phase. Online f rests, and β is multiplied by ``max(0, 1 − t/T)`` or
    ``cos(π/2 · min(t/T, 1))``. Coefficients are 1/β, as everywhere larger for more improvement.
    """

    is_family = False
    bound: Tensor
    checks: Tensor
    left: Tensor

    def __init__(self, config: SelectiveBalance, observation_dim: int) -> None:
        super().__init__()
        self.config, self.coefficient = config, config.coefficient
        self.trunk = MLP(observation_dim, config.hidden)
        self.head = Linear(self.trunk.output_dim, 1, gain=0.01)  # so small that f begins as its bias everywhere
        nn.init.constant_(self.head.bias, math.log(2))  # where sigmoid is 2/3, and β is β₀
        self.register_buffer("bound", torch.tensor(config.bound[0]))
        self.register_buffer("checks", torch.zeros((), dtype=torch.int64))
        self.register_buffer("left", torch.ones(()))
        self.optimizers["balance"] = adam([*self.trunk.parameters(), *self.head.parameters()], config.learning_rate)

    def tightness(self, observations: Tensor) -> Tensor:
        """Return β(s) ``[B]`` before it is released, differentiable."""
        return 1.5 / self.coefficient * torch.sigmoid(self.head(self.trunk(observations)).squeeze(-1))

    def constraint(self, penalty: Tensor, observations: Tensor) -> Tensor:
        return penalty * (self.tightness(observations).detach() * self.left)

    def sample(self, observations: Tensor, online: bool, stream: RandomStream) -> Tensor:
        """Return what `weight` and `condition` do not look at: the constraint has its own weight."""
        return observations.new_full(observations.shape[:-1], 1.0) * self.coefficient

    @torch.no_grad()
    def mode(self, observations: Tensor) -> Tensor:
        return 1 / (self.tightness(observations) * self.left.clamp(min=1e-6))

    def weight(self, coefficients: Tensor) -> Tensor:
        return torch.ones_like(coefficients)

    def condition(self, observations: Tensor, coefficients: Tensor) -> Tensor:
        return observations

    def update(self, observations: Tensor, improvement: Improvement, stream: RandomStream) -> Metrics:
        return {}

    def loss(self, observations: Tensor, slack: Tensor, trusted: Tensor) -> Tensor:
        """Return ``E[ slack · β(s) · m ]`` ``[]`` for slacks and trust ``[B]``."""
        return (slack * self.tightness(observations) * trusted).mean()

    def adapt(
        self, observations: Tensor, slack: Slack, trusted: Tensor | None, clock: Tensor, length: int | None
    ) -> Metrics:
        left = slack(self.bound)
        m = torch.ones_like(left) if trusted is None else trusted.to(left.dtype)
        descend(self.optimizers["balance"], self.loss(observations, left, m), self.config.max_norm)
        mean = (left * m).sum(-1) / m.sum(-1).clamp(min=1)
        self._grow(torch.where(m.sum(-1) > 0, mean, 1.0), clock, length)  # without a trusted row nothing strays
        tightness = self.tightness(observations).detach()
        return {
            "balance/constraint": tightness.mean(-1),
            "balance/constraint_std": tightness.std(-1, correction=0),
            "balance/bound": self.bound.clone(),
            "balance/slack": mean,
        }

    @torch.no_grad()
    def _grow(self, slack: Tensor, clock: Tensor, length: int | None) -> None:
        """Let the bound grow where a check of it is due and the trusted rows' mean slack ``[]`` is not above 0."""
        (low, high), every = self.config.bound, -(-(length or PUBLISHED_UPDATES) // self.config.bound_steps)
        checks = clock // every
        is_due = checks > self.checks  # in another offline phase the clock, and so the checks, begin anew
        self.checks.copy_(checks)
        grown = (self.bound + (high - low) / 10).clamp(max=high)
        self.bound.copy_(torch.where(is_due & (slack <= 0), grown, self.bound))

    @torch.no_grad()
    def tick(self, online: bool, clock: Tensor, length: int | None) -> None:
        if not online:
            self.left.fill_(1)
            return
        share = (clock.to(self.left.dtype) / (self.config.release_share * (length or PUBLISHED_UPDATES))).clamp(max=1)
        self.left.copy_(1 - share if self.config.release == "linear" else torch.cos(math.pi / 2 * share))
