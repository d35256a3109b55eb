"""Watching a trainer: by hand, and TRL's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers")

from balrl.config import FitConfig
from balrl.rewards.language import ConservativeReward, HeadsReward
from balrl.rewards.language.trl_monitor import OveroptimizationMonitor
from tests.rewards.language.small import BAD, GOOD, Counts, some_pairs, tiny_transformer


def logged(monitor: OveroptimizationMonitor, step: int, **logs: float) -> Any:
    named = {name if name == "kl" else f"balrl/{name}": value for name, value in logs.items()}
    state = SimpleNamespace(global_step=step, log_history=[dict(named)])
    control = SimpleNamespace(should_training_stop=False)
    monitor.on_log(None, state, control, named)
    return state, control


def test_rows_and_the_acceleration_of_the_kl() -> None:
    monitor = OveroptimizationMonitor()
    for step, kl in enumerate((0.0, 1.0, 3.0, 4.0)):
        state, _ = logged(monitor, step, disagreement=0.1, proxy=1.0, kl=kl)
    assert [row.get("balrl/kl_acceleration") for row in monitor.rows] == [None, None, 1.0, -1.0]
    assert state.log_history[-1]["balrl/kl_acceleration"] == -1.0
    assert monitor.warnings == []


def test_logs_of_something_else_are_left_alone() -> None:
    monitor = OveroptimizationMonitor()
    monitor.on_log(None, SimpleNamespace(global_step=1, log_history=[]), None, {"train_runtime": 3.0})
    monitor.on_log(None, SimpleNamespace(global_step=1, log_history=[]), None, None)
    assert monitor.rows == []


def test_a_kl_that_is_missing_and_another_name() -> None:
    monitor = OveroptimizationMonitor(name="help")
    logs = {"help/disagreement": 0.1, "help/proxy": 1.0, "balrl/proxy": 7.0, "kl": None}
    monitor.on_log(None, SimpleNamespace(global_step=3, log_history=[]), None, logs)
    assert monitor.rows == [{"step": 3.0, "balrl/disagreement": 0.1, "balrl/proxy": 1.0}]


def test_each_warning_once_and_a_stop_where_asked(caplog: pytest.LogCaptureFixture) -> None:
    monitor = OveroptimizationMonitor(disagreement=2.0, gap=1.5)
    for step, (disagreement, gap) in enumerate(((0.1, 0.0), (0.2, 1.5), (0.21, 1.4), (0.5, 1.6), (0.6, 3.0))):
        _, control = logged(monitor, step, disagreement=disagreement, gap=gap)
    assert [said.split(":")[:2] for said in monitor.warnings] == [["disagreement", " step 2"], ["gap", " step 3"]]
    assert len(caplog.records) == 2
    assert "1.6 deviations more than the true one" in caplog.text
    assert not control.should_training_stop
    stopping = OveroptimizationMonitor(stops=True)
    _, control = logged(stopping, 0, disagreement=0.1, gap=5.0)
    assert control.should_training_stop


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GRPO", "RLOO"])
def test_in_trl(name: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    learned = HeadsReward(Counts(), 3, (8,))
    learned.fit(some_pairs(200), FitConfig(epochs=30, learning_rate=3e-3))
    reward = ConservativeReward(
        learned, "uwo", gold=lambda _, said: [sum((w in GOOD) - (w in BAD) for w in t.split()) for t in said]
    )
    monitor = OveroptimizationMonitor(gap=1e9, disagreement=1e9)
    args = getattr(trl, f"{name}Config")(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=32, num_generations=8, max_completion_length=8,
        max_steps=40, learning_rate=1e-2, beta=0.01, report_to=[], logging_steps=1, use_cpu=True, save_strategy="no",
        disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = getattr(trl, f"{name}Trainer")(
        model=tiny_transformer(tmp_path / "model"),
        reward_funcs=reward,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["say"] * 64}),
        callbacks=[monitor],
    )
    trainer.train()
    assert len(monitor.rows) == 40
    first, last = ([sum(row[f"balrl/{k}"] for row in rows) for k in ("proxy", "gold")] for rows in
                   (monitor.rows[:5], monitor.rows[-5:]))  # fmt: skip
    assert last[0] > first[0] + 2.5
    assert last[1] > first[1] + 2.5
    assert monitor.rows[-1]["kl"] > 0
    history = [row for row in trainer.state.log_history if "kl" in row]
    assert history[-1]["balrl/kl_acceleration"] == monitor.rows[-1]["balrl/kl_acceleration"]
    assert history[-1]["rewards/balrl_uwo/mean"] == pytest.approx(history[-1]["balrl/proxy"], abs=1e-5)
