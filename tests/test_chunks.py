from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, strategies as st
from torch import Tensor

from balrl.agents import FQL, SAC, FQLConfig, SACConfig
from balrl.batch import Batch
from balrl.chunks import ChunkReplay, Queue, play
from balrl.errors import UserError
from balrl.next_actions import VectorStep
from balrl.replay import ReplayBuffer
from balrl.replay_kind import replay_kind
from balrl.rollout import Collector
from tests.test_rollout import vector

GAMMA = 0.5


def rows(numbers: list[int], terminated: list[int] = []) -> Batch:  # noqa: B006
    """Transitions that are told apart by their number: observation n, action n / 100, reward n, next n + 0.5."""
    n = torch.tensor(numbers, dtype=torch.float32)
    ended = torch.tensor([number in terminated for number in numbers])
    return Batch(n[:, None], n[:, None] / 100, n, n[:, None] + 0.5, ended)


def chunk(replay: ChunkReplay, row: int) -> dict[str, Any]:
    found = replay.gather(torch.tensor([row]))
    return {name: value[0].tolist() for name, value in found._asdict().items() if value is not None}


def logged(ends: list[int], terminated: list[int], count: int = 7, size: int = 3) -> ChunkReplay:
    replay = ChunkReplay(count, 1, 1, chunk_size=size, discount=GAMMA)
    replay.add(rows(list(range(count)), terminated), torch.tensor([i in ends for i in range(count)]))
    return replay


def test_a_whole_chunk() -> None:
    found = chunk(logged([6], []), 1)
    assert found["observations"] == [1.0]
    assert found["actions"] == pytest.approx([0.01, 0.02, 0.03])
    assert found["rewards"] == 1 + GAMMA * 2 + GAMMA**2 * 3
    assert found["discounts"] == GAMMA**3
    assert found["next_observations"] == [3.5]
    assert found["terminated"] is False
    assert found["played"] == [1, 1, 1]


def test_termination_inside_a_chunk_ends_it() -> None:
    """Rewards after it are 0, nothing is bootstrapped, and the last action stands for those that nobody took."""
    found = chunk(logged([2, 6], [2]), 1)
    assert found["rewards"] == 1 + GAMMA * 2
    assert found["terminated"] is True
    assert found["next_observations"] == [2.5]
    assert found["actions"] == pytest.approx([0.01, 0.02, 0.02])
    assert found["played"] == [1, 1, 0]
    at_the_end = chunk(logged([2, 6], [2]), 0)  # with the chunk's last step
    assert at_the_end["played"] == [1, 1, 1]
    assert at_the_end["terminated"] is True


def test_truncation_inside_a_chunk_bootstraps_from_the_true_last_observation() -> None:
    found = chunk(logged([2, 6], []), 2)
    assert found["rewards"] == 2
    assert found["terminated"] is False
    assert found["next_observations"] == [2.5]
    assert found["discounts"] == GAMMA
    assert found["played"] == [1, 0, 0]


def test_an_episode_that_has_not_gone_on_is_cut_short_and_is_whole_when_it_has() -> None:
    replay = ChunkReplay(10, 1, 1, chunk_size=2, discount=GAMMA, num_envs=2)
    no, none = torch.tensor([False, False]), None
    replay.add_step(VectorStep(rows([1, 11]), no, none))
    assert chunk(replay, 0)["discounts"] == GAMMA
    replay.add_step(VectorStep(rows([2, 12]), torch.tensor([True, False]), none))
    replay.add_step(VectorStep(rows([3, 13]), no, none))
    assert chunk(replay, 0)["actions"] == pytest.approx([0.01, 0.02])
    assert chunk(replay, 1)["actions"] == pytest.approx([0.11, 0.12])
    assert chunk(replay, 2)["played"] == [1, 0]
    assert chunk(replay, 3)["actions"] == pytest.approx([0.12, 0.13])


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 20),
    st.lists(st.lists(st.sampled_from(["goes on", "ends", "is none", "fails"]), min_size=3, max_size=3), max_size=25),
)
def test_chunks_are_those_of_the_episodes(size: int, worlds: int, spare: int, script: list[list[str]]) -> None:
    """Whatever the worlds do, and wherever the ring's seam is: neither is crossed, and nothing is left out."""
    capacity = 2 * worlds + spare
    replay = ChunkReplay(capacity, 1, 1, chunk_size=size, discount=GAMMA, num_envs=worlds)
    number, kept, follows = 0, [], {}
    newest: list[int | None] = [None] * worlds
    for events in script:
        events = events[:worlds]
        valid = torch.tensor([event in ("goes on", "ends") for event in events])
        done = torch.tensor([event in ("ends", "fails") for event in events])
        batch = rows([number + i for i in range(worlds)])
        for world, event in enumerate(events):
            if event in ("goes on", "ends"):
                kept.append(number + world)
                if newest[world] is not None:
                    follows[newest[world]] = number + world
                newest[world] = number + world
            if event in ("ends", "fails"):
                newest[world] = None
        number += worlds
        assert replay.add_step(VectorStep(batch, done, None if bool(valid.all()) else valid)) == int(valid.sum())
    kept = kept[-capacity:]
    assert len(replay) == len(kept)
    if not kept:
        return
    found = replay.gather(torch.arange(len(kept)))
    assert sorted(found.observations[:, 0].long().tolist()) == kept
    for row, start in enumerate(found.observations[:, 0].long().tolist()):
        expected = [start]
        while len(expected) < size and expected[-1] in follows:
            expected.append(follows[expected[-1]])
        k = len(expected)
        assert found.played[row].tolist() == [1.0] * k + [0.0] * (size - k)
        assert (found.actions[row] * 100).round().long().tolist() == expected + [expected[-1]] * (size - k)
        assert found.rewards[row].item() == pytest.approx(sum(GAMMA**i * n for i, n in enumerate(expected)))
        assert found.discounts[row].item() == pytest.approx(GAMMA**k)
        assert found.next_observations[row].item() == expected[-1] + 0.5


def test_state_goes_on_where_it_was() -> None:
    one, other = (ChunkReplay(8, 1, 1, chunk_size=3, discount=GAMMA, num_envs=2) for _ in range(2))
    none = torch.tensor([False, False])
    for i in range(3):
        one.add_step(VectorStep(rows([i, 10 + i]), none, None))
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    for replay in (one, other):
        for i in range(3, 6):
            replay.add_step(VectorStep(rows([i, 10 + i]), none, None))
    everything = torch.arange(8)
    for x, y in zip(one.gather(everything), other.gather(everything), strict=True):
        assert (x is None) == (y is None)
        assert x is None or torch.equal(x, y)
    one.clear()
    one.add_step(VectorStep(rows([7, 17]), none, None))
    assert chunk(one, 0)["played"] == [1, 0, 0]


def test_nothing_follows_on_what_was_cut() -> None:
    replay = ChunkReplay(8, 1, 1, chunk_size=2, discount=GAMMA, num_envs=2)
    none = torch.tensor([False, False])
    replay.add_step(VectorStep(rows([1, 11]), none, None))
    replay.cut()
    replay.add_step(VectorStep(rows([2, 12]), none, None))
    assert chunk(replay, 0)["played"] == [1, 0]
    assert chunk(replay, 1)["played"] == [1, 0]


def test_logged_data_is_appended_with_what_follows_on_what() -> None:
    source, into = logged([2, 6], []), ChunkReplay(20, 1, 1, chunk_size=3, discount=GAMMA, num_envs=1)
    into.extend(source)
    for row in range(7):
        assert chunk(into, row) == chunk(source, row)
    into.add_step(VectorStep(rows([50]), torch.tensor([False]), None))
    assert chunk(into, 6)["played"] == [1, 0, 0]


def test_what_cannot_be_cut_into_chunks_is_refused() -> None:
    with pytest.raises(ValueError, match="next_actions"):
        ChunkReplay(10, 1, 1, fields=("next_actions",), chunk_size=2, discount=0.9)
    with pytest.raises(UserError, match="at least 8"):
        ChunkReplay(7, 1, 1, chunk_size=2, discount=0.9, num_envs=4)


def test_an_agent_tells_which_replay_it_learns_from() -> None:
    spaces = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))
    assert replay_kind(SAC(*spaces, SACConfig(hidden=(8,)))) is ReplayBuffer
    made = replay_kind(SAC(*spaces, SACConfig(hidden=(8,), chunk_size=4, discount=0.9)), num_envs=2)(20, 3, 2)
    assert isinstance(made, ChunkReplay)
    assert made.gather(torch.zeros(1, dtype=torch.int64)).actions.shape == (1, 8)


class Counting:
    """A policy of chunks that tells when it was asked: the k-th asked gives k.0, k.1, k.2 hundredths."""

    def __init__(self, size: int = 3) -> None:
        self.size, self.asked = size, 0

    def __call__(self, observations: Tensor) -> Tensor:
        self.asked += 1
        steps = torch.arange(self.size) / 10 + self.asked
        return (steps / 100).expand(len(observations), self.size)


def test_chunks_are_played_open_loop_in_every_world_for_itself() -> None:
    policy, queue = Counting(), Queue.empty(2)
    taken = []
    for ended in ([False, False], [False, True], [False, False], [False, False], [False, False]):
        actions, queue = play(policy, torch.zeros(2, 1), queue, 1)
        queue = queue.over(torch.tensor(ended))
        taken.append((actions[:, 0] * 100).round(decimals=1).tolist())
    assert taken == [
        pytest.approx([1.0, 1.0]),
        pytest.approx([1.1, 1.1]),
        pytest.approx([1.2, 2.0]),  # the second world's episode had ended
        pytest.approx([3.0, 2.1]),
        pytest.approx([3.1, 2.2]),
    ]
    assert policy.asked == 3  # where nothing was due, nobody was asked


def test_a_policy_of_single_steps_takes_over_at_once_when_it_is_asked() -> None:
    policy, queue = Counting(2), Queue.empty(1)
    for _ in range(2):
        _, queue = play(policy, torch.zeros(1, 1), queue, 1)
    actions, queue = play(lambda o: torch.full((1, 1), 0.5), torch.zeros(1, 1), queue, 1)
    assert actions.item() == 0.5
    assert queue.chunks.shape == (1, 0)
    _, queue = play(policy, torch.zeros(1, 1), queue, 1)
    assert queue.chunks.shape == (1, 2)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_collector_plays_chunks_and_begins_anew_with_an_episode(mode: AutoresetMode) -> None:
    """In each autoreset mode an episode's first action is the first of a chunk that was chosen at its beginning."""
    env = vector(mode, worlds=3)
    collector = Collector(env, seed=0)
    seen: list[Tensor] = []

    def policy(observations: Tensor) -> Tensor:
        seen.append(observations.clone())
        return (observations[:, :1] / 1000).expand(-1, 4) + torch.arange(4) / 10

    began = torch.ones(3, dtype=torch.bool)
    ends = 0
    for _ in range(30):
        step = collector.step(policy)
        valid = torch.ones(3, dtype=torch.bool) if step.valid is None else step.valid
        first = began & valid
        assert torch.allclose(step.batch.actions[first], step.batch.observations[first, :1] / 1000)
        began = torch.where(valid, step.done, began)
        ends += int((step.done & valid).sum())
    assert ends >= 3
    copy = Collector(vector(mode, worlds=3), seed=0)
    copy.load_state_dict({key: value.clone() for key, value in collector.state_dict().items()})
    assert torch.equal(copy._chunks, collector._chunks)
    assert torch.equal(copy._position, collector._position)


def test_predict_keeps_what_is_to_be_played_in_its_state() -> None:
    spaces = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(0, 10, (2,))
    agent = FQL(*spaces, FQLConfig(hidden=(8,), flow_steps=2, chunk_size=2))
    observations = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    chunks = agent.act(torch.from_numpy(observations), deterministic=True).numpy()
    expected = (chunks + 1) * 5
    first, state = agent.predict(observations, deterministic=True)
    second, state = agent.predict(observations + 9, state, deterministic=True)
    np.testing.assert_allclose(first, expected[:, :2], rtol=1e-5)
    np.testing.assert_allclose(second, expected[:, 2:], rtol=1e-5)
    again, _ = agent.predict(observations, state, deterministic=True)
    np.testing.assert_allclose(again, expected[:, :2], rtol=1e-5)
    _, state = agent.predict(observations, deterministic=True)
    mixed, _ = agent.predict(observations, state, episode_start=np.array([True, False]), deterministic=True)
    np.testing.assert_allclose(mixed, [expected[0, :2], expected[1, 2:]], rtol=1e-5)
    with pytest.raises(UserError, match="the state is of 2 worlds, there are 1 observations"):
        agent.predict(observations[0], state)
    with pytest.raises(UserError, match="episode_start is of 3 worlds"):
        agent.predict(observations, state, episode_start=np.zeros(3, bool))
    alone, _ = agent.predict(observations[0], deterministic=True)
    np.testing.assert_allclose(alone, expected[0, :2], rtol=1e-5)
