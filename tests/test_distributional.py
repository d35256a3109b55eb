"""Critics that predict distributions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from balrl.distributional import CategoricalQEnsemble, project


def by_hand(p: list[float], support: list[float], reward: float, discount: float) -> list[float]:
    """The projection as the paper's algorithm 1 spells it out, atom by atom."""
    spacing = support[1] - support[0]
    out = [0.0] * len(support)
    for mass, z in zip(p, support, strict=True):
        place = (min(max(reward + discount * z, support[0]), support[-1]) - support[0]) / spacing
        place = min(place, len(support) - 1)  # what rounding put beyond the last atom
        lower = int(place)
        if place == lower:
            out[lower] += mass
        else:
            out[lower] += mass * (lower + 1 - place)
            out[lower + 1] += mass * (place - lower)
    return out


def test_a_projection_by_hand() -> None:
    """Between two atoms the mass is shared; on an atom it stays whole; beyond the ends it is kept on them."""
    support = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    p = torch.tensor([[[0.2, 0.3, 0.5]] * 4], dtype=torch.float64)
    rewards = torch.tensor([0.0, 0.25, 5.0, 0.5], dtype=torch.float64)
    discounts = torch.tensor([1.0, 0.5, 1.0, 0.0], dtype=torch.float64)
    expected = [
        [0.2, 0.3, 0.5],
        [0.05, 0.15 + 0.225 + 0.125, 0.075 + 0.375],  # atoms land on −0.25, 0.25 and 0.75
        [0.0, 0.0, 1.0],
        [0.0, 0.5, 0.5],
    ]
    torch.testing.assert_close(project(p, support, rewards, discounts)[0], torch.tensor(expected, dtype=torch.float64))


@given(
    masses=st.lists(st.floats(0.01, 1), min_size=2, max_size=7),
    reward=st.floats(-30, 30),
    discount=st.floats(0, 1),
    low=st.floats(-20, 5),
    width=st.floats(0.5, 30),
)
def test_the_projection_is_the_papers_and_keeps_mass_and_mean(
    masses: list[float], reward: float, discount: float, low: float, width: float
) -> None:
    p = torch.tensor(masses, dtype=torch.float64)
    p = p / p.sum()
    support = torch.linspace(low, low + width, len(masses), dtype=torch.float64)
    rewards, discounts = (torch.tensor([x], dtype=torch.float64) for x in (reward, discount))
    found = project(p.reshape(1, 1, -1), support, rewards, discounts)[0, 0]
    expected = by_hand(p.tolist(), support.tolist(), reward, discount)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)
    assert found.sum() == pytest.approx(1.0)
    moved = (reward + discount * support).clamp(support[0], support[-1])
    assert float((found * support).sum()) == pytest.approx(float((p * moved).sum()), abs=1e-9)


def test_an_ensemble_gives_means_of_its_members_distributions() -> None:
    torch.manual_seed(0)
    made = CategoricalQEnsemble(3, 2, (8,), members=3, layer_norm=True, activation="silu", atoms=5, value_range=(-2, 6))
    observations, actions = torch.randn(7, 3), torch.randn(7, 2)
    assert made.support.tolist() == [-2, 0, 2, 4, 6]
    logits = made.logits(observations, actions)
    assert logits.shape == (3, 7, 5)
    q = made(observations, actions)
    torch.testing.assert_close(q, torch.einsum("mba,a->mb", logits.softmax(-1), made.support))
    torch.testing.assert_close(made(observations, actions, torch.tensor([2, 0])), q[[2, 0]])
    assert not torch.allclose(q[0], q[1])
