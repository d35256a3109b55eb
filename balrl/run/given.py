"""Tasks that are handed over as objects instead of by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from balrl.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym

    from balrl.config import EnvironmentConfig

GIVEN = "given:"
"""What the names of such data and tasks begin with in a configuration."""


class GivenTask:
    """A task as a callable that makes one world, or a vector of them, or as such a vector.

    Args:
        env: the callable, without arguments, or the `gymnasium.vector.VectorEnv`.

    Attributes:
        num_envs: how many worlds its vector has; None where they are made one by one.

    Raises:
        UserError: when it is neither, or returns something else.
    """

    def __init__(self, env: Any) -> None:
        import gymnasium as gym

        self._vectors: list[Any] = []
        self._given: Any = None
        self._make: Callable[[], Any] | None = None
        self.num_envs: int | None = None
        if isinstance(env, gym.vector.VectorEnv):
            self.name = type(env.unwrapped).__name__
            self._vectors = [env]
            self._given = env
        elif isinstance(env, gym.Env):
            name = type(env.unwrapped).__name__
            raise UserError(
                f"env is one {name}, but a run needs several: hand over what makes one, env=lambda: {name}()"
            )
        elif callable(env):
            first = env()
            if not isinstance(first, gym.Env | gym.vector.VectorEnv):
                raise UserError(f"env() returned {type(first).__name__}, expected a gymnasium.Env or VectorEnv")
            self.name = type(first.unwrapped).__name__
            self._make = env
            if isinstance(first, gym.vector.VectorEnv):
                self._vectors = [first]
            else:
                first.close()
        else:
            raise UserError(
                f"env is {type(env).__name__}, expected a Gymnasium id, a callable that makes an environment, or a "
                "gymnasium.vector.VectorEnv"
            )
        if self._vectors:
            self.num_envs = int(self._vectors[0].num_envs)

    def __str__(self) -> str:
        return GIVEN + self.name

    def make(self, num_envs: int, config: EnvironmentConfig) -> gym.vector.VectorEnv[Any, Any, Any]:
        """Return `num_envs` worlds, or as many as the task's own vector has."""
        from balrl.envs.gymnasium_env import side_by_side

        if self.num_envs is not None:
            if config.on_invalid != "stop" or config.max_episode_steps:
                raise UserError(
                    "environment.on_invalid and environment.max_episode_steps need worlds that balrl puts side by "
                    "side: hand over a callable that makes one world instead of a vector"
                )
            if self._vectors:
                return self._vectors.pop(0)
            return _copied(self._given) if self._make is None else self._make()
        assert self._make is not None
        worlds = [self._make() for _ in range(num_envs)]
        if len({id(world) for world in worlds}) < num_envs:
            raise UserError("env() returned the same environment twice, expected a new one from every call")
        return side_by_side(worlds, config.max_episode_steps, config.on_invalid == "end-episode")


def is_vector(env: Any) -> bool:
    """Whether something is a vector environment itself, and not what makes one."""
    import gymnasium as gym

    return isinstance(env, gym.vector.VectorEnv)


def check_named(name: str, what: str) -> None:
    """Raise a `UserError` for the name of something that was handed over as an object and is not there now."""
    if name.startswith(GIVEN):
        raise UserError(
            f"the run's {what} was an object ('{name.removeprefix(GIVEN)}'), which no file holds: hand it over again, "
            f"{what}=…, from Python"
        )


def _copied(env: Any) -> Any:
    """Return a second vector like one that was handed over, to evaluate in."""
    import gymnasium as gym

    from balrl.envs import TorchVectorEnv

    try:
        if env.spec is not None and env.spec.id in gym.registry:
            return gym.make_vec(env.spec, num_envs=env.num_envs)
        if not isinstance(env.unwrapped, gym.vector.SyncVectorEnv | TorchVectorEnv):
            raise TypeError("it may hold processes or devices")
        return copy.deepcopy(env)
    except Exception as error:
        raise UserError(
            f"a run evaluates in worlds of its own, and this {type(env).__name__} cannot be copied: hand over a "
            "callable that makes one, env=lambda: …"
        ) from error
