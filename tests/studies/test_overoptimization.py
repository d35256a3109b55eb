from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from balrl.errors import UserError
from balrl.rewards import RewardEnsemble
from balrl.studies.config import StudyConfig
from balrl.studies.overoptimization import (
    best_of_n_curves,
    initial_policy,
    initial_preferences,
    plan,
    read_results,
    run_study,
)
from balrl.studies.trajectories import roll

TINY = {
    "seeds": [0],
    "agent": {"name": "ppo", "rollout_steps": 2, "epochs": 1, "hidden": [8], "initial_log_std": -1.2},
    "preferences": {"pairs": 30, "flips": [0.25]},
    "ensemble": {"members": 3, "hidden": [8], "epochs": 2},
    "best_of_n": {"states": 3, "samples": 40},
    "ppo": {"num_envs": 8, "batch_size": 8, "rollouts": 3, "kl_coefficients": [0.0, 0.1]},
    "objectives": {"single": {"objective": "single"}, "WCO": {"objective": "wco"}},
}
LONGER = {"env": "balrl/Pendulum-v1", "env_kwargs": {"max_episode_steps": 6}, "start_steps": 30}


def config(**changes: object) -> StudyConfig:
    return StudyConfig.model_validate({**TINY, **changes})


def test_groups_of_trajectories_begin_in_one_state(tmp_path: Path) -> None:
    c = config(**LONGER)
    made = roll(c, initial_policy(c, 0, tmp_path), groups=3, size=4, seed=5)
    assert made.observations.shape == (6, 3, 4, 3)
    assert (made.observations[0] == made.observations[0][:, :1]).all()
    assert not torch.equal(made.observations[0][0], made.observations[0][1])
    assert (made.observations[1] != made.observations[1][:, :1]).any()
    assert made.alive.all()
    again = roll(c, initial_policy(c, 0, tmp_path), groups=3, size=4, seed=5)
    assert torch.equal(made.rewards, again.rewards)


def test_pairs_of_a_contextual_task_share_their_context_and_are_labelled_by_the_gold(tmp_path: Path) -> None:
    from balrl.envs import ContextualVectorEnv

    c = config(preferences={"pairs": 50, "flips": [0.0]})
    made = initial_preferences(c, 0, 0.0, initial_policy(c, 0, tmp_path))
    assert made.observations.shape == (50, 2, 1, 4)
    assert torch.equal(made.observations[:, 0], made.observations[:, 1])
    gold = ContextualVectorEnv().reward(made.observations, made.actions).squeeze(-1)
    assert torch.equal(made.labels, (gold[:, 1] > gold[:, 0]).float())


def test_segments_are_cut_from_anywhere_in_an_episode(tmp_path: Path) -> None:
    c = config(**LONGER, preferences={"pairs": 200, "steps": 4, "flips": [0.0]})
    start = initial_policy(c, 0, tmp_path)
    made = initial_preferences(c, 0, 0.0, start)
    whole = roll(c, start, 200, 2, 0)
    firsts = {int((whole.observations[:, i, 0] == made.observations[i, 0, 0]).all(-1).nonzero()[0]) for i in range(200)}
    assert firsts == {0, 1, 2}


def test_best_of_n_starts_at_the_mean_of_all_and_its_proxy_never_falls(tmp_path: Path) -> None:
    c = config()
    start = initial_policy(c, 0, tmp_path)
    curves = best_of_n_curves(c, start, RewardEnsemble(10, 3, (8,)), 0)
    golds = [roll(c, start, 1, 40, 1_000_000 + state).rewards.mean() for state in range(3)]
    for curve in curves.values():
        assert curve["kl"][0] == 0
        assert curve["gold"][0] == pytest.approx(float(torch.stack(golds).mean()), abs=1e-5)
        assert (np.diff(curve["proxy"]) > 0).all()


@pytest.mark.parametrize("task", [{}, LONGER], ids=["contextual", "pendulum"])
def test_a_study_that_is_stopped_goes_on_and_is_what_it_would_have_been(
    tmp_path: Path, task: dict[str, object]
) -> None:
    c = config(**task)
    whole = read_results(run_study(c, tmp_path / "whole"))
    assert [r["job"] for r in whole] == [job.name for job in plan(c) for _ in range(1 if job.objective else 2)]
    seen: list[str] = []

    def stop(line: str) -> None:
        seen.append(line)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(c, tmp_path / "stopped", stop)
    stopped = read_results(run_study(c, tmp_path / "stopped"))
    assert [r["curve"] for r in stopped] == [r["curve"] for r in whole]
    assert all(len(r["curve"]["gold"]) == 3 for r in whole if r["optimizer"] == "ppo")
    assert all(np.isfinite(values).all() for r in whole for values in r["curve"].values())


def test_mistakes_are_explained(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps(config(start_steps=9).model_dump(mode="json")))
    with pytest.raises(UserError, match="another protocol"):
        run_study(config(), tmp_path)
    with pytest.raises(UserError, match="begins many worlds in one state, which Pendulum-v1 cannot"):
        run_study(config(env="Pendulum-v1"), tmp_path / "other")


def test_the_seed_and_the_trunk_reach_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, int, int]] = []

    def fits(ensemble: RewardEnsemble, *_: object, seed: int) -> None:
        seen.append((ensemble.settings["shared_trunk"], ensemble.settings["seed"], seed))

    monkeypatch.setattr("balrl.studies.overoptimization.fit_ensemble", fits)
    for shared in (False, True):
        c = config(seeds=[3], ensemble={"members": 2, "hidden": [8], "epochs": 1, "shared_trunk": shared})
        run_study(c, tmp_path / str(shared))
    assert set(seen) == {(False, 3, 3), (True, 3, 3)}
