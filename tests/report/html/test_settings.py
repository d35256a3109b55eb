"""Settings beside the preset's, with sources."""

from __future__ import annotations

import shlex
from pathlib import Path

from balrl.report.html.settings import NOT_SET, command_of, settings_of, sources_in
from balrl.run.presets import load_config, preset_text

FILE = Path("runs/a b/config.yaml")


def test_sources_stand_beside_values() -> None:
    text = (
        "# all\nagent:\n  name: iql\n  balance:\n    kind: fixed # theirs\n  discount: 0.9 # a paper, # twice\n"
        "list:\n- 1 # no\nseed: 3\n"
    )
    assert sources_in(text) == {"agent.balance.kind": "theirs", "agent.discount": "a paper, # twice"}
    found = sources_in(preset_text("iql/locomotion"))
    assert found["agent.expectile"].startswith("arXiv 2110.06169")


def test_what_differs_and_the_command_that_says_so() -> None:
    preset = load_config("iql/point-maze").model_dump(mode="json")
    changes = {"agent.expectile": 0.8, "seed": 4, "env_kwargs": "{layout: large, size: null}", "agent.hidden": "[8, 8]"}
    config = load_config("iql/point-maze", settings=changes).model_dump(mode="json")
    settings = settings_of(config, preset, {"agent.expectile": "a paper"})
    changed = {s.key: (s.value, s.preset, s.source) for s in settings if s.is_changed}
    assert changed["agent.expectile"] == ("0.8", str(preset["agent"]["expectile"]), "a paper")
    assert changed["env_kwargs.layout"] == ("large", NOT_SET, "")
    command = command_of(config, settings, FILE)
    words = shlex.split(command)
    assert words[:4] == ["balrl", "train", "--preset", "iql/point-maze"]
    again = load_config("iql/point-maze", settings=dict(w.split("=", 1) for w in words[4:]))
    assert again.model_dump(mode="json") == config


def test_modules_are_imported_again_and_files_have_no_preset() -> None:
    config = {"preset": "iql/point-maze", "imports": ["heater"], "seed": 1}
    settings = settings_of(config, {"imports": [], "seed": 0}, {})
    assert command_of(config, settings, FILE) == "balrl train --preset iql/point-maze --import heater seed=1"
    assert command_of({"seed": 1}, settings, FILE) == "balrl train --config 'runs/a b/config.yaml'"
    unknown = settings_of({"preset": "iql/gone", "seed": 1}, None, {})
    assert not any(s.is_changed for s in unknown)
    assert command_of({"preset": "iql/gone", "seed": 1}, unknown, FILE) == "balrl train --config 'runs/a b/config.yaml'"
