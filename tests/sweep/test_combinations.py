from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from balrl.sweep.combinations import combinations, value_at
from balrl.sweep.spec import Choices, Range
from tests.sweep.small import spec


def test_lists_go_each_with_each_and_combinations_stay_as_they_are() -> None:
    assert combinations(spec()) == [{}]
    assert combinations(spec(vary={"a": [1, 2], "b": [True, "x"]})) == [
        {"a": 1, "b": True},
        {"a": 1, "b": "x"},
        {"a": 2, "b": True},
        {"a": 2, "b": "x"},
    ]
    assert combinations(spec(vary=[{"a": 1}, {"a": 2, "b": 3}])) == [{"a": 1}, {"a": 2, "b": 3}]


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_samples_are_joint_repeatable_and_go_with_every_list(sampler: str) -> None:
    vary = {"a": [1, 2], "b": {"low": 0.0, "high": 1.0}, "c": {"choices": ["x", "y"]}}
    found = combinations(spec(vary=vary, samples=5, sampler=sampler))
    assert len(found) == 10
    assert [{**one, "a": 0} for one in found[:5]] == [{**one, "a": 0} for one in found[5:]]
    assert found == combinations(spec(vary=vary, samples=5, sampler=sampler))
    assert found != combinations(spec(vary=vary, samples=5, sampler=sampler, sampler_seed=1))
    assert len({one["b"] for one in found}) == 5


def test_sobol_samples_fill_an_axis_evenly() -> None:
    found = combinations(spec(vary={"a": {"low": 0, "high": 8}}, samples=8, sampler="sobol"))
    assert sorted(int(one["a"]) for one in found) == list(range(8))


@given(
    share=st.floats(0, 1, exclude_max=True),
    low=st.floats(1e-6, 10),
    width=st.floats(0.1, 10),
    log=st.booleans(),
)
def test_real_values_lie_in_their_range(share: float, low: float, width: float, log: bool) -> None:
    axis = Range(low=low, high=low + width, log=log)
    assert low * (1 - 1e-5) <= value_at(axis, share) <= (low + width) * (1 + 1e-5)


def test_whole_values_and_choices_are_equally_likely() -> None:
    shares = np.arange(0, 1, 0.001)
    whole = [value_at(Range(low=1, high=4, whole=True), share) for share in shares]
    assert [whole.count(value) for value in (1, 2, 3, 4)] == [250] * 4
    assert [value_at(Choices(choices=["a", "b"]), share) for share in (0.0, 0.49, 0.5, 0.999)] == ["a", "a", "b", "b"]
    assert value_at(Range(low=1e-5, high=1e-1, log=True), 0.5) == pytest.approx(1e-3)
    assert math.log10(value_at(Range(low=1e-5, high=1e-1, log=True), 0.25)) == pytest.approx(-4)
