"""An actor's worlds, without an actor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from balrl.envs.actor_worlds import Explorer, Tag, Worlds
from balrl.errors import UserError
from balrl.run.registry import make_env


@pytest.mark.parametrize("task", ["Hopper-v5", "balrl/PointMaze-v0"])
def test_it_answers_in_numpy_and_only_ended_episodes_have_a_last_observation(task: str) -> None:
    worlds = Worlds(lambda count: make_env(task, count, "cpu", {"max_episode_steps": 3}), 2)
    worlds.reset(0, 1)
    actions = np.zeros((2, worlds.spaces.action_dim), np.float32)
    steps = [worlds.step(actions) for _ in range(3)]
    assert all(isinstance(part, np.ndarray) for step in steps for part in step[:4])
    assert [sorted(step.last) for step in steps] == [[], [], [0, 1]]
    assert steps[2].truncated.all()
    assert not np.array_equal(steps[2].last[0], steps[2].observations[0])


def test_a_chunk_without_a_policy_is_of_uniform_actions_that_its_own_seed_draws() -> None:
    worlds = Worlds(lambda count: make_env("Hopper-v5", count), 2)

    def chosen(own: int) -> np.ndarray:
        worlds.reset(0, own)
        chunk = worlds.collect(None, 3, Tag(4, 5, 6))
        assert chunk.tag == Tag(4, 5, 6)
        return np.stack([actions for actions, _ in chunk.steps])

    assert np.array_equal(chosen(1), chosen(1))
    assert not np.array_equal(chosen(1), chosen(2))
    assert np.abs(chosen(1)).max() <= 1


def test_worlds_with_another_autoreset_are_refused() -> None:
    import gymnasium as gym

    with pytest.raises(UserError, match="worlds in actors need SAME_STEP autoreset, these have NextStep"):
        Worlds(lambda count: gym.make_vec("Pendulum-v1", num_envs=count), 1)


def test_noise_is_added_to_what_the_policy_does() -> None:
    from balrl.agents import TD3BC, TD3BCConfig
    from balrl.random_stream import RandomStream

    env = make_env("Hopper-v5", 1)
    agent = TD3BC(env.single_observation_space, env.single_action_space, TD3BCConfig(hidden=(4,)))
    seen = torch.zeros(3, 11)
    quiet, loud = (Explorer(agent.freeze(), noise).act(seen, RandomStream(0)) for noise in (0.0, 0.5))
    assert torch.equal(quiet[0], quiet[1])
    assert not torch.equal(loud[0], loud[1])
