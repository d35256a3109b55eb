"""Decision Transformer: its losses by hand and as CORL's, and what it remembers."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from balrl.agents import DecisionTransformer, DecisionTransformerConfig
from balrl.batch import Batch

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = gym.spaces.Box(-1, 1, (2,))
L = 4


def make(**config: object) -> DecisionTransformer:
    torch.manual_seed(0)
    settings = {"sequence_length": L, "width": 8, "layers": 2, "heads": 2, "dropout": 0.0, "horizon": 12}
    agent = DecisionTransformer(OBSERVATIONS, ACTIONS, DecisionTransformerConfig(**{**settings, **config})).double()
    for p in agent.policy.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return agent


def windows(rows: int = 3, m: int = 1) -> Batch:
    several = (m,) if m > 1 else ()
    draw = {"dtype": torch.float64}
    played = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], **draw)[:rows]
    return Batch(
        torch.randn(rows, L, 3, **draw),
        2 * torch.rand(rows, L, 2, **draw) - 1,
        torch.randn(rows, L, *several, **draw),
        torch.randn(rows, L, 3, **draw),
        torch.zeros(rows, L, dtype=torch.bool),
        preferences=torch.full((rows, L, m), 1 / m, **draw),
        returns_to_go=1000 * torch.randn(rows, L, *several, **draw),
        timesteps=(torch.arange(L) + torch.tensor([[0], [5], [8]])[:rows]).to(torch.float64),
        played=played,
    )


def corl(agent: DecisionTransformer, b: Batch) -> Tensor:
    """Predictions as CORL's dt.py makes them, of torch's own attention: embeddings, norm, blocks, norm, head."""
    policy, c = agent.policy, agent.config
    time = F.embedding(b.timesteps.long(), policy.time.weight)
    tokens = [
        F.linear(1e-3 * b.returns_to_go.unsqueeze(-1), policy.returns.weight, policy.returns.bias) + time,
        F.linear(b.observations, policy.state.weight, policy.state.bias) + time,
        F.linear(b.actions, policy.action.weight, policy.action.bias) + time,
    ]
    x = torch.stack(tokens, 1).permute(0, 2, 1, 3).reshape(len(b.actions), 3 * L, c.width)
    x = F.layer_norm(x, (c.width,), policy.norm_in.weight, policy.norm_in.bias)
    forbidden = ~torch.tril(torch.ones(3 * L, 3 * L)).bool()
    padded = (1 - b.played).bool().unsqueeze(-1).expand(-1, -1, 3).reshape(len(x), 3 * L)
    for block in policy.blocks:
        attention = nn.MultiheadAttention(c.width, c.heads, batch_first=True).double()
        attention.in_proj_weight.data = block.query_key_value.weight.data
        attention.in_proj_bias.data = block.query_key_value.bias.data
        attention.out_proj.weight.data = block.attended.weight.data
        attention.out_proj.bias.data = block.attended.bias.data
        normed = F.layer_norm(x, (c.width,), block.norm_attention.weight, block.norm_attention.bias)
        x = x + attention(normed, normed, normed, attn_mask=forbidden, key_padding_mask=padded, need_weights=False)[0]
        normed = F.layer_norm(x, (c.width,), block.norm_mlp.weight, block.norm_mlp.bias)
        hidden = F.gelu(F.linear(normed, block.hidden.weight, block.hidden.bias))
        x = x + F.linear(hidden, block.out.weight, block.out.bias)
    x = F.layer_norm(x, (c.width,), policy.norm_out.weight, policy.norm_out.bias)
    return torch.tanh(F.linear(x[:, 1::3], policy.head.weight, policy.head.bias))


def test_the_loss_is_corl_s_on_copied_weights() -> None:
    """``(mse(predicted, actions, reduction="none") * mask).mean()``, to float64's precision."""
    agent, b = make(), windows()
    expected = (F.mse_loss(corl(agent, b), b.actions, reduction="none") * b.played.unsqueeze(-1)).mean()
    loss, contrast = agent.policy_loss(b)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert contrast.item() == 0


def test_what_stands_behind_an_end_changes_nothing() -> None:
    agent, b = make(immediate=2), windows()
    gone = b.played == 0
    other = b._replace(
        observations=torch.where(gone.unsqueeze(-1), 9.0, b.observations),
        actions=torch.where(gone.unsqueeze(-1), 0.5, b.actions),
        rewards=torch.where(gone, 7.0, b.rewards),
        returns_to_go=torch.where(gone, 5.0, b.returns_to_go),
    )
    assert agent.policy_loss(b)[0].item() == pytest.approx(agent.policy_loss(other)[0].item(), rel=1e-12)


@pytest.mark.parametrize("h", [1, 2, 3, 9])
def test_next_rewards_are_means_inside_the_window(h: int) -> None:
    agent, b = make(immediate=h, objectives=2), windows(m=2)
    found = agent._next_rewards(b)
    for row in range(3):
        for t in range(L):
            there = [i for i in range(t, min(t + h, L)) if b.played[row, i]]
            expected = b.rewards[row, there].mean(0) if there else torch.zeros(2, dtype=torch.float64)
            torch.testing.assert_close(found[row, t], expected)


def test_the_contrastive_loss_by_hand() -> None:
    agent = make(contrast=1.0, contrast_levels=2, contrast_temperature=0.5)
    z = torch.randn(5, 8, dtype=torch.float64)
    returns = torch.tensor([3.0, -1.0, 2.0, 0.0, 5.0])
    rank = [3, 0, 2, 1, 4]
    levels = [r * 2 // 5 for r in rank]
    unit = (z / z.norm(dim=-1, keepdim=True)).numpy()
    losses = []
    for i in range(5):
        similar = [p for p in range(5) if p != i and levels[p] == levels[i]]
        score = {k: math.exp(float(unit[i] @ unit[k]) / 0.5) for k in range(5) if k != i}
        losses.append(-math.log(np.mean([score[p] for p in similar]) / sum(score.values())))
    assert agent.contrastive_loss(z, returns).item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_equal_returns_are_of_one_level_and_sharp_temperatures_are_finite() -> None:
    agent = make(contrast=1.0, contrast_levels=2, contrast_temperature=1e-3)
    z = torch.randn(4, 8, dtype=torch.float32, requires_grad=True)
    returns = torch.tensor([0.0, 0.0, 0.0, 5.0])  # the last is alone on its level
    unit = (z / z.norm(dim=-1, keepdim=True)).double()
    losses = []
    for i in range(3):
        scores = torch.stack([unit[i] @ unit[k] / 1e-3 for k in range(4) if k != i])
        losses.append(torch.logsumexp(scores, 0) - torch.logsumexp(scores[:2], 0) + math.log(2))
    loss = agent.contrastive_loss(z, returns)
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-3)
    loss.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert agent.contrastive_loss(z[:1], returns[:1]).item() == 0


def test_step_by_step_it_acts_as_on_the_window_that_it_remembers() -> None:
    """Over more steps than the window holds: the last K, returns-to-go less what was paid, times of the episode."""
    agent = make(target_return=(500.0,))
    memory = agent.empty_memory(2)
    observations = torch.randn(7, 2, 3, dtype=torch.float64)
    rewards = 10 * torch.randn(7, 2, dtype=torch.float64)
    none, acted, left = torch.zeros(2, dtype=torch.bool), [], [torch.full((2,), 500.0, dtype=torch.float64)]
    for t in range(7):
        actions, memory = agent.act_from(observations[t], memory)
        acted.append(actions)
        memory = agent.after_step(memory, rewards[t], none)
        left.append(left[-1] - rewards[t])
        first = max(0, t + 1 - L)
        before = torch.stack([*acted[first:-1], torch.zeros_like(actions)], 1)
        expected = agent.policy(
            observations[first : t + 1].transpose(0, 1),
            before,
            1e-3 * torch.stack(left[first : t + 1], 1).unsqueeze(-1),
            torch.arange(first, t + 1).expand(2, -1),
        )[:, -1]
        torch.testing.assert_close(actions, expected)
    memory = agent.after_step(memory, rewards[0], torch.tensor([True, False]))
    again, _ = agent.act_from(observations[0], memory)
    torch.testing.assert_close(again[0], acted[0][0])
    assert not torch.allclose(again[1], acted[0][1])


def test_predict_takes_rewards_off_the_target() -> None:
    agent = make(target_return=(500.0,)).float()
    observation = np.ones((1, 3), np.float32)
    _, state = agent.predict(observation)
    assert state[0].tolist() == [[500.0]]
    _, state = agent.predict(observation, state, reward=[20.0])
    assert state[0].tolist() == [[480.0]]
    _, state = agent.predict(observation, state, episode_start=[True])
    assert state[0].tolist() == [[500.0]]


def test_the_step_size_rises_and_weights_decay_before_the_step() -> None:
    agent = make(warmup_updates=4, learning_rate=1e-2, weight_decay=0.5)
    start = {name: p.detach().clone() for name, p in agent.policy.named_parameters()}
    reference = make(warmup_updates=4)
    optimizer = torch.optim.AdamW(reference.policy.parameters(), lr=1e-2 / 4, weight_decay=0.5)
    b = windows()
    loss, _ = reference.policy_loss(b)
    loss.backward()
    nn.utils.clip_grad_norm_(reference.policy.parameters(), 0.25)
    optimizer.step()
    agent.update(b)
    assert float(agent.optimizers["policy"].param_groups[0]["lr"]) == pytest.approx(1e-2 / 4)
    for (name, p), q in zip(agent.policy.named_parameters(), reference.policy.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6, msg=name)
        assert not torch.equal(p, start[name]) or not start[name].any()


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="cannot be divided among 3 heads"):
        DecisionTransformerConfig(width=8, heads=3)
    with pytest.raises(ValidationError, match="target_return has 1 numbers, expected 2"):
        DecisionTransformerConfig(objectives=2, target_return=(1.0,))
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        DecisionTransformerConfig(sequence_length=1)  # single steps are no windows
