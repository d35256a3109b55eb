"""Which runs make up a population."""

from __future__ import annotations

import pytest

import balrl
from balrl.errors import UserError
from balrl.run.members import member_configs, parse_seeds, parse_vary


def test_every_combination_is_a_member_with_its_own_name() -> None:
    config = balrl.load_config("iql/point-maze")
    members = member_configs(
        config, [0, 5], {"agent.expectile": ["0.7", "0.9"], "agent.balance.coefficient": ["1", "3"]}
    )
    assert len(members) == 8
    one = members["expectile0.9-coefficient1-s5"]
    assert (one.agent.expectile, one.agent.balance.coefficient, one.seed) == (0.9, 1.0, 5)
    assert one.agent.polyak == config.agent.polyak


def test_seeds() -> None:
    asked = {"0:3": [0, 1, 2], ":2": [0, 1], "4:6": [4, 5], "0,3,11": [0, 3, 11]}
    assert {text: parse_seeds(text) for text in asked} == asked


@pytest.mark.parametrize("text", ["", "x", "3:3", "5:2", "1,1", "-1,2", "0:", "1.5"])
def test_what_is_no_list_of_seeds_says_what_is(text: str) -> None:
    with pytest.raises(UserError, match=r"expected a range such as 0:8"):
        parse_seeds(text)


def test_vary() -> None:
    assert parse_vary(["agent.expectile=0.7,0.9", "agent.polyak=0.1"]) == {
        "agent.expectile": ["0.7", "0.9"],
        "agent.polyak": ["0.1"],
    }
    for text in ("agent.expectile", "agent.expectile=", "agent.expectile=1,,2"):
        with pytest.raises(UserError, match="expected KEY=VALUE,VALUE"):
            parse_vary([text])


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("agent.hidden", ["[8]", "[16]"]),
        ("agent.critics", ["2", "3"]),
        ("agent.dropout", ["0.1", "0.2"]),
        ("batch_size", ["32", "64"]),
        ("finetune.utd_ratio", ["1", "2"]),
    ],
)
def test_what_members_cannot_differ_in(key: str, values: list[str]) -> None:
    with pytest.raises(UserError, match=f"cannot differ in {key}"):
        member_configs(balrl.load_config("iql/point-maze"), [0], {key: values})


def test_mistakes_are_named() -> None:
    config = balrl.load_config("iql/point-maze")
    with pytest.raises(UserError, match=r"did you mean.*expectile"):
        member_configs(config, [0], {"agent.expectil": ["0.7", "0.8"]})
    with pytest.raises(UserError, match="at least 2 members"):
        member_configs(config, [0])
    with pytest.raises(UserError, match="twice"):
        member_configs(config, [0], {"agent.expectile": ["0.7", "0.70"]})


def test_numbers_that_are_absent_by_default_can_differ() -> None:
    members = member_configs(balrl.load_config("sac/locomotion"), [0], {"agent.target_entropy": ["-2.0", "-3.0"]})
    assert [config.agent.target_entropy for config in members.values()] == [-2.0, -3.0]
    with pytest.raises(UserError, match=r"cannot differ in agent.target_entropy"):
        member_configs(balrl.load_config("sac/locomotion"), [0], {"agent.target_entropy": ["null", "-3.0"]})
