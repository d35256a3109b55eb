"""Acting with a memory, with an agent that counts its steps and sums its rewards."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from balrl.agents import BC, BCConfig
from balrl.best_action import check_best_of, repeatable_policy
from balrl.errors import UserError
from balrl.evaluation import evaluate_policy
from balrl.remembering import Memory, RememberingPolicy, forget, recalled
from balrl.rollout import Collector
from tests.test_rollout import MODES, vector

BOX = gym.spaces.Box(-np.inf, np.inf, (1,))


class Counting(BC):
    """Acts with a hundredth of the episode's step, and remembers the sum of its rewards."""

    remembers = True

    def empty_memory(self, worlds: int) -> Memory:
        return torch.zeros(worlds), torch.zeros(worlds, 2)

    def act_from(
        self, observations: Tensor, memory: Memory, deterministic: bool = False, balance: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        steps, sums = memory
        return steps[:, None] / 100, (steps + 1, sums)

    def after_step(self, memory: Memory, rewards: Tensor, ended: Tensor) -> Memory:
        return super().after_step((memory[0], memory[1] + rewards[:, None]), rewards, ended)


def make() -> Counting:
    return Counting(BOX, gym.spaces.Box(-1, 1, (1,)), BCConfig(hidden=(4,)))


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_counted_in_every_world(mode: AutoresetMode) -> None:
    policy, collector = RememberingPolicy(make()), Collector(vector(mode, worlds=3), seed=0)
    for _ in range(12):
        step = collector.step(policy)
        valid = torch.ones(3, dtype=torch.bool) if step.valid is None else step.valid
        torch.testing.assert_close(step.batch.actions[valid, 0], ((step.lengths - 1) / 100)[valid].float())
        policy.saw(step)
        goes_on = valid & ~step.done
        torch.testing.assert_close(policy.memory[1][goes_on, 0], step.returns[goes_on].float())


def test_evaluations_tell_it_of_every_step_and_begin_anew() -> None:
    act = repeatable_policy(make(), 1, "wco", 0)
    assert isinstance(act, RememberingPolicy)
    runs = [evaluate_policy(act, vector(AutoresetMode.SAME_STEP, worlds=3), 6, seed=0).returns for _ in range(2)]
    assert runs[0] == runs[1]
    with pytest.raises(UserError, match="best_of=3 scores single observations"):
        check_best_of(make(), 3)


def test_predict_carries_the_memory() -> None:
    agent, observation, state = make(), np.zeros((2, 1), np.float32), None
    for t in range(3):
        actions, state = agent.predict(observation, state)
        np.testing.assert_allclose(actions[:, 0], t / 100, rtol=1e-6)
    actions, state = agent.predict(observation, state, episode_start=np.array([True, False]))
    np.testing.assert_allclose(actions[:, 0], [0, 0.03], rtol=1e-6)
    single, state = agent.predict(observation[0])
    assert single.shape == (1,)
    assert state[0].shape == (1,)
    with pytest.raises(UserError, match=r"the state has shapes \[\(1,\), \(1, 2\)\], expected \[\(2,\), \(2, 2\)\]"):
        agent.predict(observation, state)
    with pytest.raises(UserError, match="episode_start is of 3 worlds, there are 2"):
        agent.predict(observation, agent.predict(observation)[1], episode_start=np.zeros(3, bool))


def test_a_memory_is_saved_and_gone_on_with() -> None:
    agent = make()
    policy = RememberingPolicy(agent, explores=True)
    assert policy.tensors() == {}
    assert RememberingPolicy.resumed(agent, {}).memory is None
    policy(torch.zeros(2, 1))
    again = RememberingPolicy.resumed(agent, policy.tensors())
    assert again.explores
    assert torch.equal(again(torch.zeros(2, 1)), policy(torch.zeros(2, 1)))
    policy.begin()
    assert policy(torch.zeros(2, 1)).tolist() == [[0], [0]]


def test_forgetting_is_row_by_row() -> None:
    memory, blank = (torch.ones(3), torch.ones(3, 2, 2)), (torch.zeros(3), torch.zeros(3, 2, 2))
    found = forget(memory, blank, torch.tensor([True, False, True]))
    assert found[0].tolist() == [0, 1, 0]
    assert found[1].sum().item() == 4
    assert recalled(make(), None, torch.zeros(2, dtype=torch.bool))[0].tolist() == [0, 0]


def test_an_agent_that_does_not_remember_says_so() -> None:
    agent = BC(BOX, gym.spaces.Box(-1, 1, (1,)), BCConfig(hidden=(4,)))
    for ask in (lambda: agent.empty_memory(1), lambda: agent.act_from(torch.zeros(1, 1), ())):
        with pytest.raises(NotImplementedError, match="BC does not remember"):
            ask()
