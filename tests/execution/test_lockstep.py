"""Whole runs as a population: the same files as alone, whatever happens to one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import balrl
from balrl.cli.main import main
from balrl.errors import UserError
from balrl.execution.lockstep import SharedUpdates, Worker, run_in_lockstep
from balrl.execution.population import Population
from balrl.execution.tracing import Metrics, Update
from balrl.execution.updates import EagerUpdates
from balrl.run.populations import member_dirs
from balrl.run.trainer import Trainer
from balrl.watch.callbacks import Status
from balrl.watch.display import Display
from balrl.watch.tracking import read_metrics
from tests.execution.test_population import logged, make
from tests.execution.test_updates import assert_same, update_of

SETTINGS = {
    "pretrain.updates": "30",
    "pretrain.eval_every": "15",
    "warmup.steps": "10",
    "finetune.steps": "40",
    "finetune.eval_every": "20",
    "evaluation.episodes": "3",
    "agent.hidden": "[8]",
    "batch_size": "16",
    "checkpoint.every": "20",
    "tracking.log_every": "10",
    "tracking.wandb": "off",
    "env_kwargs": "{max_episode_steps: 7}",
    "compile": "off",
}


def members(preset: str = "iql/point-maze", **more: str) -> dict[str, Any]:
    config = balrl.load_config(preset, settings={**SETTINGS, **more})
    return balrl.member_configs(config, range(3))


def assert_same_records(one: Path, other: Path) -> None:
    records, expected = (read_metrics(path / "metrics.jsonl") for path in (one, other))
    assert [(r["step"], r["phase"]) for r in records] == [(r["step"], r["phase"]) for r in expected]
    for record, wanted in zip(records, expected, strict=True):
        assert record.keys() == wanted.keys()
        for key, value in wanted.items():
            if isinstance(value, float) and not key.startswith("time/"):
                assert record[key] == pytest.approx(value, rel=1e-2, abs=1e-3), (key, record["step"])


@pytest.mark.parametrize("preset", ["iql/point-maze", "calql/point-maze", "famo2o-iql/point-maze"])
def test_a_population_writes_what_its_members_write_alone(preset: str, tmp_path: Path) -> None:
    settings = {
        "iql": {},
        "calql": {"agent.sampled_actions": "2", "env_kwargs": "{max_episode_steps: 2}"},
        "famo2o-iql": {"agent.balance.hidden": "[8]"},
    }[preset.split("/")[0]]
    configs = members(preset, **settings)
    results = balrl.train_population(configs, tmp_path / "population")
    assert list(results) == ["s0", "s1", "s2"]
    for name, config in configs.items():
        balrl.train(config, tmp_path / name)
        assert_same_records(tmp_path / "population" / name, tmp_path / name)
        assert balrl.load_config(file=tmp_path / "population" / name / "config.yaml") == config
        counts = [balrl.load_agent(folder / name).phase_updates for folder in (tmp_path / "population", tmp_path)]
        assert counts[0] == counts[1] > 0  # Cal-QL's online updates wait for the first episode's end


class StopAt(Display):
    """A display that asks every run to stop when one of them has come so far."""

    def __init__(self, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step, self.trainers = step, []
        inner = Trainer.__init__

        def remember(trainer: Trainer, *arguments: Any) -> None:
            inner(trainer, *arguments)
            self.trainers.append(trainer)

        monkeypatch.setattr(Trainer, "__init__", remember)

    def on_step(self, status: Status) -> None:
        if status.step >= self.step:
            for trainer in self.trainers:
                trainer.components.stop.requested = True


@pytest.mark.parametrize("step", [13, 36, 57])
def test_stopped_and_resumed_equals_not_stopped(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    balrl.train_population(members(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        results = balrl.train_population(members(), tmp_path / "parts", StopAt(step, patch))
    assert not any(result.finished for result in results.values())
    assert all(result.finished for result in balrl.resume_population(tmp_path / "parts").values())
    for name in results:
        assert_same_records(tmp_path / "parts" / name, tmp_path / "whole" / name)
    again = balrl.resume_population(tmp_path / "parts")  # nothing is left to do
    assert {name: r.final_score for name, r in again.items()} == {
        name: json.loads((tmp_path / "whole" / name / "summary.json").read_text())["final"]["score"] for name in results
    }


def test_one_that_diverges_stops_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = members(**{"watchdog.on_divergence": "stop"})
    inner = Trainer._has_diverged

    def sees(self: Trainer, values: Any) -> bool:
        return inner(self, values) or (self.config.seed == 0 and self.state.step >= 20)

    monkeypatch.setattr(Trainer, "_has_diverged", sees)
    results = balrl.train_population(configs, tmp_path)
    assert {name: result.summary["outcome"] for name, result in results.items()} == {
        "s0": "diverged",
        "s1": "finished",
        "s2": "finished",
    }
    monkeypatch.undo()
    balrl.train(configs["s2"], tmp_path / "alone")
    assert_same_records(tmp_path / "s2", tmp_path / "alone")


def test_an_error_in_one_saves_the_others_and_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Trainer._evaluate

    def breaks(self: Trainer) -> bool:
        if self.config.seed == 1 and self.state.step >= 15:
            raise RuntimeError("a broken sensor")
        return inner(self)

    monkeypatch.setattr(Trainer, "_evaluate", breaks)
    with pytest.raises(RuntimeError, match="a broken sensor"):
        balrl.train_population(members(), tmp_path)
    monkeypatch.undo()
    for name in ("s0", "s2"):
        assert json.loads((tmp_path / name / "summary.json").read_text())["outcome"] == "interrupted"
        assert list((tmp_path / name / "checkpoints").iterdir())
    assert all(result.finished for result in balrl.resume_population(tmp_path).values())


def test_an_error_in_a_common_update_reaches_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Population, "batched", fails)
    with pytest.raises(MemoryError, match="no room"):
        balrl.train_population(members(), tmp_path)
    assert all((path / "summary.json").exists() for path in member_dirs(tmp_path))


def test_a_mistake_in_one_member_leaves_nothing_behind(tmp_path: Path) -> None:
    config = balrl.load_config("calql/point-maze", settings={**SETTINGS, "data.mc_truncation": "last_reward"})
    configs = balrl.member_configs(config, [0], {"agent.discount": ["0.9", "1.0"]})
    with pytest.raises(UserError, match=r"lower agent.discount"):
        balrl.train_population(configs, tmp_path / "p")
    assert not (tmp_path / "p").exists()
    with pytest.raises(UserError, match="is no population"):
        balrl.resume_population(tmp_path)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"{key}={value}" for key, value in {**SETTINGS, "finetune.steps": "0", "warmup.steps": "0"}.items()]
    train = ["train", "--preset", "iql/point-maze", "--run-dir", str(tmp_path / "p"), *settings]
    assert main([*train, "--seeds", "0:2", "--vary", "agent.expectile=0.6,0.9"]) == 0
    shown = capsys.readouterr().out
    assert "final scores: mean" in shown
    assert "expectile0.6-s1" in shown
    assert [path.name for path in member_dirs(tmp_path / "p")] == [
        "expectile0.6-s0",
        "expectile0.6-s1",
        "expectile0.9-s0",
        "expectile0.9-s1",
    ]
    assert main(["train", "--resume", str(tmp_path / "p")]) == 0
    assert main(["train", "--resume", str(tmp_path / "p"), "seed=3"]) == 2
    assert main([*train, "--seeds", "0:2"]) == 2  # the folder holds another population
    assert main(["compare", str(tmp_path / "p"), "--out", str(tmp_path / "compare.png")]) == 0
    capsys.readouterr()


def test_members_out_of_step_make_their_own_updates() -> None:
    """One asks for 3 and 4, the other for 1 of another kind, then 5: together only where they agree."""
    solo, members = ([make("iql", seed) for seed in range(2)] for _ in range(2))
    shared = logged(solo[0])
    population, made = Population(members, [[shared]] * 2), []

    class Counting(EagerUpdates):
        def run(self, update: Update, name: str, count: int = 1) -> Metrics:
            made.append((name, count))
            return super().run(update, name, count)

    def work(index: int, asked: list[tuple[str, int]]) -> list[float]:
        losses = []
        for name, count in asked:
            metrics = own[index].run(update_of(members[index], shared), name, count)
            losses += [float(metrics["critic/loss"])] if count else []
        return losses

    asked = [[("offline", 3), ("offline", 4)], [("critics", 1), ("offline", 5), ("offline", 0)]]
    workers = [Worker(lambda i=i: work(i, asked[i])) for i in range(2)]
    own = [SharedUpdates(worker, 1) for worker in workers]
    run_in_lockstep(population, Counting(), dict(enumerate(workers)))
    # Of the 3, one was made while the other did its own; the last ones are the first member's alone.
    assert made == [("offline of 0", 2), ("offline of 0", 3), ("offline of 0", 1)]
    for index, (alone, member) in enumerate(zip(solo, members, strict=True)):
        expected = EagerUpdates().run(update_of(alone, shared), "offline", sum(count for _, count in asked[index]))
        assert_same(alone, member, tolerance=1e-5)
        assert workers[index].result is not None
        assert workers[index].result[-1] == pytest.approx(float(expected["critic/loss"]), rel=1e-4)


def test_workers_take_turns() -> None:
    said: list[str] = []

    def work(name: str) -> str:
        said.append(f"{name} begins")
        return name

    workers = [Worker(lambda name=name: work(name)) for name in "ab"]
    workers[1].turn()
    workers[0].turn()
    assert said == ["b begins", "a begins"]
    assert [worker.result for worker in workers] == ["a", "b"]
    assert all(worker.ended for worker in workers)


def test_agents_that_learn_from_rollouts_are_refused(tmp_path: Path) -> None:
    config = balrl.load_config("ppo/classic")
    with pytest.raises(UserError, match="train its seeds one by one"):
        balrl.train_population({"a": config, "b": config}, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
