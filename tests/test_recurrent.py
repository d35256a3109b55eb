"""States with a memory."""

from __future__ import annotations

import torch

from balrl.recurrent import RecurrentPolicy, RecurrentQEnsemble, StateMemory


def make() -> StateMemory:
    return StateMemory(3, 5, 4).double()


def test_a_state_is_what_is_remembered_beside_what_is_seen() -> None:
    memory, x = make(), torch.randn(2, 6, 5, dtype=torch.float64)
    states = memory(x)
    assert states.shape == (2, 6, 7)
    assert torch.equal(states[..., 4:], x[..., :3])
    torch.testing.assert_close(memory.hidden(states), memory.unit(x))


def test_a_state_after_another_is_the_window_s_next() -> None:
    memory, x = make(), torch.randn(2, 6, 5, dtype=torch.float64)
    states = memory(x)
    torch.testing.assert_close(memory.after(states[:, :-1], x[:, 1:]), states[:, 1:])
    h = memory.blank(x[:, 0])
    assert not h.any()
    for t in range(6):
        torch.testing.assert_close(memory.step(x[:, t], h), states[:, t])
        h = memory.hidden(states[:, t])


def test_policy_and_critics_have_memories_of_their_own() -> None:
    policy, critic = (
        RecurrentPolicy(StateMemory(3, 5, 4), 7, 2, (6,)),
        RecurrentQEnsemble(StateMemory(3, 5, 4), 2, (6,), 3),
    )
    assert policy.mode(torch.randn(8, 7)).shape == (8, 2)
    assert critic(torch.randn(8, 7), torch.randn(8, 2)).shape == (3, 8)
    for part in (policy, critic):
        assert any(name.startswith("memory.unit") for name, _ in part.named_parameters())
