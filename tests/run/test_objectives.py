"""Runs with several rewards: resumed anywhere, from data and online, learned, and refused where they cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import balrl
from balrl.agents import MOSAC, MOSACConfig
from balrl.errors import UserError
from balrl.rollout import Collector
from balrl.run.objectives import PreferencePlay, evaluated_preferences
from balrl.run.presets import TrainConfig
from tests.run.small import SMALL, Interrupt, final_state, records

ONLINE = {
    **{key: value for key, value in SMALL.items() if not key.startswith("pretrain")},
    "num_envs": "3",
    "env_kwargs": "{max_episode_steps: 9}",
    "evaluation.preferences": "3",
}
OFFLINE = {"finetune.steps": "0", "warmup.steps": "0", "pretrain.updates": "12", "pretrain.eval_every": "6"}


def config(preset: str = "mo-sac/point-maze-energy", **settings: Any) -> TrainConfig:
    return balrl.load_config(preset, settings={**ONLINE, **settings})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objectives") / "whole"
    assert balrl.train(config(), path).finished
    return path


@pytest.mark.parametrize("step", [13, 35, 52])
def test_stopped_and_resumed_equals_not_stopped(whole: Path, tmp_path: Path, step: int) -> None:
    """In the warm-up and in fine-tuning: which preference every world plays, weights, every record."""
    path = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config(), path, Interrupt(step, crash=True))
    assert balrl.resume(path).finished
    expected, got = final_state(whole), final_state(path)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert records(path) == records(whole)
    assert (path / "evaluations.json").read_text() == (whole / "evaluations.json").read_text()


def test_evaluations_play_every_preference(whole: Path) -> None:
    last = json.loads((whole / "evaluations.json").read_text())[-1]
    assert [point["preference"] for point in last["front"]] == [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    assert last["episodes"] == 6
    assert last["expected_utility"] == pytest.approx(last["score"])
    utilities = [np.dot(point["preference"], point["return"]) for point in last["front"]]
    assert last["score"] == pytest.approx(np.mean(utilities))
    assert last["hypervolume"] > 0


@pytest.mark.parametrize("agent", ["mo-iql", "mo-td3bc"])
def test_offline_from_vectors_then_online(tmp_path: Path, agent: str) -> None:
    settings = {**OFFLINE, "warmup.steps": "12", "finetune.steps": "12", "finetune.retain": "ratio"}
    assert balrl.train(config(f"{agent}/point-maze-energy", **settings), tmp_path / "run").finished


def test_rewards_learned_in_every_dimension(tmp_path: Path) -> None:
    learned = {"reward.pairs": "20", "reward.steps": "5", "reward.members": "2", "reward.hidden": "[8]"}
    learned |= {"reward.epochs": "2", "reward.online_every": "10", "reward.online_pairs": "5", "warmup.steps": "12"}
    settings = {**OFFLINE, **learned, "finetune.steps": "24", "reward.online_memory": "60"}
    made = config("mo-iql/point-maze-energy", **settings)
    one, other = tmp_path / "one", tmp_path / "other"
    assert balrl.train(made, one).finished
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(made, other, Interrupt(40, crash=True))
    assert balrl.resume(other).finished
    expected, got = final_state(one), final_state(other)
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    found = records(one)
    assert any("reward/accuracy_2" in record for record in found)
    assert any("reward/gap_1" in record for record in found)
    with pytest.raises(UserError, match=r"reward\.ensemble has 1 files, agent mo-iql learns from 2 rewards"):
        balrl.train(config("mo-iql/point-maze-energy", **OFFLINE, **{"reward.ensemble": "a"}), tmp_path / "no")


def test_one_reward_that_is_a_weighted_sum(tmp_path: Path) -> None:
    settings = {**ONLINE, "env": "balrl/PointMazeEnergy-v0", "data.reward_weights": "[1.0, 0.5]"}
    made = balrl.load_config("sac/point-maze", settings=settings)
    assert balrl.train(made, tmp_path / "run").finished
    result = balrl.evaluate(tmp_path / "run", episodes=3)
    assert result.return_vectors is None
    assert result.mean_return < 0
    vectors = balrl.evaluate(tmp_path / "run", episodes=3, preference=[2, 1]).return_vectors
    assert vectors is not None
    assert result.returns == pytest.approx([a + 0.5 * b for a, b in vectors])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"agent.objectives": "3"}, "has 2 rewards a step, agent mo-sac learns from 3: set agent.objectives=2"),
        ({"env": "balrl/PointMaze-v0"}, "has one reward a step, agent mo-sac learns from 2: choose an agent for one"),
        ({"data.reward_weights": "[1, 1]"}, "has one reward a step, agent mo-sac learns from 2"),
        ({"evaluation.hypervolume_reference": "[0, 0, 0]"}, "reference has 3 numbers, expected 2"),
        ({"data.reward_weights": "[1, 1, 1]"}, r"reward_weights has 3 numbers, the task pays 2 rewards"),
        (
            {"env": "balrl/PointMaze-v0", "data.reward_weights": "[1, 1]"},
            "weigh several rewards, task and data have one",
        ),
        ({"finetune.serve": "champion"}, r"finetune\.serve=champion compares by one reward"),
        ({"finetune.strategy": "jsrl"}, r"finetune\.strategy=jsrl compares by one reward"),
        ({"warmup.select": "halving"}, r"warmup\.select=halving compares by one reward"),
    ],
)
def test_what_does_not_compose_is_refused_in_one_line(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        balrl.train(config(**settings), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_vectors_for_an_agent_that_learns_from_one_reward_say_the_cure(tmp_path: Path) -> None:
    data = balrl.load_dataset("point-maze-energy")
    with h5py.File(data.save(tmp_path / "two.hdf5")) as file:
        assert file["rewards"].shape == (20_000, 2)
    again = balrl.load_dataset(tmp_path / "two.hdf5")
    assert again.fingerprint() == data.fingerprint()
    settings = {**ONLINE, **OFFLINE, "dataset": str(tmp_path / "two.hdf5"), "env_kwargs": "{}"}
    made = balrl.load_config("iql/point-maze", settings=settings)
    with pytest.raises(
        UserError, match=r"'point-maze-energy' has 2 rewards a step, .* data\.reward_weights=\[0\.5, 0\.5\]"
    ):
        balrl.train(made, tmp_path / "no")
    cured = balrl.load_config("iql/point-maze", settings={**settings, "data.reward_weights": "[0.5, 0.5]"})
    assert balrl.train(cured, tmp_path / "run").finished
    ranked = config("mo-iql/point-maze-energy", **OFFLINE, **{"data.top_fraction": "0.5"})
    with pytest.raises(UserError, match=r"data\.top_fraction=0\.5 compares by one reward"):
        balrl.train(ranked, tmp_path / "no")


def test_every_world_plays_one_preference_for_an_episode() -> None:
    env = balrl.make_env("balrl/PointMazeEnergy-v0", 3, kwargs={"max_episode_steps": 4})
    agent = MOSAC(env.single_observation_space, env.single_action_space, MOSACConfig(hidden=(8,)))
    play, collector = PreferencePlay(agent, 3), Collector(env, seed=0)
    for _ in range(2):
        begun = play.playing.clone()
        for t in range(4):
            assert torch.equal(play.playing, begun)
            step = collector.step(play.explore)
            play.saw(step)
            if t < 3:
                assert not step.done.any()
        assert (play.playing != begun).any(-1).all()
    again = PreferencePlay(agent, 3, play.tensors())
    assert torch.equal(again.playing, play.playing)


def test_control_may_change_its_mind_at_every_step(whole: Path) -> None:
    asked = []

    def mind(observations: np.ndarray[Any, Any], steps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        asked.append((observations.shape, steps.tolist()))
        return np.stack([steps % 2, 1 - steps % 2], -1)

    result = balrl.evaluate(whole, episodes=2, num_envs=2, preference=mind, max_episode_steps=3)
    assert asked[0] == ((2, 4), [0, 0])
    assert asked[1][1] == [1, 1]
    assert result.preferences is None
    assert result.front is None
    assert result.return_vectors is not None


def test_what_is_of_one_reward_says_so(whole: Path, tmp_path: Path) -> None:
    from balrl.run.plain_policy import write_plain_policy
    from balrl.run.sb3 import write_sac_zip

    agent = balrl.load_agent(whole)
    with pytest.raises(UserError, match="conditioned on a preference over 2 rewards"):
        write_sac_zip(agent, tmp_path / "a.zip")
    with pytest.raises(UserError, match=r"offline estimates are of one reward, agent mo-sac learned from 2"):
        balrl.evaluate_offline(whole, "point-maze-energy")
    with pytest.raises(UserError, match="has 2 rewards a step, advice is for one"):
        balrl.advise("point-maze-energy")
    family = config(
        "mo-iql/point-maze-energy",
        **OFFLINE,
        **{"agent.balance.kind": "state-adaptive", "agent.balance.minimum": "1", "agent.balance.maximum": "5"},
    )
    assert balrl.train(family, tmp_path / "family").finished
    with pytest.raises(UserError, match="a family's curve is of one reward"):
        balrl.family(tmp_path / "family")
    asked = balrl.evaluate(tmp_path / "family", episodes=2, balance=2.0, preference=[1, 0])
    assert asked.preferences == ((1.0, 0.0),) * 2
    observation = torch.zeros(1, 4)
    agent.prefer([1.0, 0.0])
    exported = torch.jit.load(write_plain_policy(agent, tmp_path / "a.pt"))
    expected, _ = agent.predict(observation.numpy(), deterministic=True, preference=[1.0, 0.0])
    np.testing.assert_allclose(exported(observation).numpy(), expected, atol=1e-6)


def test_a_learned_reward_is_no_weighted_sum(tmp_path: Path) -> None:
    """Data that says where its one reward comes from does not make weights right."""
    data = balrl.load_dataset("point-maze-mixed")
    labelled = replace(data, rewards_from="somebody's ensemble")
    made = balrl.load_config("iql/point-maze", settings={**ONLINE, **OFFLINE, "data.reward_weights": "[1, 1]"})
    with pytest.raises(UserError, match="task and data have one"):
        balrl.train(made, tmp_path / "run", dataset=labelled)


def test_members_of_a_population_are_what_they_are_alone(whole: Path, tmp_path: Path) -> None:
    members = balrl.member_configs(config(), seeds=[0, 1])
    found = balrl.train_population(members, tmp_path / "population")
    assert all(result.finished for result in found.values())
    expected, got = final_state(whole), final_state(tmp_path / "population" / next(iter(members)))
    for key in (key for key in expected if not key.startswith("random/")):
        torch.testing.assert_close(got[key], expected[key], rtol=1e-4, atol=1e-5, msg=key)


def test_a_policy_of_one_reward_is_shown_one(tmp_path: Path) -> None:
    """One that remembers, trained on a weighted sum, plays in two rewards under a preference as in its own task."""
    settings = {**ONLINE, **OFFLINE, "env": "balrl/PointMazeEnergy-v0", "dataset": "point-maze-energy"}
    settings |= {"data.reward_weights": "[2, 0.5]", "agent.target_return": "null", "num_envs": "1"}
    config = balrl.load_config("rvs/point-maze", settings=settings)
    assert balrl.train(config, tmp_path / "run").finished
    own = balrl.evaluate(tmp_path / "run", episodes=4, num_envs=2)
    seen = balrl.evaluate(tmp_path / "run", episodes=4, num_envs=2, preference=[3, 1])
    assert seen.return_vectors is not None
    assert [2 * a + 0.5 * b for a, b in seen.return_vectors] == pytest.approx(list(own.returns))
    assert seen.preferences == ((0.75, 0.25),) * 4
    agent = balrl.load_agent(tmp_path / "run")
    with pytest.raises(UserError, match="how they were weighed is not known"):
        balrl.evaluate(agent, "balrl/PointMazeEnergy-v0", episodes=1, preference=[1, 1])
    for preference in (None, [1.0, 0.0]):
        assert balrl.record_video(tmp_path / "run", tmp_path / "film.gif", preference=preference) > 0


def test_which_preferences_are_evaluated() -> None:
    assert evaluated_preferences(MOSACConfig(objectives=3), 4)[0] == (0.0, 0.0, 1.0)
    assert len(evaluated_preferences(MOSACConfig(objectives=3), 4)) == 6
    assert evaluated_preferences(balrl.load_config("sac/point-maze").agent, 5) == [None]


def test_recordings_have_a_preference_for_every_episode(whole: Path, tmp_path: Path) -> None:
    from balrl.run.record_dataset import record_dataset

    made = record_dataset(
        "balrl/PointMazeEnergy-v0", str(whole), 30, tmp_path / "d.hdf5", env_kwargs={"max_episode_steps": 5}
    )
    assert made == 6
    assert balrl.load_dataset(tmp_path / "d.hdf5").rewards.shape == (30, 2)
