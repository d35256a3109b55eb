from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balrl.errors import UserError
from balrl.sweep.spec import Choices, Range, read_sweep
from tests.sweep.small import spec


def test_names_seeds_and_axes_are_read_in_their_short_forms(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "presets: [iql/point-maze, bc/point-maze]\nseeds: 0:3\nsamples: 2\n"
        "vary: {agent.expectile: [0.7, 0.9], batch_size: {choices: [32, 64]}, agent.discount: {low: 0.9, high: 1}}\n"
    )
    found = read_sweep(file)
    assert found.presets == {"iql/point-maze": {}, "bc/point-maze": {}}
    assert found.seeds == (0, 1, 2)
    assert found.axes["agent.expectile"] == [0.7, 0.9]
    assert found.axes["batch_size"] == Choices(choices=[32, 64])
    assert found.axes["agent.discount"] == Range(low=0.9, high=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "iql/point-maze"}, "unknown key 'preset'; did you mean 'presets'"),
        ({"presets": {}}, "presets = {}"),
        ({"presets": {"WSRL": {"from": "nobody"}}}, "WSRL is from 'nobody', expected one of pretrain: \\['calql'\\]"),
        ({"seeds": "many"}, "seeds = 'many': expected a range such as 0:8"),
        ({"seeds": []}, "seeds"),
        ({"vary": {"agent.expectile": 0.7}}, "agent.expectile is 0.7, expected a list of values"),
        ({"vary": {"agent.expectile": {"low": 1, "high": 0.5}}}, "expected low below high"),
        ({"vary": {"a": {"low": 0, "high": 0.5, "log": True}}}, "expected more than 0 on a logarithmic scale"),
        ({"vary": {"a": {"lo": 0, "high": 1}}}, "a: 'low' is missing"),
        ({"vary": {"a": {"low": 0, "high": 1}}}, "say how many samples, or add search"),
        ({"vary": [{}]}, "expected every combination to be a mapping"),
        ({"vary": "agent.expectile"}, "expected settings with what each is varied over"),
        ({"samples": 3}, "samples is set, but vary has nothing to sample from"),
        ({"search": {"trials": 3}}, "give vary settings"),
        ({"search": {"engine": "hope"}}, "search.engine = 'hope'"),
    ],
)
def test_a_mistake_is_named_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        spec(**changes)
    assert "\n" not in str(caught.value)
