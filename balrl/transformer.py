"""A causal transformer over tokens of return, state and action."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balrl.policies import Policy
from balrl.random_stream import RandomStream

DEVIATION = 0.02
"""Of the first weights."""


def dropped(x: Tensor, share: float, stream: RandomStream | None) -> Tensor:
    """Return x with a share of its entries set to 0 and the others scaled up; as it is without a stream."""
    if stream is None or share == 0:
        return x
    return x * (stream.uniform(*x.shape) >= share) / (1 - share)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer whose weights are not drawn yet: torch would draw them on the device, others on every one."""
    return nn.utils.skip_init(nn.Linear, inputs, outputs, device=torch.empty(()).device)


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))`` with a hidden layer four times as wide and GELU."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = _linear(width, 3 * width)
        self.attended = _linear(width, width)
        self.hidden, self.out = _linear(width, 4 * width), _linear(4 * width, width)

    def forward(self, x: Tensor, seen: Tensor, dropout: RandomStream | None) -> Tensor:
        """Return ``[B, T, width]`` for x of that shape; `seen` ``[B or 1, T, T]`` says what each token looks at."""
        x = x + dropped(self.attended(self._attention(self.norm_attention(x), seen, dropout)), self.dropout, dropout)
        return x + dropped(self.out(F.gelu(self.hidden(self.norm_mlp(x)))), self.dropout, dropout)

    def _attention(self, x: Tensor, seen: Tensor, dropout: RandomStream | None) -> Tensor:
        """Attention whose dropout comes from the stream, which torch's own cannot."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for y in self.query_key_value(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~seen.unsqueeze(-3), -math.inf).softmax(-1)
        return (dropped(weights, self.dropout, dropout) @ v).transpose(-2, -3).flatten(-2)


class SequencePolicy(Policy):
    """Actions of a causal transformer that sees returns-to-go, states and the actions before (arXiv 2106.01345).

    Every step has three tokens, return, state and action, to each of which a learned embedding of its time in the
    episode is added; the action is read at the state's, after a tanh.

    Args:
        state_dim, action_dim, return_dim: widths.
        times: that there are embeddings of; later ones have the last.
        width, layers, heads: of the transformer.
        dropout: of attention, residuals and embeddings, where a stream is given.
        balanced: returns are two, an immediate and a long-term one, whose embeddings are weighed by the state.
    """

    kind = "sequence"

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        return_dim: int,
        times: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        self.dropout, self.times = dropout, times
        self.time = nn.utils.skip_init(nn.Embedding, times, width, device=torch.empty(()).device)
        self.state, self.action = _linear(state_dim, width), _linear(action_dim, width)
        self.returns = _linear(return_dim, width)
        self.immediate = _linear(return_dim, width) if balanced else None
        self.weigh = _linear(state_dim, 2) if balanced else None
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.head = _linear(width, action_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                _draw(module)

    def embedded_returns(self, states: Tensor, returns: Tensor, immediate: Tensor | None = None) -> Tensor:
        """Return the embedding ``[B, L, width]`` of returns ``[B, L, m]``, long-term and immediate weighed by state."""
        long = self.returns(returns)
        if self.immediate is None or self.weigh is None or immediate is None:
            return long
        w = self.weigh(states).softmax(-1)
        return w[..., :1] * long + w[..., 1:] * self.immediate(immediate)

    def forward(
        self,
        states: Tensor,
        actions: Tensor,
        returns: Tensor,
        times: Tensor,
        immediate: Tensor | None = None,
        there: Tensor | None = None,
        dropout: RandomStream | None = None,
    ) -> Tensor:
        """Return the actions ``[B, L, action_dim]`` at every step of windows.

        Args:
            states, actions, returns: ``[B, L, ·]``; a step's own action is not looked at by its own state.
            times: ``[B, L]``, the steps' places in their episodes.
            immediate: returns of the next steps ``[B, L, ·]``, where those are weighed.
            there: ``[B, L]`` bool, steps that there are; None: all that anybody asks about.
            dropout: where its random numbers come from; None: there is none.
        """
        length = times.shape[-1]
        time = self.time(times.clamp(max=self.times - 1).long())
        tokens = [self.embedded_returns(states, returns, immediate), self.state(states), self.action(actions)]
        x = torch.stack([token + time for token in tokens], -2).flatten(-3, -2)
        x = dropped(self.norm_in(x), self.dropout, dropout)
        seen = torch.ones(3 * length, 3 * length, dtype=torch.bool, device=x.device).tril().unsqueeze(0)
        if there is not None:
            own = torch.eye(3 * length, dtype=torch.bool, device=x.device)
            seen = seen & (there.repeat_interleave(3, -1).unsqueeze(-2) | own)
        for block in self.blocks:
            x = block(x, seen, dropout)
        at_states = self.norm_out(x).unflatten(-2, (length, 3))[..., 1, :]
        return torch.tanh(self.head(at_states))

    def mode(self, x: Tensor) -> Tensor:
        """A window is more than one input: `forward` takes it."""
        raise NotImplementedError("a sequence policy acts on windows")

    def sample(self, x: Tensor, stream: RandomStream, count: int | None = None) -> tuple[Tensor, None]:
        """A window is more than one input: `forward` takes it."""
        raise NotImplementedError("a sequence policy acts on windows")


@torch.no_grad()
def _draw(module: nn.Linear | nn.Embedding) -> None:
    """Draw first weights on the CPU, so that a seed gives the same on every device."""
    module.weight.copy_(DEVIATION * torch.randn(module.weight.shape, device="cpu"))
    if isinstance(module, nn.Linear):
        module.bias.zero_()
