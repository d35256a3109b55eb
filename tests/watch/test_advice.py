from __future__ import annotations

import pytest

import balrl
from balrl.run.presets import preset_names
from balrl.settings import override, validate
from balrl.watch.advice import PATTERNS, advice_for


@pytest.mark.parametrize("preset", preset_names())
def test_advice_names_settings_that_the_run_has(preset: str) -> None:
    config = balrl.load_config(preset)
    for pattern in PATTERNS:
        words = advice_for(pattern, config).replace("=", " ").split()
        named = [word for word in words if word.startswith(("agent.", "finetune.", "warmup."))]
        for key in named:
            section, _, name = key.rstrip(",").partition(".")
            assert name in type(getattr(config, section)).model_fields, (pattern, key)


@pytest.mark.parametrize(
    ("pattern", "before", "on", "after"),
    [
        ("Q explosion", "set agent.layer_norm=true", {"agent.layer_norm": True}, "raise agent.critics"),
        ("Q collapse", "set warmup.steps=5000", {"warmup.steps": 5000}, "keep the logged data"),
        ("Q collapse", "keep the logged data", {"finetune.retain": "ratio", "warmup.steps": 5000}, "learning_rate"),
    ],
)
def test_what_is_on_already_is_not_advised(pattern: str, before: str, on: dict[str, object], after: str) -> None:
    config = balrl.load_config("wsrl/point-maze", settings={"agent.layer_norm": False, "warmup.steps": 10})
    assert before in advice_for(pattern, config)
    changed = validate(balrl.TrainConfig, override(config.model_dump(mode="json"), on), "here")
    assert before not in advice_for(pattern, changed)
    assert after in advice_for(pattern, changed)
