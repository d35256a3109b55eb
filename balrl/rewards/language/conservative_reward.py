"""A reward of texts as language models' trainers call one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from balrl.conservative_objectives import OBJECTIVES, conservative
from balrl.errors import UserError
from balrl.rewards.language.reward_of_texts import RewardOfTexts, load_reward
from balrl.rewards.language.texts import as_text
from balrl.rewards.monitor import RewardMonitor

FROM_KL = {"softmin": 1.0, "uwo": 0.5}
"""Objectives whose coefficient a KL coefficient β sets, with what is divided by β."""
Gold = Callable[[list[str], list[str]], Sequence[float | None]]
END_MARKS = re.compile(r"(\s*(<\|[\w-]+\|>|</?s>|<pad>|<eos>|<end_of_turn>))+\s*$")
"""What tokenizers end a text with, and OpenRLHF leaves on it."""
OVERLAP = 64
"""Characters at a prompt's end by which a query is known that begins with less than all of the prompt."""
_WATCHING = threading.Lock()


class Scored(NamedTuple):
    """Texts with their scores.

    Attributes:
        members: ``[k, N]``, NaN where there is no text.
        rewards: ``[N]``.
        known: where all members' scores are numbers ``[N]``.
        prompts, completions: of the rows that are texts; `rows` says which.
    """

    members: Tensor
    rewards: Tensor
    known: Tensor
    prompts: list[str]
    completions: list[str]
    rows: list[int]


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
        gold: a true reward to watch and not to train on: ``gold(prompts, completions) → [N]`` numbers, None where it
            has none.
        name: in logs; two of them in one trainer need two names.
    """

    def __init__(
        self,
        reward: RewardOfTexts | str | Path,
        objective: str = "uwo",
        coefficient: float | str | None = None,
        kl_coefficient: float | None = None,
        gold: Gold | None = None,
        name: str = "balrl",
    ) -> None:
        self.reward = load_reward(reward) if isinstance(reward, str | Path) else reward
        self.objective, self.gold, self.name = objective, gold, name
        if coefficient != "from-kl" and kl_coefficient is not None:
            raise UserError("kl_coefficient is for coefficient='from-kl': give that, or leave it out")
        chosen = _from_kl(objective, kl_coefficient) if coefficient == "from-kl" else coefficient
        if isinstance(chosen, str):
            raise UserError(f"coefficient is '{chosen}', expected a number, None or 'from-kl'")
        conservative(torch.zeros(self.reward.members, 1), objective, chosen)  # complains of what is wrong with them
        self.coefficient = OBJECTIVES[objective] if chosen is None else float(chosen)
        self.monitor = RewardMonitor()
        self.__name__ = f"{name}_{objective}"  # what TRL calls it in its logs

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
        scored = self._scored(prompts, completions)
        gold = self._gold(scored)
        watched = scored.known if self.gold is None else scored.known & gold.isfinite()
        with _WATCHING:
            if bool(watched.any()):
                self.monitor.add(scored.members[:, watched], scored.rewards[watched], gold[watched])
            seen = self.monitor.pop() if log_metric is not None else {}
        if log_metric is not None:
            for name, value in seen.items():
                if value == value:
                    log_metric(name.replace("reward/", f"{self.name}/"), value)
        if log_extra is not None:
            for index, member in enumerate(scored.members):
                log_extra(f"{self.name} member {index}", member.tolist())
            if self.gold is not None:
                log_extra(f"{self.name} gold", gold.tolist())
        return _as_list(scored)

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> list[float | None]:
        """Return rewards without counting them among what was seen in training."""
        return _as_list(self._scored(prompts, completions))

    def openrlhf(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        """Be OpenRLHF's ``reward_func``: in the file that ``--reward.remote_url`` names, ``reward_func = ….openrlhf``.

        It is called from several threads, often with one query at a time, and knows no missing rewards: what cannot be
        scored gets 0, the mean over the texts of the training, and is counted.

        Args:
            queries: prompts with their completions, marks of the end included.
            prompts: alone.
            labels: not needed.

        Returns:
            ``rewards`` and ``scores`` ``[N]``, and ``extra_logs``: the members' disagreement, and 1 where nothing could
            be scored.
        """
        said = [_completion(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
        scored = self._scored(list(prompts), said)
        rewards = torch.where(scored.known, scored.rewards, torch.zeros_like(scored.rewards))
        spread = scored.members.std(0, correction=0)
        logs = {
            f"{self.name}_disagreement": torch.where(scored.known, spread, torch.zeros_like(spread)),
            f"{self.name}_unscored": (~scored.known).float(),
        }
        return {"rewards": rewards, "scores": rewards, "extra_logs": logs}

    def _scored(self, prompts: Sequence[Any], completions: Sequence[Any]) -> Scored:
        texts = [(as_text(prompt), as_text(said)) for prompt, said in zip(prompts, completions, strict=True)]
        rows = [row for row, (prompt, said) in enumerate(texts) if prompt is not None and said is not None]
        asked, answered = ([str(texts[row][side]) for row in rows] for side in (0, 1))
        members = torch.full((self.reward.members, len(texts)), torch.nan)
        if rows:
            members[:, rows] = self.reward.scores(asked, answered).float().cpu()
        rewards = conservative(members, self.objective, self.coefficient, check=False)
        return Scored(members, rewards, members.isfinite().all(0), asked, answered, rows)

    def _gold(self, scored: Scored) -> Tensor:
        """Return the true rewards ``[N]``, NaN where there are none."""
        gold = torch.full_like(scored.rewards, torch.nan)
        if self.gold is None or not scored.rows:
            return gold
        found = self.gold(scored.prompts, scored.completions)
        if len(found) != len(scored.rows):
            raise UserError(f"gold gave {len(found)} numbers for {len(scored.rows)} completions")
        gold[scored.rows] = torch.tensor([torch.nan if value is None else float(value) for value in found])
        return gold


def _as_list(scored: Scored) -> list[float | None]:
    return [float(r) if ok else None for r, ok in zip(scored.rewards, scored.known.tolist(), strict=True)]


def _completion(query: str, prompt: str) -> str:
    """Return what a query says after its prompt, or after the end of one that was cut at its beginning."""
    said = query.removeprefix(prompt)
    if prompt and said == query and prompt[-OVERLAP:] in query:
        said = query.partition(prompt[-OVERLAP:])[2]
    return END_MARKS.sub("", said)


def _from_kl(objective: str, kl_coefficient: float | None) -> float:
    if objective not in FROM_KL:
        raise UserError(f"coefficient 'from-kl' is for {' and '.join(FROM_KL)}, not for {objective}")
    if kl_coefficient is None or kl_coefficient <= 0:
        raise UserError(f"coefficient 'from-kl' needs kl_coefficient, the trainer's β > 0; found {kl_coefficient}")
    return FROM_KL[objective] / kl_coefficient
