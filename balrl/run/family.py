"""The members of a policy's family, by name: what selection plays, and what a family curve is drawn over."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.agents.balance import StateAdaptiveBalanceModule
from balrl.batch import Batch
from balrl.conservative_objectives import conservative
from balrl.errors import UserError
from balrl.run.pooling import Place

Kind = Literal["members", "offsets", "both"]


class Arm(NamedTuple):
    """One way of acting: ``u' = clip(kept · u(s) + shift, −1, 1)``, u being the balance model's own choice.

    Attributes:
        label: for people.
        kept, shift: see above; (1, 0) is the model's own choice, kept 0 a constant member.
        balance: of a constant member, in the family's own unit; None for the others.
    """

    label: str
    kept: float
    shift: float
    balance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return self._asdict()


OWN = Arm("own choice", 1.0, 0.0)


def balance_of(agent: Agent) -> StateAdaptiveBalanceModule:
    """Return the balance model of an agent whose policy is a family.

    Raises:
        UserError: for any other agent.
    """
    if agent.remembers:
        raise UserError(
            f"agent {agent.config.name} remembers the episode: its members play whole evaluations alone "
            "(balrl evaluate --balance), and are not chosen among"
        )
    if not isinstance(agent.balance, StateAdaptiveBalanceModule):
        raise UserError(
            f"agent {agent.config.name} has one policy, not a family: its members come with "
            "agent.balance.kind=state-adaptive"
        )
    return agent.balance


def arms_of(balance: StateAdaptiveBalanceModule, kind: Kind = "members", count: int = 8) -> list[Arm]:
    """Return the model's own choice, and then `count` arms: constant members, offsets of the choice, or half of each.

    Constants are spread evenly in the logarithm over the range, its ends included; offsets evenly in u over [−2, 2].
    """
    members = {"members": count, "offsets": 0, "both": (count + 1) // 2}[kind]
    return [OWN, *_constants(balance, members), *_offsets(balance, count - members)]


def _constants(balance: StateAdaptiveBalanceModule, count: int) -> list[Arm]:
    low, high = balance.config.minimum, balance.config.maximum
    shares = [i / (count - 1) for i in range(count)] if count > 1 else [0.5] * count
    return [constant(balance, low * (high / low) ** share) for share in shares]


def constant(balance: StateAdaptiveBalanceModule, value: float) -> Arm:
    """Return the arm that acts with one balance everywhere.

    Raises:
        UserError: for a balance out of the family's range.
    """
    low, high = balance.config.minimum, balance.config.maximum
    if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
        raise UserError(f"balance {value:g} is out of this family's range, {low:g} to {high:g}")
    if high == low:
        u = 0.0
    elif balance.config.scale == "log":
        u = 2 * math.log(value / low) / math.log(high / low) - 1
    else:
        u = 2 * (value - low) / (high - low) - 1
    return Arm(f"{value:.3g}", 0.0, min(max(u, -1.0), 1.0), value)


def _offsets(balance: StateAdaptiveBalanceModule, count: int) -> list[Arm]:
    low, high = balance.config.minimum, balance.config.maximum
    below = count // 2
    steps = [2 * (i + 1) / below for i in range(below)] if below else []
    shifts = [-step for step in reversed(steps)] + [2 * (i + 1) / (count - below) for i in range(count - below)]
    if balance.config.scale == "log":
        return [Arm(f"own × {(high / low) ** (shift / 2):.3g}", 1.0, shift) for shift in shifts]
    return [Arm(f"own {shift / 2 * (high - low):+.3g}", 1.0, shift) for shift in shifts]


def play(agent: Agent, observations: Tensor, kept: Tensor, shift: Tensor, explores: bool = False) -> Tensor:
    """Return the actions ``[B, action_dim]`` of members, one per row: kept and shift are ``[B]``.

    Args:
        explores: as they explore; otherwise their modes.
    """
    balance = balance_of(agent)
    with torch.no_grad():
        coefficients = balance.member(agent.normalizer(observations), kept, shift)
    if explores:
        return agent.explore(observations, coefficients)
    return agent.act(observations, deterministic=True, balance=coefficients)


def places_of(agent: Agent, arms: list[Arm], observations: Tensor | None) -> list[Place]:
    """Return where arms lie: the logarithm of their balance, averaged over states, in shares of the family's range.

    Args:
        observations: raw logged states; None: where arms that depend on the state lie is not known.
    """
    balance = balance_of(agent)
    low, span = math.log(balance.config.minimum), balance.log_range or 1.0
    found = []
    for arm in arms:
        if arm.balance is not None:
            found.append(Place((math.log(arm.balance) - low) / span))
        elif observations is None:
            found.append(Place(None, False))
        else:
            with torch.no_grad():
                kept, shift = (torch.tensor(value, device=agent.device) for value in (arm.kept, arm.shift))
                chosen = balance.member(agent.normalizer(observations), kept, shift)
            found.append(Place((float(chosen.log().mean()) - low) / span, False))
    return found


def estimates(agent: Agent, arms: list[Arm], batch: Batch) -> list[dict[str, float]]:
    """Return what the critics say of each arm on logged states, without any interaction.

    ``mean_q``: the members' mean Q at the arm's mode, averaged over rows; ``conservative_q``: the same of
    ``mean − ½ variance`` over the members (`balrl.rewards.conservative`, ``uwo``).
    """
    found = []
    rows = batch.observations.shape[0]
    for arm in arms:
        kept, shift = (torch.full((rows,), value, device=agent.device) for value in (arm.kept, arm.shift))
        q = agent.q_values(batch.observations, play(agent, batch.observations, kept, shift))
        if q is None:
            return []
        found.append({"mean_q": float(q.mean()), "conservative_q": float(conservative(q, "uwo").mean())})
    return found
