"""Collection that does not wait: actors run ahead with a policy that is a few steps old."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from balrl.agent import Agent
from balrl.chunks import Queue
from balrl.envs.actor_worlds import Explorer, Stepped, Tag
from balrl.envs.remote import RemoteVectorEnv
from balrl.errors import UserError
from balrl.rollout import Collector, Policy


class AheadCollector(Collector):
    """A `Collector` whose worlds' actors act by themselves, while learning goes on here.

    Each actor has one chunk of steps under way, asked for when the one before arrived, with the policy as it was then.
    A chunk has ``(stale + 1) // 2`` steps, so that no action is chosen by a policy that is more than `stale` vector
    steps older than the step that it is taken in. What arrives goes on as a `Collector`'s steps, in the actors' order.

    How far actors have run when a run stops is not saved: a resumed run begins new episodes.

    Args:
        env: the worlds in actors.
        device, seed: as a `Collector`'s.
        stale: vector steps, at least 1.
    """

    keeps_step = False
    env: RemoteVectorEnv

    def __init__(
        self, env: RemoteVectorEnv, device: torch.device | str = "cpu", seed: int | None = None, stale: int = 1
    ) -> None:
        self.stale, self.chunk = stale, (stale + 1) // 2
        super().__init__(env, device, seed)

    def start(self, seed: int | None = None) -> None:
        count = len(self.env.parts)
        self._ready: list[deque[tuple[NDArray[Any], Stepped, int]]] = [deque() for _ in range(count)]
        self._under_way: list[Any] = [None] * count  # of chunks from before, nobody waits for
        self._sequence = [0] * count
        self._steps, self._ages, self._oldest = 0, 0.0, 0
        self._counted = 0
        self._newest: tuple[int, Any] | None = None
        super().start(seed)

    def pop_ended(self) -> dict[str, float]:
        """Return what a `Collector` does, and the mean and largest age of the policies that acted, in vector steps."""
        found = super().pop_ended()
        if self._counted:
            found |= {"staleness": self._ages / self._counted, "staleness_max": float(self._oldest)}
        self._ages, self._counted, self._oldest = 0.0, 0, 0
        return found

    def _advance(self, policy: Policy) -> tuple[Tensor, Queue, Any]:
        actions, steps = [], []
        for index in range(len(self.env.parts)):
            if not self._ready[index]:
                self._fetch(index, policy)
            chosen, step, version = self._ready[index].popleft()
            age = self._steps - version
            self._ages, self._counted, self._oldest = self._ages + age, self._counted + 1, max(self._oldest, age)
            actions.append(chosen)
            steps.append(step)
        self._steps += 1
        taken = torch.from_numpy(np.concatenate(actions)).to(self.device)
        return taken, Queue(self._chunks, self._position), self.env.merged(steps)

    def _fetch(self, index: int, policy: Policy) -> None:
        """Take in an actor's next chunk, and let it go on."""
        if self._under_way[index] is None:
            self._ask_for(index, policy)
        reference = self._under_way[index]
        chunk = self._ask("step", lambda: self.env.chunk(index, reference))
        if chunk is None:
            part = self.env.parts[index]
            nothing = np.zeros((part.stop - part.start, self.spaces.action_dim), np.float32)
            self._ready[index].append((nothing, self.env.lost(index), self._steps))
        else:
            expected = self._sequence[index] - 1
            assert chunk.tag[:2] == (index, expected), f"found chunk {chunk.tag}, expected {expected} of actor {index}"
            self._ready[index].extend((chosen, step, chunk.tag.version) for chosen, step in chunk.steps)
        self._ask_for(index, policy)

    def _ask_for(self, index: int, policy: Policy) -> None:
        tag = Tag(index, self._sequence[index], self._steps)
        self._under_way[index] = self.env.collect(index, self._explorer(policy), self.chunk, tag)
        self._sequence[index] += 1

    def _explorer(self, policy: Policy) -> Any:
        """Return a reference to what acts, as it is now; the same one for all actors that ask in one step."""
        if self._newest is None or self._newest[0] != self._steps:
            self._newest = self._steps, self.env.put(explorer_of(policy))
        return self._newest[1]


def explorer_of(policy: Policy) -> Explorer | None:
    """Return a copy of who acts that can be sent: an agent that explores; None for uniform actions.

    Raises:
        UserError: for anybody else.
    """
    owner, name = getattr(policy, "__self__", None), getattr(policy, "__name__", "")
    if name == "random_actions":
        return None
    if not isinstance(owner, Agent) or name != "explore":
        raise UserError(
            "environment.stale lets actors act by themselves, which only an agent's own policy can: leave out "
            "warmup.select, finetune.strategy, finetune.serve=champion and finetune.member=bandit"
        )
    noise = float(getattr(owner.config, "exploration_noise", 0.0))
    return Explorer(owner.freeze().to("cpu"), noise)
