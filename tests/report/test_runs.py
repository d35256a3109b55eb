from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from balrl.errors import UserError
from balrl.report.runs import labels, method_of, read_runs
from balrl.run.presets import dump_config, load_config


def write_run(path: Path, scores: list[float], records: list[dict[str, Any]] | None = None, **settings: str) -> Path:
    """A run directory as training leaves it: 100 updates of pre-training, then 10 environment steps a score."""
    path.mkdir(parents=True)
    preset = settings.pop("preset", "iql/point-maze")
    (path / "config.yaml").write_text(dump_config(load_config(preset, settings=settings)))
    evaluations = [
        {
            "step": 100 + 10 * i,
            "env_steps": 10 * i,
            "phase": "finetune" if i else "pretrain",
            "score": s,
            "normalized_score": s,
        }
        for i, s in enumerate(scores)
    ]
    (path / "evaluations.json").write_text(json.dumps(evaluations))
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records or []))
    return path


def test_methods_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", [1.0], seed=str(seed))
        write_run(tmp_path / f"b{seed}", [1.0], seed=str(seed), **{"agent.expectile": "0.9"})
        more = {"finetune.retain": "append", "tracking.log_every": "7"}
        write_run(tmp_path / f"c{seed}", [1.0], seed=str(seed), preset="sac/point-maze", **more)
    named = labels(read_runs([tmp_path]))
    assert [len(runs) for runs in named.values()] == [2, 2, 2]
    assert list(named) == ["iql, expectile=0.7", "iql, expectile=0.9", "sac"]  # of sac there is one kind only


def test_a_method_is_its_preset_or_else_its_agent() -> None:
    for preset, method in (
        ("wsrl/point-maze", "wsrl"),
        ("rlpd/point-maze", "rlpd"),
        ("famo2o-cql/point-maze", "famo2o-cql"),
    ):
        config = load_config(preset).model_dump(mode="json")
        assert method_of(config) == method
        assert method_of(config | {"preset": ""}) == {"wsrl": "calql", "rlpd": "sac"}.get(method, method)
    other = load_config("wsrl/point-maze", settings={"agent.name": "bc", "agent.hidden": [8]})
    assert method_of(other.model_dump(mode="json")) == "bc"


def test_words_that_are_not_enough_alone_are_named_in_full(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0], **{"warmup.steps": "7", "agent.max_weight": "9"})
    write_run(tmp_path / "b", [1.0], **{"warmup.steps": "8"})
    first, _ = labels(read_runs([tmp_path]))
    assert first == "iql, warmup.steps=7, max_weight=9"


def test_where_the_switch_was_and_which_task(tmp_path: Path) -> None:
    layout = {"env_kwargs": "{layout: large}", "dataset": "point-maze-large"}
    [run] = read_runs([write_run(tmp_path / "run", [1.0, 2.0], **layout)])
    assert run.switch_step == 100
    assert run.task == "balrl/PointMaze-v0 layout=large"


def test_methods_are_the_same_on_tasks_whose_presets_differ(tmp_path: Path) -> None:
    for task in ("adroit", "kitchen"):
        for name in ("calql", "wsrl"):
            write_run(tmp_path / f"{name}-{task}", [1.0], preset=f"{name}/{task}", dataset=f"{task}.hdf5")
    named = labels(read_runs([tmp_path]))
    assert [len(runs) for runs in named.values()] == [2, 2]


def test_a_run_from_a_checkpoint_is_another_method(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0], **{"init.checkpoint": "somewhere"})
    write_run(tmp_path / "b", [1.0])
    assert list(labels(read_runs([tmp_path]))) == ["iql, init.checkpoint=True", "iql, init.checkpoint=False"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no balrl run and holds none"):
        read_runs([tmp_path])
    path = write_run(tmp_path / "run", [])
    with pytest.raises(UserError, match="has no evaluation yet"):
        read_runs([path])
