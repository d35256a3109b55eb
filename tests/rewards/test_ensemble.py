"""Reward ensembles: members are independent, scores are normalised, files are whole."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from balrl.errors import UserError
from balrl.rewards import RewardEnsemble


def ensemble(members: int = 3, **kwargs: object) -> RewardEnsemble:
    return RewardEnsemble(4, members, (16, 16), **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("shared_trunk", [False, True])
def test_a_member_alone_scores_as_it_does_among_others(shared_trunk: bool) -> None:
    made = ensemble(shared_trunk=shared_trunk)
    x = torch.randn(7, 2, 4)
    made.normalize(torch.randn(50, 4))
    scores = made(x)
    assert scores.shape == (3, 7, 2)
    for index in range(3):
        torch.testing.assert_close(made.member(index)(x)[0], scores[index])
    assert not torch.allclose(scores[0], scores[1])


def test_a_member_is_initialised_by_its_index_alone() -> None:
    few, many = ensemble(2), ensemble(5)
    x = torch.randn(6, 4)
    torch.testing.assert_close(many(x)[:2], few(x))
    torch.testing.assert_close(ensemble(1, first=3)(x)[0], many(x)[3])
    assert not torch.allclose(ensemble(2, seed=1)(x), few(x))


def test_scores_are_centred_and_scaled_over_the_reference() -> None:
    made, reference = ensemble(), torch.randn(200, 4)
    raw = made.raw(reference)
    made.normalize(reference)
    scores = made(reference)
    torch.testing.assert_close(scores.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.std(1, correction=0), torch.ones(3))
    torch.testing.assert_close(scores, (raw - raw.mean(1, keepdim=True)) / raw.std(1, correction=0, keepdim=True))
    made.normalize(reference)
    torch.testing.assert_close(made(reference), scores)  # measured on what is not normalised yet


@pytest.mark.parametrize("shared_trunk", [False, True])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, shared_trunk: bool) -> None:
    made = ensemble(shared_trunk=shared_trunk)
    made.normalize(torch.randn(50, 4))
    loaded = RewardEnsemble.load(made.save(tmp_path / "r.safetensors"))
    x = torch.randn(6, 4)
    assert torch.equal(loaded(x), made(x))
    assert loaded.settings == made.settings


def test_a_broken_member_is_named(tmp_path: Path) -> None:
    made = ensemble()
    with torch.no_grad():
        made.head.bias[1] = math.nan
    with pytest.raises(UserError, match="member 1 of 3"):
        made.normalize(torch.randn(5, 4))
    with pytest.raises(UserError, match="member 1 of 3"):
        RewardEnsemble.load(made.save(tmp_path / "r.safetensors"))


def test_mistakes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected at least 1"):
        ensemble(0)
    with pytest.raises(UserError, match="no member 3"):
        ensemble().member(3)
    with pytest.raises(UserError, match="no such file"):
        RewardEnsemble.load(tmp_path / "none.safetensors")


def test_scores_that_never_differ_are_centred_and_not_divided_by_nothing() -> None:
    made = ensemble()
    same = torch.ones(5, 4)
    made.normalize(same)
    assert torch.equal(made.std, torch.ones(3))
    torch.testing.assert_close(made(same), torch.zeros(3, 5), rtol=0, atol=1e-6)
