"""Shipped presets, and configurations from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from balrl.errors import UserError
from balrl.run.presets import dump_config, load_config, preset_names, preset_text

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
    offline = (
        "bc",
        "iql",
        "iql-ddpg-bc",
        "famo2o-iql",
        "sac",
        "td3bc",
        "famo2o-td3bc",
        "rebrac",
        "famo2o-rebrac",
        "awac",
        "fql",
    )
    expected = {f"{a}/{d}" for a in offline for d in DOMAINS[:3]}
    expected |= {"iql/antmaze", "famo2o-iql/antmaze", "fql/antmaze", "famo2o-fql/locomotion", "famo2o-fql/point-maze"}
    expected |= {f"{a}/{d}" for a in ("qc", "qc-fql", "pex", "jsrl") for d in ("locomotion", "point-maze")}
    expected |= {"so2/locomotion"}
    online = ("cql", "calql", "wsrl", "rlpd", "famo2o-cql", "famo2o-to-wsrl")
    expected |= {f"{a}/{d}" for a in online for d in DOMAINS}
    assert expected <= set(preset_names())


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
