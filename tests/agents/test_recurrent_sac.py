"""Recurrent soft actor-critic: losses, masks and memories by hand; what it composes with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import balrl
from balrl.agents import FixedBalance, RecurrentSAC, RecurrentSACConfig, StateAdaptiveBalance
from balrl.batch import Batch
from balrl.checkpoint import load_tensors
from balrl.errors import UserError
from balrl.run import registry
from balrl.run.assemble import assemble
from balrl.run.plain_policy import write_plain_policy
from balrl.run.sb3 import write_sac_zip
from tests.agents import reference
from tests.conftest import random_batch
from tests.run.small import Interrupt, Listening, final_state

SPACES = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))
ROWS, L, BURN_IN = 4, 6, 2
PLAYED = [6, 6, 4, 1]
"""Steps of each window."""
FIRST = [0, 7, 3, 0]
"""Its first step's time in the episode."""


def make(**config: Any) -> RecurrentSAC:
    settings = {"hidden": (5, 4), "memory": 3, "sequence_length": L, "burn_in": BURN_IN, "initial_temperature": 0.3}
    agent = RecurrentSAC(*SPACES, RecurrentSACConfig(**{**settings, **config})).double()
    agent.log_temperature.data.fill_(math.log(0.3))
    for p in agent.parameters():
        p.data += 0.1 * torch.randn_like(p)
    agent.log_temperature.data.fill_(math.log(0.3))
    return agent


def windows() -> Batch:
    """Four windows: an episode's start, its midst, two that it ended; what is behind the end is noise."""
    steps = random_batch(ROWS * L, dtype=torch.float64)
    batch = Batch(*(None if x is None else x.unflatten(0, (ROWS, L)) for x in steps))
    played = torch.arange(L) < torch.tensor(PLAYED)[:, None]
    times = torch.tensor(FIRST)[:, None] + torch.arange(L)
    logged = torch.tensor([1.0, 1.0, 0.0, 1.0]).double()[:, None].expand(-1, L)
    return batch._replace(played=played.double(), timesteps=times.double(), logged=logged)


COUNTED = [(0, t) for t in range(6)] + [(1, t) for t in range(2, 6)] + [(2, 2), (2, 3)] + [(3, 0)]
"""By hand: all of the first window, the second without burn-in, of the third what was played, the last's only step."""


def states(agent: RecurrentSAC, memory: Any, b: Batch, row: int) -> tuple[np.ndarray, np.ndarray]:
    """States of a window's steps, and those that they led to, by hand."""
    o, a, r, after = (x[row].numpy() for x in (b.observations, b.actions, b.rewards, b.next_observations))
    seen, h, now, then = [], np.zeros(3), [], []
    for t in range(L):
        before = (a[t - 1], r[t - 1]) if t else (np.zeros(2), 0.0)
        reward = [before[1]] if agent.config.previous_reward else []
        seen.append(np.concatenate([o[t], before[0], reward]))
        h = reference.gru(memory.unit, seen[-1][None], h)[0]
        now.append(np.concatenate([h, o[t]]))
        reward = [r[t]] if agent.config.previous_reward else []
        following = reference.gru(memory.unit, np.concatenate([after[t], a[t], reward])[None], h)[0]
        then.append(np.concatenate([following, after[t]]))
    return np.stack(now), np.stack(then)


def all_states(agent: RecurrentSAC, memory: Any, b: Batch) -> tuple[np.ndarray, np.ndarray]:
    found = [states(agent, memory, b, row) for row in range(ROWS)]
    return np.concatenate([now for now, _ in found]), np.concatenate([then for _, then in found])


@pytest.mark.parametrize("previous_reward", [False, True])
def test_critic_loss(previous_reward: bool) -> None:
    agent, b = make(previous_reward=previous_reward), windows()
    _, following = all_states(agent, agent.policy.memory, b)
    agent.stream.reseed(4)
    noise = agent.stream.normal(ROWS * L, 2, dtype=torch.float64).numpy()
    actions, log_prob = reference.tanh_gaussian(agent.policy, following, noise)
    next_q = reference.q_values(agent.target_critic, all_states(agent, agent.target_critic.memory, b)[1], actions)
    now = all_states(agent, agent.critic.memory, b)[0]
    q = reference.q_values(agent.critic, now, b.actions.flatten(0, 1).numpy())
    expected = 0.0
    for row, t in COUNTED:
        i = row * L + t
        soft = next_q[:, i].min() - 0.3 * log_prob[i]
        target = b.rewards[row, t].item() + (0.0 if b.terminated[row, t] else 0.99 * soft)
        expected += sum((target - q[member, i]) ** 2 for member in range(2)) / len(COUNTED)
    agent.stream.reseed(4)
    loss, metrics = agent.critic_loss(b)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    mean = np.mean([q[:, row * L + t].mean() for row, t in COUNTED])
    assert metrics["critic/q"].item() == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("imitation", ["none", "filtered", "all"])
def test_policy_loss(imitation: str) -> None:
    balance = {} if imitation == "none" else {"balance": FixedBalance(0.25)}
    agent, b = make(imitation=imitation, **balance), windows()
    now, of_critic = (all_states(agent, m, b)[0] for m in (agent.policy.memory, agent.critic.memory))
    agent.stream.reseed(4)
    noise = agent.stream.normal(ROWS * L, 2, dtype=torch.float64).numpy()
    actions, log_prob = reference.tanh_gaussian(agent.policy, now, noise)
    mode, _ = reference.tanh_gaussian(agent.policy, now, np.zeros_like(noise))
    shown = b.actions.flatten(0, 1).numpy()
    q, q_mode, q_shown = (reference.q_values(agent.critic, of_critic, a).min(0) for a in (actions, mode, shown))
    expected, imitated = 0.0, 0
    for row, t in COUNTED:
        i = row * L + t
        expected += 0.3 * log_prob[i] - q[i]
        is_better = b.logged[row, t] == 1 and (imitation == "all" or q_shown[i] > q_mode[i])
        if imitation != "none" and is_better:
            imitated += 1
            expected += 4 * ((mode[i] - shown[i]) ** 2).sum()
    assert imitation == "none" or 0 < imitated < len(COUNTED)
    agent.stream.reseed(4)
    seen, _ = agent.windows(b)
    flat = [m(seen).flatten(0, 1) for m in (agent.policy.memory, agent.critic.memory)]
    beta = torch.full((ROWS * L,), 0.25 if balance else 1.0, dtype=torch.float64)
    loss, entropy, metrics = agent.policy_loss(*flat, agent.learned(b).flatten(), beta, b)
    assert loss.item() == pytest.approx(expected / len(COUNTED), rel=1e-9)
    assert entropy.item() == pytest.approx(np.mean([log_prob[row * L + t] for row, t in COUNTED]), rel=1e-9)
    if imitation != "none":
        assert metrics["policy/imitated"].item() == pytest.approx(imitated / len(COUNTED))


def both_losses(agent: RecurrentSAC, b: Batch) -> list[float]:
    agent.stream.reseed(1)
    losses = [agent.critic_loss(b)[0].item()]
    agent.set_phase("online")
    metrics = agent.update_policy(b)
    return [*losses, *(value.item() for name, value in metrics.items() if name != "policy/temperature")]


@pytest.mark.parametrize("balance", [FixedBalance(1.0), StateAdaptiveBalance(0.5, 1.5, hidden=(4,), entropy=False)])
def test_what_is_behind_an_end_changes_no_loss(balance: Any) -> None:
    """Nor what a burn-in was paid; what it saw does, for it is remembered."""
    torch.manual_seed(3)
    kept, b = make(imitation="filtered", balance=balance).state_dict(), windows()

    def losses(batch: Batch) -> list[float]:
        agent = make(imitation="filtered", balance=balance)
        agent.load_state_dict(kept)
        return both_losses(agent, batch)

    def changed(where: torch.Tensor, *names: str) -> Batch:
        fresh = {name: getattr(b, name).clone() for name in names}
        for value in fresh.values():
            value[where] = ~value[where] if value.dtype == torch.bool else 7.0
        return b._replace(**fresh)

    behind = b.played == 0
    everything = ("observations", "actions", "rewards", "next_observations", "terminated", "logged")
    assert losses(changed(behind, *everything)) == losses(b)
    warming = torch.zeros(ROWS, L, dtype=torch.bool)
    warming[1:3, :BURN_IN] = True
    assert losses(changed(warming, "rewards", "next_observations", "terminated", "logged")) == losses(b)
    assert losses(changed(warming, "observations")) != losses(b)
    assert losses(changed(warming, "actions")) != losses(b)
    warming[0, 0], warming[1:] = True, False  # of an episode's beginning, which counts
    assert losses(changed(warming, "rewards")) != losses(b)


def test_no_gradient_reaches_what_warmed_up() -> None:
    agent, b = make(), windows()
    seen, _ = agent.windows(b)
    seen = seen.requires_grad_()
    later = agent.policy.memory(seen, BURN_IN)[1:2, BURN_IN:, :3]
    [gradient] = torch.autograd.grad(later.sum(), seen)
    assert not gradient[:, :BURN_IN].any()
    assert gradient[1, BURN_IN:].any()


def test_the_balance_model_learns_at_steps_that_count() -> None:
    agent, b = make(imitation="all", balance=StateAdaptiveBalance(0.5, 1.5, hidden=(4,), entropy=False)), windows()
    seen: list[torch.Tensor] = []
    update = agent.balance.update
    agent.balance.update = lambda o, *rest: seen.append(o) or update(o, *rest)  # type: ignore[method-assign]
    now = all_states(agent, agent.policy.memory, b)[0]
    agent.update_policy(b)
    assert seen[0].shape == (ROWS, 6)
    counted = np.stack([now[row * L + t] for row, t in COUNTED])
    assert all(np.isclose(counted, row.numpy()).all(1).any() for row in seen[0])
    assert not seen[0].requires_grad


@pytest.mark.parametrize("previous_reward", [False, True])
def test_carried_step_by_step_a_memory_is_the_whole_sequence_s(previous_reward: bool) -> None:
    agent, b = make(previous_reward=previous_reward, policy_average=0.9), windows()
    memory, ended = agent.empty_memory(ROWS), torch.zeros(ROWS, dtype=torch.bool)
    acted, hidden = [], []
    for t in range(L):
        actions, memory = agent.act_from(b.observations[:, t], memory, deterministic=True)
        hidden.append(memory[0])
        acted.append(actions)
        memory = agent.after_step(memory, b.rewards[:, t], ended)
    b = b._replace(actions=torch.stack(acted, 1))
    whole = agent.acting_policy.memory(agent.windows(b)[0])
    torch.testing.assert_close(torch.stack(hidden, 1), whole[..., :3])
    torch.testing.assert_close(b.actions, agent.acting_policy.mode(whole.flatten(0, 1)).unflatten(0, (ROWS, L)))
    memory = agent.after_step(memory, b.rewards[:, 0], torch.tensor([True, False, False, False]))
    again, _ = agent.act_from(b.observations[:, 0], memory, deterministic=True)
    torch.testing.assert_close(again[0], acted[0][0])
    assert not torch.allclose(again[1], acted[0][1])


def test_predict_with_state_is_acting_from_a_memory() -> None:
    agent = make(previous_reward=True).float()
    memory, state, paid = agent.empty_memory(2), None, torch.tensor([0.5, -1.0])
    for t in range(5):
        observations, starts = torch.randn(2, 3), np.array([False, t == 3])
        if t:
            memory = agent.after_step(memory, paid, torch.from_numpy(starts))
        expected, memory = agent.act_from(observations, memory, deterministic=True)
        given = {"reward": paid.numpy()} if t else {}
        actions, state = agent.predict(observations.numpy(), state, starts, deterministic=True, **given)
        np.testing.assert_allclose(actions, expected.numpy(), rtol=1e-5)
    single, state = agent.predict(np.zeros(3, np.float32))
    assert single.shape == (2,)
    assert [x.shape for x in state] == [(1, 3), (1, 2), (1,)]


def test_members_of_a_family_act_differently_and_remember() -> None:
    agent = make(imitation="filtered", balance=StateAdaptiveBalance(0.1, 10.0, hidden=(4,), entropy=False)).float()
    observation, state = np.ones((1, 3), np.float32), None
    low, state = agent.predict(observation, state, deterministic=True, balance=0.1)
    high, _ = agent.predict(observation, None, deterministic=True, balance=10.0)
    own, _ = agent.predict(observation, None, deterministic=True)
    assert not np.allclose(low, high)
    asked = agent.balance.mode(agent.policy.memory.step(agent.seen(*first(observation)), torch.zeros(1, 3)))
    again, _ = agent.predict(observation, None, deterministic=True, balance=asked.item())
    np.testing.assert_allclose(own, again, rtol=1e-5)


def first(observation: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.from_numpy(observation), torch.zeros(1, 2), torch.zeros(1)


def test_what_instruments_see_is_as_if_episodes_began_there() -> None:
    agent, b = make(), random_batch(5, dtype=torch.float64)
    seen = np.concatenate([b.observations.numpy(), np.zeros((5, 2))], 1)
    h = np.stack([reference.gru(agent.critic.memory.unit, row[None])[0] for row in seen])
    q = reference.q_values(agent.critic, np.concatenate([h, b.observations.numpy()], 1), b.actions.numpy())
    np.testing.assert_allclose(agent.q_values(b.observations, b.actions).numpy(), q, rtol=1e-9)
    mean, log_std = agent.distribution(b.observations)
    assert mean.shape == log_std.shape == (5, 2)
    torch.testing.assert_close(agent.act(b.observations, deterministic=True), torch.tanh(mean))
    target = agent.td_target(b)
    assert torch.equal(target[b.terminated], b.rewards[b.terminated])


TINY = {
    "warmup.steps": "20",
    "finetune.steps": "60",
    "finetune.utd_ratio": "0.1",
    "finetune.eval_every": "40",
    "batch_size": "8",
    "evaluation.episodes": "2",
    "checkpoint.every": "10",
    "tracking.log_every": "10",
    "tracking.wandb": "off",
    "agent.hidden": "[8, 8]",
    "agent.memory": "4",
    "agent.sequence_length": "6",
    "agent.burn_in": "2",
    "env_kwargs": "{max_episode_steps: 12}",
}


def config(preset: str = "trading-adaptive", **settings: str) -> Any:
    family = {"agent.balance.hidden": "[4]"} if preset.endswith("adaptive") else {}
    return balrl.load_config(f"recurrent-sac/{preset}", settings={**TINY, **family, **settings})


@pytest.mark.parametrize("settings", [{}, {"warmup.kind": "frozen-policy", "agent.previous_reward": "true"}])
def test_killed_and_resumed_it_is_the_run_that_was_not(settings: dict[str, str], tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert balrl.train(config(**settings), one).finished
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config(**settings), other, Interrupt(47, crash=True))
    newest = max((other / "checkpoints").iterdir())
    assert {name.split(".")[0] for name in load_tensors(newest, "contenders")} == {"memory"}
    assert balrl.resume(other).finished
    expected, got = final_state(one), final_state(other)
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    results = [balrl.evaluate(one, episodes=2, balance=b).returns for b in (None, 0.2, 5.0)]
    assert len(set(results)) == 3


@pytest.mark.parametrize(("retain", "share"), [("ratio", 0.25), ("append", None), ("none", 0.0)])
def test_rows_of_the_data_are_told_from_the_agent_s_own(retain: str, share: float | None) -> None:
    run = assemble(config(**{"finetune.retain": retain, "seed": "1"}), Listening())
    for _ in range(4):
        run.interaction.step(run.agent.explore)
    batch = run.sampler.sample(400, 1, run.agent.stream)
    logged = batch.logged[:, 0]
    assert ((batch.logged == logged[:, None]) | (batch.played == 0)).all()
    if share is None:
        assert logged.mean() > 0.9  # of 20,000 rows and 20
    else:
        assert logged.tolist() == [1.0] * int(400 * share) + [0.0] * int(400 * (1 - share))
    own = batch.timesteps[logged == 0]
    assert retain == "append" or own.unique().tolist() == [0, 1, 2, 3]
    assert run.offline.sample(5, 1, run.agent.stream).logged.min() == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"finetune.serve": "champion"}, "finetune.serve=champion has policies act on single observations"),
        ({"finetune.strategy": "pex"}, "finetune.strategy=pex has policies act on single"),
        ({"warmup.select": "halving", "warmup.kind": "frozen-policy"}, "warmup.select=halving has policies act on"),
        ({"finetune.member": "bandit"}, "finetune.member=bandit: agent recurrent-sac remembers"),
        (
            {"environment.executor": "ray", "environment.stale": "2"},
            "environment.stale=2 has policies act on single observations",
        ),
        ({"warmup.kind": "offline-data"}, "takes rows one by one"),
        ({"agent.previous_reward": "true", "data.reward_scale": "0.1"}, "sees the task's own rewards"),
        ({"evaluation.best_of": "4"}, "best_of=4 scores single observations"),
        ({"agent.chunk_size": "2"}, "leave chunk_size at 1"),
    ],
)
def test_what_does_not_compose_is_refused_in_one_line(settings: dict[str, str], said: str, monkeypatch: Any) -> None:
    if "environment.executor" in settings:
        monkeypatch.setattr(
            registry, "_make_remote", lambda task, n, kwargs, c: registry.make_env(task, n, "cpu", kwargs)
        )
    with pytest.raises(UserError, match=said) as raised:
        assemble(config(**settings), Listening())
    assert "\n" not in str(raised.value).strip()


@pytest.mark.parametrize("target", ["policy.pt", "policy.onnx", "policy.zip"])
def test_a_memory_is_not_exported(target: str, tmp_path: Path) -> None:
    agent = make().float()
    with pytest.raises(UserError, match="remembers the episode: no copy of it can act on single observations"):
        (write_sac_zip if target.endswith("zip") else write_plain_policy)(agent, tmp_path / target)


@pytest.mark.slow
def test_it_learns_what_a_memory_alone_can_tell() -> None:
    """Paid for repeating what was shown at an episode's first step, three steps later."""
    agent = RecurrentSAC(
        gym.spaces.Box(-1, 1, (1,)),
        gym.spaces.Box(-1, 1, (1,)),
        RecurrentSACConfig(
            hidden=(32,),
            memory=16,
            sequence_length=4,
            burn_in=0,
            discount=0.5,
            initial_temperature=0.01,
            temperature_learning_rate=1e-6,
            policy_learning_rate=3e-3,
            critic_learning_rate=3e-3,
        ),
    )
    agent.set_phase("online")
    for _ in range(1_500):
        observations, actions = torch.zeros(64, 5, 1), 2 * torch.rand(64, 4, 1) - 1
        observations[:, 0, 0] = 2.0 * (torch.rand(64) < 0.5) - 1
        rewards = torch.zeros(64, 4)
        rewards[:, 3] = observations[:, 0, 0] * actions[:, 3, 0]
        ended = (torch.arange(4) == 3).expand(64, -1)
        ones, times = torch.ones(64, 4), torch.arange(4.0).expand(64, -1)
        agent.update(
            Batch(observations[:, :4], actions, rewards, observations[:, 1:], ended, played=ones, timesteps=times)
        )
    memory, shown = agent.empty_memory(2), torch.tensor([[1.0], [-1.0]])
    for t in range(4):
        acted, memory = agent.act_from(shown if t == 0 else torch.zeros(2, 1), memory, deterministic=True)
    assert acted[0] > 0.7
    assert acted[1] < -0.7
