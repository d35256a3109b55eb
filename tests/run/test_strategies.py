"""PEX and JSRL: who acts when, what is stored, what begins anew, what goes on after a stop, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

import balrl
from balrl.agents import BC, IQL, PPO, QC, SAC, BCConfig, IQLConfig, PPOConfig, QCConfig, SACConfig
from balrl.batch import Batch
from balrl.config import FinetuneConfig, InitConfig, JSRLConfig, PretrainConfig, WarmupConfig
from balrl.errors import UserError
from balrl.frozen_policy import ExpandedPolicy
from balrl.rollout import Step
from balrl.run.plain_policy import write_plain_policy
from balrl.run.presets import TrainConfig
from balrl.run.record_dataset import record_dataset
from balrl.run.strategies import JumpStart, PolicyExpansion, begin_anew, begin_strategy, check_strategy
from tests.conftest import random_batch
from tests.run.small import Interrupt, final_state, maze_config, records

BOX = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))
PHASES = {"pretrain": PretrainConfig(updates=1), "warmup": WarmupConfig()}


def iql(**config: Any) -> IQL:
    agent = IQL(*BOX, IQLConfig(hidden=(8,), **config))
    for _ in range(3):
        agent.update(random_batch(16))
    return agent


def run_config(agent: Any, **finetune: Any) -> TrainConfig:
    return TrainConfig(agent=agent.config, finetune=FinetuneConfig(steps=1, **finetune), **PHASES)


@pytest.mark.parametrize("kept", ["policy-and-critic", "policy", "critic", "neither"])
def test_what_is_not_kept_begins_anew_with_its_moments(kept: str) -> None:
    agent = iql(policy_average=0.9)
    before, moments = (
        {k: v.clone() for k, v in state.items()} for state in (agent.state_dict(), agent.optimizer_state())
    )
    begin_anew(agent, kept)
    state, now = agent.state_dict(), agent.optimizer_state()
    for name in ("policy.mean.weight", "critic.head.weight", "value.head.weight", "target_critic.head.weight"):
        is_kept = ("policy" if name.startswith("policy") else "critic") in kept
        key = next(k for k in state if k.startswith(name.split(".")[0]) and k.endswith("weight"))
        assert torch.equal(state[key], before[key]) is is_kept, key
    for key in now:
        part = "policy" if key.startswith("policy") else "critic"
        assert torch.equal(now[key], moments[key]) is (part in kept), key
        assert part in kept or not now[key].any(), key
    assert torch.equal(state["stream.key"], before["stream.key"])
    if "policy" not in kept:
        assert int(state["averaged"]) == 0
        assert torch.equal(state["averaged_policy.mean.weight"], state["policy.mean.weight"])


def test_policy_expansion_chooses_by_q() -> None:
    """i ~ softmax(κ min_j Q_j(s, a_i)), for the frozen policy's mode and the learner's sample."""
    agent = iql(policy_learning_rate=0.3)
    frozen = agent.freeze()
    strategy = begin_strategy(run_config(agent, strategy="pex"), agent, 1)
    assert isinstance(strategy, PolicyExpansion)
    expanded = agent.champion
    assert isinstance(expanded, ExpandedPolicy)
    assert expanded.inverse_temperature == 10
    observations = torch.randn(6, 3)
    offline = frozen.act(observations)
    assert not torch.allclose(agent.act(observations, deterministic=True), offline)  # which begins anew
    agent.stream.reseed(4)
    newest = agent.act(observations)
    uniform = agent.stream.uniform(6)
    q = [agent.q_values(observations, actions).amin(0) for actions in (offline, newest)]  # type: ignore[union-attr]
    weights = torch.softmax(10 * torch.stack(q), 0)
    expected = torch.where((uniform < weights[1]).unsqueeze(-1), newest, offline)
    agent.stream.reseed(4)
    assert torch.equal(strategy.explore(observations), expected)
    modes = agent.act(observations, deterministic=True)
    best = agent.q_values(observations, modes).amin(0) > q[0]  # type: ignore[union-attr]
    assert torch.equal(agent.serve(observations), torch.where(best.unsqueeze(-1), modes, offline))


def test_either_policy_acts_as_often_as_its_weight_says() -> None:
    agent = iql()
    expanded = ExpandedPolicy(agent, 2.0)
    begin_anew(agent, "critic")
    observations = torch.zeros(20_000, 3)
    offline = agent.q_values(observations[:1], expanded.act(observations[:1] * 0)[:1])
    assert offline is not None
    acted = expanded.act(observations, False, stream=agent.stream)
    q = agent.q_values(observations, acted).amin(0)  # type: ignore[union-attr]
    frozen = super(ExpandedPolicy, expanded).act(observations[:1])
    share = (acted == frozen).all(-1).float().mean().item()
    newest = acted[(acted != frozen).any(-1)]
    of_newest = agent.q_values(torch.zeros(len(newest), 3), newest).amin(0)  # type: ignore[union-attr]
    of_frozen = agent.q_values(observations[:1], frozen).amin()  # type: ignore[union-attr]
    # among those that took the learner's action, Bayes: P(frozen) / P(newest) averaged backwards is their odds
    odds = torch.exp(2 * (of_frozen - of_newest)).mean().item()
    assert share / (1 - share) == pytest.approx(odds, rel=0.05)
    assert q.isfinite().all()


def test_a_saved_agent_keeps_its_expansion(tmp_path: Path) -> None:
    agent = iql()
    begin_strategy(run_config(agent, strategy="pex"), agent, 1)
    observations = torch.randn(5, 3)
    loaded = balrl.load_agent(agent.save(tmp_path / "agent"))
    assert isinstance(loaded.champion, ExpandedPolicy)
    assert torch.equal(loaded.serve(observations), agent.serve(observations))


def step_of(lengths: list[int], done: list[bool], returns: list[float]) -> Step:
    worlds = len(lengths)
    nothing = torch.zeros(worlds, 1)
    return Step(
        Batch(nothing, nothing, nothing[:, 0], nothing, torch.zeros(worlds, dtype=torch.bool)),
        None,
        torch.tensor(done),
        torch.tensor(returns, dtype=torch.float64),
        torch.tensor(lengths),
        None,
        None,
    )


def jump_start(worlds: int = 1, **config: Any) -> tuple[JumpStart, Tensor, Tensor]:
    """A jump-start, and the actions of the guide and of the learner in its only observation."""
    agent = SAC(*BOX, SACConfig(hidden=(8,)))
    strategy = JumpStart(JSRLConfig(**config), agent, worlds, agent.freeze())
    begin_anew(agent, "critic")
    agent.explore = lambda observations: agent.act(observations, deterministic=True)  # type: ignore[method-assign]
    one = torch.ones(1, 3)
    return strategy, strategy.guide.act(one), agent.act(one, deterministic=True)


def played(strategy: JumpStart, guide: Tensor, lengths: int, value: float) -> list[str]:
    """Play an episode in the one world; return who acted in each step."""
    who = []
    for t in range(1, lengths + 1):
        action = strategy.explore(torch.ones(1, 3))
        who.append("guide" if torch.equal(action, guide) else "learner")
        strategy.saw(step_of([t], [t == lengths], [value]))
    return who


def test_jump_start_by_hand() -> None:
    """Two episodes of the guide, 4 steps in the mean, return 10; two stages; tolerance 10 %."""
    strategy, guide, learner = jump_start(window=2, stages=2, tolerance=0.1)
    assert not torch.equal(guide, learner)
    assert played(strategy, guide, 3, 9.0) == ["guide"] * 3
    assert played(strategy, guide, 5, 11.0) == ["guide"] * 5
    assert (strategy.longest, strategy.best, strategy.stage, strategy.horizon) == (4, 10.0, 1, 2)
    assert played(strategy, guide, 3, 8.0) == ["guide", "guide", "learner"]
    assert played(strategy, guide, 3, 9.0) == ["guide", "guide", "learner"]
    assert strategy.stage == 1  # 8.5 < 9
    assert played(strategy, guide, 1, 10.0) == ["guide"]
    assert (strategy.stage, strategy.best, strategy.horizon) == (2, 10.0, 0)  # the last two: 9.5
    assert played(strategy, guide, 2, -5.0) == ["learner", "learner"]
    assert played(strategy, guide, 2, -5.0) == ["learner", "learner"]
    assert strategy.stage == 2


def test_negative_returns_have_a_tolerance_too() -> None:
    strategy, guide, _ = jump_start(window=1, stages=2, tolerance=0.1)
    played(strategy, guide, 4, -100.0)
    played(strategy, guide, 4, -112.0)
    assert strategy.stage == 1
    played(strategy, guide, 4, -109.0)
    assert (strategy.stage, strategy.best) == (2, -100.0)


def test_at_random_every_length_of_guidance_comes_up() -> None:
    strategy, guide, _ = jump_start(window=1, curriculum="random", horizon=3)
    played(strategy, guide, 5, 0.0)
    seen = {tuple(played(strategy, guide, 5, 0.0)).count("guide") for _ in range(60)}
    assert seen == {0, 1, 2, 3}


def test_short_episodes_do_not_decide_alone() -> None:
    """Two worlds, window 2: one episode of each counts, though the first world ends two before the second one."""
    strategy, _, _ = jump_start(2, window=2, stages=4)
    strategy.saw(step_of([1, 1], [True, False], [0.0, -1.0]))
    strategy.saw(step_of([1, 2], [True, False], [-2.0, -2.0]))
    assert strategy.longest is None
    strategy.saw(step_of([1, 3], [False, True], [-1.0, -3.0]))
    assert (strategy.longest, strategy.best) == (2, -2.5)
    assert strategy.began == [0, 1]  # the first world's episode had begun before
    strategy.saw(step_of([2, 1], [True, False], [100.0, 0.0]))
    assert strategy.ended == [[], []]


@pytest.fixture(scope="module", params=["pex", "jsrl"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    settings = {"finetune.strategy": request.param, "jsrl.window": "1", "jsrl.tolerance": "9", "num_envs": "2"}
    settings |= {"env_kwargs": "{max_episode_steps: 7}", "jsrl.curriculum": "random", "finetune.utd_ratio": "0.5"}
    path = tmp_path_factory.mktemp("strategies") / request.param
    assert balrl.train(maze_config(**settings), path).finished
    return settings, path


@pytest.mark.parametrize("step", [6, 14, 33, 55])
def test_stopped_and_resumed_equals_not_stopped(whole: tuple[dict[str, str], Path], tmp_path: Path, step: int) -> None:
    settings, path = whole
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(**settings), tmp_path / "run", Interrupt(step, crash=True))
    assert balrl.resume(tmp_path / "run").finished
    expected, got = final_state(path), final_state(tmp_path / "run")
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert records(tmp_path / "run") == records(path)


def test_what_is_stored_and_served(whole: tuple[dict[str, str], Path]) -> None:
    settings, path = whole
    evaluations = json.loads((path / "evaluations.json").read_text())
    last = sorted((path / "checkpoints").iterdir())[-1]
    state = json.loads((last / "state.json").read_text())
    agent = balrl.load_agent(path)
    if settings["finetune.strategy"] == "pex":
        assert isinstance(agent.champion, ExpandedPolicy)
        assert "learner" in evaluations[-1]
    else:
        assert agent.champion is None
        assert state["progress"]["strategy"]["longest"] is not None
    assert list(balrl.evaluate(path, episodes=2, num_envs=2).returns) == evaluations[-1]["returns"]


@pytest.mark.slow
def test_members_of_a_population_begin_anew_as_they_would_alone(tmp_path: Path) -> None:
    settings = {"finetune.strategy": "pex", "finetune.learner": "neither", "num_envs": "2", "batch_size": "8"}
    configs = {f"s{seed}": maze_config(**settings, seed=str(seed)) for seed in (0, 1)}
    assert all(result.finished for result in balrl.train_population(configs, tmp_path / "both").values())
    balrl.train(configs["s1"], tmp_path / "alone")
    together, alone = final_state(tmp_path / "both" / "s1"), final_state(tmp_path / "alone")
    policy = [key for key in alone if key.startswith("agent/policy.")]
    assert policy
    for key in policy:
        torch.testing.assert_close(together[key], alone[key], rtol=1e-3, atol=1e-4, msg=key)


def test_an_episode_that_somebody_else_began_is_not_the_guides(tmp_path: Path) -> None:
    agent = SAC(*BOX, SACConfig(hidden=(8,)))
    strategy = JumpStart(JSRLConfig(window=1), agent, 1, agent.freeze(), is_fresh=False)
    strategy.saw(step_of([50], [True], [1.0]))
    assert strategy.longest is None
    strategy.saw(step_of([4], [True], [1.0]))
    assert strategy.longest == 4


def test_in_new_episodes_the_guide_begins(tmp_path: Path) -> None:
    strategy, guide, _ = jump_start(window=1, stages=2)
    played(strategy, guide, 4, 1.0)
    strategy.explore(torch.ones(1, 3))
    strategy.saw(step_of([3], [False], [0.0]))
    strategy.restart()
    assert played(strategy, guide, 3, 1.0) == ["guide", "guide", "learner"]


def test_what_is_two_policies_is_no_single_one(whole: tuple[dict[str, str], Path], tmp_path: Path) -> None:
    settings, path = whole
    if settings["finetune.strategy"] == "jsrl":
        return
    agent = balrl.load_agent(path)
    with pytest.raises(UserError, match="two policies"):
        write_plain_policy(agent, tmp_path / "policy.pt")
    with pytest.raises(UserError, match="two policies"):
        agent.predict(agent.spaces.observation_space.sample(), best_of=4)
    recorded = record_dataset("balrl/PointMaze-v0", str(path), 20, tmp_path / "data.hdf5", deterministic=True)
    assert recorded >= 1


@pytest.mark.parametrize(
    ("agent", "config", "message"),
    [
        (PPO(*BOX, PPOConfig(hidden=(8,))), {"strategy": "jsrl"}, "present policy's own steps"),
        (BC(*BOX, BCConfig(hidden=(8,))), {"strategy": "pex"}, "needs critics"),
        (SAC(*BOX, SACConfig(hidden=(8,))), {"strategy": "pex", "serve": "champion"}, "finetune.serve=newest"),
        (SAC(*BOX, SACConfig(hidden=(8,))), {"strategy": "jsrl", "member": "bandit"}, "finetune.member=own"),
        (SAC(*BOX, SACConfig(hidden=(8,), anchor=1.0)), {"strategy": "jsrl"}, "leave it at 0"),
        (QC(*BOX, QCConfig(hidden=(8,))), {"strategy": "jsrl"}, "keeps the policy beside the learner"),
    ],
)
def test_what_does_not_compose_is_one_line(agent: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_strategy(run_config(agent, **config), agent)


def test_nothing_pre_trained_is_one_line() -> None:
    agent = SAC(*BOX, SACConfig(hidden=(8,)))
    config = run_config(agent, strategy="pex").model_copy(update={"pretrain": PretrainConfig(), "init": InitConfig()})
    with pytest.raises(UserError, match="needs a pre-trained policy"):
        check_strategy(config, agent)
    critic = config.model_copy(update={"init": InitConfig(checkpoint="somewhere", parts="critic")})
    with pytest.raises(UserError, match="needs a pre-trained policy"):
        check_strategy(critic, agent)


def test_settings_of_a_strategy_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no strategy"):
        balrl.train(maze_config(**{"finetune.learner": "neither"}), tmp_path / "run")


@pytest.mark.parametrize("strategy", ["pex", "jsrl"])
@pytest.mark.parametrize("preset", ["fql/point-maze", "rebrac/point-maze", "calql/point-maze", "awac/point-maze"])
def test_strategies_compose_with_every_base(preset: str, strategy: str, tmp_path: Path) -> None:
    small = maze_config(**{"finetune.strategy": strategy}).model_dump(mode="json")
    settings = {"finetune.strategy": strategy, "pretrain.updates": "5", "warmup.steps": "20", "finetune.steps": "30"}
    settings |= {"batch_size": "8", "evaluation.episodes": "2", "tracking.wandb": "off", "agent.hidden": "[8]"}
    assert small["finetune"]["strategy"] == strategy
    assert balrl.train(balrl.load_config(preset, settings=settings), tmp_path / "run").finished
