"""Attempts as Ray tasks, on one machine and on three of which one is lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balrl.errors import UserError
from balrl.sweep.folder import FILE
from balrl.sweep.on_ray import RayTasks
from balrl.sweep.work import work
from balrl.watch.display import Display
from tests.run.test_run_or_resume import assert_equal
from tests.sweep.small import small_sweep

ray = pytest.importorskip("ray")
ALONE = {"seeds": [0], "presets": {"IQL": {"preset": "iql/point-maze"}}}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three nodes on this machine, with a core each; the first has none and is never lost."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # beside anything else, Ray's 15 starves them

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.workers = [made.add_node(num_cpus=1) for _ in range(2)]
    made.connect()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_sweep_on_this_machine(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE)
    looks: list[float] = []
    assert RayTasks(folder).run(lambda: looks.append(time.monotonic()))
    assert {s.state for s in folder.standings().values()} == {"finished"}
    assert looks
    assert not ray.is_initialized()
    assert RayTasks(folder).run(lambda: None, until=0) is False


@pytest.mark.slow
def test_a_node_is_lost_and_the_sweep_equals_the_local_one(cluster: Any, tmp_path: Path) -> None:
    """Its runs go on, on another, from their newest checkpoints."""
    folder, local = small_sweep(tmp_path / "ray"), small_sweep(tmp_path / "local")
    tasks = RayTasks(folder, address=cluster.address, pack=1)
    lost: list[str] = []

    def lose_one() -> None:
        running = [name for name, s in folder.standings().items() if s.state == "running"]
        if len(running) == 2 and not lost:
            lost.extend(running)
            cluster.remove_node(cluster.workers[1], allow_graceful=False)

    assert tasks.run(lose_one)
    assert lost, "no node was lost"
    assert work(local, Display())
    assert sum(folder.standing(name).history.attempts for name in lost) > 2
    for name in local.plan:
        assert folder.standing(name).state == "finished"
        assert_equal(folder.run_dir(name), local.run_dir(name))


@pytest.mark.slow
def test_a_node_with_another_version_is_refused_and_both_are_named(tmp_path: Path) -> None:
    folder = small_sweep(tmp_path / "sweep", **ALONE)
    file = folder.path / FILE
    file.write_text(file.read_text().replace("balrl: ", "balrl: 9.", 1))
    with pytest.raises(UserError, match=r"on .*was begun with balrl 9\.0\.1\.0, this is balrl 0\.1\.0"):
        RayTasks(folder).run(lambda: None)
    assert not ray.is_initialized()


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'balrl\[ray\]'"):
        RayTasks(small_sweep(tmp_path / "sweep", **ALONE))
