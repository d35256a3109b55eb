"""What many tests share: tiny data, whole small runs, the folder of real data where there is one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

import balrl
from balrl.batch import Batch
from balrl.data.dataset import Dataset
from tests.run.small import hopper_config, maze_config

settings.register_profile("balrl", deadline=None)  # a busy machine is no wrong result
settings.load_profile("balrl")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _quiet_and_repeatable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One torch thread, a fixed seed, no W&B account, no pictures unless a test is marked so.

    And no module that another test imported for its task.
    """
    if request.node.get_closest_marker("pictures") is None:
        monkeypatch.setattr("balrl.run.pictures.draw_pictures", lambda *_: None)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr("balrl.run.imports._IMPORTED", {})
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real datasets; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data beside the checkout ({SHARED_DATA.parent.name}/{SHARED_DATA.name} is absent)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maze") / "run"
    assert balrl.train(maze_config(), path).finished
    return path


@pytest.fixture(scope="session")
def whole_hopper_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hopper") / "run"
    assert balrl.train(hopper_config(), path).finished
    return path


def others_marked(names: Iterable[str], some: Collection[str], mark: pytest.MarkDecorator) -> list[Any]:
    """Return names for a test that takes long: `some` as they are, the others marked."""
    return [name if name in some else pytest.param(name, marks=mark) for name in names]


def random_batch(
    rows: int = 8,
    observation_dim: int = 3,
    action_dim: int = 2,
    dtype: torch.dtype = torch.float32,
    chunk_size: int = 1,
    reward_dim: int = 1,
) -> Batch:
    """Return a batch with every optional field, drawn from torch's global generator; with chunks, of those."""
    several = (reward_dim,) if reward_dim > 1 else ()
    draw = {"dtype": dtype}
    steps = torch.arange(rows) % chunk_size + 1
    action_dim *= chunk_size
    of_chunks = {}
    if chunk_size > 1:
        of_chunks = {
            "discounts": 0.9 ** steps.to(dtype),
            "played": (torch.arange(chunk_size) < steps[:, None]).to(dtype),
        }
    return Batch(
        torch.randn(rows, observation_dim, **draw),
        2 * torch.rand(rows, action_dim, **draw) - 1,
        torch.randn(rows, *several, **draw),
        torch.randn(rows, observation_dim, **draw),
        torch.arange(rows) % 3 == 0,
        torch.randn(rows, **draw),
        2 * torch.rand(rows, action_dim, **draw) - 1,
        (torch.arange(rows) % 2).to(dtype),
        torch.full((rows, reward_dim), 1 / reward_dim, **draw),
        torch.randn(rows, *several, **draw),
        torch.arange(rows).to(dtype),
        *(torch.randn(rows, **draw) for _ in range(3)),
        logged=(torch.arange(rows) % 3 < 2).to(dtype),
        **of_chunks,
    )


def make_dataset(lengths: tuple[int, ...] = (3, 2, 4), terminated: tuple[bool, ...] = (True, False, False)) -> Dataset:
    """Return episodes of the given lengths whose observations are ``[episode, t]`` and whose rewards count rows."""
    observations, following, ends, truncations = [], [], [], []
    for episode, (length, ended) in enumerate(zip(lengths, terminated, strict=True)):
        for t in range(length):
            last = t == length - 1
            observations.append((episode, t))
            following.append((episode, t + 1))
            ends.append(last and ended)
            truncations.append(last and not ended)
    rows = len(observations)
    return Dataset(
        np.array(observations, np.float32),
        np.linspace(-1, 1, rows, dtype=np.float32)[:, None],
        np.arange(1, rows + 1, dtype=np.float32),
        np.array(following, np.float32),
        np.array(ends),
        np.array(truncations),
        name="toy",
    )
