"""`balrl train`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from balrl.cli.main import main
from balrl.cli.train import parse_settings
from balrl.data.dataset import Dataset
from balrl.errors import UserError
from balrl.run.presets import load_config
from balrl.watch.tracking import read_metrics
from tests.cli.small import TINY

ROOT = Path(__file__).resolve().parents[2]


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path: Path) -> None:
    arguments = [
        "train",
        "--preset",
        "iql/point-maze",
        "--run-dir",
        str(tmp_path / "r"),
        *TINY,
        "pretrain.updates=1000000",
    ]
    process = subprocess.Popen([sys.executable, "-m", "balrl", *arguments], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "evaluations.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 130
    assert f"balrl train --resume {tmp_path / 'r'}" in out
    assert list((tmp_path / "r" / "checkpoints").glob("*/state.json"))


def test_an_unwritable_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can write everywhere")
    tmp_path.chmod(0o500)
    assert main(["train", "--preset", "iql/point-maze", "--run-dir", str(tmp_path / "r"), *TINY]) == 2
    assert "cannot write to the run directory" in capsys.readouterr().err


def test_settings_in_every_spelling() -> None:
    parsed = parse_settings(["a.b=1", "--c=2", "--d", "3", "run.e-f=x=y", "--g", "-1"])
    assert parsed == {"a.b": "1", "c": "2", "d": "3", "run.e_f": "x=y", "g": "-1"}
    for bad in (["--seed"], ["word"], ["--seed", "--other=1"]):
        with pytest.raises(UserError, match="has no value"):
            parse_settings(bad)


def test_runs_are_named_after_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = [
        "pretrain.updates=2",
        "evaluation.episodes=1",
        "tracking.wandb=off",
        "agent.hidden=[8]",
        "finetune.steps=0",
    ]
    assert main(["train", "--preset", "famo2o-iql/point-maze", *short]) == 0
    assert [p.name.rpartition("-s0-")[0] for p in (tmp_path / "runs").iterdir()] == ["famo2o-iql-PointMaze-v0"]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own in the current folder, with a task and a callback."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "import gymnasium as gym\nimport balrl\nfrom tests.faulty_env import FaultyEnv\n"
        f"gym.register('Own{name}-v0', entry_point=FaultyEnv, max_episode_steps=8)\n"
        "class Stops(balrl.Callback):\n"
        "    def on_step(self, status):\n        print('step', status.step)\n        return status.env_steps < 8\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


OWN = ["train", "--preset", "sac/point-maze", "agent.hidden=[4]", "env_kwargs={}", "num_envs=1", "pretrain.updates=0"]
OWN += [word for word in TINY if not word.startswith(("pretrain", "env_kwargs"))]


def test_a_task_and_a_callback_of_ones_own(own_module: str, capsys: pytest.CaptureFixture[str]) -> None:
    task = ["--env", f"Own{own_module}-v0"]
    assert main([*OWN, *task]) == 2
    assert "one of your own needs --import MODULE" in capsys.readouterr().err
    with_it = ["--import", own_module, *OWN, *task, "--run-dir", "run", "--callback", f"{own_module}:Stops"]
    assert main(with_it) == 130
    assert "step 8" in capsys.readouterr().out
    assert yaml.safe_load(Path("run/config.yaml").read_text())["imports"] == [own_module]
    assert main(["train", "--resume", "run"]) == 0  # imported in this process already; without the callback to its end
    monkeypatched = sys.modules.pop(own_module)
    try:
        for verb in (["train", "--resume", "run", "seed=0"], ["evaluate", "run", "--episodes", "1"]):
            assert main(verb) == 2
            assert f"was made with --import {own_module}: name it again" in capsys.readouterr().err
    finally:
        sys.modules[own_module] = monkeypatched
    assert main(["evaluate", "--import", own_module, "run", "--episodes", "1"]) == 0


def test_imports_in_a_file_of_settings(own_module: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_config("sac/point-maze", settings={"agent.hidden": [4]}).model_dump(mode="json")
    data |= {"imports": [own_module], "env": f"Own{own_module}-v0", "env_kwargs": {}, "dataset": None, "num_envs": 1}
    Path("own.yaml").write_text(yaml.safe_dump(data))
    settings = [word for word in TINY if not word.startswith(("pretrain", "env_kwargs"))]
    assert main(["train", "--config", "own.yaml", "pretrain.updates=0", *settings, "--run-dir", "run"]) == 0
    capsys.readouterr()


def test_data_that_names_a_module_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strangers_code.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rows = {
        "observations": np.zeros((9, 4)),
        "actions": np.zeros((9, 2)),
        "rewards": np.arange(9),
        "terminals": [0] * 9,
    }
    Dataset.from_arrays(rows, env_id="strangers_code:Task-v0").save("a.hdf5")
    assert main(["data", "info", "a.hdf5"]) == 0
    assert "asks for the module 'strangers_code', which nobody named" in capsys.readouterr().err
    assert main(["train", "--preset", "iql/locomotion", "--dataset", "a.hdf5"]) == 2
    assert "if you trust it, pass --import strangers_code" in capsys.readouterr().err
    assert not Path("ran").exists()


def test_a_faulty_task_has_an_exit_code_of_its_own(own_module: str, capsys: pytest.CaptureFixture[str]) -> None:
    task = [
        "--import",
        own_module,
        "--env",
        f"Own{own_module}-v0",
        "--run-dir",
        "run",
        "env_kwargs={fault: nan-reward}",
    ]
    assert main([*(word for word in OWN if not word.startswith("env_kwargs")), *task]) == 4
    assert "stopped at step 10, world 0, step 3 of its episode: reward is nan" in capsys.readouterr().err


def test_a_wandb_agent_calls_it_with_arguments_that_it_reads(tmp_path: Path) -> None:
    """The command of docs/examples/wandb_sweep.yaml, made of values by W&B's own functions as its agent does."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((ROOT / "docs" / "examples" / "wandb_sweep.yaml").read_text())
    values = {"agent.expectile": 0.83, "agent.balance.coefficient": 4.5, "seed": 2}
    assert values.keys() == sweep["parameters"].keys()
    made = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})["args"]
    command = [
        part for word in create_sweep_command(sweep["command"]) for part in (made if word == "${args}" else [word])
    ]
    assert command[0] == sweep["program"] == "balrl"
    assert main([*command[1:], *TINY, "--run-dir", str(tmp_path / "run")]) == 0
    config = load_config(file=tmp_path / "run" / "config.yaml")
    assert (config.agent.expectile, config.agent.balance.coefficient, config.seed) == (0.83, 4.5, 2)  # type: ignore
    assert sweep["metric"]["name"] in read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
