from __future__ import annotations

from pathlib import Path

import pytest

import balrl
from balrl.errors import UserError
from balrl.replay import ReplayBuffer
from balrl.run.footprint import planned_bytes, replay_bytes
from balrl.run.registry import make_agent, make_env


@pytest.mark.parametrize("preset", ["sac/locomotion", "iql/locomotion", "fastsac/worlds", "wsrl/point-maze"])
def test_an_agent_takes_about_what_is_planned(preset: str) -> None:
    env = make_env("Hopper-v5", 1)
    config = balrl.load_config(preset).agent
    agent = make_agent(config, env.single_observation_space, env.single_action_space)
    tensors = [*agent.state_dict().values(), *agent.optimizer_state().values()]
    taken = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert 0.5 < planned_bytes(config, 11, 3) / taken < 2


def test_a_replay_takes_what_is_planned() -> None:
    rows = ReplayBuffer(100, 11, 3).storage
    assert 0.8 < replay_bytes(100, 11, 3) / (rows.numel() * rows.element_size()) < 1.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agent.critics": 10_000_000}, r"agent sac with its optimisers needs .* GB of memory, cpu has"),
        ({"finetune.steps": 10**12, "replay.capacity": 10**12}, r"the replay of 1,000,000,0.* GB of memory, cpu has"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_taken(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    config = balrl.load_config("sac/point-maze", settings={"finetune.steps": 10, **settings})
    with pytest.raises(UserError, match=message):
        balrl.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
