"""The online side of a run: what the collector yields, in the run's reward units, on its way into the replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.data.prepare import RewardTransform
from balrl.next_actions import NextActions, VectorStep
from balrl.on_policy import RolloutBuffer
from balrl.random_stream import RandomStream
from balrl.replay import ReplayBuffer
from balrl.returns import RunningEpisodes
from balrl.rewards.monitor import RewardMonitor
from balrl.rewards.recent import RecentInteraction
from balrl.rewards.reward import LearnedReward
from balrl.rewards.several import LearnedRewards
from balrl.rollout import Collector, Step


class Interaction:
    """Steps the task and stores the transitions.

    Args:
        collector: steps the worlds.
        replay: where transitions go.
        rewards: applied to what is stored.
        stream: of random actions.
        next_actions: holds transitions back until their next actions are known, for agents that ask for those.
        episodes: and until their Monte-Carlo returns are known.
        logged: put into the replay first, where fine-tuning appends to the data.
        action_limit: stored actions are clipped to ± this share of their bounds.
        rollouts: get every vector step too, its actions as they were chosen; for agents that learn from those.
        reward: stands in for the task's own, which `monitor` compares it with.
        recent: gets every vector step as the task returned it.
    """

    def __init__(
        self,
        collector: Collector,
        replay: ReplayBuffer,
        rewards: RewardTransform,
        stream: RandomStream,
        *,
        next_actions: NextActions | None = None,
        episodes: RunningEpisodes | None = None,
        logged: ReplayBuffer | None = None,
        action_limit: float = 1.0,
        rollouts: RolloutBuffer | None = None,
        reward: LearnedReward | LearnedRewards | None = None,
        recent: RecentInteraction | None = None,
    ) -> None:
        self.collector, self.replay, self.rewards, self.episodes = collector, replay, rewards, episodes
        self.next_actions = next_actions
        self.logged, self.action_limit, self.stream, self.rollouts = logged, action_limit, stream, rollouts
        self.reward, self.recent = reward, recent
        self.monitor = RewardMonitor(collector.device, collector.reward_dim) if reward is not None else None
        self.stored = 0
        """How many transitions of the task went into the replay."""
        self._untouched = True
        self._fill()

    def step(self, policy: Callable[[Tensor], Tensor], saw: Callable[[Step], None] | None = None) -> int:
        """Take one vector step; return the number of transitions that it made.

        Args:
            policy: who acts.
            saw: told what the step did to the running episodes.
        """
        self._untouched = False
        step = self.collector.step(policy)
        if saw is not None:
            saw(step)
        if self.recent is not None:
            self.recent.add(step)
        rewards = step.batch.rewards if self.reward is None else self._learned(self.reward, step)
        batch = step.batch._replace(
            actions=step.batch.actions.clamp(-self.action_limit, self.action_limit),
            rewards=self.rewards.scale * rewards + self.rewards.bias,
        )
        if "timesteps" in self.replay.fields:
            batch = batch._replace(timesteps=step.lengths - 1)
        if "logged" in self.replay.fields:
            batch = batch._replace(logged=torch.zeros_like(rewards))
        if self.rollouts is not None:
            self.rollouts.add(batch._replace(actions=step.batch.actions), step.done, step.valid)
        whole: VectorStep | None = VectorStep(batch, step.done, step.valid)
        if self.next_actions is not None:
            whole = self.next_actions.add(batch, step.done, step.valid)
        if whole is not None:
            self._keep(whole)
        return batch.rewards.shape[0] if step.valid is None else int(step.valid.sum())

    @property
    def is_fresh(self) -> bool:
        """Whether no step was taken: every world is at the beginning of an episode."""
        return self._untouched

    def random_actions(self, observations: Tensor) -> Tensor:
        """Return uniform actions ``[N, action_dim]``."""
        return 2 * self.stream.uniform(observations.shape[0], self.collector.spaces.action_dim) - 1

    def pop_happened(self) -> dict[str, float]:
        """Return what became of the episodes that ended, and of a learned reward, since the last call."""
        ended = {f"rollout/{key}": value for key, value in self.collector.pop_ended().items()}
        return ended | (self.monitor.pop() if self.monitor is not None else {})

    def newest(self, rows: int) -> Batch | None:
        """Return the task's newest `rows` transitions in the replay, or as many as there are; None without any."""
        count = min(rows, self.stored, len(self.replay))
        return self.replay.newest(count) if count else None

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return groups of tensors: the replay, held back and running episodes, and the environment's own state."""
        environment = getattr(self.collector.env, "state_dict", None) if self.collector.keeps_step else None
        return {
            "replay": {**self.replay.state_dict(), "stored": torch.tensor(self.stored)},
            "rollouts": self.rollouts.state_dict() if self.rollouts is not None else {},
            "next_actions": self.next_actions.state_dict() if self.next_actions is not None else {},
            "episodes": self.episodes.state_dict() if self.episodes is not None else {},
            "monitor": self.monitor.state_dict() if self.monitor is not None else {},
            "collector": self.collector.state_dict(),
            "environment": environment() if environment else {},
        }

    def load_state_dict(self, state: Mapping[str, dict[str, Tensor]]) -> bool:
        """Undo `state_dict`; return False if the environment cannot be put back and its episodes begin anew."""
        if not state["replay"]:  # a checkpoint from before the first step
            if not self._untouched:
                self.stored = 0
                self.replay.clear()
                if self.rollouts is not None:
                    self.rollouts.clear()
                self._fill()
                self._restart()
            return True
        self.replay.load_state_dict(state["replay"])
        self.stored = int(state["replay"]["stored"])
        self._untouched = not self.stored and not bool(state["collector"]["lengths"].any())
        if self.rollouts is not None:
            self.rollouts.load_state_dict(state["rollouts"])
        if self.monitor is not None:
            self.monitor.load_state_dict(state["monitor"])
        if not state["environment"]:
            self._restart()
            return False
        self.collector.env.load_state_dict(state["environment"])  # type: ignore[attr-defined]
        self.collector.load_state_dict(state["collector"])
        if self.next_actions is not None:
            self.next_actions.load_state_dict(state["next_actions"], self.collector.device)
        if self.episodes is not None:
            self.episodes.load_state_dict(state["episodes"], self.collector.device)
        return True

    def _learned(self, reward: LearnedReward | LearnedRewards, step: Step) -> Tensor:
        """Return what a learned reward says of a step ``[N]``, or several ``[N, m]``."""
        scores = reward.scores(step.batch.observations, step.batch.actions.clamp(-1, 1))
        proxy = reward.combine(scores)
        if self.monitor is not None:
            rows = slice(None) if step.valid is None else step.valid
            self.monitor.add(scores[:, rows], proxy[rows], step.batch.rewards[rows])
        return proxy

    def _keep(self, step: VectorStep) -> None:
        """Store the transitions of a vector step or, where returns are asked for, of the episodes that it ended."""
        if self.episodes is not None:
            ended = self.episodes.add(*step)
            if ended is not None:
                self.replay.add(ended)
                self.stored += len(ended.rewards)
        else:
            self.stored += self.replay.add_step(step)

    def _fill(self) -> None:
        if self.logged is not None:
            self.replay.extend(self.logged)

    def _restart(self) -> None:
        self.collector.start()
        self.replay.cut()
        if self.next_actions is not None:
            self.next_actions.load_state_dict({})
        if self.episodes is not None:
            self.episodes.load_state_dict({})
