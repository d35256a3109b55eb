"""What happens at the switch from logged data to the task, in numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from balrl.agent import Agent
from balrl.batch import Batch
from balrl.policies import normal_kl

BORDER = 0.99
"""An action component counts as saturated beyond this share of its bound."""

Measurements = dict[str, Tensor]


class SwitchInstruments:
    """Measures an agent on a frozen batch of logged data and on the newest online transitions.

    - ``switch/{offline,online}_q``, ``…_q_max``: mean and maximum over rows of the members' mean Q(s, a), at the
      actions that were taken.
    - ``…_td``: root mean square of ``target − Q``, the target taken at the policy's mode.
    - ``…_disagreement``: the members' standard deviation, averaged over rows.
    - ``switch/kl``: KL(π ‖ π at the switch) in nats, on the frozen batch.
    - ``switch/kl_acceleration``: its second difference over the last three measurements; a policy that runs away from
      where its reward was learned speeds up first.
    - ``switch/log_std``: the policy's mean log standard deviation there.
    - ``switch/saturation``: the share of components of the policy's mode beyond 0.99 of their bound, on the newest
      online observations (the frozen ones before there are any).

    Nothing here draws a random number or changes the agent. Without logged data the frozen batch is the run's first
    interaction.

    Args:
        probe: the frozen batch, if there is logged data.
    """

    def __init__(self, probe: Batch | None = None) -> None:
        self.probe = probe
        self.marked = False
        self.reference: tuple[Tensor, Tensor] | None = None
        self.at_switch: dict[str, float] = {}
        self._kls: list[Tensor] = []

    def mark(self, agent: Agent, newest: Batch | None) -> None:
        """Remember the policy as it is now, unless that was done; take a frozen batch if there is none."""
        if self.probe is None:
            self.probe = newest
        if not self.marked and self.probe is not None:
            self.marked = True
            self.reference = agent.distribution(self.probe.observations)
            self.at_switch = {key: float(value) for key, value in self.measure(agent, newest).items()}
            q = agent.q_values(self.probe.observations, self.probe.actions)
            if q is not None:
                self.at_switch["offline_q_std"] = float(q.mean(-2).std(-1, correction=0))

    def measure(self, agent: Agent, newest: Batch | None = None) -> Measurements:
        """Return what there is to measure, as scalars on the device."""
        found: Measurements = {}
        for name, batch in (("offline", self.probe), ("online", newest)):
            if batch is not None:
                found |= {f"switch/{name}_{key}": value for key, value in _values(agent, batch).items()}
        if self.probe is not None:
            now = agent.distribution(self.probe.observations)
            if now is not None:
                found["switch/log_std"] = now[1].mean((-2, -1))
                if self.reference is not None:
                    found["switch/kl"] = normal_kl(*now, *self.reference).mean(-1)
                    self._kls = [*self._kls[-2:], found["switch/kl"].detach().clone()]
                    if len(self._kls) == 3:
                        first, second, third = self._kls
                        found["switch/kl_acceleration"] = third - 2 * second + first
        batch = newest if newest is not None else self.probe
        if batch is not None:
            modes = agent.act(batch.observations, deterministic=True)
            found["switch/saturation"] = (modes.abs() > BORDER).float().mean((-2, -1))
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Return the frozen batch, the policy at the switch on it, and what was measured then."""
        state: dict[str, Tensor] = {}
        if self.probe is not None:
            state |= {f"probe.{k}": v for k, v in self.probe._asdict().items() if v is not None}
        if self.reference is not None:
            state |= {"reference.mean": self.reference[0], "reference.log_std": self.reference[1]}
        state |= {f"kls.{index}": value for index, value in enumerate(self._kls)}
        return state | {f"at_switch.{key}": torch.tensor(value) for key, value in self.at_switch.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        groups: dict[str, dict[str, Tensor]] = {"probe": {}, "reference": {}, "at_switch": {}, "kls": {}}
        for key, value in state.items():
            group, name = key.split(".", 1)
            groups[group][name] = value
        self.probe = Batch(**groups["probe"]) if groups["probe"] else None
        reference = groups["reference"]
        self.reference = (reference["mean"], reference["log_std"]) if reference else None
        self.at_switch = {key: float(value) for key, value in groups["at_switch"].items()}
        self._kls = [groups["kls"][key] for key in sorted(groups["kls"])]
        self.marked = bool(self.at_switch)


def _values(agent: Agent, batch: Batch) -> Measurements:
    q, target = agent.q_values(batch.observations, batch.actions), agent.td_target(batch)
    if q is None:
        return {}
    mean = q.mean(-2)
    found = {"q": mean.mean(-1), "q_max": mean.amax(-1), "disagreement": q.std(-2, correction=0).mean(-1)}
    if target is not None:
        found["td"] = (target - mean).square().mean(-1).sqrt()
    return found
