"""FQL, QC-FQL and QC beside their authors' releases: copied weights, the same batches and noise, the same updates.

    python scripts/parity_flows.py --fql DIR --qc DIR [--updates 100]

DIR are checkouts of seohongpark/fql and ColinQiyangLi/qc, which stay outside this project; jax, flax, optax and
ml_collections must be installed. Prints the largest difference of any parameter, relative to the largest of its tensor,
in float32 and float64. Adam's ε is the one number that is not scale-free: our losses are sums over critics where the
releases take means, so it is shown with ε = 1e-8 and with 1e-30.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from balrl.agents import FQL, QC, FixedBalance, FQLConfig, QCConfig
from balrl.batch import Batch

OBSERVATION_DIM, ACTION_DIM, ROWS, HIDDEN, CHUNK, ALPHA = 5, 3, 32, (32, 32), 4, 10.0
METHODS = {"fql": "fql", "qc-fql": "qc", "qc": "qc"}


class Noise:
    """Random numbers that both sides are given, in the order in which they ask."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.rng = dtype, np.random.default_rng(0)
        self.drawn: list[np.ndarray[Any, Any]] = []

    def draw(self, kind: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return new numbers, and remember them for the other side."""
        made = self.rng.normal(size=shape) if kind == "normal" else self.rng.uniform(size=shape)
        self.drawn.append(made.astype(self.dtype))
        return self.drawn[-1]


class Replayed(torch.nn.Module):
    """Stands in for an agent's stream: gives what was drawn before."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.noise = noise

    def normal(self, *shape: int, dtype: Any = None) -> torch.Tensor:
        drawn = self.noise.drawn.pop(0)
        if len(shape) == 3:  # ours has the samples first, theirs second
            drawn = drawn.swapaxes(0, 1)
        return torch.from_numpy(drawn.copy()).reshape(shape)

    uniform = normal


def batches(rows: int, width: int, dtype: str) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Yield the same batches on both sides: for chunks, whole ones."""
    rng = np.random.default_rng(1)
    while True:
        yield {
            "observations": rng.normal(size=(rows, OBSERVATION_DIM)).astype(dtype),
            "actions": rng.uniform(-1, 1, size=(rows, width)).astype(dtype),
            "rewards": rng.normal(size=rows).astype(dtype),
            "next_observations": rng.normal(size=(rows, OBSERVATION_DIM)).astype(dtype),
            "masks": (rng.uniform(size=rows) > 0.2).astype(dtype),
        }


def theirs(method: str, folder: Path, noise: Noise, eps: float) -> Any:
    """Return the release's agent, its noise replaced by ours."""
    import jax
    import jax.numpy as jnp
    import optax

    sys.path.insert(0, str(folder))
    optax.adam = partial(optax.adam, eps=eps)
    name = "fql" if method == "fql" else "acfql"
    spec = importlib.util.spec_from_file_location("release", folder / "agents" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.actor_hidden_dims = config.value_hidden_dims = HIDDEN
    config.alpha = ALPHA
    if method != "fql":
        config.horizon_length, config.actor_num_samples = CHUNK, 4
        config.actor_type = "best-of-n" if method == "qc" else "distill-ddpg"
    example = jnp.zeros((1, OBSERVATION_DIM)), jnp.zeros((1, ACTION_DIM))
    if method != "fql":
        example = jnp.zeros(OBSERVATION_DIM), jnp.zeros(ACTION_DIM)
    kind = module.FQLAgent if method == "fql" else module.ACFQLAgent
    agent = kind.create(0, *example, config)
    shapes_alone = jax.random.uniform  # flax looks at its initialisers again whenever a network is applied

    def uniform(key: Any, shape: Any = (), *args: Any, **more: Any) -> Any:
        if args or more:
            return shapes_alone(key, shape, *args, **more)
        return jnp.asarray(noise.draw("uniform", tuple(shape)))

    jax.random.normal = lambda _, shape: jnp.asarray(noise.draw("normal", tuple(shape)))
    jax.random.uniform = uniform
    if noise.dtype == "float64":
        network = jax.tree_util.tree_map(
            lambda x: x.astype(jnp.float64) if hasattr(x, "dtype") and x.dtype == jnp.float32 else x, agent.network
        )
        agent = agent.replace(network=network)
    return agent


def ours(method: str, dtype: str, eps: float) -> FQL | QC:
    """Return our agent with the release's settings."""
    spaces = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_DIM,)), gym.spaces.Box(-1, 1, (ACTION_DIM,))
    agent: FQL | QC
    if method == "qc":
        agent = QC(*spaces, QCConfig(hidden=HIDDEN, chunk_size=CHUNK, samples=4))
    else:
        chunk = 1 if method == "fql" else CHUNK
        balance = FixedBalance(1 / ALPHA)
        agent = FQL(*spaces, FQLConfig(hidden=HIDDEN, balance=balance, normalize_q=False, chunk_size=chunk))
    for optimizer in agent.optimizers.values():
        optimizer.param_groups[0]["eps"] = eps
    if dtype == "float64":
        agent = agent.double()
    agent.set_phase("offline", 1000)
    return agent


def pairs(method: str, agent: Any, params: Any) -> Iterator[tuple[str, torch.Tensor, np.ndarray[Any, Any]]]:
    """Yield every parameter of ours with the release's."""
    nets = {"modules_critic": (agent.critic, "head", "value_net")}
    nets["modules_target_critic"] = (agent.target_critic, "head", "value_net")
    if method == "qc":
        nets["modules_actor_bc_flow"] = (agent.policy.field, "velocity", "mlp")
    else:
        nets["modules_actor_bc_flow"] = (agent.flow, "velocity", "mlp")
        nets["modules_actor_onestep_flow"] = (agent.policy, "mean", "mlp")
    for key, (net, last, inner) in nets.items():
        tree = params[key][inner]
        layers = [*net.trunk.layers, getattr(net, last)]
        for i, layer in enumerate(layers):
            yield f"{key}.{i}.weight", layer.weight, np.asarray(tree[f"Dense_{i}"]["kernel"])
            yield f"{key}.{i}.bias", layer.bias, np.asarray(tree[f"Dense_{i}"]["bias"])
        for i, norm in enumerate(net.trunk.norms or ()):
            yield f"{key}.norm{i}.weight", norm.weight, np.asarray(tree[f"LayerNorm_{i}"]["scale"])
            yield f"{key}.norm{i}.bias", norm.bias, np.asarray(tree[f"LayerNorm_{i}"]["bias"])


def compare(method: str, folder: Path, updates: int, dtype: str, eps: float) -> tuple[float, str]:
    """Take the updates on both sides and return the largest relative difference, and where it is."""
    import jax

    jax.config.update("jax_enable_x64", dtype == "float64")
    noise = Noise(dtype)
    release, agent = theirs(method, folder, noise, eps), ours(method, dtype, eps)
    chunk = 1 if method == "fql" else CHUNK
    with torch.no_grad():
        for _, mine, other in pairs(method, agent, release.network.params):
            mine.copy_(torch.from_numpy(other.reshape(mine.shape).astype(dtype)))
    agent.stream = Replayed(noise)  # type: ignore[assignment]
    made = batches(ROWS, ACTION_DIM * chunk, dtype)
    with jax.disable_jit():
        for _ in range(updates):
            batch = next(made)
            noise.drawn.clear()
            release, _ = release.update(batch if chunk == 1 else as_sequence(batch))
            mine = {key: torch.from_numpy(value) for key, value in batch.items()}
            discounts = None if chunk == 1 else torch.full((ROWS,), 0.99**CHUNK, dtype=mine["rewards"].dtype)
            terminated = mine.pop("masks") == 0
            agent.update(Batch(**mine, terminated=terminated, discounts=discounts))
    found = [
        (float(np.abs(mine.detach().numpy().reshape(other.shape) - other).max() / np.abs(other).max()), name)
        for name, mine, other in pairs(method, agent, release.network.params)
    ]
    return max(found)


def as_sequence(batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Return a batch of whole chunks as QC's release has it; what it reads of each sequence is the last entry."""
    rows = len(batch["rewards"])
    repeated = {key: np.repeat(batch[key][:, None], CHUNK, 1) for key in ("rewards", "masks", "next_observations")}
    actions = batch["actions"].reshape(rows, CHUNK, ACTION_DIM)
    valid = np.ones((rows, CHUNK), batch["rewards"].dtype)
    return {"observations": batch["observations"], "actions": actions, "valid": valid, **repeated}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fql", type=Path, required=True)
    parser.add_argument("--qc", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "DTYPE", "EPS"), help="only this, in this process")
    options = parser.parse_args()
    folders = {"fql": options.fql, "qc": options.qc}
    if options.one:
        method, dtype, eps = options.one
        difference, where = compare(method, folders[METHODS[method]], options.updates, dtype, float(eps))
        print(f"| {method} | {dtype} | {eps} | {difference:.1e} | {where} |")
        return
    print("| method | precision | ε | largest relative difference | of |\n| --- | --- | --- | --- | --- |", flush=True)
    for method in METHODS:
        for dtype, eps in (("float32", "1e-8"), ("float32", "1e-30"), ("float64", "1e-8"), ("float64", "1e-30")):
            subprocess.run([sys.executable, *sys.argv, "--one", method, dtype, eps], check=True)


if __name__ == "__main__":
    main()
