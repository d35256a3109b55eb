"""What to begin with on a dataset, why, and what would change that."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from balrl.data.dataset import Dataset
from balrl.data.inspect import problems
from balrl.data.prepare import check_finite
from balrl.data.profile import Profile, profile
from balrl.errors import UserError
from balrl.plain_yaml import dump_yaml
from balrl.run.presets import load_config, preset_names
from balrl.run.registry import inspection_context, load_dataset

DOMAINS = (
    ("balrl/pointmaze", "point-maze"),
    ("adroit", "adroit"),
    ("-human-v", "adroit"),
    ("-cloned-v", "adroit"),
    ("antmaze", "antmaze"),
    ("kitchen", "kitchen"),
)
"""What a task's name holds, in small letters, and the presets for such tasks; any other has those for locomotion."""
MEASURED_UPDATES, MEASURED_ROWS = 50_000, 200_000
"""The longest offline phase that the pages behind the rules looked at, and how many transitions it is advised for."""


class Reason(NamedTuple):
    """One rule that applied.

    Attributes:
        found: in the data.
        therefore: what follows.
        evidence: where that was measured.
        unless: what would change it.
    """

    found: str
    therefore: str
    evidence: str
    unless: str


class Advice(NamedTuple):
    """What to begin with.

    Attributes:
        dataset: as it was named.
        env: the task; None where neither the data nor the caller names it.
        profile: what the data is like.
        preset: to train.
        settings: over it.
        reasons: for both, a rule each.
        problems: of the data, which come first.
    """

    dataset: str
    env: str | None
    profile: Profile
    preset: str
    settings: dict[str, Any]
    reasons: list[Reason]
    problems: list[str]

    @property
    def overrides(self) -> dict[str, Any]:
        """Everything that is set over the preset, task and data among it."""
        own = {"env": self.env, "dataset": self.dataset, **self.settings}
        return {key: value for key, value in own.items() if value is not None}

    @property
    def command(self) -> str:
        """The command that trains it."""
        values = (f"{key}={_text(value)}" for key, value in self.overrides.items())
        return f"balrl train --preset {self.preset} " + " ".join(values)

    def to_yaml(self) -> str:
        """Return the whole configuration, the reasons in front."""
        config = load_config(self.preset, settings=self.overrides)
        head = [f"# {reason.found}: {reason.therefore} ({reason.evidence})" for reason in self.reasons]
        return "\n".join(head) + "\n" + dump_yaml(config.model_dump(mode="json", exclude_none=True))


def advise(dataset: str | Dataset, env: str | None = None) -> Advice:
    """Look at a dataset and say what to begin with.

    Args:
        dataset: a D4RL HDF5 file, a Minari folder, ``minari:ID``, built-in data by name, or one that was read.
        env: the task for fine-tuning; by default the one that the data names.

    Raises:
        UserError: when there is no such data or task, or a value is NaN or infinite.
    """
    context = inspection_context(env)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset, context.max_episode_steps)
    name = data.name if isinstance(dataset, Dataset) else dataset
    check_finite(data)
    task, known = env or data.env_id, context
    if env is None and task is not None:
        try:
            known = inspection_context(task)
        except UserError:  # what is not installed here can still be advised on
            known = context
    if data.reward_dim > 1:
        raise UserError(
            f"dataset '{data.name}' has {data.reward_dim} rewards a step, advice is for one: begin with mo-iql "
            "(docs/several_rewards.md), or hand over one of them, dataset.weighted([…])"
        )
    found = profile(data)
    domain = next((domain for part, domain in DOMAINS if part in (task or "").lower()), "locomotion")
    preset, settings, reasons = _base(found, domain)
    settings |= _scales(found, reasons) | _length(found, preset, reasons) | _online(env, reasons)
    return Advice(name, task, found, preset, settings, reasons, problems(data, known))


def _base(found: Profile, domain: str) -> tuple[str, dict[str, Any], list[Reason]]:
    """Choose the algorithm and its balance."""
    if found.is_narrow:
        why = Reason(
            f"nine of ten episodes return within a tenth of the best ({found.low:.4g} to {found.best:.4g})",
            "imitate them: behaviour cloning",
            "arXiv 2204.05618; not measured here",
            "better episodes than these are wanted: then take iql",
        )
        return _preset("bc", domain), {}, [why]
    if found.is_small:
        why = Reason(
            f"{found.episodes} demonstrations, {found.transitions:,} steps",
            "IQL with the preset's small balance, which stays near the data",
            "docs/results/balances.md, the door",
            "there are thousands of episodes, or failures among them",
        )
        return _preset("iql", domain), {}, [why]
    if found.is_sparse:
        why = Reason(
            f"{found.common_reward:.0%} of the steps have one reward{_disagreeing(found)}",
            "IQL with a small balance (in AntMaze the published one): more imitation of what was good",
            "docs/results/spine.md, the grid in the maze",
            "`balrl family` shows larger balances to return more",
        )
        return _preset("iql", domain), {"agent.balance.coefficient": 1.0} if domain == "point-maze" else {}, [why]
    why = Reason(
        f"returns from {found.low:.4g} to {found.best:.4g}, a dense reward",
        "IQL with dropout in the policy, acting with averaged weights: its last checkpoint is worth having",
        "docs/results/balances.md, the last checkpoint",
        "checkpoints can be tried in a simulator: td3bc peaks as high, and falls",
    )
    return "iql/robust", {}, [why]


def _disagreeing(found: Profile) -> str:
    if found.disagreement is None or found.disagreement < 0.8:
        return ""
    return f"; actions in alike states differ as random ones do ({found.disagreement:.2f})"


def _scales(found: Profile, reasons: list[Reason]) -> dict[str, Any]:
    if found.scales < 10 or found.is_small or found.is_narrow:  # measured on logs alone
        return {}
    reasons.append(
        Reason(
            f"observations' deviations differ by a factor of {found.scales:.0f}",
            "standardise them",
            "docs/results/spine.md: 106 against 23 at the end on hopper-mixed",
            "a dimension hardly moves in the data and will move online: its noise is blown up",
        )
    )
    return {"data.normalize_observations": True}


def _length(found: Profile, preset: str, reasons: list[Reason]) -> dict[str, Any]:
    planned = load_config(preset).pretrain.updates
    if found.transitions > MEASURED_ROWS:
        updates = max(planned, min(1_000_000, found.transitions // 2))
        therefore = f"{updates:,} offline updates; half an update for each transition is what was measured on fewer"
    else:
        updates = min(planned, 20_000 if found.is_small else MEASURED_UPDATES)
        therefore = f"{updates:,} offline updates"
        therefore += f" in place of the paper's {planned:,}" if planned > updates else ""
    reasons.append(
        Reason(
            f"{found.transitions:,} transitions",
            therefore,
            "docs/results/balances.md: the last checkpoint falls with more",
            "evaluations still rise at the end",
        )
    )
    return {} if updates == planned else {"pretrain.updates": updates, "pretrain.eval_every": max(1, updates // 10)}


def _online(env: str | None, reasons: list[Reason]) -> dict[str, Any]:
    if env is None:
        return {"warmup.steps": 0, "finetune.steps": 0}
    reasons.append(
        Reason(
            f"{env} can be played",
            "fine-tune; if a fall in between must not happen, add finetune.serve=champion",
            "docs/results/balances.md: the floor holds, and rises late",
            "steps are cheap: the newest policy ends higher",
        )
    )
    return {}


def _preset(algorithm: str, domain: str) -> str:
    names = preset_names()
    return next(name for name in (f"{algorithm}/{domain}", f"{algorithm}/locomotion") if name in names)


def _text(value: Any) -> str:
    return shlex.quote(str(value).lower() if isinstance(value, bool) else str(value))
