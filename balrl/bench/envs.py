"""How many environment steps a second this machine does, alone and with a policy that acts in them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from balrl.bench.updates import per_second
from balrl.execution.steps import GraphCollector
from balrl.policies import TanhGaussianPolicy
from balrl.random_stream import RandomStream
from balrl.rollout import Policy
from balrl.run.registry import make_env

REFERENCE_WORLDS = 8
"""Of Gymnasium's environments, which step one after another: more of them are no faster."""


class EnvLine(NamedTuple):
    """Environment steps per second, counted over all worlds."""

    env: str
    engine: str
    num_envs: int
    random: float
    policy: float


def own_envs() -> list[str]:
    """Return balrl's environments that can be made here: those on MuJoCo Warp need it."""
    from balrl.envs import MujocoVectorEnv, registered

    has_warp = importlib.util.find_spec("mujoco_warp") is not None
    return [name for name, kind in registered().items() if has_warp or kind is not MujocoVectorEnv]


def bench_envs(
    env_ids: Sequence[str],
    counts: Sequence[int],
    device: torch.device | str = "cpu",
    seconds: float = 2.0,
    hidden: int = 256,
) -> Iterator[EnvLine]:
    """Time environments with random actions drawn on the device, and with a policy of two hidden layers.

    Both through `balrl.rollout.Collector`, everything but storing included. Tasks that Gymnasium has too are followed
    by its own synchronous vector environment.

    Args:
        env_ids: Gymnasium ids.
        counts: numbers of worlds.
        device: of environments and policy.
        seconds: of each measurement.
        hidden: width of the policy's layers.
    """
    import gymnasium as gym

    for env_id in env_ids:
        ours = env_id.startswith("balrl/")
        for count in counts if ours else ():
            yield _measure(env_id, "balrl", count, device, seconds, hidden)
        original = env_id.removeprefix("balrl/")
        if not ours or original in gym.registry:
            yield _measure(original, "Gymnasium, sync", REFERENCE_WORLDS, device, seconds, hidden)


class _Actor:
    """Random actions, and those of a policy, both captured with the step where that is possible."""

    def __init__(self, dims: tuple[int, int], hidden: int, device: torch.device | str) -> None:
        self.stream = RandomStream(0).to(device)
        self.policy = TanhGaussianPolicy(*dims, (hidden, hidden)).to(device)
        self.action_dim = dims[1]

    def random(self, observations: Tensor) -> Tensor:
        return 2 * self.stream.uniform(len(observations), self.action_dim) - 1

    @torch.no_grad()
    def act(self, observations: Tensor) -> Tensor:
        return self.policy.mode(observations)


def _measure(env_id: str, engine: str, count: int, device: torch.device | str, seconds: float, hidden: int) -> EnvLine:
    env = make_env(env_id, count, device)
    collector = GraphCollector(env, device, seed=0)
    actor = _Actor((collector.spaces.observation_dim, collector.spaces.action_dim), hidden, device)

    def rate(act: Policy) -> float:
        def run(steps: int) -> None:
            for _ in range(steps):
                collector.step(act)

        per_second(run, seconds / 4, device)
        return count * per_second(run, seconds, device)

    line = EnvLine(env_id, engine, count, rate(actor.random), rate(actor.act))
    env.close()
    return line
