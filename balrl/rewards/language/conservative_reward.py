"""A reward of texts as language models' trainers call one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balrl.conservative_objectives import OBJECTIVES, conservative
from balrl.errors import UserError
from balrl.rewards.language.reward_of_texts import RewardOfTexts, load_reward
from balrl.rewards.language.texts import as_text
from balrl.rewards.monitor import RewardMonitor

FROM_KL = {"softmin": 1.0, "uwo": 0.5}
"""Objectives whose coefficient a KL coefficient β sets, with what is divided by β."""


class ConservativeReward:
    """A conservative objective of k reward models, with the signature of TRL's reward functions.

    A list of reward functions in TRL is summed: no weights make a worst case of it. This is one function that has all
    members inside.

    - Members' scores have mean 0 and deviation 1 over the texts they were trained on.
    - ``coefficient="from-kl"``: soft-min with τ = 1/β, so that ``r̃ = −β log E exp(−r/β)`` (arXiv 2606.09073), and the
      second order of it, UWO with λ = 1/(2β). β counts in units of the reward: a trainer that divides rewards by their
      deviation (GRPO's ``scale_rewards``) has another β than it says.
    - What is no text, and where a member's score is no number, gets None, which TRL leaves out.
    - TRL's ``log_metric`` gets ``balrl/…`` of `RewardMonitor`, its ``log_extra`` the members' scores.

    Args:
        reward: of texts, or its file.
        objective: as in `conservative`.
        coefficient: as there, or ``from-kl``.
        kl_coefficient: β, for ``from-kl``: what the trainer calls ``beta``.
        gold: a true reward to watch and not to train on: ``gold(prompts, completions) → [N]`` numbers.
    """

    def __init__(
        self,
        reward: RewardOfTexts | str | Path,
        objective: str = "uwo",
        coefficient: float | str | None = None,
        kl_coefficient: float | None = None,
        gold: Callable[[list[str], list[str]], Sequence[float]] | None = None,
    ) -> None:
        self.reward = load_reward(reward) if isinstance(reward, str | Path) else reward
        self.objective, self.gold = objective, gold
        chosen = _from_kl(objective, kl_coefficient) if coefficient == "from-kl" else coefficient
        if isinstance(chosen, str):
            raise UserError(f"coefficient is '{chosen}', expected a number, None or 'from-kl'")
        conservative(torch.zeros(self.reward.members, 1), objective, chosen)  # complains of what is wrong with them
        self.coefficient = OBJECTIVES[objective] if chosen is None else float(chosen)
        self.monitor = RewardMonitor()
        self.__name__ = f"balrl_{objective}"  # what TRL calls it in its logs

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """Return a reward for each completion, or None.

        Args:
            prompts: texts or chats ``[N]``.
            completions: of them ``[N]``.
            log_extra, log_metric: TRL's; its other arguments and the dataset's columns are not needed.
        """
        texts = [(as_text(prompt), as_text(said)) for prompt, said in zip(prompts, completions, strict=True)]
        rows = [row for row, (prompt, said) in enumerate(texts) if prompt is not None and said is not None]
        asked, answered = ([str(texts[row][side]) for row in rows] for side in (0, 1))
        scores = torch.full((self.reward.members, len(texts)), torch.nan)
        if rows:
            scores[:, rows] = self.reward.scores(asked, answered).float()
        rewards = conservative(scores, self.objective, self.coefficient, check=False)
        known = scores.isfinite().all(0)
        self._log(scores, rewards, known, asked, answered, rows, log_extra, log_metric)
        return [float(r) if ok else None for r, ok in zip(rewards, known.tolist(), strict=True)]

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> list[float | None]:
        """Return rewards without counting them among what was seen in training."""
        watched, self.monitor = self.monitor, RewardMonitor()
        try:
            return self(prompts, completions)
        finally:
            self.monitor = watched

    def openrlhf(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        """Be OpenRLHF's ``reward_func``: in the file that ``--reward.remote_url`` names, ``reward_func = ….openrlhf``.

        Args:
            queries: prompts with their completions.
            prompts: alone.
            labels: not needed.

        Returns:
            ``rewards`` and ``scores`` ``[N]``, NaN where there is none, and ``extra_logs``.
        """
        logs: dict[str, float] = {}
        said = [query.removeprefix(prompt) for query, prompt in zip(queries, prompts, strict=True)]
        found = self(prompts, said, log_metric=logs.__setitem__)
        rewards = torch.tensor([torch.nan if reward is None else reward for reward in found])
        extra = {name: torch.full_like(rewards, value) for name, value in logs.items()}
        return {"rewards": rewards, "scores": rewards, "extra_logs": extra}

    def _log(
        self,
        scores: Tensor,
        rewards: Tensor,
        known: Tensor,
        asked: list[str],
        answered: list[str],
        rows: list[int],
        log_extra: Callable[[str, list[Any]], None] | None,
        log_metric: Callable[[str, float], None] | None,
    ) -> None:
        gold = torch.full_like(rewards, torch.nan)
        if self.gold is not None and rows:
            gold[rows] = torch.as_tensor(self.gold(asked, answered), dtype=gold.dtype)
        if bool(known.any()):
            self.monitor.add(scores[:, known], rewards[known], gold[known])
        if log_metric is not None:
            for name, value in self.monitor.pop().items():
                if value == value:
                    log_metric(name.replace("reward/", "balrl/"), value)
        if log_extra is not None:
            for index, member in enumerate(scores):
                log_extra(f"balrl member {index}", member.tolist())
            if self.gold is not None:
                log_extra("balrl gold", gold.tolist())


def _from_kl(objective: str, kl_coefficient: float | None) -> float:
    if objective not in FROM_KL:
        raise UserError(f"coefficient 'from-kl' is for {' and '.join(FROM_KL)}, not for {objective}")
    if kl_coefficient is None or kl_coefficient <= 0:
        raise UserError(f"coefficient 'from-kl' needs kl_coefficient, the trainer's β > 0; found {kl_coefficient}")
    return FROM_KL[objective] / kl_coefficient
