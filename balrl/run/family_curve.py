"""The family curve: what every member of a policy's family returns, beside what the critics expect of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from torch import Tensor

from balrl.agent import Agent
from balrl.data.dataset import Dataset
from balrl.data.prepare import RewardTransform
from balrl.evaluation import Reference, evaluate_policy
from balrl.run.family import Arm, arms_of, balance_of
from balrl.run.offline_evaluation import estimate_offline
from balrl.run.selection import mean_and_interval

ESTIMATES = ("mean_q", "conservative_q", "fitted_q")


def family_curve(
    agent: Agent,
    worlds: gym.vector.VectorEnv[Any, Any, Any],
    episodes: int,
    seed: int,
    members: int = 8,
    reference: Reference | None = None,
    limit: int | None = None,
    data: Dataset | None = None,
    rewards: RewardTransform | None = None,
    updates: int = 5_000,
) -> list[dict[str, Any]]:
    """Play every member of what an agent serves, and return one record for each, the model's own choice first.

    Args:
        agent: whose policy is a family.
        worlds: to play in; every member meets the same first states.
        episodes: of each member.
        seed: of the worlds.
        members: beside the own choice, spread in the logarithm over the range.
        reference: of normalised scores.
        limit: steps after which an episode counts as it stands.
        data: logged transitions for the offline estimates; None: none are made.
        rewards: the units of the agent's critics.
        updates: of fitted Q evaluation.

    Returns:
        ``label``, ``balance`` (None for the own choice), ``episodes``, ``mean`` return with a normal 95 % interval
        ``low`` and ``high``, ``score``, ``success_rate``, and the estimates of `estimate_offline`.
    """
    arms = arms_of(balance_of(agent), "members", members)
    records = []
    for arm in arms:
        result = evaluate_policy(_policy(agent, arm), worlds, episodes, seed, agent.device, reference, limit)
        known = {"score": result.score, "success_rate": result.success_rate}
        records.append(arm.to_json() | {"episodes": episodes, **mean_and_interval(result.returns), **known})
    if data is not None:
        policies = [_policy(agent, arm) for arm in arms]
        estimates = estimate_offline(agent, policies, data, rewards or RewardTransform(1.0, 0.0), updates)
        records = [record | found for record, found in zip(records, estimates, strict=True)]
    return records


def rank_correlations(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return Spearman's rank correlation of each estimate with the mean return, over the constant members."""
    from scipy.stats import spearmanr

    members = [record for record in records if record["balance"] is not None]
    means = [record["mean"] for record in members]
    known = [key for key in ESTIMATES if members and all(key in record for record in members)]
    if len(members) < 3 or len(set(means)) < 2:
        return {}
    return {key: float(spearmanr([record[key] for record in members], means).statistic) for key in known}


def _policy(agent: Agent, arm: Arm) -> Any:
    return partial(_served, agent, arm.balance)


def _served(agent: Agent, balance: float | None, observations: Tensor) -> Tensor:
    return agent.serve(observations, balance=balance)
