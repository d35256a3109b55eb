from __future__ import annotations

import pytest

from balrl.data.reference import d4rl_references, reference_for


def test_every_dataset_has_a_reference() -> None:
    assert len(d4rl_references()) == 147
    assert all(r.maximum > r.minimum for r in d4rl_references().values())


@pytest.mark.parametrize(
    ("env_id", "source"),
    [
        ("Hopper-v5", "hopper-medium-v2"),
        ("Hopper-v4", "hopper-medium-v2"),
        ("balrl/HalfCheetah-v5", "halfcheetah-medium-v2"),
        ("AdroitHandDoor-v1", "door-human-v1"),
        ("AdroitHandDoorSparse-v1", "door-human-v1"),
    ],
)
def test_tasks_find_the_reference_that_papers_use(env_id: str, source: str) -> None:
    reference = reference_for(env_id)
    assert reference is not None
    assert reference.source == source
    assert reference.normalize(reference.minimum) == 0
    assert reference.normalize(reference.maximum) == 100


def test_other_tasks_have_none() -> None:
    assert reference_for("Pendulum-v1") is None


def test_hopper_s_numbers() -> None:
    reference = reference_for("Hopper-v5")
    assert reference is not None
    assert reference.normalize(1500.0) == pytest.approx(100 * (1500 + 20.272305) / (3234.3 + 20.272305))
