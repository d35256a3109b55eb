"""One function with all members inside, as trainers call it."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from balrl.errors import UserError
from balrl.rewards import conservative
from balrl.rewards.language import ConservativeReward, HeadsReward
from tests.rewards.language.small import Counts

MEMBERS = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 0.25]])


class Fixed:
    """Two members whose scores of the completions 0, 1 and 2 are known."""

    members = 2

    def __init__(self, scores: Tensor = MEMBERS) -> None:
        self.table, self.asked = scores, list[tuple[str, str]]()

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        self.asked += zip(prompts, completions, strict=True)
        return self.table[:, [int(said) for said in completions]]


def made(objective: str = "uwo", *more: Any, **named: Any) -> ConservativeReward:
    return ConservativeReward(Fixed(named.pop("table", MEMBERS)), objective, *more, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(("objective", "coefficient"), [("mean", None), ("wco", None), ("uwo", 0.3), ("softmin", 2.0)])
def test_rewards_are_the_objective_of_the_members(objective: str, coefficient: float | None) -> None:
    found = made(objective, coefficient)(["p"] * 3, ["0", "1", "2"], completion_ids=[[1]] * 3, trainer_state=None)
    assert found == pytest.approx(conservative(MEMBERS, objective, coefficient).tolist())
    assert made(objective).__name__ == f"balrl_{objective}"


def test_worst_case_is_no_weighted_sum() -> None:
    """No weights of the two members give the worst cases of three texts: what a list of reward functions cannot do."""
    worst = torch.tensor(made("wco")(["p"] * 3, ["0", "1", "2"]))
    solution = torch.linalg.lstsq(MEMBERS.T, worst.unsqueeze(1)).solution
    assert float((MEMBERS.T @ solution - worst.unsqueeze(1)).abs().max()) > 0.1


def test_a_coefficient_from_the_kl() -> None:
    """Soft-min with τ = 1/β is −β log E exp(−r/β), and UWO's λ is its second order, 1/(2β)."""
    beta = 0.5
    found = made("softmin", "from-kl", beta)(["p"] * 3, ["0", "1", "2"])
    assert found == pytest.approx((-beta * (-MEMBERS / beta).exp().mean(0).log()).tolist(), abs=1e-6)
    assert made("uwo", "from-kl", beta).coefficient == 1 / (2 * beta)
    close = torch.tensor([[1.0], [1.01]])
    by_kl, second_order = (made(name, "from-kl", beta, table=close)(["p"], ["0"])[0] for name in ("softmin", "uwo"))
    assert by_kl == pytest.approx(second_order, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "coefficient", "beta", "message"),
    [
        ("wco", "from-kl", 0.1, "'from-kl' is for softmin and uwo, not for wco"),
        ("softmin", "from-kl", None, "needs kl_coefficient"),
        ("uwo", "from-kl", 0.0, "needs kl_coefficient"),
        ("uwo", "much", None, "coefficient is 'much'"),
        ("best", None, None, "no objective 'best'"),
    ],
)
def test_what_is_refused(objective: str, coefficient: Any, beta: float | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(objective, coefficient, beta)


def test_what_cannot_be_scored_is_none() -> None:
    table = MEMBERS.clone()
    table[1, 2] = math.nan
    reward = made("mean", table=table)
    chat = [{"role": "assistant", "content": "0"}]
    image = [{"role": "assistant", "content": [{"type": "image"}]}]
    found = reward(["p", "p", 5, "p", "p"], ["0", image, "0", "2", chat])
    assert found == [2.0, None, None, None, 2.0]
    assert reward([], []) == []
    assert reward(["p"], [None]) == [None]


def test_members_and_disagreement_are_logged() -> None:
    metrics: dict[str, float] = {}
    columns: dict[str, list[float]] = {}
    reward = made("mean", gold=lambda prompts, completions: [2.0 * int(said) for said in completions])
    reward(["p"] * 3, ["0", "1", None], log_metric=metrics.__setitem__, log_extra=columns.__setitem__)
    assert metrics["balrl/proxy"] == pytest.approx(0.5)
    assert metrics["balrl/gold"] == pytest.approx(1.0)
    assert metrics["balrl/disagreement"] == pytest.approx(1.0)
    assert metrics["balrl/gap"] == 0
    assert columns["balrl member 1"][:2] == [3.0, 0.0]
    assert columns["balrl gold"][:2] == [0.0, 2.0]
    assert math.isnan(columns["balrl member 1"][2])
    without = made("mean")
    metrics.clear()
    without(["p"], ["0"], log_metric=metrics.__setitem__)
    assert metrics.keys() == {"balrl/proxy", "balrl/disagreement"}


def test_scoring_in_between_is_not_counted() -> None:
    metrics: dict[str, float] = {}
    reward = made("mean")
    assert reward.score(["p"], ["1"]) == [-1.0]
    reward(["p"], ["0"], log_metric=metrics.__setitem__)
    assert metrics["balrl/proxy"] == 2.0


def test_it_can_be_sent_to_other_processes() -> None:
    reward = ConservativeReward(HeadsReward(Counts(), 3, (8,)), "softmin", "from-kl", 0.1)
    found = pickle.loads(pickle.dumps(reward))
    assert found(["p"], ["good"]) == reward(["p"], ["good"])
    assert found.coefficient == 10.0
    assert not isinstance(reward, torch.nn.Module)


def test_openrlhf_gets_a_dictionary_without_gaps() -> None:
    table = MEMBERS.clone()
    table[1, 2] = math.nan
    reward = made("mean", table=table)
    queries = ["what? 0</s>", "what? 1<|im_end|>\n", "what? 2", f"{'x' * 90} 0"]
    found = reward.openrlhf(queries, ["what? ", "what? ", "what? ", f"cut {'x' * 90} "], ["", "", "", ""])
    assert found["rewards"].tolist() == found["scores"].tolist() == [2.0, -1.0, 0.0, 2.0]
    assert found["extra_logs"]["balrl_disagreement"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert found["extra_logs"]["balrl_unscored"].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert isinstance(reward.reward, Fixed)
    assert reward.reward.asked[:2] == [("what? ", "0"), ("what? ", "1")]


def test_gold_may_be_unknown_and_must_fit() -> None:
    metrics: dict[str, float] = {}
    reward = made("mean", gold=lambda _, said: [None if text == "0" else 3.0 for text in said])
    for _ in range(2):  # what is unknown in the first window spoils no later one
        reward(["p"] * 3, ["0", "1", "2"], log_metric=metrics.__setitem__)
    assert metrics["balrl/gold"] == 3.0
    assert metrics["balrl/gap"] == 0.0
    short = made("mean", gold=lambda _, said: [1.0])
    with pytest.raises(UserError, match="gold gave 1 numbers for 2 completions"):
        short(["p"] * 2, ["0", "1"])


def test_two_in_one_trainer_have_two_names() -> None:
    columns: dict[str, list[float]] = {}
    for name in ("help", "harm"):
        reward = made("wco", name=name)
        assert reward.__name__ == f"{name}_wco"
        reward(["p"], ["0"], log_extra=columns.__setitem__)
    assert set(columns) == {f"{name} member {i}" for name in ("help", "harm") for i in (0, 1)}


def test_a_coefficient_that_nobody_uses_is_refused() -> None:
    with pytest.raises(UserError, match="kl_coefficient is for coefficient='from-kl'"):
        made("uwo", None, 0.1)
