"""What a run learns when: updates on the logged data, after so many new transitions, and of its learned reward."""

from __future__ import annotations

from balrl.batch import Batch
from balrl.config import RunConfig
from balrl.errors import UserError
from balrl.execution.tracing import Metrics
from balrl.on_policy import Rollouts
from balrl.run.components import Parts
from balrl.run.state import Progress


class Learning:
    """Takes a run's updates and counts them, and has its reward learned.

    Args:
        config: of the run.
        parts: its agent, data and replay.
    """

    def __init__(self, config: RunConfig, parts: Parts) -> None:
        self.config, self.parts = config, parts
        self._utd = config.finetune.policy_every or max(1, round(config.finetune.utd_ratio))

    def pretrain(self, progress: Progress, count: int) -> Metrics:
        """Take so many updates on the logged data."""
        parts = self.parts
        if parts.prefetcher is not None:
            parts.prefetcher.expect(self.config.batch_size)
        metrics = parts.updates.run(self._update_offline, "offline", count)
        progress.phase_steps += count
        progress.pretrain_updates += count
        progress.updates += count
        return metrics

    def follow(self, progress: Progress, transitions: int, critic_only: bool = False) -> Metrics:
        """Take the updates that are due after so many new transitions; what is not yet due is kept in `progress`."""
        c, parts = self.config.finetune, self.parts
        assert parts.interaction is not None
        if parts.interaction.rollouts is not None:
            return self._learn_from(parts.interaction.rollouts, progress)
        assert parts.sampler is not None
        progress.pending_updates += c.utd_ratio * transitions
        if not (parts.sampler.is_ready(self.config.batch_size) and parts.interaction.stored):
            progress.pending_updates %= 1.0  # the first updates wait for a batch's online rows, and are not made up for
            return {}
        if not parts.instruments.marked:
            parts.instruments.mark(parts.agent, parts.interaction.newest(self.config.instruments.rows))
        update, name = (self._update_critics, "critics") if critic_only else (self._update_online, "online")
        due = int((progress.pending_updates + 1e-9) // self._utd)
        progress.pending_updates -= due * self._utd
        progress.updates += due * self._utd
        if parts.prefetcher is not None and c.retain == "ratio":
            batch = self.config.batch_size
            parts.prefetcher.expect(round(c.offline_ratio * batch), range(0, self._utd * batch, batch))
        return parts.updates.run(update, name, due)

    def new_preferences(self, progress: Progress, transitions: int) -> dict[str, float]:
        """Ask for preferences where a round is due, learn from all, and relabel everything that updates draw from.

        Returns:
            what came of it; nothing where no round is due, or none could be held.
        """
        parts, now = self.parts, progress.env_steps
        assert parts.interaction is not None
        if parts.reward is None or not parts.reward.is_due(now - transitions, now):
            return {}
        try:
            with parts.display.working("learning the reward"):
                found = parts.reward.learn()
        except UserError as error:
            parts.display.notice(f"no new preferences at step {progress.step:,}: {error}")
            return {}
        for storage in (parts.interaction.rollouts, *parts.replays):
            if storage is not None:
                parts.reward.relabel(storage, parts.interaction.rewards)
        return found

    def _learn_from(self, rollouts: Rollouts, progress: Progress) -> Metrics:
        """Take the updates that are due on rollouts when they are full, and empty them."""
        parts = self.parts
        assert parts.interaction is not None
        if not rollouts.is_full:
            return {}
        parts.instruments.mark(parts.agent, parts.interaction.newest(self.config.instruments.rows))
        metrics = parts.agent.judge(rollouts)
        agent, clock = parts.agent, parts.agent.clock
        batches = rollouts.shuffle(agent.stream, clock)
        metrics |= parts.updates.run(lambda: agent.update(rollouts.batch(clock)), "rollouts", batches)
        rollouts.clear()
        progress.updates += batches
        return metrics

    def _update_offline(self) -> Metrics:
        assert self.parts.offline is not None
        agent = self.parts.agent
        return agent.update(self.parts.offline.sample(self.config.batch_size, 1, agent.stream))

    def _update_online(self) -> Metrics:
        return self.parts.agent.update_utd(self._sample_online(), self._utd)

    def _update_critics(self) -> Metrics:
        metrics: Metrics = {}
        for part in self._sample_online().split(self._utd):
            metrics |= self.parts.agent.update_critic(part)
        return metrics

    def _sample_online(self) -> Batch:
        assert self.parts.sampler is not None
        return self.parts.sampler.sample(self.config.batch_size, self._utd, self.parts.agent.stream)
