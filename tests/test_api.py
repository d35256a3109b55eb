"""The functions at the top."""

from __future__ import annotations

import pytest

import balrl


def test_the_package_lists_what_it_has() -> None:
    assert set(balrl.__all__) <= set(dir(balrl))
    for name in dir(balrl):
        assert getattr(balrl, name) is not None
    with pytest.raises(AttributeError, match="module 'balrl' has no attribute 'trian'"):
        balrl.trian  # noqa: B018
