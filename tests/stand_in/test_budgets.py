"""Nothing on a device gets more expensive unnoticed: operations are counted, and no more than the table allows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gymnasium as gym
import pytest
import torch
import yaml

import balrl.envs  # noqa: F401  # registers its tasks
from balrl.agents import SAC, SACConfig
from balrl.bench import updates as bench
from balrl.data.prepare import RewardTransform
from balrl.random_stream import RandomStream
from balrl.replay import ReplayBuffer
from balrl.rollout import Collector
from balrl.run.interaction import Interaction
from tests.stand_in.device import LINES, OPERATIONS, WAITS, counting_lines, simulate_on_the_host

BUDGETS = yaml.safe_load(Path(__file__).with_name("budgets.yaml").read_text())


def check(allowed: int) -> None:
    """Compare what was counted with a budget."""
    found = sum(OPERATIONS.values())
    most = "\n".join(f"{count:5} {line}" for line, count in LINES.most_common(25))
    assert found <= allowed, f"{found} operations, {allowed} are allowed:\n{most}"
    assert found > 0.9 * allowed, f"only {found} operations: lower the budget of {allowed}"
    assert not WAITS, dict(WAITS)


@pytest.mark.parametrize("kind", list(BUDGETS["update"]))
def test_an_update(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROWS", 2_000)
    subject = bench.Subject(kind, "off", "cuda")
    subject.run(1)
    for counter in (OPERATIONS, WAITS):
        counter.clear()
    with counting_lines():
        subject.run(1)
    check(BUDGETS["update"][kind])


@pytest.mark.parametrize("env_id", list(BUDGETS["step"]))
def test_a_step(env_id: str) -> None:
    if env_id == "balrl/HalfCheetah-v5":
        if importlib.util.find_spec("mujoco_warp") is None:
            pytest.skip("the extra 'warp' is not installed")
        simulate_on_the_host()
    env = gym.make_vec(env_id, num_envs=4, device="cuda")
    agent = SAC(env.single_observation_space, env.single_action_space, SACConfig(hidden=(8, 8)), "cuda")
    dims = agent.spaces.observation_dim, agent.spaces.action_dim
    replay = ReplayBuffer(100, *dims, "cuda")
    stream = RandomStream(0).to("cuda")
    interaction = Interaction(Collector(env, "cuda", 0), replay, RewardTransform(2.0, 1.0), stream)
    for _ in range(2):
        interaction.step(agent.explore)
    for counter in (OPERATIONS, WAITS):
        counter.clear()
    with counting_lines(), torch.no_grad():
        interaction.step(agent.explore)
    check(BUDGETS["step"][env_id])
