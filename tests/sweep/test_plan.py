from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balrl.errors import UserError
from balrl.sweep.plan import Planned, make_plan
from tests.sweep.small import SWEEP, spec


def plan(root: Path = Path("."), **changes: Any) -> dict[str, Planned]:
    return make_plan(spec(**changes), Path("/sweep/runs"), root)


def test_every_preset_on_every_task_with_every_seed() -> None:
    found = plan(
        presets=["iql/locomotion", "bc/locomotion"],
        datasets={"hopper": {"dataset": "h.hdf5", "env": "Hopper-v5"}, "walker": {"dataset": "w.hdf5", "env": "W-v5"}},
        settings={"agent.hidden": [8]},
        vary={"batch_size": [16, 32]},
    )
    assert len(found) == 16
    assert [p.labels["seed"] for p in found.values()] == [0] * 8 + [1] * 8
    one = next(p for p in found.values() if p.labels["dataset"] == "walker" and p.labels["batch_size"] == 32)
    assert (one.config.env, one.config.dataset, one.config.batch_size) == ("W-v5", "w.hdf5", 32)
    assert one.labels == {"preset": "iql/locomotion", "dataset": "walker", "batch_size": 32, "seed": 0}


def test_pretraining_is_made_once_a_seed_for_all_that_start_from_it() -> None:
    presets = {
        label: {"preset": "wsrl/point-maze", "from": "calql", "batch_size": b} for label, b in (("A", 8), ("B", 9))
    }
    found = plan(presets=presets)
    parents = [p for p in found.values() if p.is_parent]
    assert [p.name for p in parents] == list(found)[:2]
    for parent in parents:
        assert (parent.config.warmup.steps, parent.config.finetune.steps) == (0, 0)
        assert parent.config.pretrain.updates == 12
        children = [p for p in found.values() if p.parent == parent.name]
        assert len(children) == 2
        for child in children:
            assert child.config.init.checkpoint == f"/sweep/runs/{parent.name}"
            assert child.config.seed == parent.config.seed
            assert child.config.pretrain.updates == 0
            assert child.config.warmup.steps == 20


def test_a_name_is_of_the_content_alone(tmp_path: Path) -> None:
    names = set(plan())
    assert set(plan(presets={"other words": SWEEP["presets"]["WSRL"], "IQL": SWEEP["presets"]["IQL"]})) == names
    assert set(make_plan(spec(), Path("/elsewhere"), tmp_path)) == names
    assert set(plan(settings={**SWEEP["settings"], "environment.on_invalid": "stop"})) == names  # the default, said
    larger = set(plan(seeds="0:3"))
    assert names < larger
    changed = set(plan(settings={**SWEEP["settings"], "batch_size": 17}))
    assert not names & changed
    pretrained = set(plan(pretrain={"calql": {**SWEEP["pretrain"]["calql"], "pretrain.updates": 13}}))
    assert {name for name in names & pretrained if name.startswith("wsrl")} == set(), "another start is another run"
    assert {name for name in names if name.startswith("iql")} < pretrained


def test_the_same_run_under_two_labels_is_one_run() -> None:
    assert len(plan(presets={"a": {"preset": "iql/point-maze"}, "b": {"preset": "iql/point-maze"}})) == 2


def test_data_and_configurations_are_looked_up_beside_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "my.hdf5").touch()
    (tmp_path / "my.yaml").write_text("agent: {name: iql}\nenv: Hopper-v5\npretrain: {updates: 5}\n")
    found = plan(tmp_path, presets={"mine": {"config": "my.yaml", "dataset": "my.hdf5"}}, settings={})
    assert {p.config.dataset for p in found.values()} == {str(tmp_path / "my.hdf5")}
    assert {p.labels["preset"] for p in found.values()} == {"mine"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"presets": ["iql/point-maz"]}, "iql/point-maz: no preset 'iql/point-maz'; did you mean"),
        ({"settings": {"agent.expectil": 0.3}}, "unknown key 'agent.expectil'"),
        (
            {"presets": ["iql/locomotion"], "datasets": ["x.hdf5"], "vary": {"batch_size": [0]}},
            "on x.hdf5: .*batch_size",
        ),
        ({"settings": {"pretrain.updates": 0, "warmup.steps": 0, "finetune.steps": 0}}, "there is nothing to do"),
    ],
)
def test_a_mistake_names_the_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(**changes)


def test_where_a_run_starts_from_is_its_content_and_what_is_imported_is_not() -> None:
    starts = plan(presets=["wsrl/point-maze"], vary={"init.checkpoint": ["runs/a", "runs/b"]}, seeds=[0])
    assert len(starts) == 2
    assert set(make_plan(spec(), Path("/r"), Path("."), imports=["json"])) == set(plan())
