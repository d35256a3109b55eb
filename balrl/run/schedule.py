"""Which updates are due when: on the logged data, after so many new transitions, and of a learned reward."""

from __future__ import annotations

from balrl.agent import Metrics
from balrl.batch import Batch
from balrl.config import RunConfig
from balrl.errors import UserError
from balrl.on_policy import RolloutBuffer
from balrl.run.components import Components
from balrl.run.state import RunState


class UpdateSchedule:
    """Takes a run's updates and counts them, and has its reward learned.

    Args:
        config: of the run.
        components: its agent, data and replay.
    """

    def __init__(self, config: RunConfig, components: Components) -> None:
        self.config, self.components = config, components
        self._utd = config.finetune.policy_every or max(1, round(config.finetune.utd_ratio))

    def pretrain(self, state: RunState, count: int) -> Metrics:
        """Take so many updates on the logged data."""
        run = self.components
        if run.prefetcher is not None:
            run.prefetcher.expect(self.config.batch_size)
        metrics = run.updates.run(self._update_offline, "offline", count)
        state.phase_steps += count
        state.pretrain_updates += count
        state.updates += count
        return metrics

    def follow(self, state: RunState, transitions: int, critic_only: bool = False) -> Metrics:
        """Take the updates that are due after so many new transitions; what is not yet due is kept in `state`."""
        c, run = self.config.finetune, self.components
        assert run.interaction is not None
        if run.interaction.rollouts is not None:
            return self._learn_from(run.interaction.rollouts, state)
        assert run.sampler is not None
        state.pending_updates += c.utd_ratio * transitions
        if not (run.sampler.is_ready(self.config.batch_size) and run.interaction.stored):
            state.pending_updates %= 1.0  # the first updates wait for a batch's online rows, and are not made up for
            return {}
        if not run.instruments.marked:
            run.instruments.mark(run.agent, run.interaction.newest(self.config.instruments.rows))
        update, name = (self._update_critics, "critics") if critic_only else (self._update_online, "online")
        due = int((state.pending_updates + 1e-9) // self._utd)
        state.pending_updates -= due * self._utd
        state.updates += due * self._utd
        if run.prefetcher is not None and c.retain == "ratio":
            batch = self.config.batch_size
            run.prefetcher.expect(round(c.offline_ratio * batch), range(0, self._utd * batch, batch))
        return run.updates.run(update, name, due)

    def new_preferences(self, state: RunState, transitions: int) -> dict[str, float]:
        """Ask for preferences where a round is due, learn from all, and relabel everything that updates draw from.

        Returns:
            what came of it; nothing where no round is due, or none could be held.
        """
        run, now = self.components, state.env_steps
        assert run.interaction is not None
        if run.reward is None or not run.reward.is_due(now - transitions, now):
            return {}
        try:
            with run.display.working("learning the reward"):
                found = run.reward.learn()
        except UserError as error:
            run.display.notice(f"no new preferences at step {state.step:,}: {error}")
            return {}
        for storage in (run.interaction.rollouts, run.interaction.next_actions, *run.replays):
            if storage is not None:
                run.reward.relabel(storage, run.interaction.rewards)
        return found

    def _learn_from(self, rollouts: RolloutBuffer, state: RunState) -> Metrics:
        """Take the updates that are due on rollouts when they are full, and empty them."""
        run = self.components
        assert run.interaction is not None
        if not rollouts.is_full:
            return {}
        run.instruments.mark(run.agent, run.interaction.newest(self.config.instruments.rows))
        metrics = run.agent.compute_advantages(rollouts)
        agent, clock = run.agent, run.agent.clock
        batches = rollouts.shuffle(agent.stream, clock)
        metrics |= run.updates.run(lambda: agent.update(rollouts.batch(clock)), "rollouts", batches)
        rollouts.clear()
        state.updates += batches
        return metrics

    def _update_offline(self) -> Metrics:
        assert self.components.offline is not None
        agent = self.components.agent
        return agent.update(self.components.offline.sample(self.config.batch_size, 1, agent.stream))

    def _update_online(self) -> Metrics:
        return self.components.agent.update_utd(self._sample_online(), self._utd)

    def _update_critics(self) -> Metrics:
        metrics: Metrics = {}
        for part in self._sample_online().split(self._utd):
            metrics |= self.components.agent.update_critic(part)
        return metrics

    def _sample_online(self) -> Batch:
        assert self.components.sampler is not None
        return self.components.sampler.sample(self.config.batch_size, self._utd, self.components.agent.stream)
