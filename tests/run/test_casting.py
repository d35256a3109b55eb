"""Runs that choose a member and keep a champion: resumed anywhere, in every kind of task, refused where they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import balrl
from balrl.errors import UserError
from balrl.run.halving import Halving
from tests.run.small import SMALL, Interrupt, Listening, final_state, maze_config, records

CHOOSING = {
    "warmup.select": "halving",
    "warmup.members": "3",
    "warmup.steps": "400",
    "finetune.serve": "champion",
    "finetune.member": "bandit",
    "finetune.steps": "300",
    "finetune.eval_every": "100",
    "finetune.utd_ratio": "0.1",
    "champion.min_episodes": "2",
    "champion.every": "40",
    "champion.window": "2",
    "checkpoint.every": "50",
    "num_envs": "5",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("casting") / "whole"
    assert balrl.train(maze_config(**CHOOSING), path).finished
    return path


@pytest.mark.parametrize("step", [40, 212, 401, 412, 460, 640])
def test_stopped_and_resumed_equals_not_stopped(whole: Path, tmp_path: Path, step: int) -> None:
    """In the middle of a round, at the choice, in the tournament: who acts, who is served, every record."""
    path = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power"):
        balrl.train(maze_config(**CHOOSING), path, Interrupt(step, crash=True))
    assert balrl.resume(path).finished
    expected, got = final_state(whole), final_state(path)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key
    assert records(path) == records(whole)
    for name in ("evaluations.json",):
        assert (path / name).read_text() == (whole / name).read_text()
    one, other = (json.loads((p / "summary.json").read_text()) for p in (path, whole))
    assert one["selection"] == other["selection"]
    assert one["champion"] == other["champion"]


def test_what_came_of_it_is_written_down(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert len(summary["selection"]["arms"]) == 4
    assert {"episodes", "mean", "low", "high", "mean_q", "conservative_q"} <= summary["selection"]["arms"][0].keys()
    assert sum(summary["champion"]["shares"].values()) == pytest.approx(1, abs=0.01)
    assert summary["final"]["learner"]["score"] is not None
    assert (whole / "family.png").stat().st_size > 5_000
    phases = [e["phase"] for e in json.loads((whole / "evaluations.json").read_text())]
    assert phases.count("warmup") == 1
    loaded = balrl.load_agent(whole)
    assert loaded.champion is not None
    evaluated = balrl.evaluate(whole, episodes=2, num_envs=2)
    assert list(evaluated.returns) == json.loads((whole / "evaluations.json").read_text())[-1]["returns"]


@pytest.mark.parametrize("stop", [None, 401, 412, 460])
def test_the_chosen_member_is_the_first_champion_and_the_learner_goes_on_with_its_own(
    stop: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Halving, "winner", lambda _: 1)
    settings = {**CHOOSING, "finetune.member": "own", "finetune.steps": "60"}
    config = maze_config(**settings)
    if stop is None:
        result = balrl.train(config, tmp_path / "run")
    else:
        with pytest.raises(RuntimeError, match="power"):
            balrl.train(config, tmp_path / "run", Interrupt(stop, crash=True))
        result = balrl.resume(tmp_path / "run")
    found = result.summary["selection"]
    agent = balrl.load_agent(tmp_path / "run")
    assert agent.balance is not None
    assert agent.champion is not None
    assert (float(agent.balance.kept), float(agent.balance.shift)) == (1.0, 0.0)
    own = agent.champion.state_dict()
    assert float(own["balance.kept"]) == found["arms"][found["winner"]]["kept"]


def test_the_champion_is_the_floor_whatever_the_learner_does(tmp_path: Path) -> None:
    """A learner that moves fast: what is served stays what it was at the switch, to the last digit."""
    settings = {**CHOOSING, "agent.policy_learning_rate": "0.01", "finetune.member": "fixed", "warmup.select": "none"}
    settings["champion.min_episodes"] = "1000"
    config = balrl.load_config(
        "iql/point-maze", settings={**SMALL, "env_kwargs": "{max_episode_steps: 15}", **settings}
    )
    balrl.train(config, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "evaluations.json").read_text())
    at_switch = next(e for e in reversed(found) if e["phase"] != "finetune")
    after = [e for e in found if e["phase"] == "finetune"]
    assert all(e["returns"] == at_switch["returns"] for e in after)
    agent, observations = balrl.load_agent(tmp_path / "run"), torch.randn(50, 4)
    assert (agent.serve(observations) - agent.act(observations, deterministic=True)).abs().mean() > 0.01


@pytest.mark.parametrize("preset", ["wsrl/point-maze", "rebrac/point-maze", "td3bc/point-maze", "rlpd/point-maze"])
def test_champions_compose_with_every_agent(preset: str, tmp_path: Path) -> None:
    settings = {key: value for key, value in CHOOSING.items() if key.startswith(("champion", "finetune.serve"))}
    config = balrl.load_config(preset, settings={**SMALL, "env_kwargs": "{max_episode_steps: 15}", **settings})
    result = balrl.train(config, tmp_path / "run")
    assert result.summary["champion"]["shares"]["learner"] > 0


@pytest.mark.slow
def test_populations_choose_for_themselves(tmp_path: Path) -> None:
    """Each member of a population is what it would be alone, its choice and its champion included."""
    config = maze_config(**CHOOSING)
    members = balrl.member_configs(config, [0, 1])
    balrl.train_population(members, tmp_path / "together")
    balrl.train(members["s1"], tmp_path / "alone")
    one, other = ((tmp_path / name / "summary.json") for name in ("together/s1", "alone"))
    together, alone = (json.loads(path.read_text()) for path in (one, other))
    assert [arm["mean"] for arm in together["selection"]["arms"]] == [arm["mean"] for arm in alone["selection"]["arms"]]
    assert together["champion"]["shares"] == alone["champion"]["shares"]


def test_too_few_steps_are_said_and_the_model_s_choice_stays(tmp_path: Path) -> None:
    display = Listening()
    result = balrl.train(maze_config(**{"warmup.select": "halving"}), tmp_path / "run", display)
    assert "were too few to compare 9 members of the family" in display.heard
    assert result.summary["selection"]["winner"] == 0


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("iql/point-maze", {"warmup.select": "halving"}, "has one policy, not a family"),
        ("iql/point-maze", {"finetune.member": "bandit"}, "has one policy, not a family"),
        (
            "famo2o-iql/point-maze",
            {"warmup.select": "halving", "warmup.kind": "random"},
            "set warmup.kind=frozen-policy",
        ),
        ("ppo/classic", {"finetune.serve": "champion"}, "finetune.serve is champion, expected newest"),
    ],
)
def test_what_cannot_be_is_one_line(preset: str, settings: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        balrl.train(balrl.load_config(preset, settings=settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()
