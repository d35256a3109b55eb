"""The online side of a run: what it holds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import balrl
from balrl.agents import SAC
from balrl.checkpoint import list_checkpoints, load_tensors
from balrl.errors import UserError
from balrl.run.assemble import assemble
from balrl.watch.display import Display
from tests.run.small import PPO, SMALL, Interrupt, final_state, hopper_config, maze_config


@pytest.mark.parametrize(("retain", "rows"), [("append", 20_060), ("ratio", 60), ("none", 60)])
def test_retention(tmp_path: Path, retain: str, rows: int) -> None:
    settings = {"finetune.retain": retain, "finetune.steps": "41", "checkpoint.every": "30"}
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(**settings), tmp_path / "r", Interrupt(72, crash=True))
    path = list_checkpoints(tmp_path / "r")[0]
    stored = load_tensors(path, "replay")["rows"].shape[0]
    assert stored - rows in (0, -10)


def test_a_run_that_could_never_update_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no update would be made"):
        balrl.train(maze_config(batch_size="100", **{"pretrain.updates": "0"}), tmp_path / "run")
    with pytest.raises(UserError, match=r"replay\.capacity is 5, expected at least 10"):
        balrl.train(maze_config(**{"replay.capacity": "5"}), tmp_path / "run")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"finetune.utd_ratio": "2"}, "utd_ratio is 2.0, expected 1.0"),
        ({"batch_size": "13"}, "batch_size is 13, a rollout has 4 steps of 3 environments"),
    ],
)
def test_ppo_refuses_what_it_cannot_use(tmp_path: Path, setting: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        balrl.train(balrl.load_config("ppo/classic", settings={**PPO, **setting}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("ppo/classic", {**PPO}, "agent ppo learns from single steps; leave it at 1"),
        ("calql/point-maze", {**SMALL}, "learns from single steps with mc_returns"),
        ("rebrac/point-maze", {**SMALL}, "learns from single steps with next_actions"),
        ("sac/point-maze", {**SMALL, "warmup.kind": "offline-data", "dataset": "point-maze-mixed"}, "one by one"),
        (
            "iql/point-maze",
            {**SMALL, "num_envs": "50", "replay.capacity": "60"},
            "expected at least 100 for runs",
        ),
    ],
)
def test_what_has_no_chunks_says_so(preset: str, settings: dict[str, str], message: str, tmp_path: Path) -> None:
    config = balrl.load_config(preset, settings={**settings, "agent.chunk_size": "2"})
    with pytest.raises(UserError, match=message):
        balrl.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_chunks_of_a_task_that_begins_anew_do_not_cross_the_stop(tmp_path: Path) -> None:
    settings = {**SMALL, "agent.chunk_size": "3", "env": "Pendulum-v1", "warmup.steps": "20"}
    settings = {k: v for k, v in settings.items() if not k.startswith("pretrain")} | {"dataset": "null"}
    config = balrl.load_config("sac/locomotion", settings=settings | {"env_kwargs": "{}"})
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "run", Interrupt(35, crash=True))
    with pytest.raises(RuntimeError, match="power"):
        balrl.resume(tmp_path / "run", display=Interrupt(55, crash=True))
    replay = load_tensors(list_checkpoints(tmp_path / "run")[0], "replay")
    observations, following = replay["rows"][:, :3], replay["rows"][:, 5:8]
    linked = replay["links"].nonzero()[:, 0]
    assert len(linked) > 40
    torch.testing.assert_close(following[linked], observations[linked + replay["links"][linked]])
    assert (replay["links"] == 0).sum() >= 1


@pytest.mark.slow
def test_chunks_resume_exactly_with_what_is_still_to_be_played(tmp_path: Path) -> None:
    settings = {"agent.chunk_size": "3", "num_envs": "3", "env_kwargs": "{max_episode_steps: 7}"}
    assert balrl.train(maze_config(**settings), tmp_path / "whole").finished
    for step in (14, 33, 54):
        path = tmp_path / f"cut-{step}"
        with pytest.raises(RuntimeError, match="power"):
            balrl.train(maze_config(**settings), path, Interrupt(step, crash=True))
        assert balrl.resume(path).finished
        expected, got = final_state(tmp_path / "whole"), final_state(path)
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            assert torch.equal(got[key], value), key


@pytest.mark.parametrize("asked", [True, False])
def test_steps_are_held_back_for_agents_that_ask_for_next_actions(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SAC, "fields_in", lambda *_: ("next_actions",) if asked else ())
    interaction = assemble(hopper_config(), Display()).interaction
    assert interaction is not None
    assert (interaction.next_actions is not None) == asked
    assert ("next_actions" in interaction.replay.fields) == asked


def test_statistics_of_the_data_and_of_the_agent_itself_are_not_mixed(tmp_path: Path) -> None:
    settings = {**SMALL, "agent.critic_hidden": "[8]", "agent.value_range": "[-9, 9]", "num_envs": "4"}
    settings |= {"env": "balrl/PointMaze-v0", "dataset": "point-maze-mixed", "data.normalize_observations": "true"}
    config = balrl.load_config("fastsac/worlds", settings={**settings, "finetune.utd_ratio": "1"})
    with pytest.raises(UserError, match=r"agent\.normalize_observations would replace the statistics"):
        balrl.train(config, tmp_path / "run")
