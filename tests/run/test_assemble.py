"""What fits together is put together; what does not is refused before anything is written."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import balrl
from balrl.errors import UserError
from balrl.run.assemble import _prepared_agent, assemble
from balrl.run.components import Components
from balrl.run.registry import make_env
from balrl.watch.display import Display
from tests.run.small import SMALL, maze_config


@pytest.fixture
def made() -> Iterator[Components]:
    components = assemble(maze_config(), Display())
    yield components
    components.close()


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("sac/point-maze", {"data.normalize_observations": "true", "pretrain.updates": "0"}, "the run has no dataset"),
        ("bc/point-maze", {"warmup.kind": "critic-only"}, "needs critics, agent bc has none"),
        ("iql/point-maze", {"data.disk": "/tmp", "device": "meta"}, "no device 'meta' here"),
        ("iql/point-maze", {"env": "Hopper-v5", "env_kwargs": "{}"}, "environment Hopper-v5 has 11 and 3"),
    ],
)
def test_contradictions_are_one_line(preset: str, settings: dict[str, str], message: str) -> None:
    config = balrl.load_config(preset, settings={**SMALL, **settings})
    with pytest.raises(UserError, match=message):
        assemble(config, Display())


def test_the_seed_is_everybody_s(made: Components) -> None:
    drawn = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
    again = assemble(maze_config(), Display())
    assert (random.random(), np.random.random(), torch.rand(1).item()) == drawn  # noqa: NPY002
    for one, other in zip(made.agent.parameters(), again.agent.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_frozen_batch_is_logged_data_and_costs_no_random_number(made: Components) -> None:
    offline, probe = made.offline, made.instruments.probe
    assert offline is not None
    assert probe is not None
    rows = np.random.default_rng(0).integers(len(offline), size=256)
    assert torch.equal(probe.observations, offline.gather(torch.from_numpy(rows)).observations)
    assert made.agent.stream.position.item() == 0


def test_identity_says_what_a_checkpoint_needs_to_be_read_alone(made: Components) -> None:
    identity = made.identity
    assert identity["config"] == maze_config().model_dump(mode="json")
    assert identity["observation_space"]["shape"] == [4]
    assert identity["action_space"]["low"] == ["-1.0", "-1.0"]
    assert len(identity["dataset_fingerprint"]) == 24
    assert identity["reward"] is None


def test_normalisation_is_that_of_the_data(made: Components) -> None:
    config = maze_config(**{"data.normalize_observations": "true"})
    fitted = assemble(config, Display())
    assert made.offline is not None
    observations = made.offline.gather(torch.arange(len(made.offline))).observations.double()
    torch.testing.assert_close(fitted.agent.normalizer.mean.double(), observations.mean(0), rtol=1e-5, atol=1e-6)
    expected = observations.std(0, correction=0) + 1e-3
    torch.testing.assert_close(fitted.agent.normalizer.std.double(), expected, rtol=1e-5, atol=1e-6)


def test_statistics_come_from_the_data_or_from_what_is_resumed() -> None:
    """A run that has neither is refused; one that goes on has them in its checkpoint."""
    settings = {"data.normalize_observations": "true", "dataset": "null", "pretrain.updates": "0"}
    config = maze_config(**settings)
    env = make_env(config.env, 2)
    arguments = (config, env, torch.device("cpu"), None, None)
    with pytest.raises(UserError, match="normalize_observations is on but the run has no dataset"):
        _prepared_agent(*arguments, False, Display())
    assert torch.equal(_prepared_agent(*arguments, True, Display()).normalizer.mean, torch.zeros(4))
