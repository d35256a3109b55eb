"""What acts of an agent, as it was at one moment."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from balrl.errors import UserError
from balrl.optim import OptimizedModule

Part = TypeVar("Part", bound=nn.Module)

if TYPE_CHECKING:
    from balrl.agent import Agent
    from balrl.balance import Balance
    from balrl.networks import Normalizer
    from balrl.policies import Policy
    from balrl.random_stream import RandomStream


class FrozenPolicy(nn.Module):
    """A copy of an agent's normaliser, balance and policy: acts as the agent did when it was made.

    Args:
        normalizer, balance, policy: of the agent; the balance is None for an agent without one.
    """

    def __init__(self, normalizer: Normalizer, balance: Balance | None, policy: Policy) -> None:
        super().__init__()
        self.normalizer, self.balance = _copied(normalizer), None if balance is None else _copied(balance)
        self.policy = _copied(policy)

    @torch.no_grad()
    def act(
        self,
        observations: Tensor,
        deterministic: bool = True,
        balance: Tensor | None = None,
        stream: RandomStream | None = None,
    ) -> Tensor:
        """Return actions ``[B, action_dim]`` in [-1, 1] for flat raw observations ``[B, observation_dim]``.

        Args:
            deterministic: the policy's mode; otherwise a sample, for which `stream` gives the random numbers.
            balance: a member of its family ``[B]``; by default its own choice.
        """
        inputs = acting_inputs(self.normalizer, self.balance, observations, balance)
        if deterministic or stream is None:
            actions: Tensor = self.policy.mode(inputs)
        else:
            actions = self.policy.sample(inputs, stream)[0]
        return actions.clamp(-1, 1)

    def load(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        """Copy tensors of a `state_dict` whose names begin with a prefix."""
        self.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})


class ExpandedPolicy(FrozenPolicy):
    """A frozen policy beside an agent's newest one, between which Q chooses (PEX, Zhang et al., arXiv 2302.00935).

    ``a₁ = mode of π_frozen(s)``, ``a₂ ~ π(·|s)``, ``i ~ softmax_i(κ min_j Q_j(s, a_i))``; deterministically both are
    modes, and the larger Q acts.

    Args:
        agent: what it acts with now is frozen; its policy and critics go on learning.
        inverse_temperature: κ, per unit of Q.
    """

    def __init__(self, agent: Agent, inverse_temperature: float) -> None:
        super().__init__(agent.normalizer, agent.balance, agent.acting_policy)
        self.inverse_temperature = inverse_temperature
        self._learner = [agent]  # no submodule: it is saved by itself

    @torch.no_grad()
    def act(
        self,
        observations: Tensor,
        deterministic: bool = True,
        balance: Tensor | None = None,
        stream: RandomStream | None = None,
    ) -> Tensor:
        agent = self._learner[0]
        offline = super().act(observations, True, balance)
        newest = agent.act(observations, deterministic, balance)
        q = agent.q_values(torch.cat([observations, observations]), torch.cat([offline, newest]))
        assert q is not None  # there are critics
        of_offline, of_newest = q.amin(0).chunk(2)
        gain = self.inverse_temperature * (of_newest - of_offline)
        if deterministic or stream is None:
            is_newest = gain > 0
        else:
            is_newest = stream.uniform(len(gain), dtype=gain.dtype) < torch.sigmoid(gain)
        return torch.where(is_newest.unsqueeze(-1), newest, offline)


def check_one_policy(served: Any) -> None:
    """Raise a `UserError` if what an agent serves cannot leave it, being two policies between which Q chooses."""
    if isinstance(served, ExpandedPolicy):
        raise UserError(
            "PEX serves two policies, between which the critics choose: no single one can be written or sampled from; "
            "evaluate or deploy it with balrl.load_agent"
        )


def acting_inputs(
    normalizer: Normalizer, balance: Balance | None, observations: Tensor, coefficients: Tensor | None = None
) -> Tensor:
    """Return a policy's input for raw observations, under coefficients ``[B]`` or those that the balance acts with."""
    inputs: Tensor = normalizer(observations)
    if balance is None or balance.embedding_dim == 0:
        return inputs
    return balance.condition(inputs, balance.mode(inputs) if coefficients is None else coefficients)


def _copied(part: Part) -> Part:
    memo: dict[int, Any] = {}
    if isinstance(part, OptimizedModule):
        memo[id(part.optimizers)] = {}  # what is frozen learns no more
    return copy.deepcopy(part, memo).requires_grad_(False)
