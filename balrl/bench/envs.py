"""How many environment steps a second this machine does, alone and with a policy that acts in them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from balrl.bench.updates import per_second
from balrl.policies import TanhGaussianPolicy
from balrl.rollout import Collector, Policy
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


def _measure(env_id: str, engine: str, count: int, device: torch.device | str, seconds: float, hidden: int) -> EnvLine:
    env = make_env(env_id, count, device)
    collector = Collector(env, device, seed=0)
    action_dim = collector.spaces.action_dim

    def random(observations: torch.Tensor) -> torch.Tensor:
        return 2 * torch.rand(count, action_dim, device=observations.device) - 1

    policy = TanhGaussianPolicy(collector.spaces.observation_dim, action_dim, (hidden, hidden)).to(device)

    def acting(observations: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return policy.mode(observations)

    def rate(act: Policy) -> float:
        def run(steps: int) -> None:
            for _ in range(steps):
                collector.step(act)

        per_second(run, seconds / 4, device)
        return count * per_second(run, seconds, device)

    line = EnvLine(env_id, engine, count, rate(random), rate(acting))
    env.close()
    return line
