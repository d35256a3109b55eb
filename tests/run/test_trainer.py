"""The phases of a run, stopped and resumed anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import balrl
from balrl.agents import IQL, SAC
from balrl.batch import Batch
from balrl.checkpoint import list_checkpoints, load_state, load_tensors
from balrl.config import EnvironmentConfig
from balrl.errors import UserError
from balrl.evaluation import Evaluation, evaluate_policy
from balrl.watch.tracking import read_metrics
from tests.faulty_env import FaultyEnv
from tests.run.small import (
    PPO,
    SMALL,
    Interrupt,
    Listening,
    final_state,
    hopper_config,
    maze_config,
    records,
)


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


@pytest.mark.slow
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


def test_environments_that_cannot_save_their_state_restart_and_say_so(tmp_path: Path) -> None:
    config = hopper_config(env="Pendulum-v1")
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "run", Interrupt(45, crash=True))
    display = Listening()
    assert balrl.resume(tmp_path / "run", display=display).finished
    assert "running episodes restart" in display.heard


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
    assert "policy.mean.bias is not finite; try: lower agent.policy_learning_rate" in display.heard
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


def test_data_with_holes_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["observations"] = file["next_observations"] = np.zeros((20, 4))
        file["actions"], file["terminals"] = np.zeros((20, 2)), np.zeros(20, bool)
        file["rewards"] = np.where(np.arange(20) == 7, np.nan, 1.0)
    with pytest.raises(UserError, match="rewards: 1 rows are NaN or infinite, the first is row 7"):
        balrl.train(maze_config(dataset=str(tmp_path / "a.hdf5")), tmp_path / "run")


def test_metrics_that_come_with_few_updates_are_in_every_record(tmp_path: Path) -> None:
    """The balance model moves every 5 updates; records fall on others."""
    balrl.train(maze_config(**{"tracking.log_every": "3"}), tmp_path / "run")
    losses = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "critic/loss" in r and r["step"] >= 6]
    assert len(losses) >= 6
    assert sum("balance/mean" in r for r in losses) >= len(losses) - 1


def test_an_agent_that_needs_next_actions_has_them_offline_and_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after being stopped while a step waits for its next action, and under a reward that is learned anew."""
    seen: list[str] = []
    update = IQL._update

    def needs(self: IQL, batch: Batch) -> dict[str, torch.Tensor]:
        assert batch.next_actions is not None
        seen.append(self.phase)
        return update(self, batch)

    monkeypatch.setattr(IQL, "_update", needs)
    monkeypatch.setattr(IQL, "fields_in", lambda self, phase: ("next_actions",))
    learned = {"reward.pairs": "20", "reward.epochs": "2", "reward.hidden": "[8]", "reward.steps": "5"}
    config = maze_config(**learned, **{"reward.online_every": "30", "reward.online_pairs": "10"})
    balrl.train(config, tmp_path / "whole")
    assert set(seen) == {"offline", "online"}
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(config, tmp_path / "stopped", Interrupt(51, crash=True))
    assert load_tensors(list_checkpoints(tmp_path / "stopped")[0], "next_actions")["actions"].shape == (10, 2)
    assert balrl.resume(tmp_path / "stopped").finished
    for key, value in final_state(tmp_path / "whole").items():
        assert torch.equal(final_state(tmp_path / "stopped")[key], value), key


@pytest.mark.slow
def test_a_stop_in_an_evaluation_is_made_up_for(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation that was cut off comes first when the run goes on; nothing else tells the two apart."""
    for cut in (1, 2, 3, 4):
        path, asked = tmp_path / f"run{cut}", [0]

        def stops(*others: Any, cut: int = cut, asked: list[int] = asked, **named: Any) -> Evaluation:
            asked[0] += 1
            return evaluate_policy(*others, **{**named, **({"should_stop": lambda: True} if asked[0] == cut else {})})

        with monkeypatch.context() as patch:
            patch.setattr("balrl.run.assemble.evaluate_policy", stops)
            stopped = balrl.train(maze_config(), path)
        assert (stopped.finished, len(stopped.summary["wall_seconds"]) > 0) == (False, True)
        assert load_state(list_checkpoints(path)[0])["progress"]["evaluation_due"]
        assert balrl.resume(path).finished
        assert (path / "evaluations.json").read_text() == (whole_run / "evaluations.json").read_text()
        final, expected = final_state(path), final_state(whole_run)
        assert all(final[key].equal(value) for key, value in expected.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_heard_in_an_evaluation_without_an_end(number: signal.Signals, tmp_path: Path) -> None:
    config = balrl.load_config("sac/point-maze", settings={**SMALL, "pretrain.updates": 0, "num_envs": 1})
    config = config.model_copy(update={"environment": EnvironmentConfig(max_episode_steps=10**9)})
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), number))
    timer.start()
    result = balrl.train(config, tmp_path / "run", env=lambda: FaultyEnv(length=None))
    timer.join()
    assert (result.summary["outcome"], result.summary["final"]) == ("interrupted", None)


@pytest.mark.pictures
def test_a_finished_run_that_was_killed_before_its_pictures_gets_them(whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "run")
    assert balrl.resume(tmp_path / "run").finished
    (tmp_path / "run" / "curves.png").unlink()
    (tmp_path / "run" / "switch.png").unlink()
    before = final_state(tmp_path / "run")
    assert balrl.resume(tmp_path / "run").finished
    assert (tmp_path / "run" / "switch.png").exists()
    assert all(value.equal(before[key]) for key, value in final_state(tmp_path / "run").items())


def test_a_task_that_fails_because_the_policy_is_not_finite_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = balrl.load_config("sac/point-maze", settings={**SMALL, "pretrain.updates": 0, "num_envs": 1})
    inner = SAC.update_policy

    def breaks(self: SAC, *arguments: Any) -> Any:
        metrics = inner(self, *arguments)
        with torch.no_grad():
            self.policy.mean.bias[0] = torch.nan
        return metrics

    monkeypatch.setattr(SAC, "update_policy", breaks)
    display = Listening()
    result = balrl.train(config, tmp_path / "run", display, env="Pendulum-v1")
    assert result.summary["outcome"] == "diverged"
    assert "policy.mean.bias is not finite" in display.heard
