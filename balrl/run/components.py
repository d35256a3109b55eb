"""What a run is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from balrl.batch import Batch
from balrl.disk import Prefetcher
from balrl.evaluation import Evaluation
from balrl.execution.tracing import Metrics
from balrl.execution.updates import Updatable, Updates
from balrl.on_policy import Rollouts
from balrl.random_stream import RandomStream
from balrl.replay import ReplayBuffer, Sampler
from balrl.rewards.learner import RewardLearner
from balrl.run.interaction import Interaction
from balrl.watch.display import Display
from balrl.watch.instruments import Measurable, SwitchInstruments
from balrl.watch.watchdog import Watchdog


class Trainable(Measurable, Updatable, Protocol):
    """What the trainer needs of an agent."""

    stream: RandomStream
    clock: Tensor

    def update(self, batch: Batch) -> Metrics: ...
    def update_utd(self, batch: Batch, utd: int) -> Metrics: ...
    def update_critic(self, batch: Batch) -> Metrics: ...
    def judge(self, rollouts: Rollouts) -> Metrics: ...
    def explore(self, observations: Tensor) -> Tensor: ...
    def set_phase(self, phase: Any, length: int | None = None) -> None: ...
    def named_parameters(self) -> Iterator[tuple[str, Tensor]]: ...
    def progress(self) -> dict[str, Any]: ...
    def load_progress(self, progress: Mapping[str, Any]) -> None: ...


@dataclass
class Parts:
    """What a run is made of; `build` puts it together.

    `updates` runs the agent's updates, `offline` serves pre-training, `interaction` fills the replay online, `sampler`
    is what fine-tuning draws from, `prefetcher` reads ahead what `offline` has on disk, `reward` is learned in place of
    the task's if there is one, and `identity` (configuration,
    spaces, rewards, the data's fingerprint) is written into every checkpoint, so that each can be read alone.
    """

    agent: Trainable
    updates: Updates
    interaction: Interaction | None
    offline: ReplayBuffer | None
    sampler: Sampler | None
    prefetcher: Prefetcher | None
    instruments: SwitchInstruments
    watchdog: Watchdog
    evaluate: Callable[[], Evaluation]
    display: Display
    reward: RewardLearner | None
    identity: dict[str, Any]
    close: Callable[[], None]

    @property
    def replays(self) -> list[ReplayBuffer]:
        """What updates draw from."""
        online = self.interaction.replay if self.interaction is not None else None
        return [replay for replay in (self.offline, online) if replay is not None]
