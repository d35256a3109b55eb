"""Names the way in which a run diverges, when it does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from balrl.config import WatchdogConfig


@dataclass(frozen=True)
class Finding:
    """One pattern that was seen.

    Attributes:
        pattern: one of `balrl.watch.advice.PATTERNS`.
        step: of the run.
        tensor: where it shows.
        value, limit: what was measured, and what it should not pass.
    """

    pattern: str
    step: int
    tensor: str
    value: float
    limit: float

    def __str__(self) -> str:
        where = f"{self.pattern} at step {self.step:,}: {self.tensor}"
        if self.pattern == "NaN":
            return f"{where} is not finite"
        return f"{where} is {self.value:.4g}, expected within {self.limit:.4g}"


class Watchdog:
    """Compares measurements with limits; each pattern is reported once.

    - NaN: a metric, a measurement or a parameter is not finite.
    - Q explosion: ``max |Q|`` exceeds `explosion` times ``max |r| / (1 − γ)``, the largest return there can be.
    - Q collapse: the mean Q of the frozen batch fell, since the switch, by more than `collapse` times its standard
      deviation over that batch at the switch. Only where critics were trained before the switch.
    - entropy collapse: the policy's mean log standard deviation is below `min_log_std`.
    - saturated actions: more than `saturation` of the mode's components are on the border, at least 0.3 more than at
      the switch.

    Args:
        config: the limits.
        discount: γ; with 1 there is no largest return, and no Q explosion is reported.
        pretrained: whether critics come to the switch with something to lose.
    """

    def __init__(self, config: WatchdogConfig, discount: float, pretrained: bool = True) -> None:
        self.config, self.discount, self.pretrained = config, discount, pretrained
        self.largest_reward = 0.0
        self.reported: set[str] = set()

    def see_rewards(self, rewards: Tensor) -> None:
        """Take the rewards of stored transitions into account."""
        self.largest_reward = max(self.largest_reward, float(rewards.abs().max()))

    def check(
        self,
        step: int,
        values: Mapping[str, float],
        at_switch: Mapping[str, float],
        tensors: Iterable[tuple[str, Tensor]] = (),
    ) -> list[Finding]:
        """Return the patterns that are new.

        Args:
            values: the newest metrics and measurements.
            at_switch: what the instruments measured when the phase changed.
            tensors: parameters by name, to name the first that is not finite.
        """
        found = [f for f in self._all(step, values, at_switch, tensors) if f.pattern not in self.reported]
        self.reported |= {f.pattern for f in found}
        return found

    def state(self) -> dict[str, Any]:
        """Return what was seen so far, as plain JSON types."""
        return {"largest_reward": self.largest_reward, "reported": sorted(self.reported)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.largest_reward, self.reported = state["largest_reward"], set(state["reported"])

    def _all(
        self,
        step: int,
        values: Mapping[str, float],
        at_switch: Mapping[str, float],
        tensors: Iterable[tuple[str, Tensor]],
    ) -> list[Finding]:
        finite = {name: torch.isfinite(tensor).all() for name, tensor in tensors}
        flags = torch.stack(list(finite.values())).tolist() if finite else []  # read from the device once
        broken = next((name for name, flag in zip(finite, flags, strict=True) if not flag), None)
        broken = broken or next((key for key, value in values.items() if not math.isfinite(value)), None)
        if broken is not None:
            return [Finding("NaN", step, broken, math.nan, 0.0)]
        found = []
        c = self.config
        for key in ("switch/offline_q_max", "switch/online_q_max", "switch/offline_q", "switch/online_q"):
            limit = c.explosion * self.largest_reward / (1 - self.discount) if self.discount < 1 else math.inf
            if self.largest_reward > 0 and abs(values.get(key, 0.0)) > limit:
                found.append(Finding("Q explosion", step, key, values[key], limit))
                break
        if self.pretrained and "switch/offline_q" in at_switch and "switch/offline_q" in values:
            limit = at_switch["switch/offline_q"] - c.collapse * at_switch["offline_q_std"]
            if values["switch/offline_q"] < limit:
                found.append(Finding("Q collapse", step, "switch/offline_q", values["switch/offline_q"], limit))
        if values.get("switch/log_std", 0.0) < c.min_log_std:
            found.append(Finding("entropy collapse", step, "switch/log_std", values["switch/log_std"], c.min_log_std))
        saturation, before = values.get("switch/saturation", 0.0), at_switch.get("switch/saturation", 0.0)
        if saturation > c.saturation and saturation > before + 0.3:
            found.append(Finding("saturated actions", step, "switch/saturation", saturation, c.saturation))
        return found
