"""What a run's configuration cannot mean."""

from __future__ import annotations

import pytest

from balrl.errors import UserError
from balrl.run.presets import load_config
from tests.run.test_presets import NEEDED


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
