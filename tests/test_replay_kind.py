"""Which replay an agent gets."""

from __future__ import annotations

import gymnasium as gym

from balrl.agents import IQL, MOSAC, IQLConfig, MOSACConfig
from balrl.chunks import ChunkReplay
from balrl.replay import ReplayBuffer
from balrl.replay_kind import replay_kind
from balrl.sequences import SequenceReplay

BOX = gym.spaces.Box(-1, 1, (2,))


def test_each_agent_gets_what_it_learns_from() -> None:
    assert replay_kind(IQL(BOX, BOX, IQLConfig(hidden=(4,)))) is ReplayBuffer
    chunks = replay_kind(IQL(BOX, BOX, IQLConfig(hidden=(4,), chunk_size=2)), 3)(10, 2, 2)
    assert isinstance(chunks, ChunkReplay)
    several = replay_kind(MOSAC(BOX, BOX, MOSACConfig(hidden=(4,), objectives=3)))(10, 2, 2)
    assert several.storage.shape[1] == 2 + 2 + 3 + 2 + 1

    class Sequential(IQL):
        @property
        def sequence_length(self) -> int:
            return 5

    windows = replay_kind(Sequential(BOX, BOX, IQLConfig(hidden=(4,))), 2)(10, 2, 2)
    assert isinstance(windows, SequenceReplay)
    assert windows.length == 5
