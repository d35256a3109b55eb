"""What logged data and critics say of policies that are not tried: estimates without interaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.conservative_objectives import conservative
from balrl.data.dataset import Dataset
from balrl.data.prepare import RewardTransform, check_spaces, scale_actions, to_replay
from balrl.errors import UserError
from balrl.networks import QEnsemble, polyak_update
from balrl.optim import adam, descend
from balrl.random_stream import RandomStream
from balrl.replay_kind import replay_kind
from balrl.spaces import SpaceAdapter

Act = Callable[[Tensor], Tensor]
ROWS = 5_000
"""Logged states that the critics' means are taken over."""


def estimate_offline(
    agent: Agent, policies: Sequence[Act], data: Dataset, rewards: RewardTransform, updates: int = 5_000, seed: int = 0
) -> list[dict[str, float]]:
    """Return estimates of what deterministic policies return, per policy, all in the critics' reward units.

    - ``mean_q``: the agent's critics' mean Q at the policy's actions, over logged states;
    - ``conservative_q``: the same of ``mean − ½ variance`` over the critics (`balrl.rewards.conservative`, ``uwo``);
    - ``fitted_q``: fitted Q evaluation (`fitted_q`), which needs no critics.

    Args:
        agent: whose critics and normaliser are used; the first two are absent for an agent without critics.
        policies: map raw observations ``[B, observation_dim]`` to actions in [-1, 1].
        data: logged transitions, as recorded.
        rewards: the units of the agent's critics.
        updates: of fitted Q evaluation; 0 leaves it out.
        seed: of what is drawn.

    Raises:
        UserError: when the data is not of the agent's task.
    """
    if agent.remembers:
        raise UserError(
            f"offline estimates score single transitions, agent {agent.config.name} remembers the episode: evaluate it "
            "in its task"
        )
    if agent.reward_dim > 1:
        raise UserError(
            f"offline estimates are of one reward, agent {agent.config.name} learned from {agent.reward_dim}: evaluate "
            "it in its task, --preference chooses one"
        )
    steps = SpaceAdapter(agent.spaces.observation_space, agent.spaces.action_space)
    check_spaces(data, steps, "of the agent", named=False)
    replay = to_replay(scale_actions(data, steps), rewards, device=agent.device, make=replay_kind(agent))
    stream = RandomStream(seed).to(agent.device)
    observations = replay.sample(min(ROWS, len(replay)), 1, stream).observations
    found: list[dict[str, float]] = []
    for policy in policies:
        q = agent.q_values(observations, policy(observations))
        found.append(
            {}
            if q is None
            else {"mean_q": float(q.mean()), "conservative_q": float(conservative(q, "uwo", check=False).mean())}
        )
    if updates:
        starts = torch.from_numpy(data.observations[[s.start for s in data.episode_slices]]).to(agent.device)
        values = fitted_q(agent, policies, replay, starts, updates, stream)
        found = [known | {"fitted_q": value} for known, value in zip(found, values, strict=True)]
    return found


def fitted_q(
    agent: Agent,
    policies: Sequence[Act],
    replay: Any,
    starts: Tensor,
    updates: int,
    stream: RandomStream,
    batch_size: int = 256,
) -> list[float]:
    """Return each policy's value at the data's first states by fitted Q evaluation (Le et al., arXiv 1903.08738).

    ``Q ← argmin E[ (r + γ (1 − d) Q_target(s', π(s')) − Q(s, a))² ]`` on the data, one member of an ensemble per
    policy, with layer normalisation and a slow target; then ``mean Q(s_0, π(s_0))``.
    """
    state = torch.random.get_rng_state()
    torch.manual_seed(int(stream.integers(2**31 - 1, 1)))
    dims = agent.spaces.observation_dim, agent.spaces.action_dim
    with torch.device(agent.device):
        critic, target = (QEnsemble(*dims, (256, 256), len(policies), layer_norm=True) for _ in range(2))
    torch.random.set_rng_state(state)
    target.load_state_dict(critic.state_dict())
    optimizer = adam(critic.parameters(), 3e-4)

    def of(network: QEnsemble, observations: Tensor) -> Tensor:
        actions = torch.stack([policy(observations) for policy in policies])
        inputs = agent.normalizer(observations).expand(len(policies), *observations.shape)
        return network(inputs, actions)

    for _ in range(updates):
        batch = replay.sample(batch_size, 1, stream)
        with torch.no_grad():
            following = of(target, batch.next_observations).masked_fill(batch.terminated, 0)
        wanted = batch.rewards + (agent.discount if batch.discounts is None else batch.discounts) * following
        error = wanted - critic(agent.normalizer(batch.observations), batch.actions)
        descend(optimizer, error.square().mean(-1).sum())
        polyak_update(target, critic, 0.005)
    with torch.no_grad():
        return [float(value) for value in of(critic, starts).mean(-1)]
