"""One vector step as one CUDA graph: acting, clipping, the task's own computation, autoreset."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from balrl.batch import Batch
from balrl.errors import first_line
from balrl.rollout import Collector, Policy, Step

OF_COLLECTOR = (
    "observations",
    "returns",
    "lengths",
    "success",
    "_ended",
    "_resetting",
    "_finished",
    "_invalid",
    "_chunks",
    "_position",
)


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    step: Step


class GraphCollector(Collector):
    """A `Collector` that captures its steps in environments whose class says ``is_capturable``.

    A step rebinds what it changes: the collector's tensors, and those that the environment names in ``stepped``. A
    graph needs them in one place, so what was rebound is copied back there at its end. What `step` returns is the
    caller's own. Policies that are methods of what has a ``stream`` (an agent's `explore`) are captured, others are
    called. Where capturing fails, steps run as they are written, and `notice` hears why, once.

    Args:
        env, device, seed: as a `Collector`'s.
        notice: told what a person should know.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        device: torch.device | str = "cpu",
        seed: int | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(env, device, seed)
        self.notice = notice
        self._graphs: dict[Hashable, _Graph] = {}
        self._known: set[Policy] = set()
        self._kept: dict[str, Tensor] = {}
        bare = env.unwrapped is env  # wrappers may keep what is no tensor
        self._captures = self.device.type == "cuda" and bare and getattr(env, "is_capturable", False)

    def step(self, policy: Policy) -> Step:
        owner: Any = getattr(policy, "__self__", None)
        if not self._captures or not hasattr(owner, "stream"):
            return super().step(policy)
        key = (policy, getattr(owner, "phase", None), self.reports_success)
        if policy not in self._known:
            self._known.add(policy)
            return super().step(policy)  # which tells how many steps' actions it chooses
        with torch.cuda.device(self.device):
            self._gather()
            if key not in self._graphs:
                try:
                    self._graphs[key] = self._capture(policy, owner.stream.position)
                except Exception as error:  # drivers and libraries have many reasons; a step itself needs no graph
                    self._captures = False
                    self.notice(f"steps run as they are written, not as a CUDA graph: {first_line(error)}")
                    return super().step(policy)
            captured = self._graphs[key]
            captured.graph.replay()
        batch, *rest = captured.step
        return Step(Batch(*map(_copied, batch)), *map(_copied, rest))

    def _slots(self) -> Iterator[tuple[Any, str]]:
        env: Any = self.env
        yield from ((self, name) for name in OF_COLLECTOR)
        yield from ((env, name) for name in env.stepped)

    def _gather(self) -> None:
        """Put what steps change where the graphs find it; only what somebody has rebound since is copied."""
        for owner, name in self._slots():
            now, kept = getattr(owner, name), self._kept.get(name)
            if kept is None or kept.shape != now.shape:
                self._graphs.clear()
                self._kept[name] = kept = now.clone()
            elif now is not kept:
                kept.copy_(now)
            setattr(owner, name, kept)

    def _capture(self, policy: Policy, position: Tensor) -> _Graph:
        env: Any = self.env
        graph = torch.cuda.CUDAGraph()
        register = getattr(graph, "register_generator_state", None)
        if register is not None:
            register(env.generator)
        current, side = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        side.wait_stream(current)
        with torch.cuda.stream(side), self._restored(position):
            super().step(policy)
        current.wait_stream(side)
        with self._restored(position), torch.cuda.graph(graph):
            before = self.observations
            step = super().step(policy)
            step = step._replace(batch=step.batch._replace(observations=before.clone()))
            for owner, name in self._slots():
                self._kept[name].copy_(getattr(owner, name))
        return _Graph(graph, step)

    @contextmanager
    def _restored(self, position: Tensor) -> Iterator[None]:
        """Put back what a step changes, be it made or only captured."""
        env: Any = self.env
        values = {name: tensor.clone() for name, tensor in self._kept.items()}
        drawn, generator = position.clone(), env.generator.get_state()
        try:
            yield
        finally:
            for owner, name in self._slots():
                self._kept[name].copy_(values[name])
                setattr(owner, name, self._kept[name])
            position.copy_(drawn)
            env.generator.set_state(generator)


def _copied(tensor: Any) -> Any:
    return tensor if tensor is None else tensor.clone()
