"""The protocol of a study: what it asks for by itself, what it takes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from balrl.config import EnsembleConfig, FitConfig
from balrl.conservative_objectives import conservative
from balrl.errors import UserError
from balrl.plain_yaml import parse_yaml
from balrl.settings import validate
from balrl.studies.config import RewardModelsConfig, StudyConfig
from balrl.studies.overoptimization import plan

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_the_default_study_compares_five_objectives_by_two_optimisers_on_every_seed() -> None:
    jobs = plan(StudyConfig())
    assert len(jobs) == len({job.name for job in jobs}) == 5 * 2 * (1 + 4 * 5)
    scores = torch.tensor([[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]]).double()
    found = {
        name: conservative(scores, chosen.objective, chosen.best_of_n).tolist()
        for name, chosen in StudyConfig().objectives.items()
    }
    soft = (-(-scores).exp().mean(0).log()).tolist()
    assert {key: pytest.approx(value) for key, value in found.items()} == {
        "single": [0.0, 1.0],
        "mean": [2.0, 3.0],
        "WCO": [0.0, 1.0],
        "UWO": [2 - 0.5 * 8 / 3, 3 - 0.5 * 8 / 3],
        "soft-min": soft,
    }
    for chosen in StudyConfig().objectives.values():
        assert conservative(scores, chosen.objective, chosen.ppo).isfinite().all()


def test_a_protocol_that_is_written_down_is_read_as_it_was() -> None:
    written = {
        "seeds": [7],
        "env_kwargs": {"layout": "umaze"},
        "objectives": {"q": {"objective": "quantile", "ppo": 0.1}},
    }
    config = validate(StudyConfig, written, "here")
    again = validate(StudyConfig, json.loads(json.dumps(config.model_dump(mode="json"))), "there")
    assert again == config != StudyConfig()
    assert list(again.objectives) == ["q"]
    assert (again.objectives["q"].best_of_n, again.objectives["q"].ppo) == (None, 0.1)
    assert again.agent == StudyConfig().agent


def test_reward_models_are_smaller_and_otherwise_what_ensembles_are_elsewhere() -> None:
    study, elsewhere = RewardModelsConfig().model_dump(), FitConfig().model_dump() | EnsembleConfig().model_dump()
    assert study.keys() == elsewhere.keys()
    assert {key for key in study if study[key] != elsewhere[key]} == {"hidden", "learning_rate", "epochs"}
    assert max(study["hidden"]) < max(elsewhere["hidden"])


@pytest.mark.parametrize("file", sorted(SCRIPTS.glob("study_overoptimization*.yaml")), ids=lambda file: file.stem)
def test_the_protocols_that_are_kept_are_studies(file: Path) -> None:
    config = validate(StudyConfig, parse_yaml(file.read_text(), file.name), file.name)
    assert {job.seed for job in plan(config)} == set(config.seeds)
    assert {"best-of-n", "ppo"} == {job.optimizer for job in plan(config)}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"best_of_m": {}}, "unknown key 'best_of_m'"),
        ({"best_of_n": {"sample": 3}}, r"unknown key 'best_of_n.sample'.*did you mean 'best_of_n.samples'"),
        ({"preferences": {"pairs": 1}}, "preferences.pairs = 1: .*greater than or equal to 2"),
        ({"ensemble": {"hidden": []}}, "ensemble.hidden"),
        ({"ensemble": {"learning_rate": 0}}, "ensemble.learning_rate = 0"),
        ({"agent": {"name": "sac"}}, "'sac': expected it to be 'ppo'"),
        ({"objectives": {"x": {"objective": "uwoo"}}}, "objectives.x.objective = 'uwoo'"),
        ({"preferences": {"flips": [1.5]}}, "preferences.flips.0 = 1.5"),
        ({"ppo": {"kl_coefficients": [-1]}}, "ppo.kl_coefficients.0 = -1"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "a seed is there twice"),
        ({"objectives": {}}, "objectives"),
        ({"objectives": {"x": {}}}, "objectives.x.objective' is missing"),
        ({"objectives": {"x": {"objective": "uwo", "ppo": float("nan")}}}, "finite"),
        ({"start_steps": -1}, "start_steps = -1"),
    ],
)
def test_mistakes_are_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        validate(StudyConfig, wrong, "study.yaml")


def test_what_is_asked_of_the_agent_goes_over_the_study_s_own_settings() -> None:
    agent = validate(StudyConfig, {"agent": {"clip": 0.1}}, "here").agent
    assert agent == StudyConfig().agent.model_copy(update={"clip": 0.1})
