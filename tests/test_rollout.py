from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from balrl.batch import Batch
from balrl.envs import PendulumVectorEnv, PointMazeVectorEnv
from balrl.errors import EnvironmentFault
from balrl.rollout import Collector, Step
from tests.execution.test_updates import NoHost
from tests.scripted_env import SCRIPT, ScriptedEnv

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def vector(mode: AutoresetMode, worlds: int = 3, goal: bool = False) -> SyncVectorEnv:
    return SyncVectorEnv([lambda w=w: ScriptedEnv(w, goal) for w in range(worlds)], autoreset_mode=mode)


def policy(observations: Tensor) -> Tensor:
    """An action that tells which observation it was chosen for."""
    return torch.tanh(observations[:, 1:2] * 0.3 - observations[:, 2:3] * 0.7)


def collect(collector: Collector, per_world: int) -> tuple[list[list[tuple[float, ...]]], list[Step]]:
    """Return the first `per_world` transitions of every world as tuples, and every step."""
    worlds: list[list[tuple[float, ...]]] = [[] for _ in range(collector.num_envs)]
    steps = []
    while any(len(world) < per_world for world in worlds):
        step = collector.step(policy)
        steps.append(step)
        for i in range(collector.num_envs):
            if step.valid is None or step.valid[i]:
                b = step.batch
                row = torch.cat([b.observations[i], b.actions[i], b.rewards[i : i + 1], b.next_observations[i]])
                worlds[i].append((*row.tolist(), bool(b.terminated[i])))
    return [world[:per_world] for world in worlds], steps


@pytest.mark.parametrize("goal", [False, True])
def test_all_autoreset_modes_give_the_same_transitions(goal: bool) -> None:
    results = [collect(Collector(vector(mode, goal=goal)), 25)[0] for mode in MODES]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("mode", MODES)
def test_transitions_are_the_script_s(mode: AutoresetMode) -> None:
    worlds, _ = collect(Collector(vector(mode)), 10)
    for world, rows in enumerate(worlds):
        expected = []
        episode = 0
        while len(expected) < 10:
            length, kind = SCRIPT[(episode + world) % len(SCRIPT)]
            for t in range(length):
                end = t == length - 1
                expected.append(
                    ((world, episode, t), episode + (t + 1) / 10, (world, episode, t + 1), end and kind != "truncated")
                )
            episode += 1
        for row, (observation, reward, following, terminated) in zip(rows, expected, strict=False):
            assert row[:3] == observation
            assert row[4] == pytest.approx(reward)
            assert row[5:8] == following
            assert row[8] == terminated


@pytest.mark.parametrize("mode", MODES)
def test_episode_statistics(mode: AutoresetMode) -> None:
    _, steps = collect(Collector(vector(mode, worlds=1)), 10)
    ended = [(float(s.returns[0]), int(s.lengths[0]), bool(s.success[0])) for s in steps if s.done[0]]
    assert ended == [
        (pytest.approx(0.1 + 0.2 + 0.3), 3, True),
        (pytest.approx(1.1 + 1.2), 2, False),
        (pytest.approx(2.1 + 2.2 + 2.3 + 2.4), 4, True),
        (pytest.approx(3.1), 1, False),
    ]


def test_actions_reach_the_environment_in_its_bounds() -> None:
    env = vector(AutoresetMode.SAME_STEP, worlds=1)
    collector = Collector(env)
    step = collector.step(lambda o: torch.tensor([[0.5]]))
    assert env.envs[0].actions == [pytest.approx(-2 + 0.75 * 6)]
    assert step.batch.actions.item() == 0.5


def test_goal_dictionaries_become_observation_and_desired_goal() -> None:
    collector = Collector(vector(AutoresetMode.SAME_STEP, worlds=1, goal=True))
    assert collector.spaces.observation_dim == 6
    assert collector.observations.tolist() == [[0, 0, 0, 0.5, 0.5, 0.5]]


def test_torch_environments_need_no_special_case() -> None:
    env = PointMazeVectorEnv(4, max_episode_steps=5)
    collector = Collector(env, seed=3)
    rows: list[Batch] = []
    for _ in range(12):
        step = collector.step(lambda o: torch.ones(4, 2))
        assert step.valid is None
        rows.append(step.batch)
    for now, later in pairwise(rows):
        same = (now.next_observations == later.observations).all(-1)
        fresh = later.observations[:, 2:].abs().sum(-1) == 0
        assert (same | fresh).all()
    assert not rows[4].terminated.any()
    assert (rows[4].next_observations[:, 2:].abs().sum(-1) > 0).any()  # the moving body, not the reset one


def test_state_round_trip_goes_on_with_the_running_episodes() -> None:
    def build() -> Collector:
        return Collector(PointMazeVectorEnv(3, max_episode_steps=7), seed=1)

    one, other = build(), build()
    for _ in range(10):
        one.step(policy_2d)
    state = {key: value.clone() for key, value in one.state_dict().items()}
    environment = {key: value.clone() for key, value in one.env.state_dict().items()}
    other.env.load_state_dict(environment)
    other.load_state_dict(state)
    for _ in range(10):
        a, b = one.step(policy_2d), other.step(policy_2d)
        assert torch.equal(a.batch.next_observations, b.batch.next_observations)
        assert torch.equal(a.returns, b.returns)
        assert torch.equal(a.lengths, b.lengths)


def policy_2d(observations: Tensor) -> Tensor:
    return torch.stack([observations[:, 0].cos(), observations[:, 1].sin()], -1)


def test_gymnasium_mujoco_steps() -> None:
    env = gym.make_vec("Hopper-v5", num_envs=2, vectorization_mode="sync")
    step = Collector(env, seed=0).step(lambda o: torch.zeros(2, 3))
    assert step.batch.observations.shape == (2, 11)
    assert step.batch.observations.dtype == torch.float32


@pytest.mark.parametrize("mode", MODES)
def test_ended_episodes_are_summed_until_somebody_asks(mode: AutoresetMode) -> None:
    collector = Collector(vector(mode))
    returns, lengths = [], []
    for _ in range(40):
        step = collector.step(policy)
        returns += step.returns[step.done].tolist()
        lengths += step.lengths[step.done].tolist()
    found = collector.pop_ended()
    assert found["return"] == pytest.approx(sum(returns) / len(returns))
    assert found["length"] == pytest.approx(sum(lengths) / len(lengths))
    assert ("success" in found) == collector.reports_success
    assert collector.pop_ended() == {}


def test_a_step_of_torch_environments_asks_the_host_for_nothing() -> None:
    collector = Collector(PointMazeVectorEnv(8, max_episode_steps=3), seed=0)
    collector.step(lambda o: o[:, :2])
    with NoHost():
        for _ in range(5):
            collector.step(lambda o: o[:, :2])


@pytest.mark.parametrize(("chosen", "got"), [(7.0, 4.0), (-7.0, -2.0), (1.0, 4.0), (-1.0, -2.0)])
def test_the_task_gets_no_action_out_of_bounds_and_the_step_keeps_what_was_chosen(chosen: float, got: float) -> None:
    env = vector(AutoresetMode.SAME_STEP, worlds=1)
    step = Collector(env).step(lambda o: torch.tensor([[chosen]]))
    assert env.envs[0].actions == [got]
    assert step.batch.actions.item() == chosen


def test_a_new_start_forgets_episodes_and_what_they_reported() -> None:
    collector = Collector(vector(AutoresetMode.SAME_STEP, worlds=1))
    for _ in range(4):
        collector.step(policy)
    assert collector.reports_success
    assert collector.returns.item() != 0
    collector.start(0)
    assert not collector.reports_success
    assert (collector.returns.item(), collector.lengths.item(), collector.success.item()) == (0, 0, False)
    assert collector.pop_ended() == {}


def test_success_in_tensors_counts_for_the_episode_that_it_ended() -> None:
    """A body beside the goal reaches it; the world that begins anew has not."""
    env = PointMazeVectorEnv(2, max_episode_steps=50)
    collector = Collector(env, seed=0)
    states = env.states.clone()
    states[0, :2], states[0, 2:] = env.goal, 0.0
    env.load_state_dict({**env.state_dict(), "states": states})
    step = collector.step(lambda o: torch.zeros(2, 2))
    assert step.success is not None
    assert step.success.tolist() == [True, False]
    assert step.done.tolist() == [True, False]
    following = collector.step(lambda o: torch.zeros(2, 2))
    assert following.success is not None
    assert following.success.tolist() == [False, False]
    assert collector.pop_ended() == {"return": pytest.approx(step.returns[0].item()), "length": 1.0, "success": 1.0}


class Exploding(PendulumVectorEnv):
    """Gives NaN from the second world at the third step."""

    def observe(self, states: Tensor) -> Tensor:
        observations = super().observe(states)
        if int(self.elapsed.max()) >= 3:
            observations = torch.where(torch.arange(len(observations)).unsqueeze(-1) == 1, torch.nan, observations)
        return observations


@pytest.mark.parametrize("ask", [Collector.check, Collector.pop_ended])
def test_worlds_of_tensors_are_asked_when_metrics_are_read(ask: Any) -> None:
    collector = Collector(Exploding(3), seed=0)
    for _ in range(2):
        collector.step(lambda o: torch.zeros(3, 1))
        ask(collector)
    for _ in range(3):
        collector.step(lambda o: torch.zeros(3, 1))  # nobody asks in between
    with pytest.raises(EnvironmentFault, match="world 1: its observation is NaN or infinite, expected finite numbers"):
        ask(collector)


def test_vectors_that_give_something_else_than_they_say_are_named() -> None:
    class Odd(SyncVectorEnv):
        def step(self, actions: Any) -> Any:
            observations, *rest = super().step(actions)
            return observations[:, :1], *rest

    collector = Collector(Odd([ScriptedEnv, lambda: ScriptedEnv(1)], autoreset_mode=AutoresetMode.SAME_STEP), seed=0)
    with pytest.raises(EnvironmentFault, match=r"step\(\) returned something else than its spaces say, expected 2 obs"):
        collector.step(lambda o: torch.zeros(2, 1))


@pytest.mark.parametrize("call", ["step", "reset"])
def test_vectors_that_raise_are_faults(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise OSError("no contact")

    env = vector(AutoresetMode.SAME_STEP, worlds=1)
    collector = Collector(env, seed=0)
    monkeypatch.setattr(env, call, breaks)
    with pytest.raises(EnvironmentFault, match=rf"{call}\(\) raised OSError: no contact"):
        collector.start() if call == "reset" else collector.step(lambda o: torch.zeros(1, 1))


def test_a_last_observation_that_is_not_finite_is_named() -> None:
    class Odd(SyncVectorEnv):
        def step(self, actions: Any) -> Any:
            *rest, infos = super().step(actions)
            if "final_obs" in infos:
                infos["final_obs"][1] = infos["final_obs"][1] * float("nan")
            return *rest, infos

    collector = Collector(Odd([ScriptedEnv, lambda: ScriptedEnv(1)], autoreset_mode=AutoresetMode.SAME_STEP), seed=0)
    collector.step(lambda o: torch.zeros(2, 1))
    with pytest.raises(EnvironmentFault, match="world 1: its final observation is NaN or infinite"):
        collector.step(lambda o: torch.zeros(2, 1))
