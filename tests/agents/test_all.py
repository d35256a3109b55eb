"""What is true of every agent, whatever it learns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from balrl.agent import Metrics, Phase
from balrl.agents import (
    AWAC,
    BC,
    CQL,
    FQL,
    IQL,
    MOIQL,
    MOSAC,
    MOTD3BC,
    PPO,
    QC,
    SAC,
    TD3BC,
    Agent,
    AWACConfig,
    BCConfig,
    CalQL,
    CalQLConfig,
    CQLConfig,
    DecisionTransformer,
    DecisionTransformerConfig,
    FastSAC,
    FastSACConfig,
    FQLConfig,
    IQLConfig,
    MOIQLConfig,
    MOSACConfig,
    MOTD3BCConfig,
    PPOConfig,
    QCConfig,
    ReBRAC,
    ReBRACConfig,
    RecurrentSAC,
    RecurrentSACConfig,
    RvS,
    RvSConfig,
    SACConfig,
    SelectiveBalance,
    StateAdaptiveBalance,
    TD3BCConfig,
)
from balrl.batch import Batch
from balrl.networks import QEnsemble
from balrl.saved_agent import load_phase_state, phase_state
from tests.conftest import random_batch

FAMILY = StateAdaptiveBalance(1.0, 5.0, hidden=(8,))
SAC_FAMILY = StateAdaptiveBalance(0.5, 1.5, hidden=(8,), entropy=False)
SELECTIVE = SelectiveBalance(hidden=(8,), learning_rate=1e-3)
AGENTS: dict[str, tuple[type[Agent], Any]] = {
    "bc": (BC, BCConfig(hidden=(8, 8))),
    "bc-deterministic": (BC, BCConfig(hidden=(8, 8), policy="deterministic")),
    "bc-tanh-dropout": (BC, BCConfig(hidden=(8, 8), policy="tanh-gaussian", dropout=0.1)),
    "iql": (IQL, IQLConfig(hidden=(8, 8))),
    "iql-layer-norm-dropout": (IQL, IQLConfig(hidden=(8, 8), layer_norm=True, dropout=0.1, critics=3)),
    "famo2o-iql": (IQL, IQLConfig(hidden=(8, 8), balance=FAMILY)),
    "iql-ddpg-bc": (IQL, IQLConfig(hidden=(8, 8), extraction="ddpg-bc")),
    "iql-averaged": (IQL, IQLConfig(hidden=(8, 8), policy_average=0.9)),
    "famo2o-iql-ddpg-bc": (IQL, IQLConfig(hidden=(8, 8), extraction="ddpg-bc", balance=FAMILY)),
    "famo2o-iql-log-uwo": (
        IQL,
        IQLConfig(
            hidden=(8, 8),
            balance=StateAdaptiveBalance(0.3, 10.0, hidden=(8,), scale="log", objective="uwo"),
            policy_average=0.99,
        ),
    ),
    "td3bc": (TD3BC, TD3BCConfig(hidden=(8, 8))),
    "famo2o-td3bc": (TD3BC, TD3BCConfig(hidden=(8, 8), balance=FAMILY, policy_every=1)),
    "ssar-td3bc": (TD3BC, TD3BCConfig(hidden=(8, 8), balance=SELECTIVE)),
    "ssar-cql": (CQL, CQLConfig(hidden=(8, 8), sampled_actions=3, alpha=1.0, balance=SELECTIVE)),
    "rebrac": (ReBRAC, ReBRACConfig(hidden=(8, 8))),
    "famo2o-rebrac": (ReBRAC, ReBRACConfig(hidden=(8, 8), balance=SAC_FAMILY)),
    "awac": (AWAC, AWACConfig(hidden=(8, 8))),
    "famo2o-awac": (AWAC, AWACConfig(hidden=(8, 8), balance=FAMILY, dropout=0.1)),
    "fql": (FQL, FQLConfig(hidden=(8, 8), flow_steps=3)),
    "fql-unnormalised": (
        FQL,
        FQLConfig(hidden=(8, 8), normalize_q=False, target_q="minimum", critics=3, policy_layer_norm=True),
    ),
    "famo2o-fql": (FQL, FQLConfig(hidden=(8, 8), flow_steps=3, balance=SAC_FAMILY, policy_average=0.9)),
    "qc-fql": (FQL, FQLConfig(hidden=(8, 8), flow_steps=3, chunk_size=3)),
    "qc": (QC, QCConfig(hidden=(8, 8), flow_steps=3, samples=4, chunk_size=2)),
    "qc-single": (QC, QCConfig(hidden=(8, 8), flow_steps=2, samples=3, chunk_size=1, target_q="minimum")),
    "iql-chunks": (IQL, IQLConfig(hidden=(8, 8), chunk_size=2, balance=FAMILY)),
    "redq-chunks": (SAC, SACConfig(hidden=(8, 8), chunk_size=3, critics=4, target_subset=2)),
    "sac-anchored": (SAC, SACConfig(hidden=(8, 8), anchor=0.5)),
    "famo2o-iql-anchored": (IQL, IQLConfig(hidden=(8, 8), balance=FAMILY, anchor=0.5, anchor_updates=3)),
    "rebrac-anchored": (ReBRAC, ReBRACConfig(hidden=(8, 8), anchor=0.5)),
    "sac-averaged": (SAC, SACConfig(hidden=(8, 8), policy_average=0.9)),
    "ppo": (PPO, PPOConfig(hidden=(8, 8))),
    "ppo-tanh": (PPO, PPOConfig(hidden=(8, 8), policy="tanh-gaussian", max_gradient_norm=None)),
    "sac": (SAC, SACConfig(hidden=(8, 8))),
    "sac-ensemble": (SAC, SACConfig(hidden=(8, 8), critics=5, layer_norm=True, backup_entropy=False)),
    "redq": (SAC, SACConfig(hidden=(8, 8), critics=4, target_subset=2, policy_layer_norm=True, critic_hidden=(9,))),
    "sac-gaussian": (SAC, SACConfig(hidden=(8, 8), policy="gaussian", state_dependent_std=False)),
    "sac-as-wsrl-released": (SAC, SACConfig(hidden=(8, 8), policy_batch="last", coasting=True, last_hidden_gain=0.01)),
    "fastsac": (FastSAC, FastSACConfig(hidden=(8, 8), critic_hidden=(9, 8), atoms=11)),
    "fastsac-other": (
        FastSAC,
        FastSACConfig(
            hidden=(8, 8),
            critic_hidden=None,
            atoms=5,
            state_dependent_std=False,
            normalize_observations=False,
            backup_entropy=False,
        ),
    ),
    "cql": (CQL, CQLConfig(hidden=(8, 8), sampled_actions=3)),
    "cql-lagrange": (CQL, CQLConfig(hidden=(8, 8), sampled_actions=3, target_gap=0.8, importance_sampling=False)),
    "cql-wsrl": (
        CQL,
        CQLConfig(
            hidden=(8, 8),
            sampled_actions=3,
            critics=4,
            target_subset=2,
            penalty_members=2,
            max_target_actions=3,
            conservative_online=False,
            state_dependent_std=False,
        ),
    ),
    "famo2o-cql": (CQL, CQLConfig(hidden=(8, 8), sampled_actions=3, balance=SAC_FAMILY, target_balance="current")),
    "calql": (CalQL, CalQLConfig(hidden=(8, 8), sampled_actions=3)),
    "sac-family": (SAC, SACConfig(hidden=(8, 8), balance=SAC_FAMILY)),
    "mo-sac": (MOSAC, MOSACConfig(hidden=(8, 8))),
    "mo-redq-family": (
        MOSAC,
        MOSACConfig(hidden=(8, 8), critics=4, target_subset=2, objectives=3, balance=SAC_FAMILY, behaviour_share=0.5),
    ),
    "mo-td3bc": (MOTD3BC, MOTD3BCConfig(hidden=(8, 8), behaviour_share=0.5)),
    "famo2o-mo-td3bc-chebyshev": (
        MOTD3BC,
        MOTD3BCConfig(hidden=(8, 8), balance=FAMILY, policy_every=1, utopia=(1.0, 2.0)),
    ),
    "mo-iql": (MOIQL, MOIQLConfig(hidden=(8, 8), layer_norm=True)),
    "dt": (DecisionTransformer, DecisionTransformerConfig(sequence_length=4, width=8, layers=2, heads=2, horizon=30)),
    "dt-balanced": (
        DecisionTransformer,
        DecisionTransformerConfig(
            sequence_length=3, width=8, layers=1, objectives=2, immediate=2, contrast=0.5, policy_average=0.9
        ),
    ),
    "recurrent-sac": (RecurrentSAC, RecurrentSACConfig(hidden=(8, 8), memory=6, sequence_length=5, burn_in=2)),
    "recurrent-sac-imitating": (
        RecurrentSAC,
        RecurrentSACConfig(
            hidden=(8, 8),
            memory=6,
            sequence_length=4,
            burn_in=0,
            previous_reward=True,
            imitation="filtered",
            balance=SAC_FAMILY,
            critics=4,
            target_subset=2,
            policy_average=0.9,
        ),
    ),
    "rvs": (RvS, RvSConfig(hidden=(8, 8))),
    "rvs-several": (RvS, RvSConfig(hidden=(8, 8), objectives=3, horizon=20)),
    "famo2o-mo-iql": (MOIQL, MOIQLConfig(hidden=(8, 8), balance=FAMILY, objectives=3, behaviour_share=0.5)),
}
REPLAYING = sorted(name for name, (cls, _) in AGENTS.items() if not cls.on_policy)
"""Those whose updates draw from a replay in both phases."""
ONE_OF_EACH_CLASS = set({cls: name for name, (cls, _) in reversed(AGENTS.items())}.values())
FIVE_KINDS = {"famo2o-iql", "fql", "fastsac", "dt", "recurrent-sac"}
"""Updates by a balance, along a flow, of a distribution, of a transformer, over windows with a memory."""

SHAPES = [(3, 2), (1, 1), (11, 4)]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

Make = Callable[..., Agent]


@pytest.fixture(params=sorted(AGENTS))
def make(request: pytest.FixtureRequest) -> Make:
    cls, config = AGENTS[request.param]

    def build(observation_dim: int = 3, action_dim: int = 2, device: str = "cpu", **spaces: Any) -> Agent:
        observation = spaces.get("observation_space", gym.spaces.Box(-np.inf, np.inf, (observation_dim,)))
        action = spaces.get("action_space", gym.spaces.Box(-1, 1, (action_dim,)))
        return cls(observation, action, config, device)

    return build


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("observation_dim", "action_dim"), SHAPES)
def test_updates_and_acts(make: Make, observation_dim: int, action_dim: int, device: str) -> None:
    agent = make(observation_dim, action_dim, device)
    batch = batch_for(agent, 16)
    batch = type(batch)(*(None if x is None else x.to(device) for x in batch))
    for phase in ("offline", "online"):
        agent.set_phase(phase, 10)
        before = {id(p): p.detach().clone() for p in agent.parameters()}
        for _ in range(getattr(agent.config, "policy_every", 1)):
            metrics = agent.update(batch)
        assert metrics
        for name, value in metrics.items():
            assert value.shape == (), name
            assert torch.isfinite(value), name
            assert not value.requires_grad, name
            assert value.device.type == device, name
        for name, optimizer in agent.optimizers.items():
            if learns_in(agent, name, phase):
                owned = optimizer.param_groups[0]["params"]
                assert any(not torch.equal(p, before[id(p)]) for p in owned), f"{name} learned nothing, {phase}"
    actions = agent.act(seen(batch))
    assert actions.shape == (16, action_dim * agent.config.chunk_size)
    assert actions.abs().max() <= 1
    mode = agent.act(seen(batch), deterministic=True)
    assert torch.equal(mode, agent.act(seen(batch), deterministic=True))


def batch_for(agent: Agent, rows: int) -> Batch:
    """Return a random batch that an agent can learn from, with every optional field."""
    spaces = agent.spaces
    widths, length = (spaces.observation_dim, spaces.step_action_dim), agent.sequence_length
    if length == 1:
        return random_batch(rows, *widths, chunk_size=spaces.chunk_size, reward_dim=agent.reward_dim)
    steps = random_batch(rows * length, *widths, reward_dim=agent.reward_dim)
    windows = (None if x is None else x.unflatten(0, (rows, length)) for x in steps)
    played = torch.arange(length) < 1 + torch.arange(rows)[:, None] % length
    return Batch(*windows)._replace(played=played.float())


def seen(batch: Batch) -> Tensor:
    """Return observations ``[B, ·]`` to act in: of windows the first."""
    return batch.observations if batch.observations.dim() == 2 else batch.observations[:, 0]


def learns_in(agent: Agent, optimizer: str, phase: str) -> bool:
    """Whether an optimiser takes a step in a phase."""
    if optimizer == "alpha":
        return phase == "offline" or agent.config.conservative_online
    if optimizer == "balance" and agent.config.balance.kind == "selective":
        return phase == "offline"
    return optimizer != "value" or not agent.on_policy or phase == "online"


def test_what_a_checkpoint_carries_over_is_everything_that_learns(make: Make) -> None:
    """Declared by the agent: every learned tensor belongs to one piece, and every piece that is there has tensors."""
    agent = make()
    names = [piece.name for piece in agent.carried]
    assert len(set(names)) == len(names)
    assert {name.split(".")[0] for name, _ in agent.named_parameters()} <= {
        *names,
        "reference_policy",
        "averaged_policy",
        "anchor_policy",
    }
    for piece in agent.carried:
        held = getattr(agent, piece.name, None)
        assert piece.optional or held is not None, piece
        assert piece.ensemble == (isinstance(held, QEnsemble)), piece
    assert agent.policy.kind == type(agent).policy_kind(agent.config)


@pytest.mark.parametrize("phase", ["offline", "online"])
def test_equal_variants_are_equal_operations(make: Make, phase: Phase) -> None:
    """What is compiled or captured for one update runs for every other with the same `variant`."""
    agent = make()
    batch, operations = batch_for(agent, 8), {}
    if agent.balance is not None:
        agent.balance.every = 2 if agent.is_family else 1
    agent.set_phase(phase, 10)
    turns = getattr(agent.config, "policy_every", 1) * (2 if agent.is_family else 1)
    for _ in range(2 * turns):
        agent.phase_updates += 1
        key = agent.variant
        agent.phase_updates -= 1
        with Operations() as seen:
            agent.update(batch)
        assert operations.setdefault(key, seen.names) == seen.names
    assert len(operations) == turns


class Operations(TorchDispatchMode):
    """Writes down which operations are called, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_variant_that_forgets_a_branch_is_found() -> None:
    class Forgetful(BC):
        def _update(self, batch: Batch) -> Metrics:
            return super()._update(batch) if self.phase_updates % 2 else {}

    agent = Forgetful(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,)), BCConfig(hidden=(8,)))
    with pytest.raises(AssertionError):
        test_equal_variants_are_equal_operations(lambda: agent, "offline")


def test_deterministic_action_of_a_row_does_not_depend_on_the_others(make: Make) -> None:
    agent = make()
    observations = torch.randn(9, 3)
    together = agent.act(observations, deterministic=True)
    alone = torch.cat([agent.act(row[None], deterministic=True) for row in observations])
    torch.testing.assert_close(together, alone)


def test_predict_speaks_the_task_s_units(make: Make) -> None:
    low, high = np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)
    agent = make(action_space=gym.spaces.Box(low, high))
    observation = np.random.default_rng(0).normal(size=(5, 3))
    actions, state = agent.predict(observation, deterministic=True)
    assert (state is None) == (agent.config.chunk_size == 1 and not agent.remembers)
    assert actions.shape == (5, 2)
    assert actions.dtype == np.float32
    inside = agent.act(torch.from_numpy(observation).float(), deterministic=True).numpy()[:, :2]
    np.testing.assert_allclose(actions, low + (inside + 1) / 2 * (high - low), rtol=1e-5)
    single, _ = agent.predict(observation[0], deterministic=True)
    np.testing.assert_allclose(single, actions[0], rtol=1e-5)
    sampled, _ = agent.predict(np.repeat(observation, 50, 0))
    assert (sampled >= low).all()
    assert (sampled <= high).all()


def test_goal_dictionaries(make: Make) -> None:
    space = gym.spaces.Dict(
        {
            "observation": gym.spaces.Box(-1, 1, (3,)),
            "achieved_goal": gym.spaces.Box(-1, 1, (2,)),
            "desired_goal": gym.spaces.Box(-1, 1, (2,)),
        }
    )
    agent = make(observation_space=space)
    agent.update(batch_for(agent, 8))
    observation = {key: np.stack([s.sample() for _ in range(4)]) for key, s in space.items()}
    actions, _ = agent.predict(observation, deterministic=True)
    flat = np.concatenate([observation["observation"], observation["desired_goal"]], -1)
    inside = agent.act(torch.from_numpy(flat), deterministic=True).numpy()
    np.testing.assert_array_equal(actions, inside[:, :2])


def test_terminated_rows_ignore_their_next_observations(make: Make) -> None:
    one = make()
    if isinstance(one, CQL) and one.config.conservative_online:
        pytest.skip("CQL's penalty samples actions at the next observations of terminated rows as well, as published")
    one.set_phase("online")
    other = rebuild(make, one)
    batch = batch_for(one, 12)
    changed = torch.where(
        batch.terminated.unsqueeze(-1), 1e3 * torch.randn_like(batch.next_observations), batch.next_observations
    )
    for agent, b in ((one, batch), (other, batch._replace(next_observations=changed))):
        agent.stream.reseed(1)
        agent.update(b)
    for (key, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, msg=lambda m, k=key: f"{k}: {m}")


def rebuild(make: Make, agent: Agent) -> Agent:
    """Return a new agent of the same kind in the same state, through what a checkpoint stores."""
    copied = make()
    copied.load_state_dict(copy.deepcopy(agent.state_dict()))
    copied.load_optimizer_state({k: v.clone() for k, v in agent.optimizer_state().items()})
    load_phase_state(copied, phase_state(agent))
    return copied


def test_state_is_everything(make: Make) -> None:
    """An agent rebuilt from its state goes on exactly as the original: weights, moments, phase, schedules."""
    one = make()
    one.set_phase("offline", 20)
    batches = [batch_for(one, 8) for _ in range(6)]
    for batch in batches[:3]:
        one.update(batch)
    other = rebuild(make, one)
    assert other.optimizer_state().keys() == one.optimizer_state().keys()
    for agent in (one, other):
        for batch in batches[3:]:
            agent.update(batch)
    for (key, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


def test_every_parameter_belongs_to_exactly_one_optimizer(make: Make) -> None:
    agent = make()
    owned = [id(p) for o in agent.optimizers.values() for p in o.param_groups[0]["params"]]
    assert len(owned) == len(set(owned))
    trainable = {id(p): name for name, p in agent.named_parameters() if p.requires_grad}
    unowned = {name for key, name in trainable.items() if key not in owned}
    assert unowned <= {"balance.log_temperature"}  # not learned where the balance has no entropy term


def test_normalisation_travels_with_the_agent(make: Make) -> None:
    agent = make()
    agent.normalizer.fit(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 2.0]))
    plain = make()
    plain.load_state_dict(agent.state_dict())
    plain.normalizer.fit(torch.zeros(3), torch.ones(3))
    observations = torch.randn(4, 3)
    torch.testing.assert_close(
        agent.act(observations, deterministic=True),
        plain.act((observations - torch.tensor([1.0, 2.0, 3.0])) / 2, deterministic=True),
    )


def test_the_wrong_configuration_is_refused(make: Make) -> None:
    cls = type(make())
    wrong = SACConfig() if cls is not SAC else IQLConfig()
    with pytest.raises(TypeError, match="takes a"):
        cls(gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,)), wrong)


def test_passes_stable_baselines3_evaluation(make: Make) -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation", reason="stable-baselines3 is not installed")
    env = gym.make("Pendulum-v1", max_episode_steps=20)
    agent = make(observation_space=env.observation_space, action_space=env.action_space)
    mean, std = evaluation.evaluate_policy(agent, env, n_eval_episodes=3, warn=False)
    assert np.isfinite([mean, std]).all()
    assert mean < 0


RATES = {"policy_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "hidden": (32,)}
WIDE = StateAdaptiveBalance(0.1, 10.0, scale="log", hidden=(8,), entropy=False)
BASES: dict[str, tuple[type[Agent], Any]] = {
    "iql": (IQL, IQLConfig(balance=WIDE, value_learning_rate=3e-3, **RATES)),
    "iql-ddpg-bc": (IQL, IQLConfig(balance=WIDE, value_learning_rate=3e-3, extraction="ddpg-bc", **RATES)),
    "td3bc": (TD3BC, TD3BCConfig(balance=WIDE, **RATES)),
    "rebrac": (ReBRAC, ReBRACConfig(balance=WIDE, policy_penalty=1.0, **RATES)),
    "awac": (AWAC, AWACConfig(balance=WIDE, **RATES)),
    "sac": (SAC, SACConfig(balance=WIDE, **RATES)),
    "cql": (CQL, CQLConfig(balance=WIDE, sampled_actions=2, alpha=0.1, **RATES)),
}


@pytest.mark.parametrize("name", BASES)
def test_the_two_ends_of_every_base_s_family_act_differently(name: str) -> None:
    """A bandit that pays what the action is, and data around 0: constraint stays there, improvement leaves it."""
    torch.manual_seed(0)
    box = gym.spaces.Box(-1, 1, (1,))
    agent = BASES[name][0](box, box, BASES[name][1])
    observations, ended = torch.zeros(64, 1), torch.ones(64, dtype=torch.bool)
    agent.set_phase("offline", 600)
    for _ in range(600):
        actions = (0.3 * torch.randn(64, 1)).clamp(-1, 1)
        agent.update(Batch(observations, actions, actions[:, 0], observations, ended, next_actions=actions))
    ends = [agent.act(torch.zeros(1, 1), deterministic=True, balance=b).item() for b in (0.1, 10.0)]
    assert ends[1] > ends[0] + 0.1
