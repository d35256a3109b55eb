from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import balrl
from balrl.cli.main import main
from balrl.data.d4rl import load_d4rl
from balrl.data.inspect import problems
from balrl.errors import UserError
from balrl.run.record_dataset import record_dataset
from balrl.run.registry import inspection_context

MAZE = "balrl/PointMaze-v0"


def arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        found = {key: item[()] for key, item in file.items() if isinstance(item, h5py.Dataset)}
        return found | {f"infos/{key}": item[()] for key, item in file.get("infos", {}).items()}


def test_random_actions_make_a_sound_dataset(tmp_path: Path) -> None:
    episodes = record_dataset("Hopper-v5", "random", 120, tmp_path / "a.hdf5")
    data = load_d4rl(tmp_path / "a.hdf5")
    assert len(data) == 120
    assert len(data.episode_slices) == episodes
    assert data.env_id == "Hopper-v5"
    assert data.truncated[-1] or data.terminated[-1]
    assert problems(data, inspection_context("Hopper-v5")) == []


class Stop(Exception):
    pass


def test_stopped_and_gone_on_with_equals_not_stopped(tmp_path: Path) -> None:
    def interrupt(rows: int) -> None:
        if rows >= 60:
            raise Stop

    options = {"env_kwargs": {"max_episode_steps": 25}, "seed": 4}
    record_dataset(MAZE, "random", 130, tmp_path / "whole.hdf5", **options)
    with pytest.raises(Stop):
        record_dataset(MAZE, "random", 130, tmp_path / "b.hdf5", progress=interrupt, **options)
    assert (tmp_path / "b.hdf5.partial").exists()
    assert not (tmp_path / "b.hdf5").exists()
    record_dataset(MAZE, "random", 130, tmp_path / "b.hdf5", **options)
    one, two = arrays(tmp_path / "whole.hdf5"), arrays(tmp_path / "b.hdf5")
    assert one.keys() == two.keys()
    assert "infos/success" in one
    for key, value in one.items():
        assert np.array_equal(two[key], value), key


def test_a_policy_s_samples_follow_the_episode_s_seed(tmp_path: Path) -> None:
    settings = {"pretrain.updates": "4", "finetune.steps": "0", "warmup.steps": "0", "evaluation.episodes": "1"}
    settings |= {"agent.hidden": "[8]", "tracking.wandb": "off", "dataset": "point-maze-mixed"}
    balrl.train(balrl.load_config("iql/point-maze", settings=settings), tmp_path / "run")

    def interrupt(rows: int) -> None:
        raise Stop

    options = {"env_kwargs": {"max_episode_steps": 10}}
    record_dataset(MAZE, str(tmp_path / "run"), 30, tmp_path / "whole.hdf5", seed=4, **options)
    with pytest.raises(Stop):
        record_dataset(MAZE, str(tmp_path / "run"), 30, tmp_path / "b.hdf5", seed=4, progress=interrupt, **options)
    record_dataset(MAZE, str(tmp_path / "run"), 30, tmp_path / "b.hdf5", seed=4, **options)
    record_dataset(MAZE, str(tmp_path / "run"), 30, tmp_path / "next.hdf5", seed=5, **options)
    whole, resumed, following = (arrays(tmp_path / f"{name}.hdf5")["actions"] for name in ("whole", "b", "next"))
    assert np.array_equal(whole, resumed)
    assert np.array_equal(following[:10], whole[10:20])  # seed 5 is the second episode of seed 4
    assert not np.array_equal(whole[:10], whole[10:20])


def test_an_agent_that_remembers_does_so_while_it_is_recorded(tmp_path: Path) -> None:
    """Its actions are those of `predict` with its memory, its rewards and its episodes' beginnings."""
    settings = {"pretrain.updates": "4", "finetune.steps": "0", "warmup.steps": "0", "evaluation.episodes": "1"}
    settings |= {"tracking.wandb": "off", "agent.width": "16", "agent.heads": "1", "agent.layers": "1"}
    balrl.train(balrl.load_config("dt/point-maze", settings=settings), tmp_path / "run")
    options = {"env_kwargs": {"max_episode_steps": 6}}
    record_dataset(MAZE, str(tmp_path / "run"), 18, tmp_path / "d.hdf5", deterministic=True, **options)
    data, agent, state = balrl.load_dataset(tmp_path / "d.hdf5"), balrl.load_agent(tmp_path / "run"), None
    for row in range(18):
        reward = None if row == 0 else data.rewards[row - 1 : row]
        observation, begins = data.observations[row : row + 1], np.array([row % 6 == 0])
        expected, state = agent.predict(observation, state, begins, deterministic=True, reward=reward)
        np.testing.assert_allclose(data.actions[row], expected[0], atol=1e-5)
    with pytest.raises(UserError, match="agent dt remembers its own actions, which noise and epsilon would replace"):
        record_dataset(MAZE, str(tmp_path / "run"), 6, tmp_path / "noisy.hdf5", noise=0.1, **options)
    assert not list(tmp_path.glob("noisy*"))


def test_a_run_and_a_zip_act(tmp_path: Path) -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    model = sb3.SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, buffer_size=10)
    model.save(tmp_path / "model.zip")
    record_dataset("Pendulum-v1", str(tmp_path / "model.zip"), 30, tmp_path / "zip.hdf5", deterministic=True)
    data = load_d4rl(tmp_path / "zip.hdf5")
    wanted, _ = model.predict(data.observations, deterministic=True)
    np.testing.assert_allclose(data.actions, wanted, atol=1e-5)
    settings = {"env": "Pendulum-v1", "warmup.steps": "0", "finetune.steps": "12", "batch_size": "8"}
    settings |= {"agent.hidden": "[8]", "evaluation.episodes": "1", "tracking.wandb": "off"}
    balrl.train(balrl.load_config("sac/locomotion", settings=settings), tmp_path / "run")
    record_dataset("Pendulum-v1", str(tmp_path / "run"), 30, tmp_path / "run.hdf5", noise=0.1, epsilon=0.5)
    assert np.abs(load_d4rl(tmp_path / "run.hdf5").actions).max() <= 2
    with pytest.raises(UserError, match="made for 3 observations and 1 actions, the environment has 11 and 3"):
        record_dataset("Hopper-v5", str(tmp_path / "run"), 5, tmp_path / "x.hdf5")
    with pytest.raises(UserError, match=r"'absent\.zip' does not exist"):
        record_dataset("Hopper-v5", "absent.zip", 5, tmp_path / "x.hdf5")
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.slow
def test_the_command_line_records_converts_and_relabels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("minari", reason="Minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "collect", "--env", MAZE, "--from", "random", "--steps", "250", "--out", "a.hdf5"]) == 0
    assert main(["data", "convert", "a.hdf5", "minari:maze/random-v0"]) == 0
    assert main(["data", "convert", "minari:maze/random-v0", "b.hdf5"]) == 0
    assert load_d4rl(tmp_path / "b.hdf5").fingerprint() == load_d4rl(tmp_path / "a.hdf5").fingerprint()
    assert main(["data", "info", "minari:maze/random-v0"]) == 0
    assert main(["data", "relabel", "a.hdf5", "c.hdf5", "--success", "infos/success", "--reward", "5"]) == 0
    assert (
        main(["data", "collect", "--env", MAZE, "--from", "random", "--steps", "9", "--out", "minari:maze/x-v0"]) == 0
    )
    assert "wrote minari:maze/x-v0: 9 transitions, 1 episodes" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.glob("*.hdf5")) == ["a.hdf5", "b.hdf5", "c.hdf5"]
    again = ["data", "collect", "--env", MAZE, "--from", "random", "--steps", "9", "--out"]
    for name in ("minari:maze/x-v0", "minari:no version", "a.hdf5"):
        assert main([*again, name]) == 2
    assert main(["data", "convert", "a.hdf5", "b.hdf5"]) == 2
    assert main(["data", "info", "minari:none/such-v0"]) == 2
