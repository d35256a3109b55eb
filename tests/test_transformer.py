"""The causal transformer: what sees what, and dropout that can be repeated."""

from __future__ import annotations

import pytest
import torch

from balrl.random_stream import RandomStream
from balrl.transformer import SequencePolicy, dropped

LENGTH = 5


def make(**settings: object) -> SequencePolicy:
    torch.manual_seed(0)
    made = SequencePolicy(3, 2, 1, 20, 8, 2, 2, 0.0, **settings).double()  # type: ignore[arg-type]
    for p in made.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return made


def window(rows: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(1)
    made = [torch.randn(rows, LENGTH, width, dtype=torch.float64) for width in (3, 2, 1)]
    return [*made, torch.arange(LENGTH).expand(rows, -1)]


@pytest.mark.parametrize(("which", "reaches"), [(0, 2), (1, 3), (2, 2)], ids=["state", "action", "return"])
def test_an_action_is_seen_by_later_steps_alone_and_the_rest_by_its_own_too(which: int, reaches: int) -> None:
    policy, inputs = make(), window()
    before = policy(*inputs)
    inputs[which] = inputs[which].clone()
    inputs[which][:, 2] += 1
    changed = (policy(*inputs) - before).abs().amax((0, 2)) > 1e-12
    assert changed.tolist() == [t >= reaches for t in range(LENGTH)]


def test_what_is_not_there_is_not_looked_at() -> None:
    policy, (states, actions, returns, times) = make(), window()
    there = torch.tensor([[False, False, True, True, True]] * 2)
    found = policy(states, actions, returns, times, None, there)
    short = policy(states[:, 2:], actions[:, 2:], returns[:, 2:], times[:, 2:])
    torch.testing.assert_close(found[:, 2:], short)
    assert found.isfinite().all()


def test_times_beyond_the_horizon_are_the_last() -> None:
    policy, (states, actions, returns, times) = make(), window()
    torch.testing.assert_close(
        policy(states, actions, returns, times + 100), policy(states, actions, returns, torch.full_like(times, 19))
    )


def test_returns_are_weighed_by_the_state() -> None:
    policy, (states, _, returns, _) = make(balanced=True), window()
    immediate = torch.randn_like(returns)
    w = torch.softmax(states @ policy.weigh.weight.T + policy.weigh.bias, -1)
    by_hand = w[..., :1] * policy.returns(returns) + w[..., 1:] * policy.immediate(immediate)
    torch.testing.assert_close(policy.embedded_returns(states, returns, immediate), by_hand)


def test_dropout_is_a_function_of_the_stream() -> None:
    x = torch.ones(1000)
    one, other = (dropped(x, 0.25, RandomStream(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert one.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (one == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert dropped(x, 0.25, None) is x


def test_windows_are_more_than_one_input() -> None:
    for ask in (make().mode, lambda x: make().sample(x, RandomStream(0))):
        with pytest.raises(NotImplementedError, match="acts on windows"):
            ask(torch.zeros(1, 3))
