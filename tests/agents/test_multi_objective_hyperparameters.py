"""Hyperparameters of the agents for several rewards."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from balrl.agents import MOIQLConfig, MOSACConfig, MOTD3BCConfig


@pytest.mark.parametrize("kind", [MOIQLConfig, MOSACConfig, MOTD3BCConfig])
def test_what_does_not_fit_is_refused(kind: type) -> None:
    assert kind().objectives == 2
    assert kind(objectives=3, utopia=(1.0, 2.0, 3.0)).utopia == (1.0, 2.0, 3.0)
    with pytest.raises(ValidationError, match="utopia has 2 numbers, expected 3"):
        kind(objectives=3, utopia=(1.0, 2.0))
    with pytest.raises(ValidationError, match="chunk_size at 1"):
        kind(chunk_size=2)
    with pytest.raises(ValidationError, match="objectives"):
        kind(objectives=1)


def test_a_selective_balance_ranks_by_one_return_and_is_none_of_theirs() -> None:
    with pytest.raises(ValidationError, match="selective"):
        MOTD3BCConfig(balance={"kind": "selective"})
