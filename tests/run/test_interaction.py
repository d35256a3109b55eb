"""What the collector yields, on its way into the replay."""

from __future__ import annotations

import pytest
import torch
from gymnasium.vector import AutoresetMode

from balrl.data.prepare import RewardTransform
from balrl.envs import PointMazeVectorEnv
from balrl.next_actions import NextActions
from balrl.random_stream import RandomStream
from balrl.replay import ReplayBuffer
from balrl.returns import MonteCarlo, RunningEpisodes
from balrl.rollout import Collector
from balrl.run.interaction import Interaction
from tests.conftest import random_batch
from tests.test_rollout import MODES, vector


def make(logged: int = 0, held_back: bool = False) -> Interaction:
    env = PointMazeVectorEnv(3, max_episode_steps=4)
    data = ReplayBuffer(20, 4, 2, fields=("mc_returns",))
    if logged:
        data.add(random_batch(logged, 4, 2))
    episodes = RunningEpisodes(3, MonteCarlo(0.9)) if held_back else None
    replay = ReplayBuffer(60, 4, 2, fields=("mc_returns",) if held_back else ())
    rewards = RewardTransform(2.0, 1.0)
    return Interaction(
        Collector(env, "cpu", 0),
        replay,
        rewards,
        RandomStream(0),
        episodes=episodes,
        logged=data if logged else None,
        action_limit=0.5,
    )


def outwards(observations: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(observations), 2)


def test_rewards_and_actions_are_stored_as_the_run_wants_them() -> None:
    it = make()
    made = it.step(outwards)
    stored = it.replay.newest(3)
    assert made == it.stored == 3
    assert torch.equal(stored.rewards, 2 * it.collector.returns.float() + 1)  # of a first step
    assert stored.actions.max() == 0.5


def test_logged_rows_are_not_the_newest() -> None:
    it = make(logged=10)
    assert len(it.replay) == 10
    assert it.newest(8) is None
    it.step(outwards)
    newest = it.newest(8)
    assert newest is not None
    assert newest.rewards.shape == (3,)
    assert newest.actions.max() == 0.5


def test_transitions_wait_for_their_returns() -> None:
    it = make(held_back=True)
    for _ in range(3):
        assert it.step(outwards) == 3
    assert it.stored == len(it.replay) == 0
    it.step(outwards)
    assert it.stored == len(it.replay) == 12
    assert torch.isfinite(it.newest(12).mc_returns).all()  # type: ignore[union-attr]


def test_going_back_to_before_the_first_step_forgets_what_came_after() -> None:
    it = make(logged=10, held_back=True)
    for _ in range(6):
        it.step(outwards)
    assert it.load_state_dict({"replay": {}, "episodes": {}, "collector": {}, "environment": {}})
    assert (it.stored, len(it.replay), len(it.episodes or ())) == (0, 10, 0)
    assert it.collector.lengths.tolist() == [0, 0, 0]


def test_without_the_environment_s_state_episodes_begin_anew() -> None:
    it = make(held_back=True)
    for _ in range(6):
        it.step(outwards)
    state = it.state_dict()
    it.step(outwards)
    assert not it.load_state_dict({**state, "environment": {}})
    assert (it.stored, len(it.replay), len(it.episodes or ())) == (12, 12, 0)
    assert it.collector.lengths.tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", list(MODES))
def test_next_actions_are_what_the_task_got_next(mode: AutoresetMode) -> None:
    """In every autoreset mode, as a dataset of the same steps has them; and Monte-Carlo returns beside them."""
    taken: list[torch.Tensor] = []
    fields = ("mc_returns", "next_actions")
    it = Interaction(
        Collector(vector(mode, 2), "cpu", 0),
        ReplayBuffer(60, 3, 1, fields=fields),
        RewardTransform(),
        RandomStream(0),
        next_actions=NextActions(),
        episodes=RunningEpisodes(2, MonteCarlo(0.9)),
    )

    def act(observations: torch.Tensor) -> torch.Tensor:
        taken.append(2 * torch.rand(2, 1) - 1)
        return taken[-1]

    for _ in range(30):
        it.step(act)
    rows = it.replay.newest(len(it.replay))
    assert len(it.replay) > 10
    assert rows.next_actions is not None
    following = {tuple(o.tolist()): a for o, a in zip(rows.observations, rows.actions, strict=True)}
    inside = 0
    for own, next_observation, ended, next_action in zip(
        rows.actions, rows.next_observations, rows.terminated, rows.next_actions, strict=True
    ):
        known = following.get(tuple(next_observation.tolist()))
        if known is not None and not ended:
            assert torch.equal(next_action, known)
            inside += 1
        else:
            assert torch.equal(next_action, own)
    assert inside > 5


def test_a_step_that_is_held_back_belongs_to_no_episode_that_begins_anew() -> None:
    it = Interaction(
        Collector(PointMazeVectorEnv(3, max_episode_steps=9), "cpu", 0),
        ReplayBuffer(60, 4, 2, fields=("next_actions",)),
        RewardTransform(),
        RandomStream(0),
        next_actions=NextActions(),
    )
    it.step(outwards)
    it.step(outwards)
    assert it.stored == 3
    assert not it.load_state_dict({**it.state_dict(), "environment": {}})
    it.step(outwards)
    assert it.stored == 3  # the new episodes' first step waits; the old ones' last is gone with them
