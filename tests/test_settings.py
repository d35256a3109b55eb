"""Settings over a configuration, and mistakes in them."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given, strategies as st

from balrl.agents.hyperparameters import FixedBalance, StateAdaptiveBalance
from balrl.errors import UserError
from balrl.run.presets import TrainConfig, load_config, preset_text
from balrl.settings import field_names, override, validate
from balrl.studies.config import StudyConfig
from tests.run.test_presets import NEEDED


def test_settings_override_and_keep_the_rest() -> None:
    base = load_config("iql/locomotion", settings=NEEDED)
    changed = load_config(
        "iql/locomotion", settings={**NEEDED, "agent.expectile": "0.9", "seed": "7", "batch_size": "1e2"}
    )
    assert (changed.agent.expectile, changed.seed, changed.batch_size) == (0.9, 7, 100)
    assert changed.model_copy(update={"agent": base.agent, "seed": 0, "batch_size": 256}) == base


def test_changing_a_kind_drops_the_old_kind_s_settings() -> None:
    settings = {**NEEDED, "agent.balance.maximum": "8", "agent.balance.kind": "state-adaptive"}
    with pytest.raises(UserError, match=r"'agent\.balance\.minimum' is missing"):
        load_config("iql/locomotion", settings=settings)
    settings["agent.balance.minimum"] = "1"
    assert load_config("iql/locomotion", settings=settings).agent.balance == StateAdaptiveBalance(1.0, 8.0)
    assert override({"env_kwargs": {"a": 1}}, {"env_kwargs.name": "x"}) == {"env_kwargs": {"a": 1, "name": "x"}}
    settings = {**NEEDED, "agent.balance.kind": "fixed", "agent.balance.coefficient": "2"}
    assert load_config("famo2o-iql/locomotion", settings=settings).agent.balance == FixedBalance(2.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agent.expectle": "0.9"}, "unknown key 'agent.expectle'; did you mean 'agent.expectile'?"),
        ({"expectile": "0.9"}, "unknown key 'expectile'; did you mean 'agent.expectile'?"),
        ({"agent.expectile": "1.5"}, "agent.expectile = 1.5: expected it to be less than 1"),
        ({"agent.expectile": "high"}, "agent.expectile = 'high'"),
        ({"agent.balance.coefficient": "-1"}, "agent.balance.coefficient = -1"),
        ({"agent.name": "iqll"}, "expected tags: 'bc', 'iql', 'td3bc'"),
        ({"agent.balance.minimum": "2"}, "'agent.balance.minimum' is no setting of iql, fixed"),
        ({"agent.hidden": "[0]"}, "agent.hidden"),
        ({"agent.log_std_range": "[2, -5]"}, "the lower bound 2 is not below the upper bound -5"),
        ({"seed.deep": "1"}, "'seed' is a single value, not a section"),
        ({"finetune.utd_ratio": "0"}, "finetune.utd_ratio = 0"),
        ({"tracking.wandb": "no"}, "tracking.wandb = 'no': expected it to be 'auto', 'online', 'offline' or 'off'"),
        ({"env_kwargs": "[1"}, "--env_kwargs, line 1: not valid YAML"),
    ],
)
def test_mistakes_are_one_line(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as error:
        load_config("iql/locomotion", settings={"seed": "0", **NEEDED, **settings})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(st.dictionaries(st.sampled_from(["seed", "pretrain.updates", "finetune.steps"]), st.integers(1, 10**6)))
def test_overriding_never_changes_its_input(settings: dict[str, int]) -> None:
    data = yaml.safe_load(preset_text("iql/locomotion"))
    before = yaml.safe_dump(data)
    override(data, {key: str(value) for key, value in settings.items()})
    assert yaml.safe_dump(data) == before


def test_every_field_is_described() -> None:
    names = set(field_names(TrainConfig))
    assert {"agent.balance.maximum", "agent.balance.coefficient", "agent.expectile", "data.top_fraction"} <= names
    for model in (TrainConfig, *[info.annotation for info in TrainConfig.model_fields.values()]):
        for name, info in getattr(model, "model_fields", {}).items():
            has_fields = hasattr(info.annotation, "model_fields")
            assert has_fields or info.description, f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"agent": {"clip": -1}}, "agent.clip = -1: expected it to be greater than 0"),
        ({"agent": {"clipp": 1}}, "unknown key 'agent.clipp'; did you mean 'agent.clip'?"),
        ({"objectives": {"agent": {"objective": "uwoo"}}}, "objectives.agent.objective = 'uwoo': expected it to be"),
    ],
)
def test_a_section_that_is_no_union_keeps_its_whole_key(given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        validate(StudyConfig, given, "the study")


def test_a_later_source_of_rewards_takes_the_place_of_the_presets() -> None:
    data = {"reward": {"pairs": 1000, "steps": 25}}
    with pytest.warns(UserWarning, match=r"reward\.preferences takes the place of the preset's reward\.pairs"):
        assert override(data, {"reward.preferences": "a"}) == {"reward": {"steps": 25, "preferences": "a"}}
    both = override(data, {"reward.preferences": "a", "reward.pairs": 3})  # set together: refused when the run begins
    assert both["reward"] == {"pairs": 3, "steps": 25, "preferences": "a"}
    assert override({}, {"reward.ensemble": "b"}) == {"reward": {"ensemble": "b"}}


def test_real_values_are_taken_as_they_are() -> None:
    found = override({}, {"agent.expectile": 0.9, "seed": 3, "dataset": None, "agent.hidden": (8, 8)})
    assert found == {"agent": {"expectile": 0.9, "hidden": (8, 8)}, "seed": 3, "dataset": None}


def test_only_what_the_chosen_agent_has_is_suggested() -> None:
    with pytest.raises(UserError, match="unknown key 'epochs'") as raised:
        load_config("iql/point-maze", settings={"epochs": 3})
    assert "agent.epochs" not in str(raised.value)
    with pytest.raises(UserError, match=r"did you mean 'agent\.epochs'"):
        load_config("ppo/classic", settings={"epochs": 3})
