"""Calibrated Q-learning: conservative, but never below what the data is known to have earned."""

from __future__ import annotations

import torch
from torch import Tensor

from balrl.agent import Phase
from balrl.agents.cql import CQL
from balrl.agents.hyperparameters import CalQLConfig
from balrl.batch import Batch


class CalQL(CQL):
    """Cal-QL (Nakamoto et al., arXiv 2303.05479).

    CQL, in whose penalty the Q of the *policy's* actions (not of the uniform ones) is ``max(Q(s, a'), R_mc(s))``,
    before the importance correction. R_mc is the data's Monte-Carlo return, ``Batch.mc_returns``; where it is −∞ this
    is CQL. Online transitions need it too for as long as the penalty stays: they become samplable when their episode
    has ended.
    """

    config_type = CalQLConfig
    config: CalQLConfig

    def fields_in(self, phase: Phase) -> tuple[str, ...]:
        own = ("mc_returns",) if phase == "offline" or self.config.conservative_online else ()
        return super().fields_in(phase) + own

    def calibrate(self, q: Tensor, batch: Batch) -> Tensor:
        if batch.mc_returns is None:
            raise ValueError("Cal-QL needs Batch.mc_returns, this batch has none")
        n = self.config.sampled_actions
        return torch.cat([q[..., :n, :], torch.maximum(q[..., n:, :], batch.mc_returns)], -2)
