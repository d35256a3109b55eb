from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import balrl
from balrl.agents import IQL
from balrl.batch import Batch
from balrl.checkpoint import list_checkpoints, load_state, load_tensors
from balrl.errors import UserError
from balrl.run.presets import TrainConfig
from balrl.watch.display import SilentDisplay
from balrl.watch.tracking import read_metrics

SMALL = {
    "pretrain.updates": "12",
    "pretrain.eval_every": "6",
    "warmup.steps": "20",
    "finetune.steps": "40",
    "finetune.eval_every": "20",
    "batch_size": "16",
    "evaluation.episodes": "2",
    "checkpoint.every": "10",
    "tracking.log_every": "5",
    "tracking.wandb": "off",
    "threads": "1",
    "agent.hidden": "[8, 8]",
}
FAMILY = {
    **SMALL,
    "num_envs": "10",
    "finetune.utd_ratio": "1",
    "agent.balance.hidden": "[8]",
    "env_kwargs": "{max_episode_steps: 15}",
}
HOPPER = {"env": "Hopper-v5", "env_kwargs": "{}", "dataset": "null", "pretrain.updates": "0", "warmup.steps": "30"}


def maze_config(**settings: str) -> TrainConfig:
    return balrl.load_config("famo2o-iql/point-maze", settings={**FAMILY, **settings})


def hopper_config(**settings: str) -> TrainConfig:
    return balrl.load_config("sac/locomotion", settings={**SMALL, **HOPPER, **settings})


class Interrupt(SilentDisplay):
    """Ends the run at a step: by an exception, as a crash would, or by Ctrl-C."""

    def __init__(self, step: int, crash: bool) -> None:
        self.step, self.crash, self.done = step, crash, False

    def update(self, phase: str, done: int, total: int, step: int) -> None:
        if step >= self.step and not self.done:
            self.done = True
            if self.crash:
                raise RuntimeError("the power went out")
            os.kill(os.getpid(), signal.SIGINT)


class Listening(SilentDisplay):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard = ""

    def notice(self, message: str) -> None:
        self.heard += message


def final_state(run_dir: Path) -> dict[str, torch.Tensor]:
    path = list_checkpoints(run_dir)[0]
    return {
        f"{group}/{key}": value
        for group in ("agent", "optimizer", "random")
        for key, value in load_tensors(path, group).items()
    }


def records(run_dir: Path) -> list[Mapping[str, Any]]:
    return [{k: v for k, v in r.items() if "seconds" not in k} for r in read_metrics(run_dir / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maze") / "run"
    assert balrl.train(maze_config(), path).finished
    return path


@pytest.fixture(scope="module")
def whole_hopper_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hopper") / "run"
    assert balrl.train(hopper_config(), path).finished
    return path


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "ctrl-c"])
@pytest.mark.parametrize("step", [3, 11, 12, 22, 32, 33, 51, 61])
def test_killed_and_resumed_equals_not_killed(whole_run: Path, tmp_path: Path, step: int, crash: bool) -> None:
    """In pre-training, at its end, in the warm-up, at the switch, in fine-tuning: parameters, moments, records."""
    path = tmp_path / "run"
    interrupt = Interrupt(step, crash)
    if crash:
        with pytest.raises(RuntimeError, match="power"):
            balrl.train(maze_config(), path, interrupt)
    else:
        assert not balrl.train(maze_config(), path, interrupt).finished
    assert not json.loads((path / "summary.json").read_text())["finished"]
    assert balrl.resume(path).finished
    expected, got = final_state(whole_run), final_state(path)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert records(path) == records(whole_run)
    assert (path / "evaluations.json").read_text() == (whole_run / "evaluations.json").read_text()


def test_compiled_runs_resume_exactly_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling tries an update out and puts everything back: it may happen anywhere in a run."""
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda _: lambda graph, __: graph)
    config = balrl.load_config("iql/point-maze", settings={**SMALL, "compile": "on"})
    balrl.train(config, tmp_path / "whole")
    path = tmp_path / "stopped"
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, path, Interrupt(40, crash=True))
    assert balrl.resume(path).finished
    expected, got = final_state(tmp_path / "whole"), final_state(path)
    for key, value in expected.items():
        assert torch.equal(got[key], value), key


@pytest.mark.parametrize("step", [15, 30, 47])
def test_mujoco_resumes_exactly(whole_hopper_run: Path, tmp_path: Path, step: int) -> None:
    path = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(hopper_config(), path, Interrupt(step, crash=True))
    assert balrl.resume(path).finished
    for key, value in final_state(whole_hopper_run).items():
        assert torch.equal(final_state(path)[key], value), key
    assert records(path) == records(whole_hopper_run)


PPO = {
    **{key: value for key, value in SMALL.items() if key not in ("pretrain.updates", "warmup.steps")},
    "num_envs": "3",
    "agent.rollout_steps": "4",
    "agent.epochs": "2",
    "batch_size": "5",
    "agent.kl_coefficient": "0.1",
    "agent.kl_target": "0.01",
    "env_kwargs": "{max_episode_steps: 5}",
}


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_ppo_resumes_exactly_in_the_middle_of_a_rollout_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: str
) -> None:
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda _: lambda graph, __: graph)
    config = balrl.load_config("ppo/classic", settings={**PPO, "compile": compiled})
    result = balrl.train(config, tmp_path / "whole")
    assert result.summary["updates"] == 3 * 2 * 2  # 42 steps are 3 rollouts of 12 and half of one; 2 passes, 2 batches
    for step in (24, 30) if compiled == "off" else (30,):
        path = tmp_path / f"run{step}"
        with pytest.raises(RuntimeError, match="power"):
            balrl.train(config, path, Interrupt(step, crash=True))
        assert balrl.resume(path).finished
        expected, got = final_state(tmp_path / "whole"), final_state(path)
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            assert torch.equal(got[key], value), key


def test_ppo_is_the_same_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda _: lambda graph, __: graph)
    for mode in ("off", "on"):
        balrl.train(balrl.load_config("ppo/classic", settings={**PPO, "compile": mode}), tmp_path / mode)
    plain, compiled = (final_state(tmp_path / mode) for mode in ("off", "on"))
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


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


def test_environments_that_cannot_save_their_state_restart_and_say_so(tmp_path: Path) -> None:
    config = hopper_config(env="Pendulum-v1")
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "run", Interrupt(45, crash=True))
    display = Listening()
    assert balrl.resume(tmp_path / "run", display=display).finished
    assert "running episodes restart" in display.heard


def test_nothing_written_is_lost_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(**{"checkpoint.every": "1000"}), path, Interrupt(71, crash=True))
    before = read_metrics(path / "metrics.jsonl")
    balrl.resume(path)
    kept, discarded = read_metrics(path / "metrics.jsonl"), read_metrics(path / "metrics.discarded.jsonl")
    assert all(record in kept or record in discarded for record in before)
    assert discarded


def test_a_run_directory_holds_everything(whole_run: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "metrics.csv", "evaluations.json", "summary.json", "curves.png",
                 "balance_map.png", "checkpoints"):  # fmt: skip
        assert (whole_run / name).exists(), name
    assert not [p for p in whole_run.rglob(".*") if p.name != ".wandb"]
    assert not list(whole_run.rglob("*.pt")) + list(whole_run.rglob("*.pkl"))
    summary = json.loads((whole_run / "summary.json").read_text())
    assert summary["finished"]
    assert summary["seed"] == 0
    assert summary["final"]["success_rate"] is not None
    assert summary["best"]["score"] >= summary["final"]["score"]
    assert set(summary["wall_seconds"]) == {"pretrain", "warmup", "finetune", "evaluation"}
    assert summary["versions"]["torch"] == torch.__version__
    steps = [record["step"] for record in read_metrics(whole_run / "metrics.jsonl")]
    assert steps == sorted(steps)
    header = (whole_run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"step", "phase", "eval/score", "critic/loss", "balance/mean"} <= set(header)


def test_phases_do_what_they_say(whole_run: Path) -> None:
    checkpoints = whole_run / "checkpoints"
    before, after = (checkpoints / name for name in ("0000000012-end-pretrain", "0000000032-end-warmup"))
    for key, value in load_tensors(before, "agent").items():
        if key.split(".")[0] not in ("clock", "stream"):
            assert torch.equal(load_tensors(after, "agent")[key], value), f"{key} changed in the warm-up"
    assert load_tensors(after, "replay")["rows"].shape[0] == 20  # no logged transition among them
    end = load_state(checkpoints / "0000000072-end-finetune")["progress"]
    assert (end["updates"], end["env_steps"], end["phase"]) == (12 + 40, 60, "done")
    assert any(
        not torch.equal(value, load_tensors(after, "agent")[key])
        for key, value in load_tensors(checkpoints / "0000000072-end-finetune", "agent").items()
    )


@pytest.mark.parametrize(("utd", "updates"), [("0.5", 20), ("2", 80), ("0.3", 12)])
def test_update_to_data_ratio_carries_its_remainder(tmp_path: Path, utd: str, updates: int) -> None:
    result = balrl.train(
        maze_config(**{"finetune.utd_ratio": utd, "pretrain.updates": "0", "num_envs": "4"}), tmp_path / "r"
    )
    assert result.summary["updates"] == updates


@pytest.mark.parametrize(("retain", "rows"), [("append", 20_060), ("ratio", 60), ("none", 60)])
def test_retention(tmp_path: Path, retain: str, rows: int) -> None:
    settings = {"finetune.retain": retain, "finetune.steps": "41", "checkpoint.every": "30"}
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(**settings), tmp_path / "r", Interrupt(72, crash=True))
    path = list_checkpoints(tmp_path / "r")[0]
    stored = load_tensors(path, "replay")["rows"].shape[0]
    assert stored - rows in (0, -10)


def test_without_warm_up_updates_wait_for_a_full_batch(tmp_path: Path) -> None:
    settings = {"warmup.steps": "0", "pretrain.updates": "0", "num_envs": "1", "batch_size": "16"}
    result = balrl.train(maze_config(**settings), tmp_path / "r")
    assert result.summary["updates"] == 40 - 15


def poison(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the policy become NaN in the 20th online update, so many times."""
    update, left = IQL._update, [times]

    def broken(self: IQL, batch: Batch) -> dict[str, torch.Tensor]:
        metrics = update(self, batch)
        if self.phase == "online" and self.phase_updates == 20 and left[0]:
            left[0] -= 1
            self.policy.mean.bias.data.fill_(torch.nan)
        return metrics

    monkeypatch.setattr(IQL, "_update", broken)


@pytest.mark.parametrize("on_divergence", ["warn", "stop", "rollback"])
def test_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_divergence: str) -> None:
    poison(monkeypatch, 1)
    settings = {"watchdog.on_divergence": on_divergence, "instruments.every": "5", "env_kwargs": "{}"}
    display = Listening()
    result = balrl.train(maze_config(**settings), tmp_path / "run", display)
    assert "NaN at step" in display.heard
    assert "policy.mean.bias is not finite; try: lower agent.critic_learning_rate" in display.heard
    [finding] = result.summary["findings"]
    assert (finding["pattern"], finding["tensor"]) == ("NaN", "policy.mean.bias")
    assert result.summary["outcome"] == ("diverged" if on_divergence == "stop" else "finished")
    final = final_state(tmp_path / "run")
    finite = all(bool(torch.isfinite(v).all()) for k, v in final.items() if k.startswith("agent"))
    assert finite == (on_divergence != "warn")
    if on_divergence == "stop":
        assert "last good checkpoint" in display.heard
    if on_divergence == "rollback":
        assert "rolled back from step" in display.heard
        assert result.summary["rollbacks"] == 1
        steps = [record["step"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")]
        assert steps == sorted(steps)
        assert (tmp_path / "run" / "metrics.discarded.jsonl").exists()


def test_a_run_that_diverges_again_and_again_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 99)
    settings = {"watchdog.on_divergence": "rollback", "watchdog.max_rollbacks": "2", "instruments.every": "5"}
    result = balrl.train(maze_config(**settings), tmp_path / "run")
    assert (result.summary["outcome"], result.summary["rollbacks"]) == ("diverged", 2)
    assert len(result.summary["findings"]) == 3


def test_the_switch_is_measured_densely(whole_run: Path) -> None:
    records = [r for r in read_metrics(whole_run / "metrics.jsonl") if "switch/offline_q" in r]
    assert {r["phase"] for r in records} == {"pretrain", "warmup", "finetune"}
    online = [r for r in records if r["phase"] == "finetune"]
    assert online
    assert all("switch/online_td" in r and "switch/kl" in r for r in online)
    summary = json.loads((whole_run / "summary.json").read_text())
    assert summary["switch"]["window"] == 60


def test_same_seed_same_run_other_seed_other_run(whole_run: Path, tmp_path: Path) -> None:
    balrl.train(maze_config(), tmp_path / "same")
    balrl.train(maze_config(seed="1"), tmp_path / "other")
    assert records(tmp_path / "same") == records(whole_run)
    assert records(tmp_path / "other") != records(whole_run)


def test_behaviour_cloning_alone(tmp_path: Path) -> None:
    settings = {
        **SMALL,
        "data.top_fraction": "0.1",
        "data.normalize_observations": "true",
        "warmup.steps": "0",
        "finetune.steps": "0",
    }
    result = balrl.train(balrl.load_config("bc/point-maze", settings=settings), tmp_path / "r")
    assert result.finished
    assert result.summary["env_steps"] == 0
    agent = balrl.load_agent(tmp_path / "r", device="cpu")
    assert agent.normalizer.std.abs().sum() != 4


def test_resume_refuses_another_configuration_and_other_data(whole_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"started with agent\.expectile = 0\.7, you ask for 0\.5"):
        balrl.resume(whole_run, maze_config(**{"agent.expectile": "0.5"}))
    with pytest.raises(UserError, match="no balrl run"):
        balrl.resume(tmp_path)
    with pytest.raises(UserError, match="already holds a run"):
        balrl.train(maze_config(), whole_run)


def test_resuming_a_finished_run_changes_nothing(whole_run: Path) -> None:
    before = {p: p.read_bytes() for p in whole_run.rglob("*") if p.is_file()}
    assert balrl.resume(whole_run).finished
    assert {p: p.read_bytes() for p in whole_run.rglob("*") if p.is_file()} == before


def test_a_run_killed_before_its_summary_gets_one_on_resume(whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert balrl.resume(tmp_path / "run").finished
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["final"] == json.loads((whole_run / "summary.json").read_text())["final"]


def test_a_damaged_checkpoint_is_passed_over(whole_run: Path, tmp_path: Path) -> None:
    display = Listening()
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(), tmp_path / "run", Interrupt(51, crash=True))
    newest = list_checkpoints(tmp_path / "run")[0]
    file = newest / "agent.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    assert balrl.resume(tmp_path / "run", display=display).finished
    assert f"checkpoint {newest.name} is damaged" in display.heard
    for key, value in final_state(whole_run).items():
        assert torch.equal(final_state(tmp_path / "run")[key], value), key


def test_a_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset file"):
        balrl.train(maze_config(dataset="absent.hdf5"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert balrl.train(maze_config(), tmp_path / "run").finished


def test_data_with_holes_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["observations"] = file["next_observations"] = np.zeros((20, 4))
        file["actions"], file["terminals"] = np.zeros((20, 2)), np.zeros(20, bool)
        file["rewards"] = np.where(np.arange(20) == 7, np.nan, 1.0)
    with pytest.raises(UserError, match="rewards: 1 rows are NaN or infinite, the first is row 7"):
        balrl.train(maze_config(dataset=str(tmp_path / "a.hdf5")), tmp_path / "run")


def test_a_run_that_could_never_update_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no update would be made"):
        balrl.train(maze_config(batch_size="100", **{"pretrain.updates": "0"}), tmp_path / "run")
    with pytest.raises(UserError, match=r"replay\.capacity is 5, expected at least 10"):
        balrl.train(maze_config(**{"replay.capacity": "5"}), tmp_path / "run")


def test_metrics_that_come_with_few_updates_are_in_every_record(tmp_path: Path) -> None:
    """The balance model moves every 5 updates; records fall on others."""
    balrl.train(maze_config(**{"tracking.log_every": "3"}), tmp_path / "run")
    losses = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "critic/loss" in r and r["step"] >= 6]
    assert len(losses) >= 6
    assert sum("balance/mean" in r for r in losses) >= len(losses) - 1


def test_the_family_s_members_differ_and_the_own_choice_is_among_them(tmp_path: Path) -> None:
    settings = {"pretrain.updates": "150", "warmup.steps": "0", "finetune.steps": "0", "env_kwargs": "{}"}
    balrl.train(maze_config(**settings), tmp_path / "run")
    curve = {b: balrl.evaluate(tmp_path / "run", episodes=20, balance=b).mean_return for b in (1.0, 2.0, 3.0, 4.0, 5.0)}
    assert len(set(curve.values())) > 1
    agent = balrl.load_agent(tmp_path / "run", device="cpu")
    observations = torch.rand(30, 4) * 2 - 1
    own = agent.act(observations, deterministic=True)
    chosen = agent.balance.mode(agent.normalizer(observations))
    assert torch.equal(own, agent.act(observations, deterministic=True, balance=chosen))


def test_evaluating_on_the_run_s_own_task_keeps_its_layout(tmp_path: Path) -> None:
    settings = {"env_kwargs": "{layout: large, max_episode_steps: 15}", "pretrain.updates": "0"}
    balrl.train(maze_config(**settings), tmp_path / "run")
    named = balrl.evaluate(tmp_path / "run", "balrl/PointMaze-v0", episodes=2)
    assert named.returns == balrl.evaluate(tmp_path / "run", episodes=2).returns
    assert named.reference is not None
    assert named.reference.minimum == -292.3


def test_loaded_agents_act_and_evaluate_as_trained(whole_run: Path) -> None:
    agent = balrl.load_agent(whole_run, device="cpu")
    last = json.loads((whole_run / "evaluations.json").read_text())[-1]
    result = balrl.evaluate(agent, "balrl/PointMaze-v0", episodes=2, env_kwargs={"max_episode_steps": 15})
    assert list(result.returns) == last["returns"]
    again = balrl.evaluate(whole_run, episodes=2)
    assert again.returns == result.returns
    with pytest.raises(UserError, match="made for 4 observations and 2 actions, environment Hopper-v5 has 11 and 3"):
        balrl.evaluate(agent, "Hopper-v5")
    with pytest.raises(UserError, match="does not know its own"):
        balrl.evaluate(agent)
