"""What to try against a run that diverges: settings that it has, and that are not on already."""

from __future__ import annotations

from typing import Any


def advice_for(pattern: str, config: Any) -> str:
    """Return what to try against a pattern of the watchdog's.

    Args:
        pattern: its name.
        config: the run's whole configuration, agent included.
    """
    return ", or ".join(_CANDIDATES[pattern](config)) or "look at switch.png and the newest records of metrics.jsonl"


def _lower_rates(config: Any) -> list[str]:
    names = [name for name in type(config.agent).model_fields if name.endswith("learning_rate")]
    rates = [name for name in names if "balance" not in name]
    return [f"lower {' and '.join(f'agent.{name}' for name in rates)}"] if rates else []


def _nan(config: Any) -> list[str]:
    return [*_lower_rates(config), *(["check the data with `balrl data check`"] if config.dataset else [])]


def _explosion(config: Any) -> list[str]:
    agent, found = config.agent, []
    if getattr(agent, "layer_norm", None) is False:
        found.append("set agent.layer_norm=true")
    if hasattr(agent, "critics"):
        found.append("raise agent.critics")
    if config.finetune.utd_ratio > 1:
        found.append("lower finetune.utd_ratio")
    return found


def _collapse(config: Any) -> list[str]:
    found = []
    if config.warmup.steps < 5_000:
        found.append("set warmup.steps=5000")
    if config.dataset and config.finetune.retain == "none":
        found.append("keep the logged data with finetune.retain=ratio")
    return found or _lower_rates(config)


def _entropy(config: Any) -> list[str]:
    raised = ["raise agent.target_entropy"] if hasattr(config.agent, "target_entropy") else []
    return raised + _lower_rates(config)


def _saturation(config: Any) -> list[str]:
    return _entropy(config)[::-1]


_CANDIDATES = {
    "NaN": _nan,
    "Q explosion": _explosion,
    "Q collapse": _collapse,
    "entropy collapse": _entropy,
    "saturated actions": _saturation,
}
PATTERNS = tuple(_CANDIDATES)
"""Of the watchdog's."""
