"""What a run is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from balrl.agent import Agent
from balrl.disk import Prefetcher
from balrl.evaluation import Evaluation
from balrl.execution.updates import Updates
from balrl.replay import ReplayBuffer, Sampler
from balrl.rewards.several import AnyLearner
from balrl.run.interaction import Interaction
from balrl.watch.display import Display
from balrl.watch.instruments import SwitchInstruments
from balrl.watch.watchdog import Watchdog


@dataclass
class Stop:
    """Whether somebody has asked a run to stop; it does so at the next step, of an evaluation too."""

    requested: bool = False


@dataclass
class Components:
    """What a run is made of; `assemble` puts it together.

    `updates` runs the agent's updates, `offline` serves pre-training, `interaction` fills the replay online, `sampler`
    is what fine-tuning draws from, `prefetcher` reads ahead what `offline` has on disk, `reward` is learned in place of
    the task's if there is one, `eval_env` is where `evaluate` runs (what is served or, given True, the newest policy;
    until `stop` says otherwise), and `identity` (configuration, spaces, rewards, the data's fingerprint) is written
    into every checkpoint, so that each can be read alone.
    """

    agent: Agent
    updates: Updates
    interaction: Interaction | None
    offline: ReplayBuffer | None
    sampler: Sampler | None
    prefetcher: Prefetcher | None
    instruments: SwitchInstruments
    watchdog: Watchdog
    evaluate: Callable[[bool], Evaluation]
    stop: Stop
    display: Display
    reward: AnyLearner | None
    identity: dict[str, Any]
    env: gym.vector.VectorEnv[Any, Any, Any]
    eval_env: gym.vector.VectorEnv[Any, Any, Any]

    @property
    def replays(self) -> list[ReplayBuffer]:
        """What updates draw from."""
        online = self.interaction.replay if self.interaction is not None else None
        return [replay for replay in (self.offline, online) if replay is not None]

    def close(self) -> None:
        """Close the environments, and stop reading ahead."""
        self.env.close()
        self.eval_env.close()
        if self.prefetcher is not None:
            self.prefetcher.close()
