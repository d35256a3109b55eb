from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from balrl.agents.config import FixedBalance, StateAdaptiveBalance
from balrl.errors import UserError
from balrl.run.presets import TrainConfig, dump_config, load_config, preset_names, preset_text
from balrl.validation import field_names, override

DOMAINS = ("point-maze", "locomotion", "adroit", "antmaze", "kitchen")
NEEDED = {"dataset": "some-file.hdf5"}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_round_trips(name: str, tmp_path: Path) -> None:
    config = load_config(name, settings=NEEDED)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(file=tmp_path / "config.yaml") == config


@pytest.mark.parametrize("name", preset_names())
def test_every_value_of_a_preset_says_where_it_is_from(name: str) -> None:
    """Beside the value, or in the first lines for all that have no source of their own."""
    lines = preset_text(name).splitlines()
    everything = any("Every value is ours" in line for line in lines if line.startswith("#"))
    for line in lines:
        key, _, value = line.partition(":")
        is_value = value.strip() and not value.strip().startswith(("[]", "#")) and not line.startswith("#")
        structural = key.strip() in ("env", "dataset", "name", "kind", "retain", "num_envs", "threads")
        if is_value and not structural:
            assert everything or "#" in line, line


def test_all_algorithms_have_all_domains() -> None:
    expected = {f"{a}/{d}" for a in ("bc", "iql", "famo2o-iql", "sac") for d in DOMAINS[:3]}
    online = ("cql", "calql", "wsrl", "rlpd", "famo2o-cql", "famo2o-to-wsrl")
    expected |= {f"{a}/{d}" for a in online for d in DOMAINS}
    assert expected <= set(preset_names())


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
        ({"agent.name": "iqll"}, "expected tags: 'bc', 'iql', 'sac'"),
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "null"}, "pretrain.updates needs a dataset, none is given: pass --dataset FILE"),
        ({"dataset": "null", "pretrain.updates": "0"}, "finetune.retain=append needs a dataset"),
        ({"pretrain.updates": "0", "finetune.steps": "0"}, "there is nothing to do"),
    ],
)
def test_phases_that_cannot_run_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("iql/locomotion", settings={**NEEDED, **settings}).check_phases()


def test_unknown_presets_suggest_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'famo2o-iql/locomotion'"):
        load_config("famo2o-iql/locomtion")
    with pytest.raises(UserError, match="give a preset or a configuration file"):
        load_config()


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    for content, message in (
        ("a: [", "not valid YAML"),
        ("- 1", "holds list"),
        ("env: !!python/object:os.system x", "YAML"),
    ):
        (tmp_path / "c.yaml").write_text(content)
        with pytest.raises(UserError, match=message):
            load_config(file=tmp_path / "c.yaml")
    with pytest.raises(UserError, match="cannot read"):
        load_config(file=tmp_path / "absent.yaml")


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
