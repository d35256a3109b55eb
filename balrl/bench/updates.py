"""How many updates a second this machine does, and how near that is to what its matrix products allow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch

from balrl.agent import Metrics
from balrl.agents.hyperparameters import CQLConfig, FQLConfig, IQLConfig, SACConfig, StateAdaptiveBalance
from balrl.batch import Batch
from balrl.config import AgentConfig, Precision
from balrl.execution.precision import products_in
from balrl.execution.products import MACHINE, Shape
from balrl.execution.updates import BLOCK, Updates, choose_updates
from balrl.replay_kind import replay_kind
from balrl.run.registry import make_agent

ROWS, OBSERVATION_DIM, ACTION_DIM, BATCH = 200_000, 17, 6, 256
PRODUCT = 256
"""Rows, inner and outer width of the matrix product that stands for the floor."""
AT_ONCE = 256
"""Of them, on a GPU."""


class Kind(NamedTuple):
    """A configuration of an agent, and critic updates per call (``update_utd``)."""

    config: AgentConfig
    utd: int = 1


KINDS = {
    "iql": Kind(IQLConfig()),
    "famo2o-iql": Kind(IQLConfig(balance=StateAdaptiveBalance(1.0, 5.0))),
    "sac": Kind(SACConfig()),
    "redq-10": Kind(SACConfig(critics=10, target_subset=2, layer_norm=True, policy_batch="last"), 4),
    "cql": Kind(CQLConfig()),
    "fql": Kind(FQLConfig()),
    "qc-fql": Kind(FQLConfig(chunk_size=5)),
}
"""Two hidden layers of 256 (flows: four of 512), batches of 256, 17 observations, 6 actions: HalfCheetah's sizes."""
EPISODE = 1_000
"""Rows of an episode."""


class Subject:
    """An agent on made-up transitions: `run(count)` updates it so often.

    Args:
        kind: one of `KINDS`.
        mode: ``off`` runs updates as they are written, ``on`` the fastest way that there is.
        device: of agent and replay.
        precision: of the matrix products.
    """

    def __init__(
        self, kind: str, mode: str, device: torch.device | str = "cpu", precision: Precision = "float32"
    ) -> None:
        torch.manual_seed(0)
        self.kind = KINDS[kind]
        spaces = (gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_DIM,)), gym.spaces.Box(-1, 1, (ACTION_DIM,)))
        self.agent = make_agent(self.kind.config, *spaces, device)
        self.agent.set_phase("offline", 1_000_000)
        self.replay = replay_kind(self.agent)(ROWS, OBSERVATION_DIM, ACTION_DIM, device)
        self.replay.add(_transitions(), torch.arange(ROWS) % EPISODE == EPISODE - 1)
        self.notices: list[str] = []
        how: Literal["off", "on"] = "off" if mode == "off" else "on"
        self.updates: Updates = choose_updates(how, self.agent, ROWS, self.notices.append, precision=precision)

    def run(self, count: int) -> None:
        """Make so many updates (calls of `update_utd`)."""
        self.updates.run(self.update, "bench", count)

    def update(self) -> Metrics:
        utd = self.kind.utd
        return self.agent.update_utd(self.replay.sample(BATCH, utd, self.agent.stream), utd)

    def flops(self) -> int:
        """Return the floating-point operations of one update's matrix products."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.update()
        return int(counter.get_total_flops())


class Floor:
    """Matrix products of 256³, the size that these networks are made of; `run(count)` makes so many times `at_once`.

    One after another on a CPU, by its fastest library; on a GPU many at once, where single ones would measure how fast
    they can be launched.
    """

    def __init__(self, device: torch.device | str = "cpu", precision: Precision = "float32") -> None:
        self.device, self.precision = torch.device(device), precision
        self.at_once = 1 if torch.device(device).type == "cpu" else AT_ONCE
        shape = (self.at_once, PRODUCT, PRODUCT)
        a, b, out = (torch.randn(shape, device=device).squeeze(0) for _ in range(3))
        self._product: Callable[[], Any] = lambda: torch.matmul(a, b, out=out)
        if self.at_once == 1 and precision == "float32" and MACHINE.of(Shape(PRODUCT, PRODUCT, PRODUCT)).onednn_wins:
            self._product = lambda: torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")

    def run(self, count: int) -> None:
        with products_in(self.precision, self.device):
            for _ in range(count):
                self._product()

    def flops(self) -> int:
        """Return the floating-point operations of one time."""
        return self.at_once * 2 * PRODUCT**3


class Line(NamedTuple):
    """One line of the table: updates per second as written and at their fastest, and what that is worth."""

    kind: str
    written: float
    fastest: float
    low: float
    high: float
    of_floor: float
    first_call: float
    notices: list[str]


def bench_updates(
    kinds: Sequence[str],
    device: torch.device | str = "cpu",
    seconds: float = 1.0,
    rounds: int = 5,
    precision: Precision = "float32",
) -> Iterator[Line]:
    """Time updates as written, at their fastest, and the floor, in turns; yield a line for each kind.

    Args:
        kinds: of `KINDS`.
        device: where.
        seconds: of each turn.
        rounds: turns of each; medians are reported.
        precision: of the matrix products, the floor's among them.
    """
    for kind in kinds:
        written, fastest = (Subject(kind, mode, device, precision) for mode in ("off", "on"))
        floor = Floor(device, precision)
        start = time.perf_counter()
        fastest.run(1)
        _synchronize(device)
        first_call = time.perf_counter() - start
        turns: dict[Any, list[float]] = {written: [], fastest: [], floor: []}
        for subject in turns:
            per_second(subject.run, seconds / 4, device)
        for _ in range(rounds):
            for subject, found in turns.items():
                found.append(per_second(subject.run, seconds, device))
        rates = {subject: statistics.median(found) for subject, found in turns.items()}
        attainable = rates[floor] * floor.flops() / written.flops()
        yield Line(
            kind,
            rates[written],
            rates[fastest],
            min(turns[fastest]),
            max(turns[fastest]),
            rates[fastest] / attainable,
            first_call,
            fastest.notices,
        )


def per_second(run: Callable[[int], None], seconds: float, device: torch.device | str = "cpu") -> float:
    """Return how many times a second `run` does what it does, in chunks of up to a graph's block."""
    count, chunk = 0, 1
    _synchronize(device)
    start, elapsed = time.perf_counter(), 0.0
    while elapsed < seconds:
        run(chunk)
        count += chunk
        elapsed = max(time.perf_counter() - start, 1e-6)
        chunk = max(1, min(BLOCK, int(count * seconds / (20 * elapsed))))
    _synchronize(device)
    return count / (time.perf_counter() - start)


def _transitions() -> Batch:
    random = np.random.default_rng(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape, dtype=np.float32))

    return Batch(
        normal(ROWS, OBSERVATION_DIM),
        normal(ROWS, ACTION_DIM).tanh().clamp(-0.999, 0.999),
        normal(ROWS),
        normal(ROWS, OBSERVATION_DIM),
        torch.from_numpy(random.random(ROWS) < 0.001),
    )


def _synchronize(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
