"""The best of several sampled actions, as an agent's own critics score them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from balrl.conservative_objectives import conservative
from balrl.errors import UserError
from balrl.frozen_policy import acting_inputs, check_one_policy
from balrl.policies import DeterministicPolicy
from balrl.random_stream import RandomStream
from balrl.remembering import RememberingPolicy

if TYPE_CHECKING:
    from balrl.agent import Agent


def check_best_of(agent: Agent, n: int) -> None:
    """Raise a `UserError` where an agent cannot act with the best of n samples."""
    if n < 1:
        raise UserError(f"best_of is {n}, expected at least 1")
    if n > 1:
        check_one_policy(agent.champion)
    if n > 1 and agent.remembers:
        raise UserError(
            f"best_of={n} scores single observations, agent {agent.config.name} remembers the episode: leave it at 1"
        )
    if n > 1 and agent.critic is None:
        raise UserError(f"best_of={n} needs critics that score the samples, {type(agent).__name__} has none")
    if n > 1 and isinstance(agent.policy, DeterministicPolicy):
        raise UserError(f"best_of={n} needs a policy that samples, {type(agent).__name__} has a deterministic one")


@torch.no_grad()
def best_action(
    agent: Agent,
    observations: Tensor,
    n: int,
    objective: str = "wco",
    coefficient: float | None = None,
    balance: Tensor | None = None,
    stream: RandomStream | None = None,
    newest: bool = False,
) -> Tensor:
    """Return, of n actions that the policy samples, the one that the critics score highest ``[B, action_dim]``.

    The score is one conservative number of the ensemble's ``Q_i(s, a)``: by default the minimum. It is a proxy, and is
    over-optimised like any: the divergence from the policy is at most ``log n − (n − 1) / n`` nats in each state, and
    returns can fall as n grows.

    Args:
        observations: flat and raw ``[B, observation_dim]``.
        objective, coefficient: of `balrl.rewards.conservative`.
        balance: a member of the policy's family ``[B]``; by default the agent's own choice.
        stream: of the random numbers; by default the agent's own.
        newest: the newest policy samples, though there may be a champion.

    Raises:
        UserError: for an agent without critics or with a deterministic policy, and an objective that there is not.
    """
    check_best_of(agent, n)
    champion = None if newest else agent.champion
    acting = agent if champion is None else champion
    policy = agent.acting_policy if champion is None else champion.policy
    inputs = acting_inputs(acting.normalizer, acting.balance, observations, balance)
    samples = policy.sample(inputs, agent.stream if stream is None else stream, n)[0].clamp(-1, 1)
    repeated = observations.expand(n, *observations.shape)
    q = agent.q_values(repeated.flatten(0, 1), samples.flatten(0, 1))
    assert q is not None  # there are critics
    scores = conservative(q.unflatten(-1, (n, -1)), objective, coefficient, check=False)
    chosen = scores.argmax(0)
    return samples[chosen, torch.arange(len(chosen), device=chosen.device)]


def repeatable_policy(
    agent: Agent, best_of: int, objective: str, seed: int, balance: float | None = None, newest: bool = False
) -> Callable[[Tensor], Tensor]:
    """Return what an evaluation acts with: the policy's mode, or the best of n samples.

    The samples come from a stream of `seed`'s own: an evaluation can be repeated, and changes no training.

    Args:
        balance: a member of the policy's family; None: the agent's own choice.
        newest: the newest policy, though there may be a champion.
    """
    if agent.remembers:
        return RememberingPolicy(agent, balance=balance)
    stream = RandomStream(seed).to(agent.device)

    def act(observations: Tensor) -> Tensor:
        if best_of == 1:
            return (agent.act if newest else agent.serve)(observations, deterministic=True, balance=balance)
        asked = None if balance is None else torch.full_like(observations[:, 0], balance)
        return best_action(agent, observations, best_of, objective, None, asked, stream, newest)

    return act
